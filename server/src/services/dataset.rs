//! `dyadic.v1.DatasetService`: datasets, one tar each; uploads can be resumed.

mod contents;
mod header;

use std::pin::Pin;

use dyadic_data::{Contents, SplitContents};
use dyadic_proto::v1 as pb;
use dyadic_proto::v1::dataset_service_server::DatasetService;
use dyadic_proto::v1::download_dataset_response::Part;
use dyadic_store::Store;
use dyadic_store::blob::{BlobStore, Digest};
use dyadic_store::registry::{Dataset, PageFilter, Split};
use futures::{Stream, StreamExt, TryStreamExt};
use tonic::{Request, Response, Status, Streaming};

pub(crate) use self::contents::Reader;
use self::header::Declared;
pub(crate) use self::header::check_labels;
use super::convert::{caller, scope, tag_list, timestamp};
use super::download::chunks;
use super::page;
use super::publish::{announce, publish};
use crate::config::Limits;
use crate::error::ApiError;
use crate::upload::{Intake, Spool, SpoolDir, UploadError, check_tar};

/// Datasets of an owner that are looked through for bytes that are there already.
const LOOKED_THROUGH: u32 = 500;

/// The service.
#[derive(Clone)]
pub(crate) struct DatasetApi {
    store: Store,
    blobs: BlobStore,
    spools: SpoolDir,
    reader: Reader,
    limits: Limits,
}

type Uploads = Intake<pb::UploadDatasetRequest>;

impl DatasetApi {
    pub(crate) fn new(
        store: Store,
        blobs: BlobStore,
        spools: SpoolDir,
        reader: Reader,
        limits: Limits,
    ) -> Self {
        Self { store, blobs, spools, reader, limits }
    }

    /// The newest dataset of these bytes that this owner has pushed. Others' bytes do not count: who knows a hash need
    /// not have the bytes.
    async fn owned(&self, owner: &str, sha256: &[u8; 32]) -> Result<Option<Dataset>, ApiError> {
        let filter =
            PageFilter { owner: Some(owner.to_owned()), limit: LOOKED_THROUGH, ..PageFilter::default() };
        let datasets = self.store.datasets(&filter).await?;
        Ok(datasets.into_iter().find(|dataset| dataset.sha256.as_bytes() == sha256))
    }

    /// The size of these bytes, if this owner has pushed them before and need not send them again. Once a spool has been
    /// begun they are wanted, whatever else is there.
    async fn there(&self, owner: &str, sha256: &[u8; 32]) -> Result<Option<u64>, ApiError> {
        if self.spools.received(owner, sha256).await?.is_some() {
            return Ok(None);
        }
        let size = self.owned(owner, sha256).await?.map(|same| same.size_bytes);
        Ok(if self.blobs.size(&Digest::from(*sha256)).await? == size { size } else { None })
    }

    /// Brings the declared bytes into the blob store, and tells what is in them; none where they were there already. The spool is to be removed once they are referenced: until then an
    /// upload that breaks goes on from it.
    async fn receive(
        &self,
        owner: &str,
        intake: Uploads,
        declared: &Declared,
    ) -> Result<Option<(Spool, Contents)>, ApiError> {
        let file = declared.tar();
        let sha256 = Digest::from(file.sha256);
        if declared.offset == file.size_bytes
            && self.there(owner, &file.sha256).await? == Some(file.size_bytes)
        {
            self.expect_end(intake, declared).await?;
            announce(&self.store, sha256, file.size_bytes).await?;
            if self.blobs.is_whole(&sha256, file.size_bytes).await? {
                return Ok(None);
            }
            // An empty spool asks for them.
            drop(self.spools.resumable(owner, &file.sha256).await?);
            return Err(UploadError::Damaged.into());
        }
        let mut spool = self.spools.resumable(owner, &file.sha256).await?;
        let contents = match self.spool(&mut spool, intake, declared).await {
            // Bytes that are wrong are of no use to a later upload.
            Err(
                error @ (ApiError::Data(_)
                | ApiError::Upload(UploadError::HashMismatch { .. } | UploadError::Tar(_))),
            ) => {
                spool.remove().await?;
                return Err(error);
            }
            other => other?,
        };
        publish(&self.store, &self.blobs, spool.path(), sha256, file.size_bytes).await?;
        Ok(Some((spool, contents)))
    }

    async fn expect_end(&self, mut intake: Uploads, declared: &Declared) -> Result<(), ApiError> {
        let file = declared.tar();
        match intake.chunk().await? {
            None => Ok(()),
            Some(chunk) => Err(UploadError::Overrun {
                file: file.name.clone(),
                end: file.size_bytes.saturating_add(chunk.data.len() as u64),
                declared: file.size_bytes,
            }
            .into()),
        }
    }

    /// Appends the stream to what came before, and checks the whole.
    async fn spool(
        &self,
        spool: &mut Spool,
        mut intake: Uploads,
        declared: &Declared,
    ) -> Result<Contents, ApiError> {
        intake.resume_into(spool, declared.files.clone(), declared.offset).await?;
        let path = spool.path().to_owned();
        tokio::task::spawn_blocking(move || check_tar(&path)).await.map_err(ApiError::internal)??;
        contents::check(&self.reader, declared, spool.path()).await
    }
}

fn to_proto(dataset: Dataset) -> pb::Dataset {
    pb::Dataset {
        id: dataset.id.to_string(),
        name: dataset.name,
        owner: dataset.owner,
        created_at: Some(timestamp(dataset.created_at)),
        format: pb::DatasetFormat::of_word(&dataset.format).into(),
        splits: dataset.splits.into_iter().map(|Split { name, paths }| pb::Split { name, paths }).collect(),
        labels: dataset.labels,
        tar: Some(pb::FileHeader {
            name: dataset.file_name,
            size_bytes: dataset.size_bytes,
            sha256: dataset.sha256.as_bytes().to_vec(),
        }),
        tags: tag_list(dataset.tags),
        contents: dataset.contents.and_then(|value| serde_json::from_value(value).ok()).map(contents_message),
    }
}

fn contents_message(contents: Contents) -> pb::DatasetContents {
    let split = |found: SplitContents| {
        let [height, width, channels] = found.shape.unwrap_or_default().map(|extent| extent as u32);
        let (name, images) = (found.split.name().to_owned(), found.images);
        pb::SplitContents { name, images, height, width, channels, highest_label: found.highest_label }
    };
    pb::DatasetContents {
        splits: contents.splits.into_iter().map(split).collect(),
        classes: contents.classes,
        broken: contents.broken.count,
        first_broken: contents.broken.first,
        base: contents.base.unwrap_or_default(),
    }
}

#[tonic::async_trait]
impl DatasetService for DatasetApi {
    type DownloadStream = Pin<Box<dyn Stream<Item = Result<pb::DownloadDatasetResponse, Status>> + Send>>;

    async fn upload(
        &self,
        request: Request<Streaming<pb::UploadDatasetRequest>>,
    ) -> Result<Response<pb::UploadDatasetResponse>, Status> {
        let caller = caller(&request)?;
        let (intake, header) = Intake::begin(request.into_inner(), self.limits.upload_idle()).await?;
        let declared = Declared::check(header, self.limits.max_dataset_bytes)?;
        let received = self.receive(&caller.owner, intake, &declared).await?;
        let dataset = declared.into_dataset(caller.owner);
        let (mut dataset, existed) = self.store.add_dataset(&dataset).await.map_err(ApiError::from)?;
        if let Some((spool, contents)) = received {
            spool.remove().await.map_err(ApiError::from)?;
            self.reader.keep(&dataset, &contents).await?;
            dataset.contents = serde_json::to_value(contents).ok();
        }
        Ok(Response::new(pb::UploadDatasetResponse { dataset: Some(to_proto(dataset)), existed }))
    }

    async fn upload_offset(
        &self,
        request: Request<pb::UploadOffsetRequest>,
    ) -> Result<Response<pb::UploadOffsetResponse>, Status> {
        let caller = caller(&request)?;
        let given = request.into_inner().sha256;
        let sha256 = <[u8; 32]>::try_from(given.as_slice())
            .map_err(|_| ApiError::field("sha256", format!("it has 32 bytes, not {}", given.len())))?;
        if let Some(size) = self.there(&caller.owner, &sha256).await? {
            return Ok(Response::new(pb::UploadOffsetResponse { offset: size, complete: true }));
        }
        let received = self.spools.received(&caller.owner, &sha256).await.map_err(ApiError::from)?;
        Ok(Response::new(pb::UploadOffsetResponse { offset: received.unwrap_or(0), complete: false }))
    }

    async fn get(&self, request: Request<pb::GetDatasetRequest>) -> Result<Response<pb::Dataset>, Status> {
        let caller = caller(&request)?;
        let found = self.store.dataset(scope(&caller), &request.get_ref().dataset).await;
        Ok(Response::new(to_proto(found.map_err(ApiError::from)?)))
    }

    async fn list(
        &self,
        request: Request<pb::ListDatasetsRequest>,
    ) -> Result<Response<pb::ListDatasetsResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let filter = PageFilter {
            owner: scope(&caller).map(str::to_owned),
            name: None,
            before: page::parse(&request.page_token)?,
            limit: page::size(request.page_size) + 1,
        };
        let found = self.store.datasets(&filter).await.map_err(ApiError::from)?;
        let (found, next_page_token) = page::cut(found, request.page_size, |dataset| dataset.id.to_string());
        let datasets = found.into_iter().map(to_proto).collect();
        Ok(Response::new(pb::ListDatasetsResponse { datasets, next_page_token }))
    }

    async fn delete(
        &self,
        request: Request<pb::DeleteDatasetRequest>,
    ) -> Result<Response<pb::DeleteDatasetResponse>, Status> {
        let caller = caller(&request)?;
        let found = self.store.dataset(scope(&caller), &request.get_ref().dataset).await;
        let id = found.map_err(ApiError::from)?.id;
        self.store.delete_dataset(scope(&caller), id).await.map_err(ApiError::from)?;
        Ok(Response::new(pb::DeleteDatasetResponse {}))
    }

    async fn download(
        &self,
        request: Request<pb::DownloadDatasetRequest>,
    ) -> Result<Response<Self::DownloadStream>, Status> {
        let caller = caller(&request)?;
        let found = self.store.dataset(scope(&caller), &request.get_ref().dataset).await;
        let dataset = found.map_err(ApiError::from)?;
        let bytes = self.blobs.stream(&dataset.sha256).await.map_err(ApiError::from)?;
        let tar = to_proto(dataset).tar.unwrap_or_default();
        let header = pb::DownloadDatasetResponse { part: Some(Part::Header(tar)) };
        let parts = chunks(0, Box::pin(bytes))
            .map_ok(|chunk| pb::DownloadDatasetResponse { part: Some(Part::Chunk(chunk)) })
            .map_err(Status::from);
        Ok(Response::new(Box::pin(futures::stream::once(async { Ok(header) }).chain(parts))))
    }
}
