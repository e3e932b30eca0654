//! Float models: bundles of files, by name and revision.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use sqlx::FromRow;
use sqlx::types::Json;
use uuid::Uuid;

use super::PageFilter;
use crate::blob::Digest;
use crate::database::Store;
use crate::error::{ErrorKind, Result, StoreError};
use crate::job::Tags;

/// One file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelFile {
    /// Base name.
    pub name: String,
    /// Digest of its bytes, which are stored already.
    pub sha256: Digest,
    /// How many bytes.
    pub size_bytes: u64,
}

/// A bundle to be registered.
#[derive(Debug, Clone, PartialEq)]
pub struct NewModel {
    /// Whose it is.
    pub owner: String,
    /// What jobs call it.
    pub name: String,
    /// The ONNX file first, then its side files.
    pub files: Vec<ModelFile>,
    /// What is known of it: input, output, sizes.
    pub info: Value,
    /// Keys and values.
    pub tags: Tags,
}

/// A float model.
#[derive(Debug, Clone, PartialEq, FromRow)]
pub struct Model {
    /// Rises with the time of the upload.
    pub id: Uuid,
    /// Whose it is.
    pub owner: String,
    /// What jobs call it; the newest of a name is meant.
    pub name: String,
    /// Name of the ONNX file.
    pub main_file: String,
    /// The ONNX file first, then its side files.
    #[sqlx(json)]
    pub files: Vec<ModelFile>,
    /// What is known of it.
    pub info: Value,
    /// Keys and values.
    #[sqlx(json)]
    pub tags: Tags,
    /// When it was uploaded.
    pub created_at: DateTime<Utc>,
}

impl Store {
    /// Registers a bundle whose bytes are stored; answers whether the same was there under that name already.
    ///
    /// # Errors
    /// `Invalid` without files; `Unavailable` ([`StoreError::BlobDeleting`]) if bytes are being deleted.
    pub async fn add_model(&self, model: &NewModel) -> Result<(Model, bool)> {
        let Some(main) = model.files.first() else {
            return Err(StoreError::Invalid("a model needs at least one file".to_owned()));
        };
        let id = Uuid::now_v7();
        // Sorted: everybody who touches several blobs does so in one order.
        let mut touched: Vec<&ModelFile> = model.files.iter().collect();
        touched.sort_by_key(|file| file.sha256);
        touched.dedup_by_key(|file| file.sha256);
        let (added, ready): (Option<Uuid>, i64) = sqlx::query_as(include_str!("add_model.sql"))
            .bind(id)
            .bind(&model.owner)
            .bind(&model.name)
            .bind(bundle_digest(&model.files))
            .bind(&main.name)
            .bind(&model.info)
            .bind(Json(&model.tags))
            .bind(touched.iter().map(|file| file.sha256).collect::<Vec<_>>())
            .bind(touched.iter().map(|file| file.size_bytes as i64).collect::<Vec<_>>())
            .bind(model.files.iter().map(|file| &file.name).collect::<Vec<_>>())
            .bind(model.files.iter().map(|file| file.sha256).collect::<Vec<_>>())
            .bind(model.files.iter().map(|file| file.size_bytes as i64).collect::<Vec<_>>())
            .fetch_one(&self.pool)
            .await?;
        if (ready as usize) < touched.len() {
            return Err(StoreError::BlobDeleting(format!("of model {:?}", model.name)));
        }
        let found = match added {
            Some(id) => id,
            None => self.revision("model", &model.owner, &model.name, bundle_digest(&model.files)).await?,
        };
        Ok((self.model(None, &found.to_string()).await?, added.is_none()))
    }

    /// The revision with this digest that somebody else has just added.
    pub(super) async fn revision(
        &self,
        table: &'static str,
        owner: &str,
        name: &str,
        digest: Digest,
    ) -> Result<Uuid> {
        let statement = match table {
            "model" => "SELECT id FROM model WHERE owner = $1 AND name = $2 AND digest = $3",
            _ => "SELECT id FROM dataset WHERE owner = $1 AND name = $2 AND digest = $3",
        };
        let row: Option<(Uuid,)> =
            sqlx::query_as(statement).bind(owner).bind(name).bind(digest).fetch_optional(&self.pool).await?;
        row.map(|(id,)| id).ok_or_else(|| StoreError::not_found(table, name))
    }

    /// A model of this owner (`None`: of any) by id, or by name: its newest revision.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn model(&self, owner: Option<&str>, id_or_name: &str) -> Result<Model> {
        sqlx::query_as(
            "SELECT * FROM model_seen WHERE (id = $1 OR ($1 IS NULL AND name = $2)) AND ($3::text IS NULL OR owner = $3) \
             ORDER BY id DESC LIMIT 1",
        )
        .bind(Uuid::parse_str(id_or_name).ok())
        .bind(id_or_name)
        .bind(owner)
        .fetch_optional(&self.pool)
        .await?
        .ok_or_else(|| StoreError::not_found("model", id_or_name))
    }

    /// A page of models, newest first.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn models(&self, filter: &PageFilter) -> Result<Vec<Model>> {
        Ok(sqlx::query_as(
            "SELECT * FROM model_seen WHERE ($1::text IS NULL OR owner = $1) AND ($2::text IS NULL OR name = $2) \
                AND ($3::uuid IS NULL OR id < $3) ORDER BY id DESC LIMIT $4",
        )
        .bind(&filter.owner)
        .bind(&filter.name)
        .bind(filter.before)
        .bind(i64::from(filter.limit))
        .fetch_all(&self.pool)
        .await?)
    }

    /// Deletes a model; finished jobs keep its name.
    ///
    /// # Errors
    /// `NotFound`; `Precondition` while an unfinished job uses it.
    pub async fn delete_model(&self, owner: Option<&str>, id: Uuid) -> Result<()> {
        let deleted = sqlx::query("DELETE FROM model WHERE id = $1 AND ($2::text IS NULL OR owner = $2)")
            .bind(id)
            .bind(owner)
            .execute(&self.pool)
            .await
            .map_err(|error| in_use("model", id, error))?;
        if deleted.rows_affected() == 1 { Ok(()) } else { Err(StoreError::not_found("model", id)) }
    }
}

/// The check that unfinished jobs have their inputs decides, also against a job that is submitted at the same moment.
pub(super) fn in_use(what: &str, id: Uuid, error: sqlx::Error) -> StoreError {
    match StoreError::from(error) {
        error if error.kind() == ErrorKind::Precondition => {
            StoreError::Precondition(format!("{what} {id} is in use by an unfinished job; cancel it first"))
        }
        error => error,
    }
}

/// Over names and digests, in order; names hold no NUL.
fn bundle_digest(files: &[ModelFile]) -> Digest {
    let mut hash = Sha256::new();
    for file in files {
        hash.update(file.name.as_bytes());
        hash.update([0]);
        hash.update(file.sha256.as_bytes());
    }
    Digest::from(<[u8; 32]>::from(hash.finalize()))
}
