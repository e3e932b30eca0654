//! The queue: submitting, cancelling and retrying on the users' side; the workers' side is in `lease`, what becomes of
//! the jobs of dead workers in `reaper`.
//!
//! Every change is one statement. Who may change a running job is decided by its fence, not by any clock.

mod lease;
mod reaper;
mod record;

pub use reaper::{Reaped, Reaper};
pub use record::NewMetric;

use sha2::{Digest as _, Sha256};
use sqlx::types::Json;
use uuid::Uuid;

use crate::database::Store;
use crate::error::{ErrorKind, Result, StoreError};
use crate::job::{Job, NewJob};

/// A finished job that is to be done again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry<'a> {
    /// The old job.
    pub of: Uuid,
    /// Who wants it.
    pub by: &'a str,
    /// Whether the new one goes on from the old one's last checkpoint.
    pub from_checkpoint: bool,
    /// What becomes of each layer, as a plan's text, where it was planned.
    pub plan: Option<&'a str>,
}

/// What submitting answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Submitted {
    /// The job.
    pub job: Job,
    /// The key was used before, with the same request.
    pub existed: bool,
}

impl Store {
    /// Submits a job, unless `queue_limit` jobs wait already.
    ///
    /// # Errors
    /// `Conflict`: the key was used for another request, or the served name is another owner's; `Exhausted`: the queue is
    /// full; `NotFound`: no such model or dataset.
    pub async fn submit(&self, job: &NewJob, queue_limit: u32) -> Result<Submitted> {
        let hash = request_hash(job)?;
        if let Some(existing) = self.submitted_before(job, &hash).await? {
            return Ok(Submitted { job: existing, existed: true });
        }
        let id = Uuid::now_v7();
        let inserted = sqlx::query(include_str!("queue/submit.sql"))
            .bind(id)
            .bind(&job.owner)
            .bind(&job.experiment)
            .bind(job.model)
            .bind(job.dataset)
            .bind(&job.train_split)
            .bind(&job.eval_split)
            .bind(&job.served_name)
            .bind(&job.spec)
            .bind(Json(&job.settings))
            .bind(&job.requires)
            .bind(job.priority)
            .bind(i32::try_from(job.max_stalls).unwrap_or(i32::MAX))
            .bind(&job.idempotency_key)
            .bind(hash.as_slice())
            .bind(i64::from(queue_limit))
            .bind(job.tags.keys().collect::<Vec<_>>())
            .bind(job.tags.values().collect::<Vec<_>>())
            .bind(&job.plan)
            .bind(job.promote.to_string())
            .execute(&self.pool)
            .await?;
        if inserted.rows_affected() == 1 {
            return Ok(Submitted { job: self.job(None, id).await?, existed: false });
        }
        // Somebody was faster with the same key, or there is a reason why not.
        if let Some(existing) = self.submitted_before(job, &hash).await? {
            return Ok(Submitted { job: existing, existed: true });
        }
        Err(self.why_not_submitted(job, queue_limit).await)
    }

    async fn submitted_before(&self, job: &NewJob, hash: &[u8; 32]) -> Result<Option<Job>> {
        let Some(key) = &job.idempotency_key else { return Ok(None) };
        let found: Option<(Uuid, Vec<u8>)> =
            sqlx::query_as("SELECT id, request_hash FROM job WHERE owner = $1 AND idempotency_key = $2")
                .bind(&job.owner)
                .bind(key)
                .fetch_optional(&self.pool)
                .await?;
        match found {
            None => Ok(None),
            Some((id, request)) if request == hash => Ok(Some(self.job(None, id).await?)),
            Some((id, _)) => Err(StoreError::Conflict(format!(
                "the idempotency key {key:?} was used for another request, job {id}"
            ))),
        }
    }

    async fn why_not_submitted(&self, job: &NewJob, queue_limit: u32) -> StoreError {
        let asked: std::result::Result<(bool, bool, Option<String>), sqlx::Error> = sqlx::query_as(
            "SELECT EXISTS (SELECT FROM model WHERE id = $1), EXISTS (SELECT FROM dataset WHERE id = $2), \
                    (SELECT owner FROM served_model WHERE name = $3)",
        )
        .bind(job.model)
        .bind(job.dataset)
        .bind(&job.served_name)
        .fetch_one(&self.pool)
        .await;
        match asked {
            Err(error) => error.into(),
            Ok((false, ..)) => StoreError::not_found("model", job.model),
            Ok((_, false, _)) => StoreError::not_found("dataset", job.dataset),
            Ok((.., Some(owner))) if owner != job.owner => StoreError::Conflict(format!(
                "the served name {:?} belongs to another owner",
                job.served_name
            )),
            Ok(_) => {
                StoreError::Exhausted(format!("{queue_limit} jobs are waiting already; try again later"))
            }
        }
    }

    /// Cancels a job of this owner (`None`: of any): a queued one at once, a running one by its worker's next heartbeat.
    /// Cancelling what is cancelled already answers it as it is.
    ///
    /// # Errors
    /// `NotFound`; `Precondition` if it has succeeded or failed.
    pub async fn cancel(&self, owner: Option<&str>, id: Uuid, who: &str) -> Result<Job> {
        let cancelled = sqlx::query(
            "UPDATE job SET \
                 state = CASE state WHEN 'queued' THEN 'cancelled' ELSE state END, \
                 finished_at = CASE state WHEN 'queued' THEN now() END, \
                 cancel_requested = true, changed_by = $3, reason = 'cancelled by ' || $3 \
             WHERE id = $1 AND ($2::text IS NULL OR owner = $2) AND state IN ('queued', 'running')",
        )
        .bind(id)
        .bind(owner)
        .bind(who)
        .execute(&self.pool)
        .await?;
        let job = self.job(owner, id).await?;
        if cancelled.rows_affected() == 0 && job.state != crate::job::JobState::Cancelled {
            return Err(StoreError::Precondition(format!("job {id} has {} already", job.state.name())));
        }
        Ok(job)
    }

    /// A job of this owner (`None`: of any) that could be submitted again.
    ///
    /// # Errors
    /// `NotFound`; `Precondition` if it is not finished, its model or dataset is gone, or it has no checkpoint to go on from.
    pub async fn retryable(&self, owner: Option<&str>, id: Uuid, from_checkpoint: bool) -> Result<Job> {
        let old = self.job(owner, id).await?;
        if !old.state.is_final() {
            return Err(StoreError::Precondition(format!("job {id} is still {}", old.state.name())));
        }
        if old.model_id.is_none() || old.dataset_id.is_none() {
            return Err(StoreError::Precondition(format!(
                "the model or the dataset of job {id} has been deleted"
            )));
        }
        if from_checkpoint && old.checkpoint_sha256.is_none() {
            return Err(StoreError::Precondition(format!("job {id} has no checkpoint to go on from")));
        }
        Ok(old)
    }

    /// Submits a finished job's request again, as a new job with this plan.
    ///
    /// # Errors
    /// As [`Store::retryable`]; `Exhausted` if the queue is full.
    pub async fn retry(&self, owner: Option<&str>, retry: &Retry<'_>, queue_limit: u32) -> Result<Job> {
        let id = retry.of;
        self.retryable(owner, id, retry.from_checkpoint).await?;
        let new = Uuid::now_v7();
        let inserted = sqlx::query(include_str!("queue/retry.sql"))
            .bind(new)
            .bind(id)
            .bind(retry.by)
            .bind(retry.from_checkpoint)
            .bind(i64::from(queue_limit))
            .bind(retry.plan)
            .execute(&self.pool)
            .await
            .map_err(|error| match StoreError::from(error) {
                error if error.kind() == ErrorKind::Precondition => StoreError::Precondition(format!(
                    "the model, dataset or checkpoint of job {id} has been deleted"
                )),
                error => error,
            })?;
        if inserted.rows_affected() == 0 {
            return Err(StoreError::Exhausted(format!(
                "{queue_limit} jobs are waiting already; try again later"
            )));
        }
        self.job(None, new).await
    }

    /// How many jobs wait, and how many run: what a scaler goes by.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn queue_depth(&self) -> Result<(u64, u64)> {
        let (queued, running): (i64, i64) = sqlx::query_as(
            "SELECT (SELECT count(*) FROM job WHERE state = 'queued'), (SELECT count(*) FROM job WHERE state = 'running')",
        )
        .fetch_one(&self.pool)
        .await?;
        Ok((queued.unsigned_abs(), running.unsigned_abs()))
    }
}

/// Of everything the user asked for; two requests with the same hash are the same request.
fn request_hash(job: &NewJob) -> Result<[u8; 32]> {
    let request = serde_json::json!({
        "experiment": job.experiment, "model": job.model, "dataset": job.dataset, "train_split": job.train_split,
        "eval_split": job.eval_split, "served_name": job.served_name, "spec": job.spec, "priority": job.priority,
        "tags": job.tags,
    });
    let text =
        serde_json::to_vec(&request).map_err(|e| StoreError::Invalid(format!("the job's spec: {e}")))?;
    Ok(Sha256::digest(text).into())
}
