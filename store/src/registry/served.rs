//! What is served under which name, and what "latest" means.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;
use sqlx::FromRow;
use uuid::Uuid;

use crate::blob::Digest;
use crate::database::Store;
use crate::error::{Result, StoreError};

/// A served name.
#[derive(Debug, Clone, PartialEq, FromRow)]
pub struct ServedModel {
    /// The name.
    pub name: String,
    /// Whose jobs make its versions.
    pub owner: String,
    /// The version that promote or rollback fixed; `None`: "latest" follows the newest.
    pub pinned: Option<i64>,
    /// Newest first.
    #[sqlx(json)]
    pub versions: Vec<ServedVersion>,
}

/// One version: the artifact of one job.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ServedVersion {
    /// From 1 on.
    pub version: u64,
    /// The job that made it.
    pub job: Uuid,
    /// The artifact.
    pub artifact: Uuid,
    /// Digest of its bytes.
    pub sha256: Digest,
    /// How many bytes.
    pub size_bytes: u64,
    /// What the worker says of it.
    pub summary: Value,
    /// Why it must not be loaded any more.
    pub set_aside: Option<String>,
    /// When it was published.
    pub created_at: DateTime<Utc>,
}

impl ServedModel {
    /// What "latest" means: the pinned version, or the newest that was not set aside.
    pub fn latest(&self) -> Option<u64> {
        let pinned = self.pinned.map(i64::unsigned_abs);
        pinned.or_else(|| self.versions.iter().find(|v| v.set_aside.is_none()).map(|v| v.version))
    }
}

impl Store {
    /// A page of names that have versions, after `after` in alphabetical order.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn served_models(
        &self,
        owner: Option<&str>,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<ServedModel>> {
        Ok(sqlx::query_as(
            "SELECT name, owner, pinned, versions FROM served_seen \
             WHERE ($1::text IS NULL OR owner = $1) AND ($2::text IS NULL OR name > $2) ORDER BY name LIMIT $3",
        )
        .bind(owner)
        .bind(after)
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?)
    }

    /// A served name of this owner (`None`: of any).
    ///
    /// # Errors
    /// `NotFound`, also while it has no version yet.
    pub async fn served_model(&self, owner: Option<&str>, name: &str) -> Result<ServedModel> {
        sqlx::query_as(
            "SELECT name, owner, pinned, versions FROM served_seen \
             WHERE name = $1 AND ($2::text IS NULL OR owner = $2)",
        )
        .bind(name)
        .bind(owner)
        .fetch_optional(&self.pool)
        .await?
        .ok_or_else(|| StoreError::not_found("served model", name))
    }

    /// Makes "latest" mean this version until the next promote or rollback.
    ///
    /// # Errors
    /// `NotFound`; `Precondition` if the version was set aside.
    pub async fn promote(&self, owner: Option<&str>, name: &str, version: u64) -> Result<ServedModel> {
        let model = self.served_model(owner, name).await?;
        let found = model.versions.iter().find(|v| v.version == version);
        match found.map(|v| &v.set_aside) {
            None => return Err(StoreError::not_found("version", format!("{name}/{version}"))),
            Some(Some(reason)) => {
                return Err(StoreError::Precondition(format!(
                    "version {version} of {name:?} is set aside: {reason}"
                )));
            }
            Some(None) => self.pin(name, version).await?,
        }
        self.served_model(owner, name).await
    }

    /// Makes "latest" mean the version before the one that it means now, of those not set aside.
    ///
    /// # Errors
    /// `NotFound`; `Precondition` if there is none before.
    pub async fn rollback(&self, owner: Option<&str>, name: &str) -> Result<ServedModel> {
        let model = self.served_model(owner, name).await?;
        let latest = model.latest().unwrap_or(0);
        let before = model.versions.iter().find(|v| v.version < latest && v.set_aside.is_none());
        let Some(before) = before else {
            return Err(StoreError::Precondition(format!(
                "{name:?} has no version before {latest} to go back to"
            )));
        };
        self.pin(name, before.version).await?;
        self.served_model(owner, name).await
    }

    async fn pin(&self, name: &str, version: u64) -> Result<()> {
        sqlx::query("UPDATE served_model SET pinned = $2 WHERE name = $1")
            .bind(name)
            .bind(version as i64)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Notes that an artifact must not be loaded any more, such as one whose bytes fail their hash.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn set_aside(&self, artifact: Uuid, reason: &str) -> Result<()> {
        let done = sqlx::query("UPDATE artifact SET set_aside = $2 WHERE id = $1")
            .bind(artifact)
            .bind(reason)
            .execute(&self.pool)
            .await?;
        if done.rows_affected() == 1 { Ok(()) } else { Err(StoreError::not_found("artifact", artifact)) }
    }
}
