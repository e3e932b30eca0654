//! Jobs and their events for the API.

use dyadic_proto::v1 as pb;
use dyadic_store::job::{Artifact, Job, JobState, MetricPoint};

use crate::services::convert::{tag_list, timestamp};
use crate::services::spec;

/// A job as users see it.
pub(crate) fn job(job: Job) -> pb::Job {
    let artifact = job.artifact.0.as_ref().map(|made| artifact(made, &job.served_name));
    let resolved = resolved(&job);
    let progress = (!job.phase.is_empty()).then_some(pb::Progress {
        phase: job.phase,
        done: job.progress_done,
        total: job.progress_total,
    });
    pb::Job {
        id: job.id.to_string(),
        owner: job.owner,
        state: state(job.state).into(),
        resolved: Some(resolved),
        created_at: Some(timestamp(job.created_at)),
        started_at: job.started_at.map(timestamp),
        finished_at: job.finished_at.map(timestamp),
        cancel_requested: job.cancel_requested,
        fence: job.fence,
        stalls: job.stalls,
        worker: job.worker.unwrap_or_default(),
        progress,
        error: error(job.error_code, job.error_message, job.error_retryable),
        retry_of: job.retry_of.map(|id| id.to_string()).unwrap_or_default(),
        artifact,
        tags: tag_list(job.tags),
    }
}

/// The spec with every default filled in, and what it refers to.
pub(crate) fn resolved(job: &Job) -> pb::JobSpec {
    let by_id = |id: Option<uuid::Uuid>, name: &str| id.map_or_else(|| name.to_owned(), |id| id.to_string());
    pb::JobSpec {
        model: by_id(job.model_id, &job.model_name),
        dataset: by_id(job.dataset_id, &job.dataset_name),
        served_name: job.served_name.clone(),
        experiment: job.experiment.clone(),
        splits: Some(pb::Splits { train: job.train_split.clone(), eval: job.eval_split.clone() }),
        priority: Some(job.priority),
        tags: tag_list(job.tags.clone()),
        promote: job.promote.clone().unwrap_or_default(),
        // What another version wrote may not be readable here; the rest is shown all the same.
        ..job.settings.known().map(spec::to_proto).unwrap_or_default()
    }
}

/// What a success made.
pub(crate) fn artifact(made: &Artifact, served_name: &str) -> pb::Artifact {
    pb::Artifact {
        id: made.id.to_string(),
        sha256: made.sha256.as_bytes().to_vec(),
        size_bytes: made.size_bytes,
        served_name: served_name.to_owned(),
        version: made.version,
        created_at: Some(timestamp(made.created_at)),
        held: made.held.clone().unwrap_or_default(),
        pinned: made.pinned.map_or(0, i64::unsigned_abs),
        removed_at: made.removed_at.map(timestamp),
    }
}

/// A failure, if there was one.
pub(crate) fn error(
    code: Option<String>,
    message: Option<String>,
    retryable: Option<bool>,
) -> Option<pb::JobError> {
    Some(pb::JobError {
        code: code?,
        message: message.unwrap_or_default(),
        retryable: retryable.unwrap_or_default(),
    })
}

/// A state's name in the API.
pub(crate) fn state(state: JobState) -> pb::JobState {
    match state {
        JobState::Queued => pb::JobState::Queued,
        JobState::Running => pb::JobState::Running,
        JobState::Succeeded => pb::JobState::Succeeded,
        JobState::Failed => pb::JobState::Failed,
        JobState::Cancelled => pb::JobState::Cancelled,
    }
}

/// A state's name in the domain; `None` for UNSPECIFIED.
pub(crate) fn domain_state(state: pb::JobState) -> Option<JobState> {
    Some(match state {
        pb::JobState::Unspecified => return None,
        pb::JobState::Queued => JobState::Queued,
        pb::JobState::Running => JobState::Running,
        pb::JobState::Succeeded => JobState::Succeeded,
        pb::JobState::Failed => JobState::Failed,
        pb::JobState::Cancelled => JobState::Cancelled,
    })
}

/// One metric's value.
pub(crate) fn metric(point: MetricPoint) -> pb::Metric {
    pb::Metric { name: point.name, step: point.step, value: point.value, at: Some(timestamp(point.at)) }
}
