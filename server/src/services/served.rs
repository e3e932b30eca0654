//! `dyadic.v1.ServedModelService`: quantized models by served name and version.

mod push;

pub(crate) use push::Pusher;

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use dyadic_proto::v1 as pb;
use dyadic_proto::v1::download_artifact_request::Artifact as Asked;
use dyadic_proto::v1::download_response::Part;
use dyadic_proto::v1::served_model_service_server::ServedModelService;
use dyadic_store::Store;
use dyadic_store::blob::{BlobError, BlobStore, Digest};
use dyadic_store::registry::{Pushed, Removal, Removed, ServedModel, ServedVersion};
use futures::{Stream, StreamExt, TryStreamExt};
use serde_json::Value;
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

use super::convert::{caller, scope, timestamp};
use super::download::chunks;
use super::job::job_id;
use super::page;
use crate::error::ApiError;
use crate::infer::loader::MAX_ARTIFACT_BYTES;
use crate::infer::registry::{Registry, State};

/// The service.
#[derive(Clone)]
pub(crate) struct ServedModelApi {
    store: Store,
    blobs: BlobStore,
    registry: Arc<Registry>,
    pusher: Pusher,
}

/// An artifact to send.
struct Wanted {
    artifact: Uuid,
    sha256: Digest,
    file_name: String,
    set_aside: Option<String>,
}

impl ServedModelApi {
    pub(crate) fn new(pusher: Pusher, registry: Arc<Registry>) -> Self {
        Self { store: pusher.store.clone(), blobs: pusher.blobs.clone(), registry, pusher }
    }

    fn to_proto(&self, model: ServedModel) -> pb::ServedModel {
        let version = |version: ServedVersion| {
            let (state, reason) = match self.registry.state(&model.name, version.version) {
                Some(State::Ready(_)) => (pb::ServedState::Ready, String::new()),
                Some(State::Loading) | None => (pb::ServedState::Loading, String::new()),
                Some(state) => (pb::ServedState::Unavailable, state.describe().1),
            };
            pb::ServedVersion {
                version: version.version,
                state: state.into(),
                reason,
                job_id: version.job.map(|id| id.to_string()).unwrap_or_default(),
                sha256: version.sha256.as_bytes().to_vec(),
                size_bytes: version.size_bytes,
                created_at: Some(timestamp(version.created_at)),
                accuracy: accuracy(&version.summary),
                float_accuracy: version.summary.get("float_accuracy").and_then(Value::as_f64),
                held: version.held.unwrap_or_default(),
            }
        };
        pb::ServedModel {
            latest: self.registry.latest(&model.name).unwrap_or(0),
            pinned: model.pinned.map_or(0, i64::unsigned_abs),
            versions: model.versions.into_iter().map(version).collect(),
            name: model.name,
        }
    }

    /// The answer to a change of what "latest" means, which holds on this server from now on if the version is loaded, and
    /// else once it is. After a dry run nothing is changed, and the answer says what it would mean.
    fn moved(&self, model: ServedModel, dry_run: bool) -> Response<pb::ServedModel> {
        let latest = model.latest();
        if dry_run {
            return Response::new(pb::ServedModel { latest: latest.unwrap_or(0), ..self.to_proto(model) });
        }
        let state = latest.and_then(|version| self.registry.state(&model.name, version));
        if latest.is_none() || matches!(state, Some(State::Ready(_))) {
            let held = model.versions.iter().filter(|version| version.held.is_some());
            self.registry.hold(&model.name, held.map(|version| version.version).collect());
            self.registry.pin(&model.name, model.pinned.map(i64::unsigned_abs));
        }
        Response::new(self.to_proto(model))
    }

    async fn find(&self, owner: Option<&str>, asked: Asked) -> Result<Wanted, ApiError> {
        match asked {
            Asked::JobId(id) => {
                let job = self.store.job(owner, job_id(&id)?).await?;
                let made = job.artifact.0.ok_or_else(|| {
                    ApiError::Precondition(format!("job {id} is {}; it has no artifact", job.state.name()))
                })?;
                if made.removed_at.is_some() {
                    return Err(ApiError::Precondition(format!("the artifact of job {id} was removed")));
                }
                Ok(Wanted {
                    artifact: made.id,
                    sha256: made.sha256,
                    file_name: file_name(&job.served_name, made.version),
                    set_aside: made.set_aside,
                })
            }
            Asked::Served(pb::ServedVersionName { name, version }) => {
                let model = self.store.served_model(owner, &name).await?;
                let version = if version == 0 { latest(&model)? } else { version };
                let found = model.versions.into_iter().find(|found| found.version == version);
                let found = found.ok_or_else(|| ApiError::NotFound {
                    what: "version",
                    name: format!("{name}/{version}"),
                })?;
                Ok(Wanted {
                    artifact: found.artifact,
                    sha256: found.sha256,
                    file_name: file_name(&name, version),
                    set_aside: found.set_aside,
                })
            }
        }
    }

    /// The artifact's bytes, verified. One that fails is set aside.
    async fn bytes(&self, wanted: &Wanted) -> Result<Bytes, ApiError> {
        if let Some(reason) = &wanted.set_aside {
            return Err(ApiError::Precondition(format!("this version is set aside: {reason}")));
        }
        match self.blobs.get(&wanted.sha256, MAX_ARTIFACT_BYTES).await {
            Err(error @ BlobError::Damaged { .. }) => {
                self.store.set_aside(wanted.artifact, &error.to_string()).await?;
                Err(error.into())
            }
            other => Ok(other?),
        }
    }
}

/// The version that "latest" means.
fn latest(model: &ServedModel) -> Result<u64, ApiError> {
    let name = &model.name;
    model.latest().ok_or_else(|| {
        ApiError::Precondition(format!("{name:?} has no live version; name one, or promote it first"))
    })
}

fn file_name(served_name: &str, version: u64) -> String {
    format!("{served_name}-v{version}.safetensors")
}

/// The engine's own figure in a worker's summary.
fn accuracy(summary: &Value) -> Option<f64> {
    let accuracy = summary.get("accuracy")?;
    accuracy.as_f64().or_else(|| accuracy.get("quantized")?.as_f64())
}

#[tonic::async_trait]
impl ServedModelService for ServedModelApi {
    type DownloadStream = Pin<Box<dyn Stream<Item = Result<pb::DownloadResponse, Status>> + Send>>;

    async fn list(
        &self,
        request: Request<pb::ListServedModelsRequest>,
    ) -> Result<Response<pb::ListServedModelsResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let after = (!request.page_token.is_empty()).then_some(request.page_token.as_str());
        let limit = page::size(request.page_size) + 1;
        let found = self.store.served_models(scope(&caller), after, limit).await.map_err(ApiError::from)?;
        let (found, next_page_token) = page::cut(found, request.page_size, |model| model.name.clone());
        let models = found.into_iter().map(|model| self.to_proto(model)).collect();
        Ok(Response::new(pb::ListServedModelsResponse { models, next_page_token }))
    }

    async fn get(
        &self,
        request: Request<pb::GetServedModelRequest>,
    ) -> Result<Response<pb::ServedModel>, Status> {
        let caller = caller(&request)?;
        let found = self.store.served_model(scope(&caller), &request.get_ref().name).await;
        Ok(Response::new(self.to_proto(found.map_err(ApiError::from)?)))
    }

    async fn promote(
        &self,
        request: Request<pb::PromoteRequest>,
    ) -> Result<Response<pb::ServedModel>, Status> {
        let caller = caller(&request)?;
        let pb::PromoteRequest { name, version, dry_run } = request.into_inner();
        let promoted = self.store.promote(scope(&caller), &name, version, dry_run).await;
        Ok(self.moved(promoted.map_err(ApiError::from)?, dry_run))
    }

    async fn rollback(
        &self,
        request: Request<pb::RollbackRequest>,
    ) -> Result<Response<pb::ServedModel>, Status> {
        let caller = caller(&request)?;
        let pb::RollbackRequest { name, dry_run } = request.into_inner();
        let rolled_back = self.store.rollback(scope(&caller), &name, dry_run).await;
        Ok(self.moved(rolled_back.map_err(ApiError::from)?, dry_run))
    }

    async fn unpin(&self, request: Request<pb::UnpinRequest>) -> Result<Response<pb::ServedModel>, Status> {
        let caller = caller(&request)?;
        let pb::UnpinRequest { name, dry_run } = request.into_inner();
        let unpinned = self.store.unpin(scope(&caller), &name, dry_run).await;
        Ok(self.moved(unpinned.map_err(ApiError::from)?, dry_run))
    }

    async fn remove(
        &self,
        request: Request<pb::RemoveServedRequest>,
    ) -> Result<Response<pb::RemoveServedResponse>, Status> {
        let caller = caller(&request)?;
        let pb::RemoveServedRequest { name, versions, force, dry_run } = request.into_inner();
        let removal = Removal { name, versions, force, dry_run };
        let Removed { versions, left } =
            self.store.remove_versions(scope(&caller), &removal).await.map_err(ApiError::from)?;
        if !dry_run {
            for version in &versions {
                self.registry.forget(&removal.name, *version);
            }
        }
        let model = left.map(|model| self.moved(model, dry_run).into_inner());
        Ok(Response::new(pb::RemoveServedResponse { removed: versions, model }))
    }

    async fn upload(
        &self,
        request: Request<Streaming<pb::UploadArtifactRequest>>,
    ) -> Result<Response<pb::UploadArtifactResponse>, Status> {
        let caller = caller(&request)?;
        let Pushed { model, version, existed } = self.pusher.push(caller.owner, request.into_inner()).await?;
        let model = Some(self.to_proto(model));
        Ok(Response::new(pb::UploadArtifactResponse { model, version, existed }))
    }

    async fn upload_offset(
        &self,
        request: Request<pb::UploadOffsetRequest>,
    ) -> Result<Response<pb::UploadOffsetResponse>, Status> {
        let caller = caller(&request)?;
        let offset = self.pusher.offset(&caller.owner, &request.get_ref().sha256).await?;
        Ok(Response::new(pb::UploadOffsetResponse { offset, complete: false }))
    }

    async fn download(
        &self,
        request: Request<pb::DownloadArtifactRequest>,
    ) -> Result<Response<Self::DownloadStream>, Status> {
        let caller = caller(&request)?;
        let asked = request.into_inner().artifact;
        let asked = asked.ok_or_else(|| ApiError::field("artifact", "name a job or a served version"))?;
        let wanted = self.find(scope(&caller), asked).await?;
        let bytes = self.bytes(&wanted).await?;
        let header = pb::DownloadHeader {
            files: vec![pb::FileHeader {
                name: wanted.file_name,
                size_bytes: bytes.len() as u64,
                sha256: wanted.sha256.as_bytes().to_vec(),
            }],
        };
        let header = pb::DownloadResponse { part: Some(Part::Header(header)) };
        let whole = futures::stream::once(std::future::ready(Ok::<_, ApiError>(bytes)));
        let parts = chunks(0, whole)
            .map_ok(|chunk| pb::DownloadResponse { part: Some(Part::Chunk(chunk)) })
            .map_err(Status::from);
        Ok(Response::new(Box::pin(futures::stream::once(async { Ok(header) }).chain(parts))))
    }
}
