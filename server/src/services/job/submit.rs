//! From a submitted spec to a job.

use dyadic_data::{Contents, Split};
use dyadic_proto::v1 as pb;
use dyadic_store::Store;
use dyadic_store::job::{Job, NewJob};
use dyadic_store::registry::{Dataset, Model};
use dyadic_store::spec::JobSpec;
use serde_json::{Map, Value};

use super::refusals::{self, Facts};
use crate::auth::Identity;
use crate::error::ApiError;
use crate::services::convert::{promote, scope, tags};
use crate::services::dataset::Reader;
use crate::services::inspect::Extents;
use crate::services::planning::Planner;
use crate::services::spec::{self, Settled};
use crate::upload::check_name;

const DEFAULT_EXPERIMENT: &str = "default";
/// Runs that may end early without a checkpoint in between.
const MAX_STALLS: u32 = 3;
const MAX_KEY: usize = 128;
/// Names of the splits where the spec has none; the first that the dataset has.
const TRAIN_SPLITS: [&str; 1] = ["train"];
const EVAL_SPLITS: [&str; 2] = ["test", VALIDATION];
/// What workers can do that may read pictures where they are.
const IN_PLACE: &str = "in-place";
/// The split that a share of the training images can make.
pub(super) const VALIDATION: &str = "validation";

/// What looks into the data and the model that a request refers to.
#[derive(Clone)]
pub(crate) struct Checks {
    pub(crate) datasets: Reader,
    pub(crate) planner: Planner,
}

/// What a job is to be made of.
pub(super) struct Inputs<'a> {
    pub(super) model: &'a Model,
    pub(super) dataset: &'a Dataset,
    pub(super) settled: Settled,
    /// Names of the splits; empty: the usual ones.
    pub(super) splits: pb::Splits,
}

/// What a job was found to be able to do.
pub(super) struct Checked {
    /// Every default filled in.
    pub(super) settings: JobSpec,
    pub(super) train_split: String,
    pub(super) eval_split: String,
    /// What becomes of each layer, as text.
    pub(super) plan: String,
    /// What a worker must be able to do.
    pub(super) requires: Vec<String>,
}

impl Checks {
    /// Everything that a worker could find wrong with a job, found now.
    ///
    /// # Errors
    /// [`ApiError::Refused`] with all reasons, of settings, plan, data and layers.
    pub(super) async fn check(&self, inputs: Inputs<'_>) -> Result<Checked, ApiError> {
        let Inputs { model, dataset, settled, splits } = inputs;
        let contents = self.datasets.known(dataset).await?;
        let mut known = known_splits(dataset, contents.as_ref());
        if settled.settings.validation.is_some() && !known.contains(&VALIDATION) {
            known.push(VALIDATION);
        }
        let train_split = split(&splits.train, &TRAIN_SPLITS, &known);
        let eval_split = split(&splits.eval, &EVAL_SPLITS, &known);
        let mut facts = Facts {
            settings: &settled.settings,
            model: Extents::of(&model.info),
            format: dyadic_data::format::by_word(&dataset.format),
            contents: contents.as_ref(),
            train: &train_split,
            eval: &eval_split,
        };
        let labels = refusals::labels(&settled.settings.labels, dataset, facts.format);
        let preprocess = refusals::preprocess(settled.settings.preprocess.as_ref(), &facts);
        let shaped = JobSpec { preprocess, labels, ..settled.settings.clone() };
        // What is usual depends on the channels that come out.
        facts.settings = &shaped;
        let normalization = refusals::normalization(&shaped.normalization, &facts);
        let settings = JobSpec { normalization, ..shaped.clone() };
        facts.settings = &settings;
        let mut reasons = settled.mistakes.clone();
        reasons.extend(refusals::of_data(&facts));
        match self.planner.plan(model, &settled).await? {
            Ok(plan) if reasons.is_empty() => {
                let plan = plan.to_toml();
                let in_place = contents.is_some_and(|contents| contents.base.is_some());
                let requires = if in_place { vec![IN_PLACE.to_owned()] } else { Vec::new() };
                return Ok(Checked { settings, train_split, eval_split, plan, requires });
            }
            Ok(_) => {}
            Err(refusals) => reasons.extend(refusals::of_layers(&refusals)),
        }
        Err(ApiError::Refused(reasons))
    }
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
    let settled = spec::settle(&spec)?;
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
    let splits = spec.splits.clone().unwrap_or_default();
    let inputs = Inputs { model: &model, dataset: &dataset, settled, splits };
    let Checked { settings, train_split, eval_split, plan, requires } = checks.check(inputs).await?;
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
        requires,
        priority,
        max_stalls: MAX_STALLS,
        promote,
        idempotency_key,
        tags: tags(spec.tags.clone())?,
        spec: as_submitted(&spec)?,
        plan: Some(plan),
    })
}

/// The plan of a job that is to be done again, checked as a submission is.
pub(super) async fn plan_again(
    store: &Store,
    checks: &Checks,
    caller: &Identity,
    old: &Job,
) -> Result<String, ApiError> {
    let settings = old.settings.runnable().map_err(|error| ApiError::Precondition(error.to_string()))?;
    let settled = spec::settle(&spec::to_proto(settings))?;
    let of = |id: Option<uuid::Uuid>| id.map(|id| id.to_string()).unwrap_or_default();
    let model = store.model(scope(caller), &of(old.model_id)).await?;
    let dataset = store.dataset(scope(caller), &of(old.dataset_id)).await?;
    let splits = pb::Splits { train: old.train_split.clone(), eval: old.eval_split.clone() };
    let inputs = Inputs { model: &model, dataset: &dataset, settled, splits };
    Ok(checks.check(inputs).await?.plan)
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
        // `val` is what many call it.
        return asked.parse().map_or_else(|_| asked.to_owned(), |split: Split| split.name().to_owned());
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
        assert_eq!(find("val", &["train", "validation"]), "validation");
        assert_eq!(find("", &["train"]), "test");
    }
}
