//! Content-addressed blobs: bytes under the SHA-256 of what they are, in a local folder or an S3-compatible store.
//!
//! A blob appears under its name only when whole: locally it is written beside, synced, read back, renamed and its folder
//! synced; on S3 it is put in one step and read back. A name that is there already is believed only once its bytes have
//! been hashed. What is read is verified before it is used. Who references a blob, and when it may go, is the database's
//! affair.

mod digest;
mod local;

use std::fmt;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use object_store::buffered::BufWriter;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt;

pub use digest::{Digest, ParseDigestError};

/// Bytes that are copied at once.
const CHUNK: usize = 1 << 20;
/// Bytes that are asked for at once when an object is verified.
const PIECE: u64 = 16 << 20;

/// Why a blob operation failed.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// No blob has this digest.
    #[error("blob {0} does not exist")]
    NotFound(Digest),
    /// The stored bytes are not what their name says.
    #[error("blob {expected} is damaged: its bytes have the digest {actual}")]
    Damaged {
        /// The name.
        expected: Digest,
        /// What the bytes hash to.
        actual: Digest,
    },
    /// A blob is larger than the caller allows.
    #[error("blob {digest} has {size} bytes, more than the {limit} allowed here")]
    TooLarge {
        /// The blob.
        digest: Digest,
        /// Its size.
        size: u64,
        /// The caller's limit.
        limit: u64,
    },
    /// The URL of the store is not understood.
    #[error("'{url}' is not a blob store: expected file:///absolute/folder or s3://bucket/prefix ({reason})")]
    Url {
        /// As given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The local disk failed.
    #[error("blob store: {0}")]
    Io(#[from] io::Error),
    /// The object store failed.
    #[error("blob store: {0}")]
    Store(#[from] object_store::Error),
}

/// The blobs of an installation. Cloning shares the store.
#[derive(Clone)]
pub struct BlobStore {
    objects: Arc<dyn ObjectStore>,
    prefix: Key,
    /// The folder, for a local store.
    folder: Option<PathBuf>,
}

impl fmt::Debug for BlobStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobStore").field("objects", &self.objects.to_string()).finish_non_exhaustive()
    }
}

impl BlobStore {
    /// Opens `file:///folder` (made if it is not there) or `s3://bucket/prefix` (credentials and endpoint from the usual
    /// `AWS_…` variables).
    ///
    /// # Errors
    /// [`BlobError::Url`] for anything else; [`BlobError::Io`] if the folder cannot be made.
    pub fn open(url: &str) -> Result<Self, BlobError> {
        let bad = |reason: &str| BlobError::Url { url: url.to_string(), reason: reason.to_string() };
        if let Some(path) = url.strip_prefix("file://") {
            if !path.starts_with('/') {
                return Err(bad("the path must be absolute"));
            }
            return Self::local(Path::new(path));
        }
        if let Some(rest) = url.strip_prefix("s3://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            if bucket.is_empty() {
                return Err(bad("no bucket is named"));
            }
            return Self::s3(bucket, prefix);
        }
        Err(bad("unknown scheme"))
    }

    /// A local store in `folder`.
    ///
    /// # Errors
    /// [`BlobError::Io`] if the folder cannot be made.
    pub fn local(folder: &Path) -> Result<Self, BlobError> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let folder = folder.canonicalize()?;
        let objects = object_store::local::LocalFileSystem::new_with_prefix(&folder)?;
        Ok(BlobStore { objects: Arc::new(objects), prefix: Key::default(), folder: Some(folder) })
    }

    fn s3(bucket: &str, prefix: &str) -> Result<Self, BlobError> {
        Ok(BlobStore { objects: crate::objects::bucket(bucket)?, prefix: Key::from(prefix), folder: None })
    }

    fn key(&self, digest: &Digest) -> Key {
        let (folder, rest) = local::name(digest);
        self.prefix.clone().join(folder).join(rest)
    }

    /// Stores bytes and returns their digest. What is there already is read, and written again if it is damaged; what is
    /// written is read back.
    ///
    /// # Errors
    /// [`BlobError::Io`], [`BlobError::Store`] or [`BlobError::Damaged`]; nothing damaged is left under the digest then
    /// that was not there before.
    pub async fn put_bytes(&self, bytes: impl Into<Bytes>) -> Result<Digest, BlobError> {
        let bytes = bytes.into();
        let digest = Digest::of(&bytes);
        if let Some(folder) = self.folder.clone() {
            blocking(move || local::put_bytes(&folder, &digest, &bytes)).await?;
        } else if !self.is_whole(&digest, bytes.len() as u64).await? {
            self.objects.put(&self.key(&digest), bytes.into()).await?;
            self.read_back(&digest).await?;
        }
        Ok(digest)
    }

    /// Stores a file whose digest the caller has computed while writing it. The file stays where it is and may share its
    /// bytes with the blob (a hard link): remove it once the blob is referenced, and never write to it again. A caller who
    /// goes away finds the file as it was.
    ///
    /// # Errors
    /// [`BlobError::Damaged`] if the file's bytes have another digest; otherwise as [`BlobStore::put_bytes`]. A file that
    /// cannot be synced is removed.
    pub async fn put_file(&self, path: &Path, digest: &Digest) -> Result<(), BlobError> {
        let (path, digest) = (path.to_owned(), *digest);
        match self.folder.clone() {
            Some(folder) => blocking(move || local::put_file(&folder, &path, &digest)).await,
            None => self.upload(&path, &digest).await,
        }
    }

    async fn upload(&self, path: &Path, digest: &Digest) -> Result<(), BlobError> {
        let (expected, source) = (*digest, path.to_owned());
        let size = blocking(move || local::check_file(&source, &expected)).await?;
        if self.is_whole(digest, size).await? {
            return Ok(());
        }
        let mut file = tokio::fs::File::open(path).await?;
        let mut writer = BufWriter::new(Arc::clone(&self.objects), self.key(digest));
        if let Err(error) = tokio::io::copy(&mut file, &mut writer).await {
            // Without this its parts would be kept, unseen, for good.
            let _ = writer.abort().await;
            return Err(error.into());
        }
        // Aborts by itself if it fails.
        writer.shutdown().await?;
        self.read_back(digest).await
    }

    /// Whether a blob is there with this size and its own hash: what every put asks before it believes a name.
    ///
    /// # Errors
    /// The store's own.
    pub async fn is_whole(&self, digest: &Digest, size: u64) -> Result<bool, BlobError> {
        if self.size(digest).await? != Some(size) {
            return Ok(false);
        }
        match self.verify(digest).await {
            Ok(()) => Ok(true),
            Err(BlobError::NotFound(_) | BlobError::Damaged { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Verifies an object that was just put, and removes it if it is damaged.
    async fn read_back(&self, digest: &Digest) -> Result<(), BlobError> {
        let outcome = self.verify(digest).await;
        if matches!(outcome, Err(BlobError::Damaged { .. })) {
            self.delete(digest).await?;
        }
        outcome
    }

    /// Reads a blob as it is stored and compares its hash with its name.
    ///
    /// # Errors
    /// [`BlobError::NotFound`], [`BlobError::Damaged`], or the store's own.
    pub async fn verify(&self, digest: &Digest) -> Result<(), BlobError> {
        let expected = *digest;
        if let Some(folder) = self.folder.clone() {
            return blocking(move || local::verify(&folder, &expected)).await;
        }
        let size = self.size(digest).await?.ok_or(BlobError::NotFound(expected))?;
        let mut hash = Sha256::new();
        let mut start = 0;
        // In pieces: a request for all of it would have to end within the client's time-out.
        while start < size {
            let end = size.min(start + PIECE);
            let key = self.key(digest);
            let bytes = self.objects.get_range(&key, start..end).await.map_err(|e| missing(e, digest))?;
            hash.update(&bytes);
            start = end;
        }
        let actual = Digest::from(<[u8; 32]>::from(hash.finalize()));
        if actual == expected { Ok(()) } else { Err(BlobError::Damaged { expected, actual }) }
    }

    /// Size of a blob in bytes; `None` if it is not there.
    ///
    /// # Errors
    /// [`BlobError::Store`] if the store cannot be asked.
    pub async fn size(&self, digest: &Digest) -> Result<Option<u64>, BlobError> {
        match self.objects.head(&self.key(digest)).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// A blob's bytes, verified.
    ///
    /// # Errors
    /// [`BlobError::NotFound`], [`BlobError::TooLarge`], [`BlobError::Damaged`], or the store's own.
    pub async fn get(&self, digest: &Digest, limit: u64) -> Result<Bytes, BlobError> {
        let found = self.objects.get(&self.key(digest)).await.map_err(|e| missing(e, digest))?;
        if found.meta.size > limit {
            return Err(BlobError::TooLarge { digest: *digest, size: found.meta.size, limit });
        }
        let bytes = found.bytes().await?;
        let actual = Digest::of(&bytes);
        if actual == *digest { Ok(bytes) } else { Err(BlobError::Damaged { expected: *digest, actual }) }
    }

    /// Copies a blob into a new file at `path`, verified; nothing is left there on failure.
    ///
    /// # Errors
    /// As [`BlobStore::get`].
    pub async fn fetch(&self, digest: &Digest, path: &Path) -> Result<(), BlobError> {
        let outcome = self.copy_to(digest, path).await;
        if outcome.is_err() {
            let _ = tokio::fs::remove_file(path).await;
        }
        outcome
    }

    async fn copy_to(&self, digest: &Digest, path: &Path) -> Result<(), BlobError> {
        let mut stream = Box::pin(self.stream(digest).await?);
        let mut file = tokio::fs::File::create(path).await?;
        let mut hash = Sha256::new();
        while let Some(chunk) = stream.try_next().await? {
            hash.update(&chunk);
            file.write_all(&chunk).await?;
        }
        file.flush().await?;
        let actual = Digest::from(<[u8; 32]>::from(hash.finalize()));
        if actual == *digest { Ok(()) } else { Err(BlobError::Damaged { expected: *digest, actual }) }
    }

    /// A blob's bytes as they are stored, unverified: for passing on to someone who knows the digest.
    ///
    /// # Errors
    /// [`BlobError::NotFound`] or the store's own.
    pub async fn stream(
        &self,
        digest: &Digest,
    ) -> Result<impl Stream<Item = Result<Bytes, BlobError>> + Send + use<>, BlobError> {
        let found = self.objects.get(&self.key(digest)).await.map_err(|e| missing(e, digest))?;
        Ok(found.into_stream().map(|chunk| chunk.map_err(BlobError::from)))
    }

    /// Removes a blob; one that is not there is no error.
    ///
    /// # Errors
    /// The store's own.
    pub async fn delete(&self, digest: &Digest) -> Result<(), BlobError> {
        match self.objects.delete(&self.key(digest)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes staged files whose writers are no more, and answers how many; those of living ones stay.
    ///
    /// # Errors
    /// [`BlobError::Io`] if the folder cannot be listed.
    pub async fn clear_staging(&self) -> Result<usize, BlobError> {
        match self.folder.clone() {
            Some(folder) => blocking(move || Ok(local::clear_staging(&folder)?)).await,
            None => Ok(0),
        }
    }
}

/// Runs what blocks; once begun it runs to its end, whatever becomes of the caller.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BlobError> + Send + 'static,
) -> Result<T, BlobError> {
    tokio::task::spawn_blocking(work).await.map_err(|panic| io::Error::other(panic.to_string()))?
}

fn missing(error: object_store::Error, digest: &Digest) -> BlobError {
    match error {
        object_store::Error::NotFound { .. } => BlobError::NotFound(*digest),
        error => error.into(),
    }
}
