//! Reading the parts of an upload's stream.

use std::time::Duration;

use dyadic_proto::v1::upload_artifact_request::Part as ArtifactPart;
use dyadic_proto::v1::upload_dataset_request::Part as DatasetPart;
use dyadic_proto::v1::upload_model_request::Part as ModelPart;
use dyadic_proto::v1::{
    FileChunk, UploadArtifactHeader, UploadArtifactRequest, UploadDatasetHeader, UploadDatasetRequest,
    UploadModelHeader, UploadModelRequest,
};
use tonic::Streaming;

use super::{FileSpecs, Receiver, Spool, UploadError};
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

impl UploadMessage for UploadArtifactRequest {
    type Header = UploadArtifactHeader;

    fn part(self) -> Option<Part<UploadArtifactHeader>> {
        Some(match self.part? {
            ArtifactPart::Header(header) => Part::Header(header),
            ArtifactPart::Chunk(chunk) => Part::Chunk(chunk),
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

    /// Appends the rest of the stream, which goes on from `offset`, to what came before of one file, and checks that it is
    /// the declared one. If the stream breaks, what came stays in the spool.
    pub async fn resume_into(
        &mut self,
        spool: &mut Spool,
        file: FileSpecs,
        offset: u64,
    ) -> Result<(), ApiError> {
        let (received, hash) = spool.rehash().await?;
        if offset != received {
            return Err(UploadError::WrongOffset { actual: offset, expected: received }.into());
        }
        let mut receiver = Receiver::resume(file, received, hash);
        loop {
            let chunk = match self.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break,
                Err(error) => {
                    // What came stays for the next attempt.
                    spool.flush().await?;
                    return Err(error);
                }
            };
            receiver.accept(&chunk)?;
            spool.append(&chunk.data).await?;
        }
        spool.flush().await?;
        receiver.finish()?;
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Part<M::Header>>, ApiError> {
        let message = tokio::time::timeout(self.idle, self.stream.message())
            .await
            .map_err(|_| UploadError::Idle(self.idle.as_secs()))?
            .map_err(ApiError::Stream)?;
        message.map(|message| message.part().ok_or_else(|| UploadError::EmptyMessage.into())).transpose()
    }
}
