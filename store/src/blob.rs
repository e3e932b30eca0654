//! Content-addressed blobs: bytes under the SHA-256 of what they are, in a local folder or an S3-compatible store.
//!
//! A blob appears under its name only when whole: locally it is written beside, synced, renamed and its folder synced; on
//! S3 it is put in one step. What is read is verified before it is used. Who references a blob, and when it may go, is
//! the database's affair.

mod digest;

use std::fmt;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use object_store::buffered::BufWriter;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub use digest::{Digest, ParseDigestError};

/// Bytes that are copied at once.
const CHUNK: usize = 1 << 20;

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

    #[cfg(feature = "s3")]
    fn s3(bucket: &str, prefix: &str) -> Result<Self, BlobError> {
        // The HTTP client takes the process's TLS provider; a second installation is refused, which is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let objects = object_store::aws::AmazonS3Builder::from_env().with_bucket_name(bucket).build()?;
        Ok(BlobStore { objects: Arc::new(objects), prefix: Key::from(prefix), folder: None })
    }

    #[cfg(not(feature = "s3"))]
    fn s3(bucket: &str, _prefix: &str) -> Result<Self, BlobError> {
        let reason = "this build has no S3 support; build with the feature 's3'".to_string();
        Err(BlobError::Url { url: format!("s3://{bucket}"), reason })
    }

    /// `ab/cdef…`.
    fn name(digest: &Digest) -> (String, String) {
        let hex = digest.to_string();
        let (folder, rest) = hex.split_at(2);
        (folder.to_string(), rest.to_string())
    }

    fn key(&self, digest: &Digest) -> Key {
        let (folder, rest) = Self::name(digest);
        self.prefix.clone().join(folder).join(rest)
    }

    /// Stores bytes and returns their digest. Storing what is there already does nothing.
    ///
    /// # Errors
    /// [`BlobError::Io`] or [`BlobError::Store`]; nothing appears under the digest then.
    pub async fn put_bytes(&self, bytes: impl Into<Bytes>) -> Result<Digest, BlobError> {
        let bytes = bytes.into();
        let digest = Digest::of(&bytes);
        if self.size(&digest).await?.is_some() {
            return Ok(digest);
        }
        if let Some(folder) = &self.folder {
            let staged = stage_path(folder);
            write_synced(&staged, &bytes).await?;
            self.publish(folder, &staged, &digest).await?;
        } else {
            self.objects.put(&self.key(&digest), bytes.into()).await?;
        }
        Ok(digest)
    }

    /// Stores a file whose digest the caller has computed while writing it. The file itself may be moved into the store.
    ///
    /// # Errors
    /// [`BlobError::Damaged`] if the file's bytes have another digest; otherwise as [`BlobStore::put_bytes`].
    pub async fn put_file(&self, path: &Path, digest: &Digest) -> Result<(), BlobError> {
        if self.size(digest).await?.is_some() {
            return Ok(());
        }
        let Some(folder) = &self.folder else { return self.upload(path, digest).await };
        let staged = stage_path(folder);
        if tokio::fs::rename(path, &staged).await.is_err() {
            // Another file system: copy.
            tokio::fs::copy(path, &staged).await?;
        }
        let file = tokio::fs::File::open(&staged).await?;
        let outcome = match hash_file(&staged).await {
            Ok(actual) if actual == *digest => file.sync_all().await.map_err(BlobError::from),
            Ok(actual) => Err(BlobError::Damaged { expected: *digest, actual }),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = outcome {
            // After a failed sync nobody knows what the file holds: it is not used again.
            let _ = tokio::fs::remove_file(&staged).await;
            return Err(error);
        }
        self.publish(folder, &staged, digest).await
    }

    async fn upload(&self, path: &Path, digest: &Digest) -> Result<(), BlobError> {
        let actual = hash_file(path).await?;
        if actual != *digest {
            return Err(BlobError::Damaged { expected: *digest, actual });
        }
        let mut file = tokio::fs::File::open(path).await?;
        let mut writer = BufWriter::new(Arc::clone(&self.objects), self.key(digest));
        tokio::io::copy(&mut file, &mut writer).await?;
        writer.shutdown().await?;
        Ok(())
    }

    /// Renames a synced file to its name and syncs the folder.
    async fn publish(&self, root: &Path, staged: &Path, digest: &Digest) -> Result<(), BlobError> {
        let (folder, rest) = Self::name(digest);
        let folder = root.join(folder);
        if let Err(error) = tokio::fs::create_dir(&folder).await {
            if error.kind() != io::ErrorKind::AlreadyExists {
                return Err(error.into());
            }
        } else {
            sync_folder(root).await?;
        }
        tokio::fs::rename(staged, folder.join(rest)).await?;
        sync_folder(&folder).await?;
        Ok(())
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

    /// Removes staged files that a crash left behind. Call it before anything is written.
    ///
    /// # Errors
    /// [`BlobError::Io`] if the folder cannot be listed.
    pub async fn clear_staging(&self) -> Result<(), BlobError> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let mut entries = tokio::fs::read_dir(folder).await?;
        while let Some(entry) = entries.next_entry().await? {
            if entry.file_name().to_string_lossy().starts_with(STAGED) {
                tokio::fs::remove_file(entry.path()).await?;
            }
        }
        Ok(())
    }
}

/// Staged files begin with this; no blob's folder does.
const STAGED: &str = ".staged-";

fn stage_path(folder: &Path) -> PathBuf {
    folder.join(format!("{STAGED}{}", uuid::Uuid::new_v4()))
}

fn missing(error: object_store::Error, digest: &Digest) -> BlobError {
    match error {
        object_store::Error::NotFound { .. } => BlobError::NotFound(*digest),
        error => error.into(),
    }
}

/// Writes a new private file and syncs it; removes it again if that fails.
async fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), BlobError> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut file = tokio::fs::OpenOptions::from(options).open(path).await?;
    let written = async {
        file.write_all(bytes).await?;
        file.sync_all().await
    };
    if let Err(error) = written.await {
        let _ = tokio::fs::remove_file(path).await;
        return Err(error.into());
    }
    Ok(())
}

async fn sync_folder(folder: &Path) -> Result<(), BlobError> {
    Ok(tokio::fs::File::open(folder).await?.sync_all().await?)
}

async fn hash_file(path: &Path) -> io::Result<Digest> {
    let mut file = tokio::fs::File::open(path).await?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    loop {
        let n = file.read(&mut buffer).await?;
        if n == 0 {
            return Ok(Digest::from(<[u8; 32]>::from(hash.finalize())));
        }
        hash.update(&buffer[..n]);
    }
}
