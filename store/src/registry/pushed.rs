//! Artifacts that no job made: pushed by whoever has the file.

use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use super::served::seen;
use super::{Promote, ServedModel};
use crate::blob::Digest;
use crate::database::Store;
use crate::error::{Result, StoreError};

/// An artifact to be served.
#[derive(Debug, Clone, PartialEq)]
pub struct NewArtifact {
    /// Whose it is.
    pub owner: String,
    /// Name to serve it under.
    pub served_name: String,
    /// Digest of its bytes, which are stored already.
    pub sha256: Digest,
    /// How many bytes.
    pub size_bytes: u64,
    /// What it says of itself, with the keys of a worker's summary.
    pub summary: Value,
    /// What is asked of the gate.
    pub promote: Promote,
}

/// Where an artifact is served.
#[derive(Debug, Clone, PartialEq)]
pub struct Pushed {
    /// The name with its versions.
    pub model: ServedModel,
    /// The version.
    pub version: u64,
    /// The same bytes were there under that name already.
    pub existed: bool,
}

impl Store {
    /// Publishes an artifact whose bytes are stored as the next version of its name, and lets the gate decide whether it
    /// goes live. The same bytes under the same name are the version that is there.
    ///
    /// # Errors
    /// `Conflict`: the name is another owner's; `Unavailable` ([`StoreError::BlobDeleting`]) if the bytes are being deleted.
    pub async fn add_artifact(&self, artifact: &NewArtifact) -> Result<Pushed> {
        let name = artifact.served_name.as_str();
        let mut transaction = self.pool.begin().await?;
        // Holds the name, as whoever adds a version does.
        let owned = sqlx::query(
            "INSERT INTO served_model (name, owner) VALUES ($1, $2) \
             ON CONFLICT (name) DO UPDATE SET owner = excluded.owner WHERE served_model.owner = excluded.owner",
        )
        .bind(name)
        .bind(&artifact.owner)
        .execute(&mut *transaction)
        .await?;
        if owned.rows_affected() == 0 {
            return Err(StoreError::Conflict(format!("the served name {name:?} belongs to another owner")));
        }
        let before = seen(&mut transaction, name).await?;
        let same = before.iter().flat_map(|model| &model.versions);
        let same = same.filter(|v| v.set_aside.is_none()).find(|v| v.sha256 == artifact.sha256);
        let (version, existed) = match same {
            Some(same) => (same.version, true),
            None => (add(&mut transaction, artifact).await?, false),
        };
        let model = seen(&mut transaction, name).await?;
        transaction.commit().await?;
        let model = model.ok_or_else(|| StoreError::not_found("served model", name))?;
        Ok(Pushed { model, version, existed })
    }
}

/// The number of the new version.
async fn add(connection: &mut PgConnection, artifact: &NewArtifact) -> Result<u64> {
    let version: Option<(i64,)> = sqlx::query_as(include_str!("add_artifact.sql"))
        .bind(Uuid::now_v7())
        .bind(&artifact.served_name)
        .bind(artifact.sha256)
        .bind(artifact.size_bytes.cast_signed())
        .bind(&artifact.summary)
        .bind(artifact.promote.to_string())
        .fetch_optional(connection)
        .await?;
    let (version,) = version.ok_or_else(|| StoreError::BlobDeleting(artifact.sha256.to_string()))?;
    Ok(version.unsigned_abs())
}
