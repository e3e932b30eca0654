//! Runs as JSON lines: `{"run": …}`, then its `{"metric": …}` lines, run by run.

use std::collections::VecDeque;

use bytes::Bytes;
use dyadic_proto::v1::ExportResponse;
use dyadic_store::Store;
use dyadic_store::history::JobFilter;
use dyadic_store::job::{Job, MetricPoint};
use futures::Stream;
use serde_json::{Value, json};
use tonic::Status;
use uuid::Uuid;

use crate::error::ApiError;

/// Rows that are read at once.
const PAGE: u32 = 500;

/// What to export.
pub(super) enum What {
    /// All runs of an experiment, newest first.
    Experiment(String),
    /// These.
    Jobs(Vec<Uuid>),
}

/// What is left to export.
struct Rest {
    store: Store,
    owner: Option<String>,
    what: What,
    /// The last job of the page before; of an experiment.
    before: Option<Uuid>,
    jobs: VecDeque<Job>,
    /// The job whose metrics are being read, and the last one.
    metrics: Option<(Uuid, Option<(String, u64)>)>,
    done: bool,
}

/// The lines, many a message.
pub(super) fn lines(
    store: Store,
    owner: Option<String>,
    what: What,
) -> impl Stream<Item = Result<ExportResponse, Status>> {
    let rest = Rest { store, owner, what, before: None, jobs: VecDeque::new(), metrics: None, done: false };
    futures::stream::try_unfold(rest, |mut rest| async move {
        match rest.next().await {
            Ok(Some(data)) => Ok(Some((ExportResponse { data }, rest))),
            Ok(None) => Ok(None),
            Err(error) => Err(error.into()),
        }
    })
}

impl Rest {
    async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        loop {
            if let Some((job, after)) = self.metrics.take() {
                let page = self
                    .store
                    .metric_page(job, after.as_ref().map(|(name, step)| (name.as_str(), *step)), PAGE)
                    .await?;
                if let Some(last) = page.last() {
                    self.metrics = Some((job, Some((last.name.clone(), last.step))));
                    return Ok(Some(text(page.iter().map(|point| metric_line(job, point)))));
                }
            }
            if let Some(job) = self.jobs.pop_front() {
                self.metrics = Some((job.id, None));
                return Ok(Some(text(std::iter::once(run_line(&job)))));
            }
            if self.done {
                return Ok(None);
            }
            self.more_jobs().await?;
        }
    }

    async fn more_jobs(&mut self) -> Result<(), ApiError> {
        match &mut self.what {
            What::Jobs(ids) => {
                if ids.is_empty() {
                    self.done = true;
                    return Ok(());
                }
                let id = ids.remove(0);
                self.jobs.push_back(self.store.job(self.owner.as_deref(), id).await?);
            }
            What::Experiment(name) => {
                let filter = JobFilter {
                    owner: self.owner.clone(),
                    experiment: Some(name.clone()),
                    before: self.before,
                    limit: PAGE,
                    ..JobFilter::default()
                };
                self.jobs = self.store.jobs(&filter).await?.into();
                if self.jobs.is_empty() && self.before.is_none() {
                    return Err(ApiError::NotFound { what: "experiment", name: name.clone() });
                }
                self.before = self.jobs.back().map(|job| job.id);
                self.done = (self.jobs.len() as u32) < PAGE;
            }
        }
        Ok(())
    }
}

fn text(lines: impl Iterator<Item = Value>) -> Bytes {
    lines.flat_map(|line| [line.to_string(), "\n".to_owned()]).collect::<String>().into()
}

fn run_line(job: &Job) -> Value {
    let artifact = job.artifact.0.as_ref().map(|made| {
        json!({
            "id": made.id, "sha256": made.sha256, "size_bytes": made.size_bytes, "version": made.version,
            "summary": made.summary, "held": made.held, "removed_at": made.removed_at,
        })
    });
    let error = job.error_code.as_ref().map(|code| json!({ "code": code, "message": job.error_message }));
    json!({ "run": {
        "id": job.id, "owner": job.owner, "experiment": job.experiment, "state": job.state,
        "model": job.model_name, "dataset": job.dataset_name,
        "train_split": job.train_split, "eval_split": job.eval_split, "served_name": job.served_name,
        "spec": job.spec, "settings": job.settings, "promote": job.promote, "tags": job.tags, "retry_of": job.retry_of,
        "worker": job.worker, "host": job.host, "code_version": job.code_version,
        "created_at": job.created_at, "started_at": job.started_at, "finished_at": job.finished_at,
        "artifact": artifact, "error": error,
    }})
}

/// JSON has no NaN: such a value is null.
fn metric_line(job: Uuid, point: &MetricPoint) -> Value {
    json!({ "metric": {
        "run": job, "name": point.name, "step": point.step, "value": point.value, "at": point.at,
    }})
}
