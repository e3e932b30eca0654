//! Files under an S3 prefix that are not ours: listed, and copied to disk held against their hash.

use std::path::Path;
use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt as _};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;

use crate::blob::{BlobError, Digest};

/// A bucket, credentials and endpoint from the usual `AWS_…` variables.
#[cfg(feature = "s3")]
pub(crate) fn bucket(name: &str) -> Result<Arc<dyn ObjectStore>, BlobError> {
    // The HTTP client takes the process's TLS provider; a second installation is refused, which is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Ok(Arc::new(object_store::aws::AmazonS3Builder::from_env().with_bucket_name(name).build()?))
}

/// This build has none.
#[cfg(not(feature = "s3"))]
pub(crate) fn bucket(name: &str) -> Result<Arc<dyn ObjectStore>, BlobError> {
    let reason = "this build has no S3 support; build with the feature 's3'".to_string();
    Err(BlobError::Url { url: format!("s3://{name}"), reason })
}

/// Why an object could not be copied.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The object is not there.
    #[error("{0} is not there")]
    Missing(String),
    /// It is not what it is said to be.
    #[error("{0} has changed: its bytes have another hash")]
    Changed(String),
    /// The store or the disk failed.
    #[error(transparent)]
    Store(#[from] BlobError),
}

/// The objects below `s3://bucket/prefix`.
#[derive(Debug, Clone)]
pub struct Objects {
    store: Arc<dyn ObjectStore>,
    prefix: Key,
    url: String,
}

impl Objects {
    /// Opens `s3://bucket/prefix`.
    ///
    /// # Errors
    /// [`BlobError::Url`] for anything else.
    pub fn open(url: &str) -> Result<Self, BlobError> {
        let bad = |reason: &str| BlobError::Url { url: url.to_string(), reason: reason.to_string() };
        let rest = url.strip_prefix("s3://").ok_or_else(|| bad("it is no S3 prefix"))?;
        let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if name.is_empty() {
            return Err(bad("no bucket is named"));
        }
        let prefix = Key::parse(prefix.trim_end_matches('/')).map_err(|e| bad(&e.to_string()))?;
        Ok(Objects { store: bucket(name)?, prefix, url: url.trim_end_matches('/').to_owned() })
    }

    /// Names below the prefix and sizes in bytes, sorted; at most `limit`.
    ///
    /// # Errors
    /// The store's own, and [`BlobError::Url`] if there are more.
    pub async fn list(&self, limit: usize) -> Result<Vec<(String, u64)>, BlobError> {
        let mut found = Vec::new();
        let mut objects = self.store.list(Some(&self.prefix));
        while let Some(object) = objects.try_next().await? {
            let Some(parts) = object.location.prefix_match(&self.prefix) else { continue };
            let name = parts.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/");
            if found.len() >= limit {
                let reason = format!("there are more than {limit} objects");
                return Err(BlobError::Url { url: self.url.clone(), reason });
            }
            found.push((name, object.size));
        }
        found.sort();
        Ok(found)
    }

    /// Copies an object to `path`, which holds it whole or not at all; held against `digest` if one is given.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn fetch(&self, name: &str, digest: Option<Digest>, path: &Path) -> Result<(), FetchError> {
        let mut part = path.as_os_str().to_owned();
        part.push(format!(".{}.part", std::process::id()));
        let part = Path::new(&part);
        let outcome = self.copy(name, digest, part).await;
        let outcome = match outcome {
            Ok(()) => tokio::fs::rename(part, path).await.map_err(|e| BlobError::from(e).into()),
            Err(error) => Err(error),
        };
        if outcome.is_err() {
            let _ = tokio::fs::remove_file(part).await;
        }
        outcome
    }

    async fn copy(&self, name: &str, digest: Option<Digest>, path: &Path) -> Result<(), FetchError> {
        let named = || format!("{}/{name}", self.url);
        let failed = |error: object_store::Error| match error {
            object_store::Error::NotFound { .. } => FetchError::Missing(named()),
            error => BlobError::from(error).into(),
        };
        let mut key = self.prefix.clone();
        for part in name.split('/') {
            key = key.join(part);
        }
        let mut stream = self.store.get(&key).await.map_err(failed)?.into_stream();
        let mut file = tokio::fs::File::create(path).await.map_err(BlobError::from)?;
        let mut hash = Sha256::new();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(failed)?;
            hash.update(&chunk);
            file.write_all(&chunk).await.map_err(BlobError::from)?;
        }
        file.flush().await.map_err(BlobError::from)?;
        match digest {
            Some(digest) if Digest::from(<[u8; 32]>::from(hash.finalize())) != digest => {
                Err(FetchError::Changed(named()))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn objects_are_listed_below_the_prefix_and_held_to_their_hash() {
        let folder = tempfile::tempdir().unwrap();
        let all = object_store::memory::InMemory::new();
        for (key, bytes) in
            [("photos/cat/1 a.jpg", "one"), ("photos/dog/2.jpg", "two"), ("photosynthesis", "no")]
        {
            all.put(&Key::from(key), bytes.into()).await.unwrap();
        }
        let objects =
            Objects { store: Arc::new(all), prefix: Key::from("photos"), url: "s3://b/photos".into() };
        let names = objects.list(10).await.unwrap();
        assert_eq!(names, [("cat/1 a.jpg".to_owned(), 3), ("dog/2.jpg".to_owned(), 3)]);
        assert!(matches!(objects.list(1).await, Err(BlobError::Url { .. })));
        let path = folder.path().join("x");
        objects.fetch("cat/1 a.jpg", Some(Digest::of(b"one")), &path).await.unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        let other = folder.path().join("y");
        let changed = objects.fetch("dog/2.jpg", Some(Digest::of(b"one")), &other).await.unwrap_err();
        assert_eq!(changed.to_string(), "s3://b/photos/dog/2.jpg has changed: its bytes have another hash");
        let missing = objects.fetch("dog/3.jpg", None, &other).await.unwrap_err();
        assert_eq!(missing.to_string(), "s3://b/photos/dog/3.jpg is not there");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left of what failed");
        for url in ["s3://", "/data", "s3:///x"] {
            assert!(matches!(Objects::open(url), Err(BlobError::Url { .. })), "{url}");
        }
    }
}
