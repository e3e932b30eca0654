//! Being woken when something changed. Notices may be lost: whoever listens also polls, and correctness rests on that.

use std::time::Duration;

use sqlx::postgres::PgListener;
use uuid::Uuid;

use crate::database::Store;
use crate::error::Result;

/// What there is to hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Topic {
    /// A job became queued.
    Queue,
    /// A job has a new event.
    Job,
    /// A served name has a new version, or "latest" means another one.
    Served,
}

/// What was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A job became queued.
    Queued,
    /// This job has a new event.
    Job(Uuid),
    /// This served name changed.
    Served(String),
    /// The connection broke and is back: anything may have changed.
    Missed,
}

/// Hears notices on a connection of its own.
#[derive(Debug)]
pub struct Listener(PgListener);

impl Topic {
    fn channel(self) -> &'static str {
        match self {
            Topic::Queue => "dyadic_queue",
            Topic::Job => "dyadic_job",
            Topic::Served => "dyadic_served",
        }
    }
}

impl Store {
    /// Begins to listen.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn listen(&self, topics: &[Topic]) -> Result<Listener> {
        let pool =
            sqlx::postgres::PgPoolOptions::new().max_connections(1).connect_lazy_with(self.options().clone());
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.listen_all(topics.iter().map(|topic| topic.channel())).await?;
        Ok(Listener(listener))
    }
}

impl Listener {
    /// The next notice; it connects again by itself.
    ///
    /// # Errors
    /// `Unavailable` if it cannot connect again now; it may be asked again.
    pub async fn next(&mut self) -> Result<Notice> {
        loop {
            let Some(notice) = self.0.try_recv().await? else { return Ok(Notice::Missed) };
            match (notice.channel(), notice.payload().parse()) {
                ("dyadic_queue", _) => return Ok(Notice::Queued),
                ("dyadic_job", Ok(job)) => return Ok(Notice::Job(job)),
                ("dyadic_served", _) => return Ok(Notice::Served(notice.payload().to_owned())),
                _ => {}
            }
        }
    }

    /// The next notice, or `None` once `wait` has passed: then it is time to poll. Errors count as silence.
    pub async fn next_within(&mut self, wait: Duration) -> Option<Notice> {
        let began = tokio::time::Instant::now();
        match tokio::time::timeout_at(began + wait, self.next()).await {
            Ok(Ok(notice)) => Some(notice),
            Ok(Err(error)) => {
                tracing::debug!(%error, "cannot listen; polling instead");
                tokio::time::sleep_until(began + wait).await;
                None
            }
            Err(_) => None,
        }
    }
}
