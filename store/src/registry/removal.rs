//! Giving up served versions: their figures stay with the runs, their bytes go with the next collection, and their numbers
//! are not used again.

use super::ServedModel;
use super::served::{locked, seen};
use crate::database::Store;
use crate::error::{Result, StoreError};

/// Which versions to give up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// The served name.
    pub name: String,
    /// The versions; none means all.
    pub versions: Vec<u64>,
    /// Also the one that "latest" means.
    pub force: bool,
    /// Change nothing.
    pub dry_run: bool,
}

/// What was given up, or would be.
#[derive(Debug, Clone, PartialEq)]
pub struct Removed {
    /// Versions, newest first.
    pub versions: Vec<u64>,
    /// What is left of the name; `None`: nothing, and it is no longer listed.
    pub left: Option<ServedModel>,
}

impl Store {
    /// Gives up versions of this owner (`None`: of any), all or none of them. If "latest" was fixed to one of them, it
    /// follows the newest live version again.
    ///
    /// # Errors
    /// `NotFound` for a name or a version that does not exist; `Precondition` without `force` if "latest" means one of them.
    pub async fn remove_versions(&self, owner: Option<&str>, removal: &Removal) -> Result<Removed> {
        let name = removal.name.as_str();
        let mut transaction = self.pool.begin().await?;
        let model = locked(&mut transaction, owner, name).await?;
        let versions = chosen(&model, removal)?;
        let numbers: Vec<i64> = versions.iter().map(|version| version.cast_signed()).collect();
        sqlx::query(
            "UPDATE artifact SET removed_at = now() FROM model_version \
             WHERE model_version.artifact_id = artifact.id AND name = $1 AND version = ANY ($2) AND removed_at IS NULL",
        )
        .bind(name)
        .bind(&numbers)
        .execute(&mut *transaction)
        .await?;
        sqlx::query("UPDATE served_model SET pinned = NULL WHERE name = $1 AND pinned = ANY ($2)")
            .bind(name)
            .bind(&numbers)
            .execute(&mut *transaction)
            .await?;
        let left = seen(&mut transaction, name).await?;
        if removal.dry_run {
            transaction.rollback().await?;
        } else {
            transaction.commit().await?;
        }
        Ok(Removed { versions, left })
    }
}

fn chosen(model: &ServedModel, removal: &Removal) -> Result<Vec<u64>> {
    let name = &removal.name;
    let there: Vec<u64> = model.versions.iter().map(|v| v.version).collect();
    if let Some(unknown) = removal.versions.iter().find(|version| !there.contains(version)) {
        return Err(StoreError::not_found("version", format!("{name}/{unknown}")));
    }
    let asked = |version: &u64| removal.versions.is_empty() || removal.versions.contains(version);
    let versions: Vec<u64> = there.into_iter().filter(asked).collect();
    match model.latest().filter(|latest| versions.contains(latest)) {
        Some(latest) if !removal.force => Err(StoreError::Precondition(format!(
            "version {latest} is what \"latest\" of {name:?} means: promote another one first, or force it"
        ))),
        _ => Ok(versions),
    }
}
