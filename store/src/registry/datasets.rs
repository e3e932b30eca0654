//! Datasets: one tar each, by name and revision.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::FromRow;
use sqlx::types::Json;
use uuid::Uuid;

use super::PageFilter;
use super::models::in_use;
use crate::blob::Digest;
use crate::database::Store;
use crate::error::{Result, StoreError};
use crate::job::Tags;

/// What a named part of a dataset is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// train, validation or test.
    pub name: String,
    /// Files or folders inside the tar; empty means the format's usual ones.
    pub paths: Vec<String>,
}

/// A dataset to be registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDataset {
    /// Whose it is.
    pub owner: String,
    /// What jobs call it.
    pub name: String,
    /// How the files are laid out.
    pub format: String,
    /// Its parts.
    pub splits: Vec<Split>,
    /// Class names in the order of the labels; may be empty.
    pub labels: Vec<String>,
    /// Name of the tar.
    pub file_name: String,
    /// Digest of the tar, which is stored already.
    pub sha256: Digest,
    /// Its bytes.
    pub size_bytes: u64,
    /// Keys and values.
    pub tags: Tags,
}

/// A dataset.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Dataset {
    /// Rises with the time of the upload.
    pub id: Uuid,
    /// Whose it is.
    pub owner: String,
    /// What jobs call it; the newest of a name is meant.
    pub name: String,
    /// How the files are laid out.
    pub format: String,
    /// Its parts.
    #[sqlx(json)]
    pub splits: Vec<Split>,
    /// Class names in the order of the labels.
    pub labels: Vec<String>,
    /// Name of the tar.
    pub file_name: String,
    /// Digest of the tar.
    pub sha256: Digest,
    /// Its bytes.
    #[sqlx(try_from = "i64")]
    pub size_bytes: u64,
    /// Keys and values.
    #[sqlx(json)]
    pub tags: Tags,
    /// When it was uploaded.
    pub created_at: DateTime<Utc>,
    /// What was found in its files, as the server wrote it; none if nobody has looked yet.
    pub contents: Option<serde_json::Value>,
}

impl Store {
    /// Registers a dataset whose bytes are stored; answers whether the same was there under that name already.
    ///
    /// # Errors
    /// `Unavailable` ([`StoreError::BlobDeleting`]) if its bytes are being deleted.
    pub async fn add_dataset(&self, dataset: &NewDataset) -> Result<(Dataset, bool)> {
        let digest = revision_digest(dataset);
        let (added, ready): (Option<Uuid>, bool) = sqlx::query_as(include_str!("add_dataset.sql"))
            .bind(Uuid::now_v7())
            .bind(&dataset.owner)
            .bind(&dataset.name)
            .bind(digest)
            .bind(&dataset.format)
            .bind(Json(&dataset.splits))
            .bind(&dataset.labels)
            .bind(&dataset.file_name)
            .bind(dataset.sha256)
            .bind(dataset.size_bytes as i64)
            .bind(Json(&dataset.tags))
            .fetch_one(&self.pool)
            .await?;
        if !ready {
            return Err(StoreError::BlobDeleting(dataset.sha256.to_string()));
        }
        let found = match added {
            Some(id) => id,
            None => self.revision("dataset", &dataset.owner, &dataset.name, digest).await?,
        };
        Ok((self.dataset(None, &found.to_string()).await?, added.is_none()))
    }

    /// Keeps what was found in a dataset's files.
    ///
    /// # Errors
    /// `Unavailable`. A dataset that was deleted meanwhile is none.
    pub async fn set_dataset_contents(&self, id: Uuid, contents: &serde_json::Value) -> Result<()> {
        sqlx::query("UPDATE dataset SET contents = $2 WHERE id = $1")
            .bind(id)
            .bind(contents)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// A dataset of this owner (`None`: of any) by id, or by name: its newest revision.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn dataset(&self, owner: Option<&str>, id_or_name: &str) -> Result<Dataset> {
        sqlx::query_as(
            "SELECT * FROM dataset WHERE (id = $1 OR ($1 IS NULL AND name = $2)) AND ($3::text IS NULL OR owner = $3) \
             ORDER BY id DESC LIMIT 1",
        )
        .bind(Uuid::parse_str(id_or_name).ok())
        .bind(id_or_name)
        .bind(owner)
        .fetch_optional(&self.pool)
        .await?
        .ok_or_else(|| StoreError::not_found("dataset", id_or_name))
    }

    /// A page of datasets, newest first.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn datasets(&self, filter: &PageFilter) -> Result<Vec<Dataset>> {
        Ok(sqlx::query_as(
            "SELECT * FROM dataset WHERE ($1::text IS NULL OR owner = $1) AND ($2::text IS NULL OR name = $2) \
                AND ($3::uuid IS NULL OR id < $3) ORDER BY id DESC LIMIT $4",
        )
        .bind(&filter.owner)
        .bind(&filter.name)
        .bind(filter.before)
        .bind(i64::from(filter.limit))
        .fetch_all(&self.pool)
        .await?)
    }

    /// Deletes a dataset; finished jobs keep its name.
    ///
    /// # Errors
    /// `NotFound`; `Precondition` while an unfinished job uses it.
    pub async fn delete_dataset(&self, owner: Option<&str>, id: Uuid) -> Result<()> {
        let deleted = sqlx::query("DELETE FROM dataset WHERE id = $1 AND ($2::text IS NULL OR owner = $2)")
            .bind(id)
            .bind(owner)
            .execute(&self.pool)
            .await
            .map_err(|error| in_use("dataset", id, error))?;
        if deleted.rows_affected() == 1 { Ok(()) } else { Err(StoreError::not_found("dataset", id)) }
    }
}

/// Over the bytes and what was said of them.
fn revision_digest(dataset: &NewDataset) -> Digest {
    let said = serde_json::json!([dataset.sha256, dataset.format, dataset.splits, dataset.labels]);
    Digest::of(said.to_string().as_bytes())
}
