//! Jobs and their events for the API.

use dyadic_plan::{Asked, Row, Total};
use dyadic_proto::v1 as pb;
use dyadic_store::job::{Artifact, Job, JobState, MetricPoint};

use crate::services::convert::{tag_list, timestamp};
use crate::services::spec;

/// A job as users see it.
pub(crate) fn job(job: Job) -> pb::Job {
    let artifact = job.artifact.0.as_ref().map(|made| artifact(made, &job.served_name));
    let resolved = resolved(&job);
    let rules = rules(&job);
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
        rules,
    }
}

/// A job as lists have it: without the text of its plan.
pub(crate) fn listed(listed: Job) -> pb::Job {
    let mut job = job(listed);
    if let Some(resolved) = &mut job.resolved {
        resolved.plan.clear();
    }
    job
}

/// How many rules for single layers a job's plan has.
fn rules(job: &Job) -> u32 {
    let plan = job.settings.known().and_then(|settings| settings.plan.as_deref());
    let Some(plan) = plan else { return 0 };
    let rules = Asked { plan: Some(plan), ..Asked::default() }.read().rules;
    u32::try_from(rules.rules().len()).unwrap_or(u32::MAX)
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

/// A row of a plan.
pub(crate) fn unit(row: Row) -> pb::PlannedUnit {
    pb::PlannedUnit {
        name: row.name,
        operation: row.operation,
        weights: row.weights.unwrap_or_default(),
        bits: row.bits.map(u32::from),
        count: row.count,
        reads: row.reads,
        writes: row.writes,
        shape: row.shape.iter().map(|&extent| i64::try_from(extent).unwrap_or(i64::MAX)).collect(),
        bytes: row.bytes,
        macs: row.macs,
        shift_adds: row.shift_adds,
        share: row.share,
    }
}

/// The sums of a plan.
pub(crate) fn total(Total { weights, bytes, macs, shift_adds }: Total) -> pb::PlanTotal {
    pb::PlanTotal { weights, bytes, macs, shift_adds }
}
