//! Reading the parts of an upload's stream.

use std::time::Duration;

use dyadic_proto::v1::upload_dataset_request::Part as DatasetPart;
use dyadic_proto::v1::upload_model_request::Part as ModelPart;
use dyadic_proto::v1::{
    FileChunk, UploadDatasetHeader, UploadDatasetRequest, UploadModelHeader, UploadModelRequest,
};
use tonic::Streaming;

use super::UploadError;
use crate::error::ApiError;

/// One message of an upload.
pub enum Part<H> {
    /// The first.
    Header(H),
    /// All others.
    Chunk(FileChunk),
}

/// A message that is a header or a chunk.
pub trait UploadMessage {
    /// The header's type.
    type Header;

    /// What it holds; `None` for neither.
    fn part(self) -> Option<Part<Self::Header>>;
}

impl UploadMessage for UploadModelRequest {
    type Header = UploadModelHeader;

    fn part(self) -> Option<Part<UploadModelHeader>> {
        Some(match self.part? {
            ModelPart::Header(header) => Part::Header(header),
            ModelPart::Chunk(chunk) => Part::Chunk(chunk),
        })
    }
}

impl UploadMessage for UploadDatasetRequest {
    type Header = UploadDatasetHeader;

    fn part(self) -> Option<Part<UploadDatasetHeader>> {
        Some(match self.part? {
            DatasetPart::Header(header) => Part::Header(header),
            DatasetPart::Chunk(chunk) => Part::Chunk(chunk),
        })
    }
}

/// An upload's stream: a header, then chunks, with no long silence.
pub struct Intake<M> {
    stream: Streaming<M>,
    idle: Duration,
}

impl<M: UploadMessage> Intake<M> {
    /// Takes the header.
    pub async fn begin(stream: Streaming<M>, idle: Duration) -> Result<(Self, M::Header), ApiError> {
        let mut intake = Self { stream, idle };
        match intake.next().await? {
            Some(Part::Header(header)) => Ok((intake, header)),
            Some(Part::Chunk(_)) | None => Err(UploadError::NoHeader.into()),
        }
    }

    /// The next chunk; `None` at the end of the stream.
    pub async fn chunk(&mut self) -> Result<Option<FileChunk>, ApiError> {
        match self.next().await? {
            Some(Part::Chunk(chunk)) => Ok(Some(chunk)),
            Some(Part::Header(_)) => Err(UploadError::SecondHeader.into()),
            None => Ok(None),
        }
    }

    async fn next(&mut self) -> Result<Option<Part<M::Header>>, ApiError> {
        let message = tokio::time::timeout(self.idle, self.stream.message())
            .await
            .map_err(|_| UploadError::Idle(self.idle.as_secs()))?
            .map_err(ApiError::Stream)?;
        message.map(|message| message.part().ok_or_else(|| UploadError::EmptyMessage.into())).transpose()
    }
}
