//! Making received bytes last: announce, store, and only then reference.

use std::path::Path;
use std::time::Duration;

use dyadic_store::blob::{BlobStore, Digest};
use dyadic_store::{Store, StoreError};

use crate::error::ApiError;

/// How often, and how long between, for bytes that are being deleted.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(500);

/// Stores a file's bytes; the file stays until the caller has referenced the blob in the database.
pub(crate) async fn publish(
    store: &Store,
    blobs: &BlobStore,
    path: &Path,
    sha256: Digest,
    size_bytes: u64,
) -> Result<(), ApiError> {
    announce(store, sha256, size_bytes).await?;
    Ok(blobs.put_file(path, &sha256).await?)
}

/// Keeps a blob from being collected while it is about to be referenced; waits while old bytes are deleted.
pub(crate) async fn announce(store: &Store, sha256: Digest, size_bytes: u64) -> Result<(), ApiError> {
    for _ in 1..ATTEMPTS {
        match store.touch_blob(sha256, size_bytes).await {
            Err(StoreError::BlobDeleting(_)) => tokio::time::sleep(PAUSE).await,
            other => return Ok(other?),
        }
    }
    Ok(store.touch_blob(sha256, size_bytes).await?)
}
