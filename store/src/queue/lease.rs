//! The workers' side: every statement but the claim itself names a claim by its fence, and changes nothing once a later
//! one exists.

use std::time::Duration;

use sqlx::postgres::PgQueryResult;
use uuid::Uuid;

use crate::blob::Digest;
use crate::database::Store;
use crate::error::{ErrorKind, Result, StoreError};
use crate::job::{Failure, Heartbeat, Job, Lease, Outcome, Progress, Published, Worker};

/// A recovery point of a claim.
#[derive(Clone, Copy)]
struct Checkpoint {
    held: Lease,
    sha256: Digest,
    size_bytes: u64,
    step: u64,
}

impl Store {
    /// Claims the next job that this worker can run, for `lease`; `None` if there is none. One whose record cannot be read
    /// is failed for good, in words, and the next one is taken.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn claim(&self, worker: &Worker, lease: Duration) -> Result<Option<(Lease, Job)>> {
        loop {
            let claimed: Option<(Uuid, i64)> = sqlx::query_as(include_str!("claim.sql"))
                .bind(&worker.capabilities)
                .bind(lease.as_secs_f64())
                .bind(&worker.name)
                .bind(&worker.host)
                .bind(&worker.code_version)
                .fetch_optional(&self.pool)
                .await?;
            let Some((job, fence)) = claimed else { return Ok(None) };
            let held = Lease { job, fence: fence.unsigned_abs() };
            match self.job(None, job).await {
                Ok(job) => return Ok(Some((held, job))),
                Err(error) if error.kind() == ErrorKind::DataLoss => {
                    let version = &worker.code_version;
                    let message =
                        format!("the job's record cannot be read by this worker ({version}): {error}");
                    self.fail(held, &Failure { code: "unreadable".to_owned(), message, retryable: false })
                        .await?;
                }
                Err(error) => {
                    // If this does not arrive either, the lease runs out.
                    let _ = self.give_back(held).await;
                    return Err(error);
                }
            }
        }
    }

    /// Keeps the lease for another `lease` from now and tells how far the job is.
    ///
    /// # Errors
    /// `LeaseLost`: stop. Anything else does not mean that the lease is lost: carry on and try again.
    pub async fn heartbeat(&self, held: Lease, lease: Duration, progress: &Progress) -> Result<Heartbeat> {
        let row: Option<(bool,)> = sqlx::query_as(include_str!("heartbeat.sql"))
            .bind(held.job)
            .bind(fence(held))
            .bind(lease.as_secs_f64())
            .bind(&progress.phase)
            .bind(progress.done as i64)
            .bind(progress.total as i64)
            .fetch_optional(&self.pool)
            .await?;
        row.map(|(cancel_requested,)| Heartbeat { cancel_requested }).ok_or(lost(held))
    }

    /// Announces that the bytes of a checkpoint are about to be stored, as [`Store::touch_blob`] does, unless the job would
    /// not take it: bytes that nothing will refer to are not to be written at all.
    ///
    /// # Errors
    /// As [`Store::checkpoint`].
    pub async fn announce_checkpoint(
        &self,
        held: Lease,
        sha256: Digest,
        size_bytes: u64,
        step: u64,
    ) -> Result<()> {
        let checkpoint = Checkpoint { held, sha256, size_bytes, step };
        self.place_checkpoint(include_str!("announce_checkpoint.sql"), checkpoint).await
    }

    /// Publishes a checkpoint whose bytes are stored already; its step must not go back. What stalled before is forgiven.
    ///
    /// # Errors
    /// `LeaseLost`; `Precondition` if the job has a checkpoint of a later step: [`Store::start_over`] gives that up;
    /// `Unavailable` if the bytes are being deleted: store them again.
    pub async fn checkpoint(&self, held: Lease, sha256: Digest, size_bytes: u64, step: u64) -> Result<()> {
        let checkpoint = Checkpoint { held, sha256, size_bytes, step };
        self.place_checkpoint(include_str!("checkpoint.sql"), checkpoint).await
    }

    async fn place_checkpoint(&self, statement: &'static str, checkpoint: Checkpoint) -> Result<()> {
        let done = sqlx::query(statement)
            .bind(checkpoint.held.job)
            .bind(fence(checkpoint.held))
            .bind(checkpoint.sha256)
            .bind(checkpoint.size_bytes as i64)
            .bind(checkpoint.step as i64)
            .execute(&self.pool)
            .await?;
        if done.rows_affected() == 1 { Ok(()) } else { Err(self.why_not_placed(checkpoint).await) }
    }

    /// Gives up the job's checkpoint, because this run cannot go on from it and begins anew.
    ///
    /// # Errors
    /// `LeaseLost`.
    pub async fn start_over(&self, held: Lease) -> Result<()> {
        let done = sqlx::query(
            "UPDATE job SET checkpoint_sha256 = NULL, checkpoint_step = NULL \
             WHERE id = $1 AND fence = $2 AND state = 'running'",
        )
        .bind(held.job)
        .bind(fence(held))
        .execute(&self.pool)
        .await?;
        ended(held, &done)
    }

    /// Publishes the artifact, whose bytes are stored already, lets the gate decide whether it goes live, and ends the job,
    /// all or nothing. After an error that is
    /// `Unavailable` the outcome is unknown: ask [`Store::completed_by`].
    ///
    /// # Errors
    /// `LeaseLost`; `Precondition` if a user wants it cancelled: acknowledge that; `Unavailable`, also if the bytes are
    /// being deleted.
    pub async fn complete(&self, held: Lease, outcome: &Outcome) -> Result<Published> {
        let row: Option<(Uuid, i64, Option<String>)> = sqlx::query_as(include_str!("complete.sql"))
            .bind(held.job)
            .bind(fence(held))
            .bind(outcome.sha256)
            .bind(outcome.size_bytes as i64)
            .bind(&outcome.summary)
            .bind(Uuid::now_v7())
            .fetch_optional(&self.pool)
            .await?;
        match row {
            Some(made) => Ok(published(made)),
            None => Err(self.why_not_completed(held, outcome.sha256).await),
        }
    }

    /// What this claim published, if it completed its job.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn completed_by(&self, held: Lease) -> Result<Option<Published>> {
        let row: Option<(Uuid, i64, Option<String>)> = sqlx::query_as(
            "SELECT artifact.id, version, held FROM artifact JOIN model_version ON artifact_id = artifact.id \
             WHERE job_id = $1 AND fence = $2",
        )
        .bind(held.job)
        .bind(fence(held))
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map(published))
    }

    /// Ends this run with an error: a retryable one queues the job again after a while, unless it stalled too often or is
    /// to be cancelled.
    ///
    /// # Errors
    /// `LeaseLost`.
    pub async fn fail(&self, held: Lease, failure: &Failure) -> Result<()> {
        let done = sqlx::query(include_str!("fail.sql"))
            .bind(held.job)
            .bind(fence(held))
            .bind(&failure.code)
            .bind(&failure.message)
            .bind(failure.retryable)
            .execute(&self.pool)
            .await?;
        ended(held, &done)
    }

    /// Gives the job back because the worker must stop; it runs again at once, and no attempt is spent.
    ///
    /// # Errors
    /// `LeaseLost`.
    pub async fn give_back(&self, held: Lease) -> Result<()> {
        let done = sqlx::query(
            "UPDATE job SET \
                 state = CASE WHEN cancel_requested THEN 'cancelled' ELSE 'queued' END, \
                 finished_at = CASE WHEN cancel_requested THEN now() END, \
                 run_at = now(), lease_expires_at = NULL, attempts = greatest(attempts - 1, 0), \
                 changed_by = worker, reason = 'given back by a worker that stops' \
             WHERE id = $1 AND fence = $2 AND state = 'running'",
        )
        .bind(held.job)
        .bind(fence(held))
        .execute(&self.pool)
        .await?;
        ended(held, &done)
    }

    /// Ends a job that a user wants cancelled.
    ///
    /// # Errors
    /// `LeaseLost`, also if nobody wants it cancelled.
    pub async fn acknowledge_cancel(&self, held: Lease) -> Result<()> {
        let done = sqlx::query(
            "UPDATE job SET state = 'cancelled', finished_at = now(), lease_expires_at = NULL, changed_by = worker \
             WHERE id = $1 AND fence = $2 AND state = 'running' AND cancel_requested",
        )
        .bind(held.job)
        .bind(fence(held))
        .execute(&self.pool)
        .await?;
        ended(held, &done)
    }

    /// Why a checkpoint was not taken.
    async fn why_not_placed(&self, checkpoint: Checkpoint) -> StoreError {
        let held = checkpoint.held;
        let asked: std::result::Result<Option<(Option<i64>,)>, sqlx::Error> = sqlx::query_as(
            "SELECT checkpoint_step FROM job WHERE id = $1 AND fence = $2 AND state = 'running'",
        )
        .bind(held.job)
        .bind(fence(held))
        .fetch_optional(&self.pool)
        .await;
        match asked {
            Err(error) => error.into(),
            Ok(None) => lost(held),
            Ok(Some((Some(step),))) if step > checkpoint.step as i64 => StoreError::Precondition(format!(
                "the job's checkpoint is at step {step}: one at step {} would go back",
                checkpoint.step
            )),
            // A deletion that has ended by now refused it all the same.
            Ok(Some(_)) => StoreError::BlobDeleting(checkpoint.sha256.to_string()),
        }
    }

    /// Why a success that references a blob changed nothing.
    async fn why_not_completed(&self, held: Lease, sha256: Digest) -> StoreError {
        let asked: std::result::Result<(Option<bool>, bool), sqlx::Error> = sqlx::query_as(
            "SELECT (SELECT cancel_requested FROM job WHERE id = $1 AND fence = $2 AND state = 'running'), \
                    EXISTS (SELECT FROM blob WHERE sha256 = $3 AND state = 'deleting')",
        )
        .bind(held.job)
        .bind(fence(held))
        .bind(sha256)
        .fetch_one(&self.pool)
        .await;
        match asked {
            Err(error) => error.into(),
            Ok((None, _)) => lost(held),
            Ok((Some(true), _)) => StoreError::Precondition(format!("job {} is to be cancelled", held.job)),
            // A deletion that has ended by now refused it all the same.
            Ok((Some(false), _)) => StoreError::BlobDeleting(sha256.to_string()),
        }
    }
}

fn published((artifact, version, held): (Uuid, i64, Option<String>)) -> Published {
    Published { artifact, version: version.unsigned_abs(), held }
}

pub(super) fn fence(held: Lease) -> i64 {
    held.fence as i64
}

pub(super) fn lost(held: Lease) -> StoreError {
    StoreError::LeaseLost { job: held.job, fence: held.fence }
}

fn ended(held: Lease, result: &PgQueryResult) -> Result<()> {
    if result.rows_affected() == 1 { Ok(()) } else { Err(lost(held)) }
}
