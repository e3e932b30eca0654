//! How a split is read: preprocessing, what is held out for validation, which output stands for which class.

use std::collections::BTreeMap;

use super::store::Store;
use crate::error::{DataError, Result};
use crate::order::draw;
use crate::preprocess::Preprocess;
use crate::source::Source;
use crate::split::Split;

/// Names that a message lists at most.
const LISTED: usize = 8;

/// How a split is read.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// What is done to each picture; without one, images stay as they are and must be of one size.
    pub preprocess: Option<Preprocess>,
    /// The share of each class's training images that is held out as the validation split of a source that has none. The
    /// same images whatever the seed, so that accuracies of different runs are of the same images.
    pub validation: Option<f64>,
    /// Which of the network's outputs stands for each class; without it, labels stay what they are.
    pub outputs: Option<Outputs>,
    /// The share of the images that may be left out because they cannot be read.
    pub skip_broken: f64,
}

impl Default for Reading {
    fn default() -> Self {
        Reading { preprocess: None, validation: None, outputs: None, skip_broken: Reading::SKIP_BROKEN }
    }
}

impl Reading {
    /// The share of broken images that is left out where nothing is said: 1 %.
    pub const SKIP_BROKEN: f64 = 0.01;

    /// Refuses numbers that are out of range.
    ///
    /// # Errors
    /// With the number and its range.
    pub fn check(&self) -> Result<()> {
        if let Some(share) = self.validation.filter(|share| !(*share > 0.0 && *share <= 0.5)) {
            let reason = format!("a share of {share} for validation; it is above 0 and at most 0.5");
            return Err(DataError::unusable("dataset", reason));
        }
        if !(0.0..=1.0).contains(&self.skip_broken) {
            let reason = format!("a share of {} broken images; it is 0 to 1", self.skip_broken);
            return Err(DataError::unusable("dataset", reason));
        }
        self.preprocess.as_ref().map_or(Ok(()), |preprocess| preprocess.shape().map(drop))
    }

    /// The split to judge on: the test split, else the validation split, of its own or held out.
    ///
    /// # Errors
    /// If there is none.
    pub fn evaluation(&self, source: &Source) -> Result<Split> {
        let there = |split| source.parts().iter().any(|part| part.split == split);
        if there(Split::Test) {
            return Ok(Split::Test);
        }
        if there(Split::Validation) || self.validation.is_some() {
            return Ok(Split::Validation);
        }
        Err(DataError::hinted(
            "dataset",
            "there is neither a test nor a validation split to judge on",
            "hold out a share of the training images: --validation 0.1",
        ))
    }

    /// What is held out of, or left in, the training split where that makes the split that is asked for.
    pub(super) fn held_out(&self, source: &Source, split: Split) -> Result<Option<Held>> {
        let Some(share) = self.validation else { return Ok(None) };
        if source.parts().iter().any(|part| part.split == Split::Validation) {
            return Err(DataError::unusable(
                "dataset",
                "it has a validation split of its own; none can be held out of the training images",
            ));
        }
        Ok(match split {
            Split::Test => None,
            Split::Train => Some(Held { from: Split::Train, share, inside: false }),
            Split::Validation => Some(Held { from: Split::Train, share, inside: true }),
        })
    }
}

/// A part of a split that is held out, or the rest.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) from: Split,
    share: f64,
    inside: bool,
}

impl Held {
    /// The indices, in their order: of each class its share, rounded, but one at least and not all.
    pub(super) fn choose(&self, labels: &[Option<u32>]) -> Vec<u32> {
        let mut classes: BTreeMap<Option<u32>, Vec<(u64, u32)>> = BTreeMap::new();
        for (index, &label) in labels.iter().enumerate() {
            let key = (draw(0, 5, 0, index as u64), index as u32);
            classes.entry(label).or_default().push(key);
        }
        let mut chosen = Vec::new();
        for mut members in classes.into_values() {
            members.sort_unstable();
            let all = members.len();
            let held = ((self.share * all as f64).round() as usize).max(1).min(all.saturating_sub(1));
            let (held, rest) = members.split_at(held);
            chosen.extend(if self.inside { held } else { rest }.iter().map(|&(_, index)| index));
        }
        chosen.sort_unstable();
        chosen
    }
}

/// A network's outputs, and which of them stands for each class of a dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outputs {
    names: Vec<String>,
    of_label: Vec<u32>,
}

impl Outputs {
    /// Finds each class among the names of the outputs.
    ///
    /// # Errors
    /// If a class is not among them, or an output's name comes twice. Outputs that no class stands for are no fault.
    pub fn matching(classes: &[String], names: &[String]) -> Result<Self> {
        let refuse = |reason: String| {
            let hint = "name the outputs in their order, each as its class folder is called";
            Err(DataError::hinted("classes", reason, hint))
        };
        if classes.is_empty() {
            return refuse("the dataset does not name its classes".into());
        }
        let mut places = BTreeMap::new();
        for (output, name) in names.iter().enumerate() {
            if places.insert(name.as_str(), output as u32).is_some() {
                return refuse(format!("the output '{name}' comes twice"));
            }
        }
        let missing: Vec<&str> =
            classes.iter().map(String::as_str).filter(|class| !places.contains_key(class)).collect();
        if !missing.is_empty() {
            let spare: Vec<&str> =
                names.iter().map(String::as_str).filter(|name| !classes.iter().any(|c| c == name)).collect();
            return refuse(format!(
                "no output is named {}; outputs without a class are {}",
                listed(&missing),
                listed(&spare)
            ));
        }
        let of_label = classes.iter().filter_map(|class| places.get(class.as_str()).copied()).collect();
        Ok(Outputs { names: names.to_vec(), of_label })
    }

    /// Names of the outputs, in their order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Which output stands for each class of the dataset, in the order of its labels.
    pub fn of_labels(&self) -> &[u32] {
        &self.of_label
    }

    /// Outputs that no class stands for.
    pub fn without_class(&self) -> Vec<&str> {
        let taken: std::collections::BTreeSet<u32> = self.of_label.iter().copied().collect();
        let all = self.names.iter().enumerate();
        all.filter(|(output, _)| !taken.contains(&(*output as u32))).map(|(_, name)| name.as_str()).collect()
    }

    /// Names of outputs from a file: a line each, in their order, or JSON, `["cat", …]` or `{"cat": 0, …}`.
    ///
    /// # Errors
    /// If it is no such text, empty, or its numbers are not 0, 1, 2 and so on.
    pub fn names_in(text: &str) -> Result<Vec<String>> {
        let bad = |reason: String| DataError::malformed("labels", reason);
        let names: Vec<String> = match text.trim_start().chars().next() {
            Some('[') => serde_json::from_str(text).map_err(|e| bad(e.to_string()))?,
            Some('{') => {
                let numbers: BTreeMap<String, usize> =
                    serde_json::from_str(text).map_err(|e| bad(e.to_string()))?;
                let mut by_number: Vec<(usize, String)> = numbers.into_iter().map(|(n, i)| (i, n)).collect();
                by_number.sort_unstable();
                for (wanted, (number, name)) in by_number.iter().enumerate() {
                    if *number != wanted {
                        return Err(bad(format!("'{name}' has number {number}; {wanted} comes next")));
                    }
                }
                by_number.into_iter().map(|(_, name)| name).collect()
            }
            _ => text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect(),
        };
        if names.is_empty() {
            return Err(bad("it names no class".into()));
        }
        Ok(names)
    }

    /// Brings the labels of a split into the order of the outputs.
    pub(super) fn apply(&self, store: &mut Store) -> Result<()> {
        for label in store.labels.iter_mut().flatten() {
            *label = self.of_label.get(*label as usize).copied().ok_or_else(|| {
                let known = self.of_label.len();
                DataError::unusable("dataset", format!("label {label} occurs; {known} classes are matched"))
            })?;
        }
        store.classes.clone_from(&self.names);
        Ok(())
    }
}

fn listed(names: &[&str]) -> String {
    if names.is_empty() {
        return "none".into();
    }
    let shown: Vec<String> = names.iter().take(LISTED).map(|name| format!("'{name}'")).collect();
    let more = names.len().saturating_sub(LISTED);
    let shown = shown.join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}
