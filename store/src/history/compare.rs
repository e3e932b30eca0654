//! Jobs side by side.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use uuid::Uuid;

use crate::database::Store;
use crate::error::{Result, StoreError};
use crate::job::{Job, MetricPoint};

/// One job of a comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// The job.
    pub job: Job,
    /// Its resolved settings as text by path, such as `activation_bits.conv3x3`, with its model and dataset, and without
    /// the text of its plan.
    pub spec: BTreeMap<String, String>,
    /// What was planned for each layer, as a plan's text, where that was kept.
    pub plan: Option<String>,
    /// The last value of every metric.
    pub last: Vec<MetricPoint>,
}

/// Jobs side by side.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// In the order they were asked for.
    pub runs: Vec<Run>,
    /// Paths whose values are not the same in all.
    pub differing: Vec<String>,
}

impl Store {
    /// Puts jobs of this owner (`None`: of any) side by side.
    ///
    /// # Errors
    /// `NotFound` for the first that does not exist.
    pub async fn compare(&self, owner: Option<&str>, jobs: &[Uuid]) -> Result<Comparison> {
        let mut runs = Vec::with_capacity(jobs.len());
        for &id in jobs {
            let job = self.job(owner, id).await?;
            let settings = serde_json::to_value(&job.settings)
                .map_err(|e| StoreError::Invalid(format!("settings of job {id}: {e}")))?;
            let mut spec = flatten(&settings);
            spec.remove("plan");
            for (key, value) in [
                ("model", &job.model_name),
                ("dataset", &job.dataset_name),
                ("splits.train", &job.train_split),
                ("splits.eval", &job.eval_split),
            ] {
                spec.insert(key.to_owned(), value.clone());
            }
            let last = self.last_metrics(id).await?;
            let plan = self.plan_of(owner, id).await?;
            runs.push(Run { job, spec, plan, last });
        }
        let differing = differing(&runs.iter().map(|run| &run.spec).collect::<Vec<_>>());
        Ok(Comparison { runs, differing })
    }
}

/// A JSON value's leaves as text, by path: keys and positions joined by dots. Null is no leaf.
pub fn flatten(value: &Value) -> BTreeMap<String, String> {
    let mut leaves = BTreeMap::new();
    walk(value, String::new(), &mut leaves);
    leaves
}

fn walk(value: &Value, path: String, leaves: &mut BTreeMap<String, String>) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Null => {}
        Value::Object(fields) => fields.iter().for_each(|(key, value)| walk(value, below(key), leaves)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, item)| walk(item, below(&i.to_string()), leaves));
        }
        Value::String(text) => {
            leaves.insert(path, text.clone());
        }
        Value::Bool(_) | Value::Number(_) => {
            leaves.insert(path, value.to_string());
        }
    }
}

fn differing(specs: &[&BTreeMap<String, String>]) -> Vec<String> {
    let paths: BTreeSet<&String> = specs.iter().flat_map(|spec| spec.keys()).collect();
    let differs = |path: &&String| specs.windows(2).any(|pair| pair[0].get(*path) != pair[1].get(*path));
    paths.into_iter().filter(differs).cloned().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_paths_that_differ_are_named() {
        let a =
            flatten(&json!({"bits": 2, "widths": {"first": 6, "other": 8}, "mean": [0.5, 1], "ema": null}));
        let b =
            flatten(&json!({"bits": 3, "widths": {"first": 6, "other": 7}, "mean": [0.5, 2], "ema": 0.9}));
        assert_eq!(a["widths.first"], "6");
        assert_eq!(differing(&[&a, &b]), ["bits", "ema", "mean.1", "widths.other"]);
        assert_eq!(differing(&[&a, &a]), [""; 0]);
        assert_eq!(differing(&[]), [""; 0]);
    }
}
