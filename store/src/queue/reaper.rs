//! What becomes of the jobs of workers that went silent.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::database::Store;
use crate::error::Result;
use crate::job::JobState;

/// Takes expired leases away. Any number of reapers may run.
///
/// A lease may have expired because the database was away, not the worker. So a reaper acts only once its own polls have
/// all succeeded for one full lease: by then every living worker has had the time to extend its own.
#[derive(Debug, Clone)]
pub struct Reaper {
    lease_secs: u64,
    seen: Option<Seen>,
}

/// An unbroken row of polls.
#[derive(Debug, Clone)]
struct Seen {
    first: Instant,
    last: Instant,
    /// When the database itself started.
    database_started: DateTime<Utc>,
}

/// A job that was taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reaped {
    /// The job.
    pub job: Uuid,
    /// What became of it: queued, failed or cancelled.
    pub state: JobState,
}

impl Reaper {
    /// For leases of this many seconds.
    pub fn new(lease_secs: u64) -> Self {
        Self { lease_secs, seen: None }
    }

    /// One poll; to be called every 5 seconds or more often. `now` is the present.
    ///
    /// # Errors
    /// `Unavailable`: the row of successful polls begins anew.
    pub async fn tick(&mut self, store: &Store, now: Instant) -> Result<Vec<Reaped>> {
        let before = self.seen.take();
        let (database_started,): (DateTime<Utc>,) =
            sqlx::query_as("SELECT pg_postmaster_start_time()").fetch_one(&store.pool).await?;
        let lease = Duration::from_secs(self.lease_secs);
        // A gap of half a lease is a pause of this process or of the network, whatever caused it.
        let first = before
            .filter(|seen| seen.database_started == database_started)
            .filter(|seen| now.saturating_duration_since(seen.last) <= lease / 2)
            .map_or(now, |seen| seen.first);
        let seen = Seen { first, last: now, database_started };
        let reaped =
            if now.saturating_duration_since(first) >= lease { reap(store).await? } else { Vec::new() };
        self.seen = Some(seen);
        Ok(reaped)
    }
}

async fn reap(store: &Store) -> Result<Vec<Reaped>> {
    let rows: Vec<(Uuid, JobState)> = sqlx::query_as(include_str!("reap.sql")).fetch_all(&store.pool).await?;
    Ok(rows.into_iter().map(|(job, state)| Reaped { job, state }).collect())
}
