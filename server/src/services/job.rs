//! `dyadic.v1.JobService`.

pub(crate) mod convert;
mod plan;
mod refusals;
mod submit;
mod watch;

pub(crate) use submit::Checks;

use std::pin::Pin;
use std::sync::Arc;

use dyadic_proto::v1 as pb;
use dyadic_proto::v1::job_service_server::JobService;
use dyadic_store::Store;
use dyadic_store::history::JobFilter;
use dyadic_store::job::JobState;
use dyadic_store::queue::Retry;
use futures::Stream;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::convert::{caller, scope, tags};
use super::page;
use crate::config::Limits;
use crate::error::ApiError;
use crate::notices::Notices;

/// The service.
#[derive(Clone)]
pub(crate) struct JobApi {
    store: Store,
    checks: Checks,
    notices: Notices,
    max_queued: u32,
    watchers: Arc<Semaphore>,
    drain: CancellationToken,
}

impl JobApi {
    pub(crate) fn new(
        store: Store,
        checks: Checks,
        notices: Notices,
        limits: &Limits,
        drain: CancellationToken,
    ) -> Self {
        let watchers = Arc::new(Semaphore::new(limits.max_watchers));
        Self { store, checks, notices, max_queued: limits.max_queued_jobs, watchers, drain }
    }
}

/// A job's id; what is none is as unknown as one that does not exist.
pub(crate) fn job_id(text: &str) -> Result<Uuid, ApiError> {
    text.parse().map_err(|_| ApiError::NotFound { what: "job", name: text.chars().take(80).collect() })
}

/// The first and the last id that begin with a prefix; `None` for an empty one.
fn ids_of(prefix: &str) -> Result<Option<(Uuid, Uuid)>, ApiError> {
    let digits: String = prefix.chars().filter(|&c| c != '-').take(33).collect();
    if prefix.is_empty() {
        return Ok(None);
    }
    let end = |fill: &str| {
        let rest = 32usize.checked_sub(digits.len()).filter(|_| !digits.is_empty())?;
        format!("{digits}{}", fill.repeat(rest)).parse().ok()
    };
    let unlike = || ApiError::field("id_prefix", "it is not the beginning of an id");
    Ok(Some(end("0").zip(end("f")).ok_or_else(unlike)?))
}

#[tonic::async_trait]
impl JobService for JobApi {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<pb::JobEvent, Status>> + Send>>;

    async fn submit(
        &self,
        request: Request<pb::SubmitJobRequest>,
    ) -> Result<Response<pb::SubmitJobResponse>, Status> {
        let caller = caller(&request)?;
        let job = submit::new_job(&self.store, &self.checks, &caller, request.into_inner()).await?;
        let submitted = self.store.submit(&job, self.max_queued).await.map_err(ApiError::from)?;
        Ok(Response::new(pb::SubmitJobResponse {
            job: Some(convert::job(submitted.job)),
            existed: submitted.existed,
        }))
    }

    async fn plan(
        &self,
        request: Request<pb::PlanJobRequest>,
    ) -> Result<Response<pb::PlanJobResponse>, Status> {
        let caller = caller(&request)?;
        let spec = request.into_inner().spec.ok_or_else(|| ApiError::field("spec", "it is missing"))?;
        Ok(Response::new(plan::of(&self.store, &self.checks.planner, &caller, &spec).await?))
    }

    async fn get(&self, request: Request<pb::GetJobRequest>) -> Result<Response<pb::Job>, Status> {
        let caller = caller(&request)?;
        let id = job_id(&request.get_ref().id)?;
        let job = self.store.job(scope(&caller), id).await.map_err(ApiError::from)?;
        Ok(Response::new(convert::job(job)))
    }

    async fn list(
        &self,
        request: Request<pb::ListJobsRequest>,
    ) -> Result<Response<pb::ListJobsResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let filter = JobFilter {
            owner: scope(&caller).map(str::to_owned),
            states: states(&request.states)?,
            experiment: (!request.experiment.is_empty()).then_some(request.experiment),
            ids: ids_of(&request.id_prefix)?,
            tags: tags(request.tags)?,
            before: page::parse(&request.page_token)?,
            limit: page::size(request.page_size) + 1,
        };
        let found = self.store.jobs(&filter).await.map_err(ApiError::from)?;
        let (jobs, next_page_token) = page::cut(found, request.page_size, |job| job.id.to_string());
        let jobs = jobs.into_iter().map(convert::listed).collect();
        Ok(Response::new(pb::ListJobsResponse { jobs, next_page_token }))
    }

    async fn cancel(&self, request: Request<pb::CancelJobRequest>) -> Result<Response<pb::Job>, Status> {
        let caller = caller(&request)?;
        let id = job_id(&request.get_ref().id)?;
        let job = self.store.cancel(scope(&caller), id, &caller.owner).await.map_err(ApiError::from)?;
        Ok(Response::new(convert::job(job)))
    }

    async fn retry(&self, request: Request<pb::RetryJobRequest>) -> Result<Response<pb::Job>, Status> {
        let caller = caller(&request)?;
        let pb::RetryJobRequest { id, from_checkpoint } = request.into_inner();
        let id = job_id(&id)?;
        let old = self.store.retryable(scope(&caller), id, from_checkpoint).await.map_err(ApiError::from)?;
        let plan = submit::plan_again(&self.store, &self.checks, &caller, &old).await?;
        let retry = Retry { of: id, by: &caller.owner, from_checkpoint, plan: Some(&plan) };
        let retried = self.store.retry(scope(&caller), &retry, self.max_queued).await;
        Ok(Response::new(convert::job(retried.map_err(ApiError::from)?)))
    }

    async fn watch(
        &self,
        request: Request<pb::WatchJobRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let caller = caller(&request)?;
        let pb::WatchJobRequest { id, after } = request.into_inner();
        let id = job_id(&id)?;
        let permit = self.watchers.clone().try_acquire_owned().map_err(|_| ApiError::Overloaded)?;
        // What is not there, or not the caller's, is said at once.
        self.store.job(scope(&caller), id).await.map_err(ApiError::from)?;
        let watch =
            watch::Watch::new(self.store.clone(), self.notices.subscribe(), self.drain.clone(), id, after);
        Ok(Response::new(Box::pin(watch.events(permit))))
    }
}

fn states(states: &[i32]) -> Result<Vec<JobState>, ApiError> {
    let unknown = |state: &i32| ApiError::field("states", format!("{state} is not a state"));
    states
        .iter()
        .map(|state| {
            pb::JobState::try_from(*state).ok().and_then(convert::domain_state).ok_or_else(|| unknown(state))
        })
        .collect()
}
