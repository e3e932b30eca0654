//! Access tokens. Only their hashes are stored.

use chrono::{DateTime, Utc};
use sqlx::FromRow;
use uuid::Uuid;

use crate::blob::Digest;
use crate::database::Store;
use crate::error::{Result, StoreError};

/// What a token is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum Role {
    /// Everything, of every owner.
    Admin,
    /// Models, datasets, jobs, experiments and inference.
    Submit,
    /// Inference only.
    Infer,
}

/// A token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Token {
    /// Its id.
    pub id: Uuid,
    /// Owner of what is done with it.
    pub name: String,
    /// What it is good for.
    pub role: Role,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it stopped being good.
    pub revoked_at: Option<DateTime<Utc>>,
}

impl Store {
    /// Makes a token known by the hash of its secret.
    ///
    /// # Errors
    /// `Conflict` if a token has that hash.
    pub async fn create_token(&self, name: &str, role: Role, sha256: Digest) -> Result<Token> {
        Ok(sqlx::query_as(
            "INSERT INTO token (id, name, role, sha256) VALUES ($1, $2, $3, $4) \
             RETURNING id, name, role, created_at, revoked_at",
        )
        .bind(Uuid::now_v7())
        .bind(name)
        .bind(role)
        .bind(sha256)
        .fetch_one(&self.pool)
        .await?)
    }

    /// The token whose secret has this hash, unless it is unknown or revoked.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn find_token(&self, sha256: Digest) -> Result<Option<Token>> {
        Ok(sqlx::query_as(
            "SELECT id, name, role, created_at, revoked_at FROM token WHERE sha256 = $1 AND revoked_at IS NULL",
        )
        .bind(sha256)
        .fetch_optional(&self.pool)
        .await?)
    }

    /// All tokens, newest first.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn tokens(&self) -> Result<Vec<Token>> {
        Ok(sqlx::query_as("SELECT id, name, role, created_at, revoked_at FROM token ORDER BY id DESC")
            .fetch_all(&self.pool)
            .await?)
    }

    /// Revokes a token; one that is revoked stays as it is.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn revoke_token(&self, id: Uuid) -> Result<()> {
        let done = sqlx::query("UPDATE token SET revoked_at = coalesce(revoked_at, now()) WHERE id = $1")
            .bind(id)
            .execute(&self.pool)
            .await?;
        if done.rows_affected() == 1 { Ok(()) } else { Err(StoreError::not_found("token", id)) }
    }
}
