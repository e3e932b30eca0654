//! `dyadic.v1.ModelService`: float models.

use std::pin::Pin;

use dyadic_proto::v1 as pb;
use dyadic_proto::v1::download_response::Part;
use dyadic_proto::v1::model_service_server::ModelService;
use dyadic_store::Store;
use dyadic_store::blob::{BlobStore, Digest};
use dyadic_store::registry::{Model, ModelFile, NewModel, PageFilter};
use futures::{Stream, StreamExt, TryStreamExt};
use tonic::{Request, Response, Status, Streaming};

use super::convert::{caller, scope, tag_list, tags, timestamp};
use super::download::chunks;
use super::inspect::{Inspector, Summary, refusals};
use super::page;
use super::publish::publish;
use crate::config::Limits;
use crate::error::ApiError;
use crate::upload::{FileSpecs, HeaderLimits, Intake, Receiver, Spool, SpoolDir, check_name};

/// The service.
#[derive(Clone)]
pub(crate) struct ModelApi {
    store: Store,
    blobs: BlobStore,
    spools: SpoolDir,
    inspector: Inspector,
    limits: Limits,
}

impl ModelApi {
    pub(crate) fn new(
        store: Store,
        blobs: BlobStore,
        spools: SpoolDir,
        inspector: Inspector,
        limits: Limits,
    ) -> Self {
        Self { store, blobs, spools, inspector, limits }
    }

    /// Reads the whole stream into spools, one a file.
    async fn receive(
        &self,
        stream: Streaming<pb::UploadModelRequest>,
    ) -> Result<(pb::UploadModelHeader, FileSpecs, Vec<Spool>), ApiError> {
        let (mut intake, mut header) = Intake::begin(stream, self.limits.upload_idle()).await?;
        check_name("model name", &header.name)?;
        let limits =
            HeaderLimits { max_files: self.limits.max_model_files, max_bytes: self.limits.max_model_bytes };
        let files = FileSpecs::check(std::mem::take(&mut header.files), limits)?;
        let mut spools = Vec::new();
        for _ in files.as_slice() {
            spools.push(self.spools.temporary().await?);
        }
        let mut receiver = Receiver::new(files);
        while let Some(chunk) = intake.chunk().await? {
            let file = receiver.accept(&chunk)?;
            if let Some(spool) = spools.get_mut(file) {
                spool.append(&chunk.data).await?;
            }
        }
        let files = receiver.finish()?;
        for spool in &mut spools {
            spool.flush().await?;
        }
        Ok((header, files, spools))
    }

    async fn register(
        &self,
        owner: String,
        header: pb::UploadModelHeader,
        files: &FileSpecs,
        spools: &[Spool],
        summary: &Summary,
    ) -> Result<(Model, bool), ApiError> {
        let tags = tags(header.tags)?;
        let mut stored = Vec::new();
        for (file, spool) in files.as_slice().iter().zip(spools) {
            let sha256 = Digest::from(file.sha256);
            publish(&self.store, &self.blobs, spool.path(), sha256, file.size_bytes).await?;
            stored.push(ModelFile { name: file.name.clone(), sha256, size_bytes: file.size_bytes });
        }
        let info = serde_json::to_value(summary).map_err(ApiError::internal)?;
        let model = NewModel { owner, name: header.name, files: stored, info, tags };
        Ok(self.store.add_model(&model).await?)
    }
}

/// A model's message; listings go without layers.
fn to_proto(model: Model, layers: bool) -> pb::Model {
    let mut message = pb::Model {
        id: model.id.to_string(),
        name: model.name,
        owner: model.owner,
        created_at: Some(timestamp(model.created_at)),
        size_bytes: model.files.iter().map(|file| file.size_bytes).sum(),
        files: model.files.into_iter().map(file).collect(),
        tags: tag_list(model.tags),
        ..pb::Model::default()
    };
    // What another version wrote may lack what this one shows.
    if let Ok(summary) = serde_json::from_value::<Summary>(model.info) {
        summary.fill(&mut message);
    }
    if !layers {
        message.layers.clear();
    }
    message
}

fn file(file: ModelFile) -> pb::FileHeader {
    pb::FileHeader { name: file.name, size_bytes: file.size_bytes, sha256: file.sha256.as_bytes().to_vec() }
}

#[tonic::async_trait]
impl ModelService for ModelApi {
    type DownloadStream = Pin<Box<dyn Stream<Item = Result<pb::DownloadResponse, Status>> + Send>>;

    async fn upload(
        &self,
        request: Request<Streaming<pb::UploadModelRequest>>,
    ) -> Result<Response<pb::UploadModelResponse>, Status> {
        let caller = caller(&request)?;
        let (header, files, spools) = self.receive(request.into_inner()).await?;
        let summary = match self.inspector.inspect(&files, &spools).await {
            Ok(summary) => summary,
            Err(error) => {
                let refusals = if header.list_refusals { refusals(&error) } else { None };
                let refusals = refusals.ok_or(error)?;
                return Ok(Response::new(pb::UploadModelResponse { refusals, ..Default::default() }));
            }
        };
        let (model, existed) = self.register(caller.owner, header, &files, &spools, &summary).await?;
        let model = Some(to_proto(model, true));
        Ok(Response::new(pb::UploadModelResponse { model, existed, refusals: Vec::new() }))
    }

    async fn get(&self, request: Request<pb::GetModelRequest>) -> Result<Response<pb::Model>, Status> {
        let caller = caller(&request)?;
        let model =
            self.store.model(scope(&caller), &request.get_ref().model).await.map_err(ApiError::from)?;
        Ok(Response::new(to_proto(model, true)))
    }

    async fn list(
        &self,
        request: Request<pb::ListModelsRequest>,
    ) -> Result<Response<pb::ListModelsResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let filter = PageFilter {
            owner: scope(&caller).map(str::to_owned),
            name: (!request.name.is_empty()).then_some(request.name),
            before: page::parse(&request.page_token)?,
            limit: page::size(request.page_size) + 1,
        };
        let found = self.store.models(&filter).await.map_err(ApiError::from)?;
        let (models, next_page_token) = page::cut(found, request.page_size, |model| model.id.to_string());
        let models = models.into_iter().map(|model| to_proto(model, false)).collect();
        Ok(Response::new(pb::ListModelsResponse { models, next_page_token }))
    }

    async fn delete(
        &self,
        request: Request<pb::DeleteModelRequest>,
    ) -> Result<Response<pb::DeleteModelResponse>, Status> {
        let caller = caller(&request)?;
        let model =
            self.store.model(scope(&caller), &request.get_ref().model).await.map_err(ApiError::from)?;
        self.store.delete_model(scope(&caller), model.id).await.map_err(ApiError::from)?;
        Ok(Response::new(pb::DeleteModelResponse {}))
    }

    async fn download(
        &self,
        request: Request<pb::DownloadModelRequest>,
    ) -> Result<Response<Self::DownloadStream>, Status> {
        let caller = caller(&request)?;
        let model =
            self.store.model(scope(&caller), &request.get_ref().model).await.map_err(ApiError::from)?;
        let header = pb::DownloadHeader { files: model.files.iter().cloned().map(file).collect() };
        let header = pb::DownloadResponse { part: Some(Part::Header(header)) };
        let blobs = self.blobs.clone();
        let files = futures::stream::iter(model.files.into_iter().enumerate())
            .then(move |(index, file)| {
                let blobs = blobs.clone();
                async move {
                    let bytes = blobs.stream(&file.sha256).await?;
                    Ok::<_, ApiError>(chunks(index as u32, Box::pin(bytes)))
                }
            })
            .try_flatten()
            .map_ok(|chunk| pb::DownloadResponse { part: Some(Part::Chunk(chunk)) })
            .map_err(Status::from);
        let parts = futures::stream::once(async { Ok(header) }).chain(files);
        Ok(Response::new(Box::pin(parts)))
    }
}
