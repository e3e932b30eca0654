//! What happened: jobs, their events, metrics and tags, and experiments.

mod compare;
mod metrics;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::FromRow;
use uuid::Uuid;

pub use compare::{Comparison, Run, flatten};
pub use metrics::{MetricsQuery, Series};

use crate::database::Store;
use crate::error::{Result, StoreError};
use crate::job::{Failure, Job, JobState, LogLine, MetricPoint, Progress, Tags};

/// Which jobs to list; newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// Only this owner's.
    pub owner: Option<String>,
    /// Only in these states; empty: all.
    pub states: Vec<JobState>,
    /// Only of this experiment.
    pub experiment: Option<String>,
    /// Only with ids from the first to the second of these.
    pub ids: Option<(Uuid, Uuid)>,
    /// Only with all of these.
    pub tags: Tags,
    /// Only older than this job: the last one of the page before.
    pub before: Option<Uuid>,
    /// At most this many.
    pub limit: u32,
}

/// An experiment and how many jobs it has.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Experiment {
    /// Whose it is.
    pub owner: String,
    /// Unique for its owner.
    pub name: String,
    /// When its first job was submitted.
    pub created_at: DateTime<Utc>,
    /// Jobs.
    #[sqlx(try_from = "i64")]
    pub runs: u64,
    /// Jobs that succeeded.
    #[sqlx(try_from = "i64")]
    pub succeeded: u64,
}

/// Something that happened to a job.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Rises within a job; what to go on from.
    pub number: u64,
    /// When.
    pub at: DateTime<Utc>,
    /// The claim in force.
    pub fence: u64,
    /// Worker, user or reaper.
    pub who: String,
    /// What.
    pub kind: EventKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum EventKind {
    /// The state changed.
    State {
        /// From; `None` when it was submitted.
        from: Option<JobState>,
        /// To.
        to: JobState,
        /// Why, in words; may be empty.
        reason: String,
        /// The last failure by then.
        failure: Option<Failure>,
    },
    /// It went on.
    Progress(Progress),
    /// It measured something.
    Metrics(Vec<MetricPoint>),
    /// It said something.
    Log(LogLine),
}

#[derive(FromRow)]
struct EventRow {
    id: i64,
    at: DateTime<Utc>,
    kind: String,
    fence: i64,
    from_state: Option<JobState>,
    to_state: Option<JobState>,
    who: String,
    detail: Value,
}

impl Store {
    /// A job of this owner (`None`: of any).
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn job(&self, owner: Option<&str>, id: Uuid) -> Result<Job> {
        sqlx::query_as("SELECT * FROM job_seen WHERE id = $1 AND ($2::text IS NULL OR owner = $2)")
            .bind(id)
            .bind(owner)
            .fetch_optional(&self.pool)
            .await?
            .ok_or_else(|| StoreError::not_found("job", id))
    }

    /// A page of jobs, newest first.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn jobs(&self, filter: &JobFilter) -> Result<Vec<Job>> {
        let states: Vec<&str> = filter.states.iter().map(|state| state.name()).collect();
        Ok(sqlx::query_as(
            "SELECT * FROM job_seen \
             WHERE ($1::text IS NULL OR owner = $1) AND (cardinality($2::text[]) = 0 OR state = ANY ($2)) \
               AND ($3::text IS NULL OR experiment = $3) AND ($4::uuid IS NULL OR id < $4) \
               AND ($6::uuid IS NULL OR id BETWEEN $6 AND $7) \
               AND NOT EXISTS (SELECT FROM unnest($8::text[], $9::text[]) AS wanted (key, value) \
                                WHERE NOT EXISTS (SELECT FROM tag WHERE tag.job_id = job_seen.id \
                                                    AND tag.key = wanted.key AND tag.value = wanted.value)) \
             ORDER BY id DESC LIMIT $5",
        )
        .bind(&filter.owner)
        .bind(states)
        .bind(&filter.experiment)
        .bind(filter.before)
        .bind(i64::from(filter.limit))
        .bind(filter.ids.map(|(first, _)| first))
        .bind(filter.ids.map(|(_, last)| last))
        .bind(filter.tags.keys().collect::<Vec<_>>())
        .bind(filter.tags.values().collect::<Vec<_>>())
        .fetch_all(&self.pool)
        .await?)
    }

    /// The first `limit` events of a job after number `after`, in their order.
    ///
    /// # Errors
    /// `DataLoss` if an event cannot be read.
    pub async fn events(&self, job: Uuid, after: u64, limit: u32) -> Result<Vec<Event>> {
        self.events_of(job, after, limit, None).await
    }

    /// The first `limit` lines of a job after event number `after`.
    ///
    /// # Errors
    /// See [`Store::events`].
    pub async fn log(&self, job: Uuid, after: u64, limit: u32) -> Result<Vec<Event>> {
        self.events_of(job, after, limit, Some("log")).await
    }

    async fn events_of(&self, job: Uuid, after: u64, limit: u32, kind: Option<&str>) -> Result<Vec<Event>> {
        let rows: Vec<EventRow> = sqlx::query_as(
            "SELECT id, at, kind, fence, from_state, to_state, who, detail FROM job_event \
             WHERE job_id = $1 AND id > $2 AND ($4::text IS NULL OR kind = $4) ORDER BY id LIMIT $3",
        )
        .bind(job)
        .bind(i64::try_from(after).unwrap_or(i64::MAX))
        .bind(i64::from(limit))
        .bind(kind)
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter().map(|row| row.try_into().map_err(StoreError::from)).collect()
    }

    /// What was planned for each layer of a job of this owner (`None`: of any), as a plan's text; nothing for jobs from
    /// before plans were kept.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn plan_of(&self, owner: Option<&str>, id: Uuid) -> Result<Option<String>> {
        sqlx::query_scalar("SELECT plan FROM job WHERE id = $1 AND ($2::text IS NULL OR owner = $2)")
            .bind(id)
            .bind(owner)
            .fetch_optional(&self.pool)
            .await?
            .ok_or_else(|| StoreError::not_found("job", id))
    }

    /// A page of experiments by owner and name, after the last one of the page before.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn experiments(
        &self,
        owner: Option<&str>,
        after: Option<(&str, &str)>,
        limit: u32,
    ) -> Result<Vec<Experiment>> {
        Ok(sqlx::query_as(
            "SELECT experiment.owner, experiment.name, experiment.created_at, count(job.id) AS runs, \
                    count(job.id) FILTER (WHERE job.state = 'succeeded') AS succeeded \
               FROM experiment LEFT JOIN job ON job.owner = experiment.owner AND job.experiment = experiment.name \
              WHERE ($1::text IS NULL OR experiment.owner = $1) \
                AND ($2::text IS NULL OR (experiment.owner, experiment.name) > ($2, $3)) \
              GROUP BY experiment.owner, experiment.name ORDER BY experiment.owner, experiment.name LIMIT $4",
        )
        .bind(owner)
        .bind(after.map(|(owner, _)| owner))
        .bind(after.map(|(_, name)| name))
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?)
    }

    /// Sets and removes tags of a job of this owner; answers all that it has then.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn set_tags(
        &self,
        owner: Option<&str>,
        job: Uuid,
        set: &Tags,
        remove: &[String],
    ) -> Result<Tags> {
        self.job(owner, job).await?;
        let remove: Vec<&String> = remove.iter().filter(|key| !set.contains_key(*key)).collect();
        sqlx::query(
            "WITH removed AS (DELETE FROM tag WHERE job_id = $1 AND key = ANY ($2::text[])) \
             INSERT INTO tag (job_id, key, value) SELECT $1, key, value FROM unnest($3::text[], $4::text[]) AS t (key, value) \
             ON CONFLICT (job_id, key) DO UPDATE SET value = excluded.value",
        )
        .bind(job)
        .bind(remove)
        .bind(set.keys().collect::<Vec<_>>())
        .bind(set.values().collect::<Vec<_>>())
        .execute(&self.pool)
        .await?;
        Ok(self.job(owner, job).await?.tags)
    }
}

impl TryFrom<EventRow> for Event {
    type Error = sqlx::Error;

    fn try_from(row: EventRow) -> std::result::Result<Self, sqlx::Error> {
        let unreadable = |what: String| sqlx::Error::Decode(format!("event {}: {what}", row.id).into());
        let text = |key: &str| row.detail.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let number = |key: &str| row.detail.get(key).and_then(Value::as_u64).unwrap_or_default();
        let kind = match (row.kind.as_str(), row.to_state) {
            ("state", Some(to)) => EventKind::State {
                from: row.from_state,
                to,
                reason: text("reason"),
                failure: row.detail.get("error_code").map(|_| Failure {
                    code: text("error_code"),
                    message: text("error_message"),
                    retryable: row.detail.get("error_retryable").and_then(Value::as_bool).unwrap_or(false),
                }),
            },
            ("progress", _) => EventKind::Progress(Progress {
                phase: text("phase"),
                done: number("done"),
                total: number("total"),
            }),
            ("metrics", _) => {
                let metrics = row.detail.get("metrics").cloned().unwrap_or_default();
                EventKind::Metrics(serde_json::from_value(metrics).map_err(|e| unreadable(e.to_string()))?)
            }
            ("log", _) => EventKind::Log(LogLine { level: text("level"), message: text("message") }),
            (kind, _) => return Err(unreadable(format!("unknown kind {kind:?}"))),
        };
        let (number, fence) = (row.id.unsigned_abs(), row.fence.unsigned_abs());
        Ok(Event { number, at: row.at, fence, who: row.who, kind })
    }
}
