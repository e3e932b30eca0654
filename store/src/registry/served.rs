//! What is served under which name, and what "latest" means.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;
use sqlx::{FromRow, PgConnection};
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
    /// The version that promote or rollback fixed; `None`: "latest" follows the newest that is live.
    pub pinned: Option<i64>,
    /// Newest first.
    #[sqlx(json)]
    pub versions: Vec<ServedVersion>,
}

/// One version: an artifact that a job made, or that was pushed.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ServedVersion {
    /// From 1 on.
    pub version: u64,
    /// The job that made it; `None` if it was pushed.
    pub job: Option<Uuid>,
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
    /// Why the gate kept it from going live; `None`: it is live.
    pub held: Option<String>,
    /// When it was published.
    pub created_at: DateTime<Utc>,
}

impl ServedModel {
    /// What "latest" means: the pinned version, or the newest that is live and was not set aside.
    pub fn latest(&self) -> Option<u64> {
        self.pinned.map(i64::unsigned_abs).or_else(|| self.live().next().map(|v| v.version))
    }

    /// The versions that "latest" may mean without being asked to, newest first.
    pub fn live(&self) -> impl Iterator<Item = &ServedVersion> {
        self.versions.iter().filter(|v| v.set_aside.is_none() && v.held.is_none())
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

    /// Makes "latest" mean this version until it is unpinned, rolled back or another is promoted; one that the gate held is
    /// live from then on. With `dry_run` nothing changes, and the answer is what it would be; so below.
    ///
    /// # Errors
    /// `NotFound`; `Precondition` if the version was set aside.
    pub async fn promote(
        &self,
        owner: Option<&str>,
        name: &str,
        version: u64,
        dry_run: bool,
    ) -> Result<ServedModel> {
        let pin = |model: &ServedModel| {
            let found = model.versions.iter().find(|v| v.version == version);
            match found.map(|v| &v.set_aside) {
                None => Err(StoreError::not_found("version", format!("{name}/{version}"))),
                Some(Some(reason)) => Err(StoreError::Precondition(format!(
                    "version {version} of {name:?} is set aside: {reason}"
                ))),
                Some(None) => Ok(Some(version)),
            }
        };
        self.move_latest(owner, name, dry_run, pin).await
    }

    /// Makes "latest" mean the version before the one that it means now, of those that are live and not set aside.
    ///
    /// # Errors
    /// `NotFound`; `Precondition` if there is none before.
    pub async fn rollback(&self, owner: Option<&str>, name: &str, dry_run: bool) -> Result<ServedModel> {
        let pin = |model: &ServedModel| {
            let Some(latest) = model.latest() else {
                return Err(StoreError::Precondition(format!("no version of {name:?} is live")));
            };
            let before = model.live().find(|v| v.version < latest);
            before.map(|v| Some(v.version)).ok_or_else(|| {
                StoreError::Precondition(format!("{name:?} has no version before {latest} to go back to"))
            })
        };
        self.move_latest(owner, name, dry_run, pin).await
    }

    /// Lets "latest" follow the newest live version again; it does so already if nothing was fixed.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn unpin(&self, owner: Option<&str>, name: &str, dry_run: bool) -> Result<ServedModel> {
        self.move_latest(owner, name, dry_run, |_| Ok(None)).await
    }

    /// Fixes "latest" to what `pin` says, or to nothing.
    async fn move_latest(
        &self,
        owner: Option<&str>,
        name: &str,
        dry_run: bool,
        pin: impl FnOnce(&ServedModel) -> Result<Option<u64>> + Send,
    ) -> Result<ServedModel> {
        let mut transaction = self.pool.begin().await?;
        let model = locked(&mut transaction, owner, name).await?;
        let pinned = pin(&model)?.map(u64::cast_signed);
        sqlx::query("UPDATE served_model SET pinned = $2 WHERE name = $1 AND pinned IS DISTINCT FROM $2")
            .bind(name)
            .bind(pinned)
            .execute(&mut *transaction)
            .await?;
        sqlx::query(
            "UPDATE model_version SET held = NULL WHERE name = $1 AND version = $2 AND held IS NOT NULL",
        )
        .bind(name)
        .bind(pinned)
        .execute(&mut *transaction)
        .await?;
        let moved = seen(&mut transaction, name).await?;
        if dry_run {
            transaction.rollback().await?;
        } else {
            transaction.commit().await?;
        }
        moved.ok_or_else(|| StoreError::not_found("served model", name))
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

/// A served name of this owner (`None`: of any). Until the transaction ends, nobody else adds a version to it or changes
/// what "latest" means.
pub(super) async fn locked(
    connection: &mut PgConnection,
    owner: Option<&str>,
    name: &str,
) -> Result<ServedModel> {
    let not_found = || StoreError::not_found("served model", name);
    sqlx::query(
        "SELECT FROM served_model WHERE name = $1 AND ($2::text IS NULL OR owner = $2) FOR NO KEY UPDATE",
    )
    .bind(name)
    .bind(owner)
    .fetch_optional(&mut *connection)
    .await?
    .ok_or_else(not_found)?;
    seen(connection, name).await?.ok_or_else(not_found)
}

/// A served name as it is in this transaction; `None` while it has no version.
pub(super) async fn seen(connection: &mut PgConnection, name: &str) -> Result<Option<ServedModel>> {
    Ok(sqlx::query_as("SELECT name, owner, pinned, versions FROM served_seen WHERE name = $1")
        .bind(name)
        .fetch_optional(connection)
        .await?)
}
