//! Metric series: whole, thinned for plotting, or only their ends.

use sqlx::{FromRow, Row};
use uuid::Uuid;

use crate::database::Store;
use crate::error::Result;
use crate::job::MetricPoint;

/// Which values of a job's metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetricsQuery {
    /// Exact names; empty: all.
    pub names: Vec<String>,
    /// Only names that start so; empty: all.
    pub prefix: String,
    /// At most about so many values a name, thinned evenly, always with the last; 0: all.
    pub max_points: u32,
}

/// One metric of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its name.
    pub name: String,
    /// Steps rise.
    pub points: Vec<MetricPoint>,
}

impl FromRow<'_, sqlx::postgres::PgRow> for MetricPoint {
    fn from_row(row: &sqlx::postgres::PgRow) -> std::result::Result<Self, sqlx::Error> {
        let step: i64 = row.try_get("step")?;
        Ok(MetricPoint {
            name: row.try_get("name")?,
            step: step.unsigned_abs(),
            value: row.try_get("value")?,
            at: row.try_get("at")?,
        })
    }
}

impl Store {
    /// Series by name.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn metrics(&self, job: Uuid, query: &MetricsQuery) -> Result<Vec<Series>> {
        let points: Vec<MetricPoint> = sqlx::query_as(
            "SELECT name, step, value, at FROM ( \
                 SELECT *, row_number() OVER (PARTITION BY name ORDER BY step) - 1 AS position, \
                        count(*) OVER (PARTITION BY name) AS points \
                   FROM metric \
                  WHERE job_id = $1 AND (cardinality($2::text[]) = 0 OR name = ANY ($2)) AND starts_with(name, $3) \
             ) AS numbered \
             WHERE $4 = 0 OR position = points - 1 OR position % ((points + $4 - 1) / $4) = 0 \
             ORDER BY name, step",
        )
        .bind(job)
        .bind(&query.names)
        .bind(&query.prefix)
        .bind(i64::from(query.max_points))
        .fetch_all(&self.pool)
        .await?;
        let mut series: Vec<Series> = Vec::new();
        for point in points {
            match series.last_mut() {
                Some(last) if last.name == point.name => last.points.push(point),
                _ => series.push(Series { name: point.name.clone(), points: vec![point] }),
            }
        }
        Ok(series)
    }

    /// The value with the highest step of every metric, by name.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn last_metrics(&self, job: Uuid) -> Result<Vec<MetricPoint>> {
        Ok(sqlx::query_as(
            "SELECT DISTINCT ON (name) name, step, value, at FROM metric WHERE job_id = $1 ORDER BY name, step DESC",
        )
        .bind(job)
        .fetch_all(&self.pool)
        .await?)
    }

    /// The next `limit` values after a name and step, for export.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn metric_page(
        &self,
        job: Uuid,
        after: Option<(&str, u64)>,
        limit: u32,
    ) -> Result<Vec<MetricPoint>> {
        Ok(sqlx::query_as(
            "SELECT name, step, value, at FROM metric \
             WHERE job_id = $1 AND ($2::text IS NULL OR (name, step) > ($2, $3)) ORDER BY name, step LIMIT $4",
        )
        .bind(job)
        .bind(after.map(|(name, _)| name))
        .bind(after.map(|(_, step)| step as i64))
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?)
    }
}
