//! From a submitted spec to a job.

use dyadic_data::Contents;
use dyadic_proto::v1 as pb;
use dyadic_store::Store;
use dyadic_store::job::NewJob;
use dyadic_store::registry::Dataset;
use dyadic_store::spec::JobSpec;
use serde_json::{Map, Value};

use super::refusals::{self, Facts};
use crate::auth::Identity;
use crate::error::ApiError;
use crate::services::convert::{promote, scope, tags};
use crate::services::dataset::Reader;
use crate::services::inspect::Extents;
use crate::services::planning::Planner;
use crate::services::spec;
use crate::upload::check_name;

const DEFAULT_EXPERIMENT: &str = "default";
/// Runs that may end early without a checkpoint in between.
const MAX_STALLS: u32 = 3;
const MAX_KEY: usize = 128;
/// Names of the splits where the spec has none; the first that the dataset has.
const TRAIN_SPLITS: [&str; 1] = ["train"];
const EVAL_SPLITS: [&str; 2] = ["test", "validation"];

/// What looks into the data and the model that a request refers to.
#[derive(Clone)]
pub(crate) struct Checks {
    pub(crate) datasets: Reader,
    pub(crate) planner: Planner,
}

/// Checks a request, and finds what it refers to.
pub(crate) async fn new_job(
    store: &Store,
    checks: &Checks,
    caller: &Identity,
    request: pb::SubmitJobRequest,
) -> Result<NewJob, ApiError> {
    let pb::SubmitJobRequest { spec, idempotency_key } = request;
    let spec = spec.ok_or_else(|| ApiError::field("spec", "it is missing"))?;
    let idempotency_key = key(idempotency_key)?;
    let mut settings = spec::settings(&spec)?;
    let promote = promote(&spec.promote)?;
    let priority = spec.priority.unwrap_or(0);
    if !(-100..=100).contains(&priority) {
        return Err(ApiError::field("priority", format!("{priority} is not in -100 to 100")));
    }
    for (field, name) in [("model", &spec.model), ("dataset", &spec.dataset)] {
        if name.is_empty() {
            return Err(ApiError::field(field, "it is missing"));
        }
    }
    let model = store.model(scope(caller), &spec.model).await?;
    let dataset = store.dataset(scope(caller), &spec.dataset).await?;
    let contents = checks.datasets.known(&dataset).await?;
    let asked = spec.splits.clone().unwrap_or_default();
    let known = known_splits(&dataset, contents.as_ref());
    let train_split = split(&asked.train, &TRAIN_SPLITS, &known);
    let eval_split = split(&asked.eval, &EVAL_SPLITS, &known);
    let mut facts = Facts {
        settings: &settings,
        model: Extents::of(&model.info),
        format: dyadic_data::format::by_word(&dataset.format),
        contents: contents.as_ref(),
        train: &train_split,
        eval: &eval_split,
    };
    let normalization = refusals::normalization(&settings.normalization, &facts);
    let resolved = JobSpec { normalization: normalization.clone(), ..settings.clone() };
    facts.settings = &resolved;
    let mut reasons = refusals::of_data(&facts);
    if let Err(refusals) = checks.planner.plan(&model, &settings).await? {
        reasons.extend(refusals::of_layers(&refusals));
    }
    if !reasons.is_empty() {
        return Err(ApiError::Refused(reasons));
    }
    settings.normalization = normalization;
    let served_name = if spec.served_name.is_empty() { model.name.clone() } else { spec.served_name.clone() };
    check_name("served name", &served_name)?;
    let experiment =
        if spec.experiment.is_empty() { DEFAULT_EXPERIMENT.to_owned() } else { spec.experiment.clone() };
    check_name("experiment", &experiment)?;
    Ok(NewJob {
        owner: caller.owner.clone(),
        experiment,
        model: model.id,
        dataset: dataset.id,
        train_split,
        eval_split,
        served_name,
        settings,
        requires: Vec::new(),
        priority,
        max_stalls: MAX_STALLS,
        promote,
        idempotency_key,
        tags: tags(spec.tags.clone())?,
        spec: as_submitted(&spec)?,
    })
}

fn key(key: String) -> Result<Option<String>, ApiError> {
    if key.len() > MAX_KEY || key.chars().any(char::is_control) {
        return Err(ApiError::field(
            "idempotency_key",
            format!("it is not at most {MAX_KEY} plain characters"),
        ));
    }
    Ok((!key.is_empty()).then_some(key))
}

/// The splits that a dataset is declared to have, or, where it names none, those that are in it.
fn known_splits<'a>(dataset: &'a Dataset, contents: Option<&'a Contents>) -> Vec<&'a str> {
    if dataset.splits.is_empty() {
        return contents.iter().flat_map(|c| &c.splits).map(|found| found.split.name()).collect();
    }
    dataset.splits.iter().map(|split| split.name.as_str()).collect()
}

/// The split that is meant: the one asked for, or else the first of the usual ones that is known to be there.
fn split(asked: &str, usual: &[&str], known: &[&str]) -> String {
    if !asked.is_empty() {
        return asked.to_owned();
    }
    let there = usual.iter().find(|name| known.contains(name));
    there.or(usual.first()).map(|&name| name.to_owned()).unwrap_or_default()
}

/// The fields that were set, as JSON.
fn as_submitted(spec: &pb::JobSpec) -> Result<Value, ApiError> {
    let all = serde_json::to_value(spec).map_err(ApiError::internal)?;
    Ok(without_unset(all).unwrap_or(Value::Object(Map::new())))
}

fn without_unset(value: Value) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::String(text) if text.is_empty() => None,
        Value::Array(items) if items.is_empty() => None,
        Value::Object(fields) => {
            let set = |(key, value): (String, Value)| Some((key, without_unset(value)?));
            let fields: Map<String, Value> = fields.into_iter().filter_map(set).collect();
            (!fields.is_empty()).then_some(Value::Object(fields))
        }
        other => Some(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_set_is_kept_as_submitted() {
        let spec = pb::JobSpec {
            model: "resnet".into(),
            epochs: Some(0),
            splits: Some(pb::Splits::default()),
            normalization: Some(pb::Normalization { mean: vec![0.5], std: vec![] }),
            ..pb::JobSpec::default()
        };
        let kept = as_submitted(&spec).unwrap();
        assert_eq!(kept["model"], "resnet");
        assert_eq!(kept["epochs"], 0);
        assert_eq!(kept["normalization"], serde_json::json!({"mean": [0.5]}));
        assert!(kept.get("splits").is_none() && kept.get("served_name").is_none());
    }

    #[test]
    fn splits_are_those_asked_for_or_the_usual_ones() {
        let find = |asked: &str, known: &[&str]| split(asked, &EVAL_SPLITS, known);
        assert_eq!(find("", &[]), "test");
        assert_eq!(find("", &["train", "validation"]), "validation");
        assert_eq!(find("train", &["train", "test"]), "train");
        assert_eq!(find("holdout", &["train", "test"]), "holdout");
        assert_eq!(find("", &["train"]), "test");
    }
}
