//! What the queue holds and what the history tells of it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::FromRow;
use uuid::Uuid;

use crate::blob::Digest;
use crate::registry::Promote;
use crate::spec::{JobSpec, StoredSpec};

/// Keys and values that users attach.
pub type Tags = BTreeMap<String, String>;

/// Where a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum JobState {
    /// Waiting for a worker.
    Queued,
    /// A worker has the lease.
    Running,
    /// Its artifact is published.
    Succeeded,
    /// It ended with a permanent error, or stalled too often.
    Failed,
    /// A user ended it.
    Cancelled,
}

impl JobState {
    /// All states.
    pub const ALL: [JobState; 5] =
        [JobState::Queued, JobState::Running, JobState::Succeeded, JobState::Failed, JobState::Cancelled];

    /// The word that is stored.
    pub fn name(self) -> &'static str {
        match self {
            JobState::Queued => "queued",
            JobState::Running => "running",
            JobState::Succeeded => "succeeded",
            JobState::Failed => "failed",
            JobState::Cancelled => "cancelled",
        }
    }

    /// Whether the job stays in this state for good.
    pub fn is_final(self) -> bool {
        matches!(self, JobState::Succeeded | JobState::Failed | JobState::Cancelled)
    }
}

/// What is submitted.
#[derive(Debug, Clone, PartialEq)]
pub struct NewJob {
    /// Whose it is.
    pub owner: String,
    /// What it belongs to.
    pub experiment: String,
    /// The model's id.
    pub model: Uuid,
    /// The dataset's id.
    pub dataset: Uuid,
    /// Name of the dataset's split to train on.
    pub train_split: String,
    /// Name of the split to evaluate on.
    pub eval_split: String,
    /// Name that the result is served under.
    pub served_name: String,
    /// The request as it came; what idempotency compares.
    pub spec: Value,
    /// The same with every default filled in.
    pub settings: JobSpec,
    /// What a worker must be capable of.
    pub requires: Vec<String>,
    /// Higher runs first; −100 to 100.
    pub priority: i32,
    /// Leases lost or retryable failures, without a checkpoint in between, that fail it; at least 1.
    pub max_stalls: u32,
    /// What is asked of the gate.
    pub promote: Promote,
    /// The same key with the same request answers the job that is there.
    pub idempotency_key: Option<String>,
    /// Tags to begin with.
    pub tags: Tags,
    /// What becomes of each layer, as a plan's text, where it was planned.
    pub plan: Option<String>,
}

/// A job as users see it.
#[derive(Debug, Clone, PartialEq, FromRow)]
pub struct Job {
    /// Rises with the time of submission.
    pub id: Uuid,
    /// Whose it is.
    pub owner: String,
    /// What it belongs to.
    pub experiment: String,
    /// `None` once the model was deleted.
    pub model_id: Option<Uuid>,
    /// The model's name.
    pub model_name: String,
    /// `None` once the dataset was deleted.
    pub dataset_id: Option<Uuid>,
    /// The dataset's name.
    pub dataset_name: String,
    /// Split to train on.
    pub train_split: String,
    /// Split to evaluate on.
    pub eval_split: String,
    /// Name that the result is served under.
    pub served_name: String,
    /// The request as it came.
    pub spec: Value,
    /// With every default filled in.
    #[sqlx(json)]
    pub settings: StoredSpec,
    /// What a worker must be capable of.
    pub requires: Vec<String>,
    /// The job that this one retries.
    pub retry_of: Option<Uuid>,
    /// Where it is.
    pub state: JobState,
    /// Higher runs first.
    pub priority: i32,
    /// Not claimed before.
    pub run_at: DateTime<Utc>,
    /// A user wants it to end.
    pub cancel_requested: bool,
    /// Claims so far.
    #[sqlx(try_from = "i64")]
    pub fence: u64,
    /// When the worker's lease ends; only of a running job.
    pub lease_expires_at: Option<DateTime<Utc>>,
    /// Claims that were not given back.
    #[sqlx(try_from = "i32")]
    pub attempts: u32,
    /// Runs that ended early since the last checkpoint.
    #[sqlx(try_from = "i32")]
    pub stalls: u32,
    /// How many of them fail it.
    #[sqlx(try_from = "i32")]
    pub max_stalls: u32,
    /// The worker that holds it, or held it last.
    pub worker: Option<String>,
    /// That worker's host.
    pub host: Option<String>,
    /// That worker's version.
    pub code_version: Option<String>,
    /// What it is doing: load, train, evaluate, export.
    pub phase: String,
    /// Units of the phase that are done.
    #[sqlx(try_from = "i64")]
    pub progress_done: u64,
    /// Units of the phase.
    #[sqlx(try_from = "i64")]
    pub progress_total: u64,
    /// Its last checkpoint, until it succeeds.
    pub checkpoint_sha256: Option<Digest>,
    /// The checkpoint's step.
    pub checkpoint_step: Option<i64>,
    /// Of the last failure: stable, for programs.
    pub error_code: Option<String>,
    /// For people.
    pub error_message: Option<String>,
    /// Whether it may go away by itself.
    pub error_retryable: Option<bool>,
    /// When it was submitted.
    pub created_at: DateTime<Utc>,
    /// When it was last claimed.
    pub started_at: Option<DateTime<Utc>>,
    /// When it reached its final state.
    pub finished_at: Option<DateTime<Utc>>,
    /// What was asked of the gate ([`Promote`]); `None` of jobs from before there was one.
    pub promote: Option<String>,
    /// Keys and values.
    #[sqlx(json)]
    pub tags: Tags,
    /// What its success made.
    #[sqlx(flatten)]
    pub artifact: MaybeArtifact,
}

/// The artifact of a job, if it has one.
#[derive(Debug, Clone, PartialEq)]
pub struct MaybeArtifact(pub Option<Artifact>);

/// What a success made.
#[derive(Debug, Clone, PartialEq)]
pub struct Artifact {
    /// Its id.
    pub id: Uuid,
    /// Digest of its bytes.
    pub sha256: Digest,
    /// How many bytes.
    pub size_bytes: u64,
    /// What the worker says of it.
    pub summary: Value,
    /// Why it must not be loaded any more.
    pub set_aside: Option<String>,
    /// When it was published.
    pub created_at: DateTime<Utc>,
    /// Its version under the job's served name.
    pub version: u64,
    /// Why the gate kept it from going live; `None`: it is live.
    pub held: Option<String>,
    /// The version that "latest" of the served name is fixed to.
    pub pinned: Option<i64>,
    /// When its bytes were given up.
    pub removed_at: Option<DateTime<Utc>>,
}

impl FromRow<'_, sqlx::postgres::PgRow> for MaybeArtifact {
    fn from_row(row: &sqlx::postgres::PgRow) -> Result<Self, sqlx::Error> {
        use sqlx::Row;
        let Some(id) = row.try_get("artifact_id")? else { return Ok(Self(None)) };
        let unsigned = |column: &str| -> Result<u64, sqlx::Error> {
            let value: i64 = row.try_get(column)?;
            value
                .try_into()
                .map_err(|e| sqlx::Error::ColumnDecode { index: column.to_owned(), source: Box::new(e) })
        };
        Ok(Self(Some(Artifact {
            id,
            sha256: row.try_get("artifact_sha256")?,
            size_bytes: unsigned("artifact_size_bytes")?,
            summary: row.try_get("artifact_summary")?,
            set_aside: row.try_get("artifact_set_aside")?,
            created_at: row.try_get("artifact_created_at")?,
            version: unsigned("artifact_version")?,
            held: row.try_get("artifact_held")?,
            pinned: row.try_get("artifact_pinned")?,
            removed_at: row.try_get("artifact_removed_at")?,
        })))
    }
}

/// What a worker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    /// Unique among those that run now.
    pub name: String,
    /// Its machine.
    pub host: String,
    /// Its program's version.
    pub code_version: String,
    /// What jobs may require of it.
    pub capabilities: Vec<String>,
}

/// What a worker proves its claim with: heartbeats, checkpoints and results of an older claim are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The job.
    pub job: Uuid,
    /// The claim's number.
    pub fence: u64,
}

/// How far a phase is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    /// load, train, evaluate, export.
    pub phase: String,
    /// Units done.
    pub done: u64,
    /// Units in all.
    pub total: u64,
}

/// What a heartbeat learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// Stop, and acknowledge it.
    pub cancel_requested: bool,
}

/// Why a job's run ended early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Stable, for programs.
    pub code: String,
    /// For people: what is wrong and what to do.
    pub message: String,
    /// Whether the same job may succeed later: I/O, a lost database, too little memory.
    pub retryable: bool,
}

/// What a success publishes.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Digest of the artifact's bytes, which are stored already.
    pub sha256: Digest,
    /// How many bytes.
    pub size_bytes: u64,
    /// What to say of it: accuracy, bits, shift-adds, layers.
    pub summary: Value,
}

/// What a success made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The artifact.
    pub artifact: Uuid,
    /// Its version under the job's served name.
    pub version: u64,
    /// Why the gate kept it from going live; `None`: it is live.
    pub held: Option<String>,
}

/// One value of a metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricPoint {
    /// Its name; parts are divided by '/'.
    pub name: String,
    /// Optimizer step, or epoch.
    pub step: u64,
    /// The value; in JSON, null stands for what JSON has no number for.
    #[serde(deserialize_with = "number_or_nan")]
    pub value: f64,
    /// When it was stored.
    pub at: DateTime<Utc>,
}

fn number_or_nan<'de, D: serde::Deserializer<'de>>(input: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(input)?.unwrap_or(f64::NAN))
}

/// A line for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// error, warn, info.
    pub level: String,
    /// The line.
    pub message: String,
}
