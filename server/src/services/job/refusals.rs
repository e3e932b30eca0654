//! What a worker would find wrong with a job, found before it is queued: all of it at once.

use dyadic_data::{
    Color, Contents, Format, Outputs, Preprocess, Reading, Split, SplitContents, normalization,
};
use dyadic_engine::model::Normalization as Engine;
use dyadic_plan::Refusal;
use dyadic_store::registry::Dataset;
use dyadic_store::spec::{JobSpec, Loss, Normalization};
use serde_json::Value;

use crate::error::Reason;
use crate::services::dataset::check_labels;
use crate::services::inspect::Extents;
use crate::services::spec::with_color;

/// Names of classes that a reason lists at most.
const LISTED: usize = 8;

/// What a job is to be made of.
pub(super) struct Facts<'a> {
    /// The settings, normalization resolved.
    pub(super) settings: &'a JobSpec,
    /// What the model reads and gives, if it is known.
    pub(super) model: Option<Extents>,
    /// How the dataset lies in its files, if it is known.
    pub(super) format: Option<&'static dyn Format>,
    /// What is in the dataset, if it is known.
    pub(super) contents: Option<&'a Contents>,
    /// Names of the splits.
    pub(super) train: &'a str,
    pub(super) eval: &'a str,
}

/// What is normalized with where nothing was given: what is usual for the channels of the dataset, or of the model where
/// the dataset's are not known. Stays empty where nothing is.
pub(super) fn normalization(given: &Normalization, facts: &Facts<'_>) -> Normalization {
    if !given.mean.is_empty() {
        return given.clone();
    }
    let usual = facts.channels().and_then(normalization::usual);
    usual.map_or_else(
        || given.clone(),
        |usual| Normalization { mean: usual.mean.into(), std: usual.std.into() },
    )
}

/// Names of the outputs: those that are given, or those that the dataset was pushed with where its classes are in no order
/// of their own.
pub(super) fn labels(
    given: &[String],
    dataset: &Dataset,
    format: Option<&'static dyn Format>,
) -> Vec<String> {
    if given.is_empty() && format.is_some_and(|format| !format.orders_classes()) {
        return dataset.labels.clone();
    }
    given.to_vec()
}

/// What is done to pictures, with the colours of the model where none were asked for.
pub(super) fn preprocess(given: Option<&Value>, facts: &Facts<'_>) -> Option<Value> {
    let given = given?;
    let usual = facts.model.and_then(|model| Color::usual(model.input[0])).unwrap_or(Color::Rgb);
    let whole = with_color(given, usual).and_then(|whole| serde_json::to_value(whole).ok());
    Some(whole.unwrap_or_else(|| given.clone()))
}

impl Facts<'_> {
    /// What is done to pictures.
    fn preprocess(&self) -> Option<Preprocess> {
        with_color(self.settings.preprocess.as_ref()?, Color::Rgb)
    }

    /// Height, width and channels of what a split's images become; none where each is a file with a size of its own and
    /// nothing is said of what is done to it.
    fn shape(&self, split: &SplitContents) -> Option<[usize; 3]> {
        match self.preprocess() {
            Some(preprocess) => preprocess.shape().ok(),
            None => split.shape,
        }
    }

    fn channels(&self) -> Option<usize> {
        if let Some(preprocess) = self.preprocess() {
            return Some(preprocess.color.channels());
        }
        let of_data = self.contents.iter().flat_map(|c| &c.splits).find_map(|split| split.shape);
        of_data.map(|[_, _, channels]| channels).or(self.model.map(|model| model.input[0]))
    }

    /// What is in a split, as the job sees it: a share of the training images may be held out of them.
    fn split(&self, name: &str) -> Option<SplitContents> {
        let contents = self.contents?;
        let split: Split = name.parse().ok()?;
        let share = self.settings.validation.filter(|_| contents.split(Split::Validation).is_none());
        let (Some(share), Some(all)) = (share, contents.split(Split::Train)) else {
            return contents.split(split).cloned();
        };
        // Of each class a whole number is taken, so this is near it.
        let held = ((all.images as f64 * share).round() as u64).clamp(1, all.images.max(2) - 1);
        match split {
            Split::Train => Some(SplitContents { images: all.images.saturating_sub(held), ..all.clone() }),
            Split::Validation => Some(SplitContents { split, images: held.min(all.images), ..all.clone() }),
            Split::Test => contents.split(split).cloned(),
        }
    }

    /// The splits that are used and there.
    fn splits(&self) -> impl Iterator<Item = SplitContents> + '_ {
        [self.train, self.eval].into_iter().filter_map(|name| self.split(name))
    }
}

/// All that stands against a job as far as its network's layers, and rules for them, go.
pub(super) fn of_layers(refusals: &[Refusal]) -> Vec<Reason> {
    let field = |refusal: &Refusal| if refusal.rule { "plan" } else { "model" };
    refusals.iter().map(|refusal| Reason::new(field(refusal), refusal.to_string())).collect()
}

/// All that stands against a job as far as its data go.
pub(super) fn of_data(facts: &Facts<'_>) -> Vec<Reason> {
    let mut reasons = Vec::new();
    for (field, name) in [("splits.train", facts.train), ("splits.eval", facts.eval)] {
        match facts.split(name) {
            Some(split) if split.images == 0 => {
                reasons.push(Reason::new(field, format!("the split {name:?} has no image")));
            }
            None if facts.contents.is_some() => {
                let mut reason = format!("the dataset has no split {name:?}");
                if field == "splits.eval" && facts.split("validation").is_none() {
                    reason.push_str("; hold out a share of the training images (--validation 0.1), or judge on them (--eval-split train)");
                }
                reasons.push(Reason::new(field, reason));
            }
            Some(_) | None => {}
        }
    }
    reasons.extend(against_model(facts));
    reasons.extend(against_labels(facts));
    reasons.extend(against_pictures(facts));
    reasons.extend(against_normalization(facts));
    reasons.extend(against_batch(facts));
    reasons
}

/// Images that the network does not take, a reason for all splits.
fn against_model(facts: &Facts<'_>) -> Vec<Reason> {
    let Some(model) = facts.model else { return Vec::new() };
    let [channels, height, width] = model.input;
    let wanted = format!("the model reads {height} × {width} of {channels}");
    let mut reasons = Vec::new();
    if facts.splits().any(|split| facts.shape(&split).is_none()) {
        let reason = format!(
            "the pictures are not all of one size, and {wanted}: say what is done to them (--resize and --crop)"
        );
        reasons.push(Reason::new("preprocess", reason));
    }
    let shapes = facts.splits().filter_map(|split| facts.shape(&split));
    let other = shapes.into_iter().find(|&shape| shape != [height, width, channels]);
    if let Some([h, w, c]) = other {
        reasons.push(match facts.preprocess() {
            Some(_) => {
                Reason::new("preprocess", format!("it makes {h} × {w} pixels of {c} channels; {wanted}"))
            }
            None => {
                Reason::new("dataset", format!("its images are {h} × {w} pixels of {c} channels; {wanted}"))
            }
        });
    }
    reasons
}

/// Labels that have no output, and outputs' names that do not fit.
fn against_labels(facts: &Facts<'_>) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let (settings, outputs) = (facts.settings, facts.model.map(|model| model.outputs));
    let names = &settings.labels;
    if let Err(error) = check_labels(names) {
        reasons.push(Reason::new("labels", error.to_string()));
    }
    if let Some(outputs) = outputs.filter(|&outputs| names.len() > outputs) {
        let reason = format!("{} outputs are named, and the model has {outputs}", names.len());
        reasons.push(Reason::new("labels", reason));
    }
    let highest = facts.splits().filter_map(|split| split.highest_label).max();
    let Some(highest) = highest else {
        if settings.epochs > 0 && settings.loss != Loss::Distill && facts.splits().next().is_some() {
            let reason = "the images have no labels: train towards the float model's outputs (--loss distill), or not at all \
                (--epochs 0)";
            reasons.push(Reason::new("loss", reason));
        }
        return reasons;
    };
    let classes = facts.contents.map(|contents| contents.classes.as_slice()).unwrap_or_default();
    if !names.is_empty() {
        reasons.extend(Outputs::matching(classes, names).err().map(|e| Reason::new("labels", e.to_string())));
    } else if facts.format.is_some_and(|format| !format.orders_classes()) {
        let shown: Vec<&str> = classes.iter().take(LISTED).map(String::as_str).collect();
        let more = if classes.len() > LISTED { ", …" } else { "" };
        let reason = format!(
            "which output stands for which folder ({}{more}) is not said: name the outputs in their order, one a line (--labels FILE), \
             or push the dataset with --labels alphabetical if the model was trained so",
            shown.join(", ")
        );
        reasons.push(Reason::new("labels", reason));
    } else if let Some(outputs) = outputs.filter(|&outputs| highest as usize >= outputs) {
        let reason = format!("label {highest} occurs, but the model has {outputs} outputs");
        reasons.push(Reason::new("dataset", reason));
    }
    reasons
}

/// More broken pictures than may be left out, and shares that cannot be.
fn against_pictures(facts: &Facts<'_>) -> Vec<Reason> {
    let Some(contents) = facts.contents else { return Vec::new() };
    let mut reasons = Vec::new();
    if facts.settings.validation.is_some() && contents.split(Split::Validation).is_some() {
        let reason = "the dataset has a validation split of its own; leave the share away";
        reasons.push(Reason::new("validation", reason));
    }
    let images: u64 = contents.splits.iter().map(|split| split.images).sum();
    let share = facts.settings.skip_broken.unwrap_or(Reading::SKIP_BROKEN);
    if let Err(error) = contents.broken.check(usize::try_from(images).unwrap_or(usize::MAX), share) {
        reasons.push(Reason::new("dataset", error.to_string()));
    }
    reasons
}

/// A normalization that does not fit the images.
fn against_normalization(facts: &Facts<'_>) -> Option<Reason> {
    let channels = facts.channels()?;
    let Normalization { mean, std } = &facts.settings.normalization;
    let refuse = |reason: String| Some(Reason::new("normalization", reason));
    if mean.is_empty() {
        return refuse(format!(
            "images of {channels} channels have no usual one; give a mean and a standard deviation for each"
        ));
    }
    if mean.len() != channels {
        return refuse(format!("it is for {} channels, and the images have {channels}", mean.len()));
    }
    let engine = Engine { mean: mean.clone(), std: std.clone() };
    let extremes = (0..channels).flat_map(|c| [engine.value(0, c), engine.value(255, c)]);
    match extremes.map(f32::abs).reduce(f32::max) {
        Some(largest) if largest.is_finite() && largest / 127.0 > 0.0 => None,
        _ => refuse("it maps images to nothing that can be quantized".into()),
    }
}

/// Training images that do not fill a batch.
fn against_batch(facts: &Facts<'_>) -> Option<Reason> {
    let settings = facts.settings;
    let images = facts.split(facts.train)?.images;
    let used = settings.train_limit.map_or(images, |limit| images.min(limit.into()));
    (settings.epochs > 0 && used > 0 && used < settings.batch_size.into()).then(|| {
        let reason = format!("{used} training images do not fill a batch of {}", settings.batch_size);
        Reason::new("batch_size", reason)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(shape: [usize; 3], images: u64, highest: u32) -> Contents {
        let split = |split| SplitContents { split, images, shape: Some(shape), highest_label: Some(highest) };
        Contents {
            splits: vec![split(Split::Train), split(Split::Test)],
            uniform: true,
            classes: Vec::new(),
            broken: dyadic_data::Broken::default(),
            base: None,
        }
    }

    fn fields(settings: &JobSpec, contents: Option<&Contents>, eval: &str) -> Vec<String> {
        let model = Some(Extents { input: [3, 32, 32], outputs: 10 });
        let facts = Facts { settings, model, format: None, contents, train: "train", eval };
        let settings =
            JobSpec { normalization: normalization(&settings.normalization, &facts), ..settings.clone() };
        let reasons = of_data(&Facts { settings: &settings, ..facts });
        reasons.into_iter().map(|reason| reason.field).collect()
    }

    #[test]
    fn each_thing_that_a_worker_would_refuse_has_its_reason() {
        let unset = Normalization { mean: vec![], std: vec![] };
        let spec = JobSpec { normalization: unset.clone(), ..JobSpec::default() };
        let good = contents([32, 32, 3], 1000, 9);
        assert_eq!(fields(&spec, Some(&good), "test"), [""; 0]);
        assert_eq!(fields(&spec, None, "test"), [""; 0], "what is not known is left to the worker");
        assert_eq!(fields(&spec, Some(&good), "validation"), ["splits.eval"]);
        assert_eq!(
            fields(&spec, Some(&contents([32, 32, 3], 0, 9)), "test"),
            ["splits.train", "splits.eval"]
        );
        assert_eq!(fields(&spec, Some(&contents([28, 32, 3], 1000, 9)), "test"), ["dataset"]);
        assert_eq!(fields(&spec, Some(&contents([32, 32, 3], 1000, 10)), "test"), ["dataset"]);
        assert_eq!(fields(&spec, Some(&contents([32, 32, 3], 127, 9)), "test"), ["batch_size"]);
        let limited = JobSpec { train_limit: Some(127), ..spec.clone() };
        assert_eq!(fields(&limited, Some(&good), "test"), ["batch_size"]);
        assert_eq!(fields(&JobSpec { epochs: 0, ..limited }, Some(&good), "test"), [""; 0]);
        let gray =
            JobSpec { normalization: Normalization { mean: vec![0.5], std: vec![0.5] }, ..spec.clone() };
        assert_eq!(fields(&gray, Some(&good), "test"), ["normalization"]);
        let tiny = Normalization { mean: vec![0.5; 3], std: vec![1e-45; 3] };
        assert_eq!(
            fields(&JobSpec { normalization: tiny, ..spec.clone() }, Some(&good), "test"),
            ["normalization"]
        );
        let all = contents([28, 28, 2], 5, 99);
        assert_eq!(
            fields(&spec, Some(&all), "holdout"),
            ["splits.eval", "dataset", "dataset", "normalization", "batch_size"]
        );
    }
}
