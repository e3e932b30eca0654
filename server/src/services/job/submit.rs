//! From a submitted spec to a job.

use dyadic_plan::Refusal;
use dyadic_proto::v1 as pb;
use dyadic_store::Store;
use dyadic_store::job::NewJob;
use serde_json::{Map, Value};

use crate::auth::Identity;
use crate::error::ApiError;
use crate::services::convert::{scope, tags};
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

/// Checks a request, and finds what it refers to.
pub(crate) async fn new_job(
    store: &Store,
    planner: &Planner,
    caller: &Identity,
    request: pb::SubmitJobRequest,
) -> Result<NewJob, ApiError> {
    let pb::SubmitJobRequest { spec, idempotency_key } = request;
    let spec = spec.ok_or_else(|| ApiError::field("spec", "it is missing"))?;
    let idempotency_key = key(idempotency_key)?;
    let settings = spec::settings(&spec)?;
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
    let asked = spec.splits.clone().unwrap_or_default();
    let known: Vec<&str> = dataset.splits.iter().map(|split| split.name.as_str()).collect();
    let train_split = split("splits.train", &asked.train, &TRAIN_SPLITS, &known)?;
    let eval_split = split("splits.eval", &asked.eval, &EVAL_SPLITS, &known)?;
    let served_name = if spec.served_name.is_empty() { model.name.clone() } else { spec.served_name.clone() };
    check_name("served name", &served_name)?;
    let experiment =
        if spec.experiment.is_empty() { DEFAULT_EXPERIMENT.to_owned() } else { spec.experiment.clone() };
    check_name("experiment", &experiment)?;
    let tags = tags(spec.tags.clone())?;
    planner.plan(&model, &settings).await?.map_err(|refusals| doomed(&refusals))?;
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
        idempotency_key,
        tags,
        spec: as_submitted(&spec)?,
    })
}

/// What would fail the job for good once a worker had it, all of it.
fn doomed(refusals: &[Refusal]) -> ApiError {
    let reasons: Vec<String> = refusals.iter().map(ToString::to_string).collect();
    ApiError::Precondition(format!("the model cannot be quantized by these settings: {}", reasons.join("; ")))
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

/// The split that is meant. Where the dataset names none, the format's usual ones are there.
fn split(field: &str, asked: &str, usual: &[&str], known: &[&str]) -> Result<String, ApiError> {
    let there = |name: &str| known.is_empty() || known.contains(&name);
    let found = if asked.is_empty() {
        usual.iter().copied().find(|name| there(name))
    } else {
        Some(asked).filter(|name| there(name))
    };
    found.map(str::to_owned).ok_or_else(|| {
        let wanted = if asked.is_empty() { usual.join(" or ") } else { asked.to_owned() };
        ApiError::field(field, format!("the dataset has no split {wanted:?}; it has {}", known.join(", ")))
    })
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
    fn splits_are_found_by_name_or_by_custom() {
        let find = |asked: &str, known: &[&str]| split("splits.eval", asked, &EVAL_SPLITS, known).ok();
        assert_eq!(find("", &[]).as_deref(), Some("test"));
        assert_eq!(find("", &["train", "validation"]).as_deref(), Some("validation"));
        assert_eq!(find("train", &["train", "test"]).as_deref(), Some("train"));
        assert_eq!(find("holdout", &["train", "test"]), None);
        assert_eq!(find("", &["train"]), None);
    }
}
