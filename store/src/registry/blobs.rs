//! Which blobs there are and which may go. The bytes are in the [`BlobStore`](crate::blob::BlobStore).
//!
//! Publishing: [`Store::touch_blob`], store the bytes, then the statement that references them, which touches the row
//! again. Collecting: [`Store::collector`], which one process is at a time, marks what may go, and for each deletes the
//! bytes and then the row. A publisher that comes between finds `BlobDeleting`, waits until the row is gone, and begins
//! again.

use std::time::Duration;

use sqlx::{Connection, PgConnection};

use crate::blob::{BlobError, BlobStore, Digest};
use crate::database::Store;
use crate::error::{Result, StoreError};

/// The number of the lock that a collector holds.
const COLLECTING: i64 = 0x6479_6164_6963_0001;

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

    /// The right to collect blobs, unless another process has it.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn collector(&self) -> Result<Option<Collector>> {
        // Its own connection, so that the lock ends with it, whatever becomes of us.
        let mut connection = PgConnection::connect_with(self.options()).await?;
        let (held,): (bool,) = sqlx::query_as("SELECT pg_try_advisory_lock($1)")
            .bind(COLLECTING)
            .fetch_one(&mut connection)
            .await?;
        Ok(held.then_some(Collector { connection }))
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

/// The right to delete blobs. One process of an installation has it at a time; it ends when this is dropped, and with the
/// connection to the database.
pub struct Collector {
    connection: PgConnection,
}

/// Why a blob was not collected.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The database is away, or has taken the right from us: stop.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// This blob's bytes cannot be deleted; others' may.
    #[error(transparent)]
    Blob(#[from] BlobError),
}

impl Collector {
    /// Marks up to `limit` blobs that nothing references and nobody touched for `age` as being deleted, and answers
    /// these and those that were marked before and not yet removed.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn mark(&mut self, age: Duration, limit: u32) -> Result<Vec<Digest>> {
        let rows: Vec<(Digest,)> = sqlx::query_as(include_str!("mark_blobs.sql"))
            .bind(age.as_secs_f64())
            .bind(i64::from(limit))
            .fetch_all(&mut self.connection)
            .await?;
        Ok(rows.into_iter().map(|(sha256,)| sha256).collect())
    }

    /// Deletes a marked blob's bytes and then its row; false if it is not marked any more. That is asked on the
    /// connection that holds the right, right before the bytes go: while it answers, no one else can have deleted them
    /// and let them be stored again.
    ///
    /// # Errors
    /// See [`CollectError`].
    pub async fn remove(
        &mut self,
        blobs: &BlobStore,
        sha256: Digest,
    ) -> std::result::Result<bool, CollectError> {
        let marked: Option<(bool,)> =
            sqlx::query_as("SELECT true FROM blob WHERE sha256 = $1 AND state = 'deleting'")
                .bind(sha256)
                .fetch_optional(&mut self.connection)
                .await
                .map_err(StoreError::from)?;
        if marked.is_none() {
            return Ok(false);
        }
        blobs.delete(&sha256).await?;
        sqlx::query("DELETE FROM blob WHERE sha256 = $1 AND state = 'deleting'")
            .bind(sha256)
            .execute(&mut self.connection)
            .await
            .map_err(StoreError::from)?;
        Ok(true)
    }
}
