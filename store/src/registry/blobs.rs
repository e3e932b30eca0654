//! Which blobs there are and which may go. The bytes are in the [`BlobStore`](crate::blob::BlobStore).
//!
//! Publishing: [`Store::touch_blob`], store the bytes, then the statement that references them, which touches the row
//! again. Collecting: [`Store::mark_unreferenced_blobs`], delete each one's bytes, [`Store::forget_blob`]. A publisher that
//! comes between finds `BlobDeleting`, waits, and begins again.

use std::time::Duration;

use crate::blob::Digest;
use crate::database::Store;
use crate::error::{Result, StoreError};

impl Store {
    /// Announces that a blob's bytes are about to be stored: it will not be collected while it is fresh.
    ///
    /// # Errors
    /// `Unavailable` ([`StoreError::BlobDeleting`]) while its old bytes are being deleted.
    pub async fn touch_blob(&self, sha256: Digest, size_bytes: u64) -> Result<()> {
        let touched = sqlx::query(
            "INSERT INTO blob (sha256, size_bytes) VALUES ($1, $2) \
             ON CONFLICT (sha256) DO UPDATE SET touched_at = now() WHERE blob.state = 'ready'",
        )
        .bind(sha256)
        .bind(size_bytes as i64)
        .execute(&self.pool)
        .await?;
        if touched.rows_affected() == 1 { Ok(()) } else { Err(StoreError::BlobDeleting(sha256.to_string())) }
    }

    /// Marks up to `limit` blobs that nothing references and nobody touched for `age` as being deleted, and answers
    /// these and those that were marked before and not yet forgotten.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn mark_unreferenced_blobs(&self, age: Duration, limit: u32) -> Result<Vec<Digest>> {
        let rows: Vec<(Digest,)> = sqlx::query_as(include_str!("mark_blobs.sql"))
            .bind(age.as_secs_f64())
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await?;
        Ok(rows.into_iter().map(|(sha256,)| sha256).collect())
    }

    /// Removes the row of a marked blob whose bytes are gone.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn forget_blob(&self, sha256: Digest) -> Result<()> {
        sqlx::query("DELETE FROM blob WHERE sha256 = $1 AND state = 'deleting'")
            .bind(sha256)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// How many blobs there are, and their bytes in all.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn blob_usage(&self) -> Result<(u64, u64)> {
        let (count, bytes): (i64, i64) = sqlx::query_as(
            "SELECT count(*), coalesce(sum(size_bytes), 0)::bigint FROM blob WHERE state = 'ready'",
        )
        .fetch_one(&self.pool)
        .await?;
        Ok((count.unsigned_abs(), bytes.unsigned_abs()))
    }
}
