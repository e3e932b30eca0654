//! Sending stored files: chunks with offsets, of a size that suits flow control.

use bytes::{Bytes, BytesMut};
use dyadic_proto::v1::FileChunk;
use futures::{Stream, StreamExt, TryStreamExt};

use crate::error::ApiError;

/// Bytes of a chunk, but for a file's last.
const CHUNK_BYTES: usize = 1 << 20;

/// A file's bytes as chunks of file `file`.
pub(crate) fn chunks<E: Into<ApiError>>(
    file: u32,
    bytes: impl Stream<Item = Result<Bytes, E>> + Send + Unpin + 'static,
) -> impl Stream<Item = Result<FileChunk, ApiError>> + Send {
    let state = Sending { bytes, buffer: BytesMut::new(), file, offset: 0, ended: false };
    futures::stream::try_unfold(state, |mut state| async move {
        let chunk = state.next().await?;
        Ok(chunk.map(|chunk| (chunk, state)))
    })
    .into_stream()
}

struct Sending<S> {
    bytes: S,
    buffer: BytesMut,
    file: u32,
    offset: u64,
    ended: bool,
}

impl<S, E> Sending<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: Into<ApiError>,
{
    async fn next(&mut self) -> Result<Option<FileChunk>, ApiError> {
        while !self.ended && self.buffer.len() < CHUNK_BYTES {
            match self.bytes.next().await {
                Some(more) => self.buffer.extend_from_slice(&more.map_err(Into::into)?),
                None => self.ended = true,
            }
        }
        if self.buffer.is_empty() {
            return Ok(None);
        }
        let data = self.buffer.split_to(self.buffer.len().min(CHUNK_BYTES)).freeze();
        let offset = self.offset;
        self.offset += data.len() as u64;
        Ok(Some(FileChunk { file: self.file, offset, data }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pieces_of_any_size_become_even_chunks_without_gaps() {
        let whole: Vec<u8> = (0..CHUNK_BYTES * 2 + 12_345).map(|i| (i % 251) as u8).collect();
        for piece in [1000, CHUNK_BYTES - 1, CHUNK_BYTES * 3] {
            let pieces: Vec<Result<Bytes, ApiError>> =
                whole.chunks(piece).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
            let sent: Vec<FileChunk> = chunks(7, futures::stream::iter(pieces)).try_collect().await.unwrap();
            assert_eq!(sent.len(), 3);
            let mut offset = 0;
            for chunk in &sent {
                assert_eq!((chunk.file, chunk.offset), (7, offset));
                assert_eq!(chunk.data, whole[offset as usize..][..chunk.data.len()]);
                offset += chunk.data.len() as u64;
            }
            assert_eq!(offset as usize, whole.len());
        }
    }

    #[tokio::test]
    async fn an_empty_file_has_no_chunk() {
        let nothing = futures::stream::iter(Vec::<Result<Bytes, ApiError>>::new());
        assert_eq!(chunks(0, nothing).count().await, 0);
    }
}
