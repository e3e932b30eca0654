//! What a worker would find wrong with a job, found before it is queued: all of it at once.

use dyadic_data::{Contents, Format, SplitContents, normalization};
use dyadic_engine::model::Normalization as Engine;
use dyadic_plan::Refusal;
use dyadic_store::spec::{JobSpec, Normalization};

use crate::error::Reason;
use crate::services::inspect::Extents;

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

impl Facts<'_> {
    fn channels(&self) -> Option<usize> {
        let of_data = self.contents.iter().flat_map(|c| &c.splits).find_map(|split| split.shape);
        of_data.map(|[_, _, channels]| channels).or(self.model.map(|model| model.input[0]))
    }

    fn split(&self, name: &str) -> Option<&SplitContents> {
        self.contents?.split(name.parse().ok()?)
    }
}

/// All that stands against a job as far as its network's layers, and rules for them, go.
pub(super) fn of_layers(refusals: &[Refusal]) -> Vec<Reason> {
    let field = |refusal: &Refusal| if refusal.rule { "plan" } else { "model" };
    refusals.iter().map(|refusal| Reason::new(field(refusal), refusal.to_string())).collect()
}

/// All that stands against a job as far as its data go.
pub(super) fn of_data(facts: &Facts<'_>) -> Vec<Reason> {
    if let Some(unusable) = facts.format.and_then(dyadic_data::Format::unusable) {
        return vec![Reason::new("dataset", unusable)];
    }
    let mut reasons = Vec::new();
    for (field, name) in [("splits.train", facts.train), ("splits.eval", facts.eval)] {
        match facts.split(name) {
            Some(split) if split.images == 0 => {
                reasons.push(Reason::new(field, format!("the split {name:?} has no image")));
            }
            None if facts.contents.is_some() => {
                reasons.push(Reason::new(field, format!("the dataset has no split {name:?}")));
            }
            Some(_) | None => {}
        }
    }
    reasons.extend(against_model(facts));
    reasons.extend(against_normalization(facts));
    reasons.extend(against_batch(facts));
    reasons
}

/// Images and labels that the network does not take, a reason for all splits.
fn against_model(facts: &Facts<'_>) -> Vec<Reason> {
    let Some(model) = facts.model else { return Vec::new() };
    let [channels, height, width] = model.input;
    let splits = || [facts.train, facts.eval].into_iter().filter_map(|name| facts.split(name));
    let mut reasons = Vec::new();
    let other = splits().filter_map(|split| split.shape).find(|&shape| shape != [height, width, channels]);
    if let Some([h, w, c]) = other {
        let reason = format!(
            "its images are {h} × {w} pixels of {c} channels; the model reads {height} × {width} of {channels}"
        );
        reasons.push(Reason::new("dataset", reason));
    }
    let highest = splits().filter_map(|split| split.highest_label).max();
    if let Some(highest) = highest.filter(|&highest| highest as usize >= model.outputs) {
        let reason = format!("label {highest} occurs, but the model has {} outputs", model.outputs);
        reasons.push(Reason::new("dataset", reason));
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
    use dyadic_data::{Broken, Split};

    use super::*;

    fn contents(shape: [usize; 3], images: u64, highest: u32) -> Contents {
        let split = |split| SplitContents { split, images, shape: Some(shape), highest_label: Some(highest) };
        Contents {
            splits: vec![split(Split::Train), split(Split::Test)],
            uniform: true,
            broken: dyadic_data::Broken::default(),
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
