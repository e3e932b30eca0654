//! `inference.GRPCInferenceService`.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dyadic_proto::inference as pb;
use dyadic_proto::inference::grpc_inference_service_server::GrpcInferenceService;
use futures::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::batcher::Work;
use super::loaded::Loaded;
use super::registry::{Registry, State};
use super::{InferError, describe, request, response};
use crate::error::ApiError;
use crate::layers::deadline::Deadline;

/// Extensions that work; nothing else is announced.
const EXTENSIONS: [&str; 6] = [
    "classification",
    "model_repository",
    "model_configuration",
    "parameters",
    "schedule_policy",
    "statistics",
];

/// Requests of one stream that are worked on at once.
const STREAM_IN_FLIGHT: usize = 16;

/// The service.
#[derive(Clone)]
pub struct InferenceService {
    registry: Arc<Registry>,
    drain: CancellationToken,
}

type Answer<T> = Result<Response<T>, Status>;

impl InferenceService {
    /// Serves what the registry has; not ready once `drain` is cancelled.
    pub fn new(registry: Arc<Registry>, drain: CancellationToken) -> Self {
        Self { registry, drain }
    }

    async fn infer(
        &self,
        mut request: pb::ModelInferRequest,
        deadline: Option<Instant>,
    ) -> Result<pb::ModelInferResponse, InferError> {
        let started = Instant::now();
        let loaded = self.registry.resolve(&request.model_name, &request.model_version)?;
        let id = std::mem::take(&mut request.id);
        let answer = run(&loaded, request, id, deadline).await;
        loaded.statistics.answered(answer.is_ok(), started.elapsed());
        answer
    }

    /// One answer of a stream. A request that is wrong is answered as such, and the stream goes on.
    async fn stream_answer(
        self,
        request: Result<pb::ModelInferRequest, Status>,
    ) -> Result<pb::ModelStreamInferResponse, Status> {
        let request = request.map_err(ApiError::Stream)?;
        let id = request.id.clone();
        Ok(match self.infer(request, None).await {
            Ok(mut answer) => {
                let choice = Some(pb::infer_parameter::ParameterChoice::BoolParam(true));
                let last = pb::InferParameter { parameter_choice: choice };
                answer.parameters.insert("triton_final_response".to_owned(), last);
                pb::ModelStreamInferResponse { error_message: String::new(), infer_response: Some(answer) }
            }
            Err(error) => pb::ModelStreamInferResponse {
                error_message: ApiError::from(error).into_status().message().to_owned(),
                infer_response: Some(pb::ModelInferResponse { id, ..pb::ModelInferResponse::default() }),
            },
        })
    }
}

async fn run(
    loaded: &Loaded,
    request: pb::ModelInferRequest,
    id: String,
    deadline: Option<Instant>,
) -> Result<pb::ModelInferResponse, InferError> {
    let decoded = request::decode(request, &loaded.signature)?;
    let batch = decoded.batch;
    let longest = loaded.limits.infer_queue_wait();
    let work = Work {
        samples: decoded.samples,
        batch,
        rank: decoded.priority,
        max_wait: decoded.timeout_us.map_or(longest, Duration::from_micros),
        deadline,
    };
    let values = loaded.batcher.run(work).await?;
    Ok(response::encode(loaded, id, values, batch, decoded.classification))
}

fn unsupported<T>(what: &str) -> Answer<T> {
    Err(ApiError::from(InferError::Unsupported(what.to_owned())).into())
}

#[tonic::async_trait]
impl GrpcInferenceService for InferenceService {
    type ModelStreamInferStream =
        Pin<Box<dyn Stream<Item = Result<pb::ModelStreamInferResponse, Status>> + Send>>;

    async fn server_live(&self, _: Request<pb::ServerLiveRequest>) -> Answer<pb::ServerLiveResponse> {
        Ok(Response::new(pb::ServerLiveResponse { live: true }))
    }

    async fn server_ready(&self, _: Request<pb::ServerReadyRequest>) -> Answer<pb::ServerReadyResponse> {
        Ok(Response::new(pb::ServerReadyResponse { ready: !self.drain.is_cancelled() }))
    }

    async fn model_ready(&self, request: Request<pb::ModelReadyRequest>) -> Answer<pb::ModelReadyResponse> {
        let pb::ModelReadyRequest { name, version } = request.into_inner();
        let ready = match self.registry.resolve(&name, &version) {
            Ok(_) => true,
            Err(InferError::NotReady { .. } | InferError::NotLive { .. }) => false,
            Err(error) => return Err(ApiError::from(error).into()),
        };
        Ok(Response::new(pb::ModelReadyResponse { ready }))
    }

    async fn server_metadata(
        &self,
        _: Request<pb::ServerMetadataRequest>,
    ) -> Answer<pb::ServerMetadataResponse> {
        Ok(Response::new(pb::ServerMetadataResponse {
            name: "dyadic".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            extensions: EXTENSIONS.map(str::to_owned).to_vec(),
        }))
    }

    async fn model_metadata(
        &self,
        request: Request<pb::ModelMetadataRequest>,
    ) -> Answer<pb::ModelMetadataResponse> {
        let pb::ModelMetadataRequest { name, version } = request.into_inner();
        let loaded = self.registry.resolve(&name, &version).map_err(ApiError::from)?;
        Ok(Response::new(describe::metadata(&loaded, &self.registry.ready_versions(&name))))
    }

    async fn model_infer(&self, request: Request<pb::ModelInferRequest>) -> Answer<pb::ModelInferResponse> {
        let deadline = request.extensions().get::<Deadline>().map(|deadline| deadline.0);
        let answer = self.infer(request.into_inner(), deadline).await.map_err(ApiError::from)?;
        Ok(Response::new(answer))
    }

    async fn model_stream_infer(
        &self,
        request: Request<Streaming<pb::ModelInferRequest>>,
    ) -> Answer<Self::ModelStreamInferStream> {
        let service = self.clone();
        let drained = self.drain.clone().cancelled_owned();
        // `buffered` keeps the order of requests.
        let answers = request
            .into_inner()
            .take_until(drained)
            .map(move |request| service.clone().stream_answer(request))
            .buffered(STREAM_IN_FLIGHT);
        Ok(Response::new(Box::pin(answers)))
    }

    async fn model_config(
        &self,
        request: Request<pb::ModelConfigRequest>,
    ) -> Answer<pb::ModelConfigResponse> {
        let pb::ModelConfigRequest { name, version } = request.into_inner();
        let loaded = self.registry.resolve(&name, &version).map_err(ApiError::from)?;
        Ok(Response::new(pb::ModelConfigResponse { config: Some(describe::config(&loaded)) }))
    }

    async fn model_statistics(
        &self,
        request: Request<pb::ModelStatisticsRequest>,
    ) -> Answer<pb::ModelStatisticsResponse> {
        let pb::ModelStatisticsRequest { name, version } = request.into_inner();
        let asked = match (name.as_str(), version.as_str()) {
            ("", "") => None,
            ("", _) => {
                let error = InferError::Request("a version needs a model name".to_owned());
                return Err(ApiError::from(error).into());
            }
            _ => Some(self.registry.resolve(&name, &version).map_err(ApiError::from)?),
        };
        let wanted = |loaded: &Loaded| {
            (name.is_empty() || loaded.name == name)
                && (version.is_empty() || asked.as_ref().is_some_and(|asked| asked.version == loaded.version))
        };
        let model_stats = self
            .registry
            .entries()
            .into_iter()
            .filter_map(|entry| match entry.state {
                State::Ready(loaded) if wanted(&loaded) => {
                    Some(loaded.statistics.to_proto(&loaded.name, loaded.version))
                }
                _ => None,
            })
            .collect();
        Ok(Response::new(pb::ModelStatisticsResponse { model_stats }))
    }

    async fn repository_index(
        &self,
        request: Request<pb::RepositoryIndexRequest>,
    ) -> Answer<pb::RepositoryIndexResponse> {
        let pb::RepositoryIndexRequest { repository_name, ready } = request.into_inner();
        if !repository_name.is_empty() {
            return unsupported("a repository name");
        }
        let entries = self.registry.entries().into_iter();
        let models = entries
            .filter(|entry| !ready || matches!(entry.state, State::Ready(_)))
            .map(|entry| {
                let (state, reason) = entry.state.describe();
                pb::repository_index_response::ModelIndex {
                    name: entry.name,
                    version: entry.version.to_string(),
                    state: state.to_owned(),
                    reason,
                }
            })
            .collect();
        Ok(Response::new(pb::RepositoryIndexResponse { models }))
    }

    /// Every version loads by itself: there is nothing to do, and the answer is whether the latest is ready.
    async fn repository_model_load(
        &self,
        request: Request<pb::RepositoryModelLoadRequest>,
    ) -> Answer<pb::RepositoryModelLoadResponse> {
        let pb::RepositoryModelLoadRequest { repository_name, model_name, parameters } = request.into_inner();
        if !repository_name.is_empty() {
            return unsupported("a repository name");
        }
        if !parameters.is_empty() {
            return unsupported("loading with other parameters");
        }
        self.registry.resolve(&model_name, "").map_err(ApiError::from)?;
        Ok(Response::new(pb::RepositoryModelLoadResponse {}))
    }

    async fn repository_model_unload(
        &self,
        _: Request<pb::RepositoryModelUnloadRequest>,
    ) -> Answer<pb::RepositoryModelUnloadResponse> {
        unsupported("unloading by hand (old versions go by themselves, `dyadic model remove` gives one up)")
    }

    async fn system_shared_memory_status(
        &self,
        _: Request<pb::SystemSharedMemoryStatusRequest>,
    ) -> Answer<pb::SystemSharedMemoryStatusResponse> {
        unsupported("shared memory")
    }

    async fn system_shared_memory_register(
        &self,
        _: Request<pb::SystemSharedMemoryRegisterRequest>,
    ) -> Answer<pb::SystemSharedMemoryRegisterResponse> {
        unsupported("shared memory")
    }

    async fn system_shared_memory_unregister(
        &self,
        _: Request<pb::SystemSharedMemoryUnregisterRequest>,
    ) -> Answer<pb::SystemSharedMemoryUnregisterResponse> {
        unsupported("shared memory")
    }

    async fn cuda_shared_memory_status(
        &self,
        _: Request<pb::CudaSharedMemoryStatusRequest>,
    ) -> Answer<pb::CudaSharedMemoryStatusResponse> {
        unsupported("shared memory")
    }

    async fn cuda_shared_memory_register(
        &self,
        _: Request<pb::CudaSharedMemoryRegisterRequest>,
    ) -> Answer<pb::CudaSharedMemoryRegisterResponse> {
        unsupported("shared memory")
    }

    async fn cuda_shared_memory_unregister(
        &self,
        _: Request<pb::CudaSharedMemoryUnregisterRequest>,
    ) -> Answer<pb::CudaSharedMemoryUnregisterResponse> {
        unsupported("shared memory")
    }

    async fn trace_setting(&self, _: Request<pb::TraceSettingRequest>) -> Answer<pb::TraceSettingResponse> {
        unsupported("changing trace settings")
    }

    async fn log_settings(&self, _: Request<pb::LogSettingsRequest>) -> Answer<pb::LogSettingsResponse> {
        unsupported("changing log settings")
    }
}
