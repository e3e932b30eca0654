//! What a running job tells: metrics and lines, in batches, fenced.

use uuid::Uuid;

use super::lease::{fence, lost};
use crate::database::Store;
use crate::error::{Result, StoreError};
use crate::job::{Lease, LogLine};

/// Longest line that is kept, characters.
const LINE_LIMIT: usize = 4000;

/// A value to store.
#[derive(Debug, Clone, PartialEq)]
pub struct NewMetric {
    /// Its name; parts are divided by '/'.
    pub name: String,
    /// Optimizer step, or epoch.
    pub step: u64,
    /// The value; may be NaN.
    pub value: f64,
}

impl Store {
    /// Stores values; a resumed run replaces what it measures again. Of several values of one name and step in a batch the
    /// last one counts.
    ///
    /// # Errors
    /// `LeaseLost`.
    pub async fn append_metrics(&self, held: Lease, metrics: &[NewMetric]) -> Result<()> {
        if metrics.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = metrics.iter().map(|m| m.name.as_str()).collect();
        let steps: Vec<i64> = metrics.iter().map(|m| m.step as i64).collect();
        let values: Vec<f64> = metrics.iter().map(|m| m.value).collect();
        let row: Option<(Uuid,)> = sqlx::query_as(include_str!("metrics.sql"))
            .bind(held.job)
            .bind(fence(held))
            .bind(names)
            .bind(steps)
            .bind(values)
            .fetch_optional(&self.pool)
            .await?;
        row.map(|_| ()).ok_or(lost(held))
    }

    /// Stores lines in their order; overlong ones are cut.
    ///
    /// # Errors
    /// `LeaseLost`.
    pub async fn append_log(&self, held: Lease, lines: &[LogLine]) -> Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        // Text in PostgreSQL holds no NUL.
        let clean = |text: &str| text.chars().filter(|&c| c != '\0').take(LINE_LIMIT).collect::<String>();
        let levels: Vec<String> = lines.iter().map(|line| clean(&line.level)).collect();
        let messages: Vec<String> = lines.iter().map(|line| clean(&line.message)).collect();
        let row: Option<(Uuid,)> = sqlx::query_as(include_str!("log.sql"))
            .bind(held.job)
            .bind(fence(held))
            .bind(levels)
            .bind(messages)
            .fetch_optional(&self.pool)
            .await
            .map_err(StoreError::from)?;
        row.map(|_| ()).ok_or(lost(held))
    }
}
