//! `dyadic.v1.ExperimentService`: the history of all runs.

mod export;
mod plans;

use std::collections::BTreeMap;
use std::pin::Pin;

use dyadic_proto::v1 as pb;
use dyadic_proto::v1::experiment_service_server::ExperimentService;
use dyadic_store::Store;
use dyadic_store::history::{Experiment, MetricsQuery, Run, Series};
use dyadic_store::job::MetricPoint;
use futures::Stream;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::convert::{caller, scope, tag_list, tags, timestamp};
use super::job::{convert, job_id};
use super::page;
use crate::error::ApiError;

/// Jobs of one comparison.
const MAX_COMPARED: usize = 50;
/// Jobs that an export may name.
const MAX_EXPORTED: usize = 10_000;
/// Most of them whose plans are shown whole: a message has room for no more of the largest networks.
const MAX_WITH_PLANS: usize = 4;
/// What metrics about a layer are called: `layer/NAME/MEASURE`.
const LAYER: &str = "layer/";

/// The service.
#[derive(Clone)]
pub(crate) struct ExperimentApi {
    store: Store,
}

impl ExperimentApi {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }
}

#[tonic::async_trait]
impl ExperimentService for ExperimentApi {
    type ExportStream = Pin<Box<dyn Stream<Item = Result<pb::ExportResponse, Status>> + Send>>;

    async fn list(
        &self,
        request: Request<pb::ListExperimentsRequest>,
    ) -> Result<Response<pb::ListExperimentsResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        // Neither owners nor experiments have a slash in their names.
        let after = match request.page_token.as_str() {
            "" => None,
            token => Some(
                token
                    .split_once('/')
                    .ok_or_else(|| ApiError::field("page_token", "it is not a token of an earlier reply"))?,
            ),
        };
        let limit = page::size(request.page_size) + 1;
        let found = self.store.experiments(scope(&caller), after, limit).await.map_err(ApiError::from)?;
        let token = |last: &Experiment| format!("{}/{}", last.owner, last.name);
        let (found, next_page_token) = page::cut(found, request.page_size, token);
        let experiments = found
            .into_iter()
            .map(|found| pb::Experiment {
                name: found.name,
                created_at: Some(timestamp(found.created_at)),
                runs: found.runs,
                succeeded: found.succeeded,
            })
            .collect();
        Ok(Response::new(pb::ListExperimentsResponse { experiments, next_page_token }))
    }

    async fn compare(
        &self,
        request: Request<pb::CompareRequest>,
    ) -> Result<Response<pb::CompareResponse>, Status> {
        let caller = caller(&request)?;
        let pb::CompareRequest { job_ids: ids, plans } = request.into_inner();
        let ids = job_ids(&ids, if plans { MAX_WITH_PLANS } else { MAX_COMPARED })?;
        let mut comparison = self.store.compare(scope(&caller), &ids).await.map_err(ApiError::from)?;
        let texts: Vec<_> = comparison.runs.iter_mut().map(|run| run.plan.take()).collect();
        let (texts, resolved) = tokio::task::spawn_blocking(move || {
            let resolved = texts.iter().map(|text| plans::resolved(text.as_deref())).collect::<Vec<_>>();
            (texts, resolved)
        })
        .await
        .map_err(ApiError::internal)?;
        let layers = plans::differing(&resolved);
        let mut runs: Vec<_> = comparison.runs.into_iter().map(run).collect();
        if plans {
            for ((run, text), resolved) in runs.iter_mut().zip(texts).zip(resolved) {
                run.plan = text.map(|toml| plans::of_job(toml, resolved));
            }
        }
        Ok(Response::new(pb::CompareResponse { runs, differing: comparison.differing, layers }))
    }

    async fn query_metrics(
        &self,
        request: Request<pb::QueryMetricsRequest>,
    ) -> Result<Response<pb::QueryMetricsResponse>, Status> {
        let caller = caller(&request)?;
        let pb::QueryMetricsRequest { job_id: id, names, prefix, max_points } = request.into_inner();
        let id = job_id(&id)?;
        self.store.job(scope(&caller), id).await.map_err(ApiError::from)?;
        let query = MetricsQuery { names, prefix, max_points: max_points.min(i32::MAX as u32) };
        let series = self.store.metrics(id, &query).await.map_err(ApiError::from)?;
        let series = series
            .into_iter()
            .map(|Series { name, points }| pb::Series { name, points: points.iter().map(point).collect() });
        Ok(Response::new(pb::QueryMetricsResponse { series: series.collect() }))
    }

    async fn export(
        &self,
        request: Request<pb::ExportRequest>,
    ) -> Result<Response<Self::ExportStream>, Status> {
        let caller = caller(&request)?;
        let pb::ExportRequest { experiment, job_ids: ids } = request.into_inner();
        let what = match (experiment.is_empty(), ids.is_empty()) {
            (false, true) => export::What::Experiment(experiment),
            (true, false) => export::What::Jobs(job_ids(&ids, MAX_EXPORTED)?),
            _ => return Err(ApiError::field("experiment", "give either an experiment or job ids").into()),
        };
        let owner = scope(&caller).map(str::to_owned);
        Ok(Response::new(Box::pin(export::lines(self.store.clone(), owner, what))))
    }

    async fn set_tags(
        &self,
        request: Request<pb::SetTagsRequest>,
    ) -> Result<Response<pb::SetTagsResponse>, Status> {
        let caller = caller(&request)?;
        let pb::SetTagsRequest { job_id: id, set, remove } = request.into_inner();
        let set = tags(set)?;
        let tags =
            self.store.set_tags(scope(&caller), job_id(&id)?, &set, &remove).await.map_err(ApiError::from)?;
        Ok(Response::new(pb::SetTagsResponse { tags: tag_list(tags) }))
    }
}

fn job_ids(ids: &[String], most: usize) -> Result<Vec<Uuid>, ApiError> {
    if ids.is_empty() || ids.len() > most {
        return Err(ApiError::field("job_ids", format!("{} are given; 1 to {most} are allowed", ids.len())));
    }
    ids.iter().map(|id| job_id(id)).collect()
}

fn point(point: &MetricPoint) -> pb::Point {
    pb::Point { step: point.step, value: point.value, at: Some(timestamp(point.at)) }
}

fn run(run: Run) -> pb::Run {
    pb::Run {
        layers: layers(&run.last),
        job: Some(convert::listed(run.job)),
        spec: tag_list(run.spec),
        last: run.last.into_iter().map(convert::metric).collect(),
        plan: None,
    }
}

/// Quality per layer, from the last values of metrics named `layer/NAME/MEASURE`.
fn layers(last: &[MetricPoint]) -> Vec<pb::LayerQuality> {
    let mut layers: BTreeMap<&str, pb::LayerQuality> = BTreeMap::new();
    for metric in last {
        // Layer names may have slashes themselves.
        let named = metric.name.strip_prefix(LAYER).and_then(|rest| rest.rsplit_once('/'));
        let Some((layer, measure)) = named else { continue };
        let quality = layers
            .entry(layer)
            .or_insert_with(|| pb::LayerQuality { layer: layer.to_owned(), ..pb::LayerQuality::default() });
        quality.values.insert(measure.to_owned(), metric.value);
    }
    layers.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_of_a_layer_are_gathered() {
        let metric = |name: &str, value| MetricPoint {
            name: name.to_owned(),
            step: 1,
            value,
            at: chrono::DateTime::UNIX_EPOCH,
        };
        let last = [
            metric("epoch/loss", 1.0),
            metric("layer//layer1/Conv/bits", 2.0),
            metric("layer//layer1/Conv/zeros", 0.4),
            metric("layer/fc/bits", 8.0),
            metric("layer/", 0.0),
        ];
        let layers = layers(&last);
        let names: Vec<_> = layers.iter().map(|layer| (layer.layer.as_str(), layer.values.len())).collect();
        assert_eq!(names, [("/layer1/Conv", 2), ("fc", 1)]);
    }
}
