//! Following a job: every event after a number, as it happens, until the one that ended the job.
//!
//! A notice from the database wakes the watch; polling every 5 seconds is what correctness rests on.

use std::time::Duration;

use dyadic_proto::v1 as pb;
use dyadic_proto::v1::job_event::Event as PbEvent;
use dyadic_store::Store;
use dyadic_store::history::{Event, EventKind};
use dyadic_store::job::JobState;
use futures::Stream;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use uuid::Uuid;

use super::convert;
use crate::error::ApiError;
use crate::notices::{Notice, Subscription};
use crate::services::convert::timestamp;

const POLL: Duration = Duration::from_secs(5);
/// Events that are read at once.
const BATCH: u32 = 256;
/// Events that wait for a slow reader.
const AHEAD: usize = 64;

/// One caller's watch of one job.
pub(crate) struct Watch {
    store: Store,
    notices: Subscription,
    drain: CancellationToken,
    job: Uuid,
    after: u64,
}

/// Why a watch goes no further.
enum End {
    /// The job has ended and all was told.
    Told,
    /// Nobody listens any more.
    Left,
    /// Something is wrong.
    Failed(ApiError),
}

type Sender = mpsc::Sender<Result<pb::JobEvent, Status>>;

impl Watch {
    pub(crate) fn new(
        store: Store,
        notices: Subscription,
        drain: CancellationToken,
        job: Uuid,
        after: u64,
    ) -> Self {
        Self { store, notices, drain, job, after }
    }

    /// The events; the permit is held as long.
    pub(crate) fn events(
        mut self,
        permit: OwnedSemaphorePermit,
    ) -> impl Stream<Item = Result<pb::JobEvent, Status>> {
        let (sender, receiver) = mpsc::channel(AHEAD);
        tokio::spawn(async move {
            if let End::Failed(error) = self.run(&sender).await {
                // A caller that has left needs no reason.
                let _ = sender.send(Err(error.into())).await;
            }
            drop(permit);
        });
        ReceiverStream::new(receiver)
    }

    async fn run(&mut self, sender: &Sender) -> End {
        loop {
            // Asked first: whatever is told after a final state is all there is.
            let ended = match self.store.job(None, self.job).await {
                Ok(job) => job.state.is_final(),
                Err(error) => return End::Failed(error.into()),
            };
            match self.tell(sender).await {
                Some(end) => return end,
                None if ended => return End::Told,
                None => {}
            }
            let drain = self.drain.clone();
            tokio::select! {
                () = sender.closed() => return End::Left,
                () = drain.cancelled() => return End::Failed(ApiError::Draining),
                () = self.notices.about(Notice::Job(self.job), POLL) => {}
            }
        }
    }

    /// Sends what has happened since.
    async fn tell(&mut self, sender: &Sender) -> Option<End> {
        loop {
            let events = match self.store.events(self.job, self.after, BATCH).await {
                Ok(events) => events,
                Err(error) => return Some(End::Failed(error.into())),
            };
            let last = (events.len() as u32) < BATCH;
            for event in events {
                self.after = event.number;
                let ends = matches!(&event.kind, EventKind::State { to, .. } if to.is_final());
                let event = match self.to_proto(event).await {
                    Ok(event) => event,
                    Err(error) => return Some(End::Failed(error)),
                };
                if sender.send(Ok(event)).await.is_err() {
                    return Some(End::Left);
                }
                if ends {
                    return Some(End::Told);
                }
            }
            if last {
                return None;
            }
        }
    }

    async fn to_proto(&self, event: Event) -> Result<pb::JobEvent, ApiError> {
        let kind = match event.kind {
            EventKind::State { from, to, reason, failure } => {
                let artifact = if to == JobState::Succeeded {
                    let job = self.store.job(None, self.job).await?;
                    job.artifact.0.as_ref().map(|made| convert::artifact(made, &job.served_name))
                } else {
                    None
                };
                PbEvent::State(pb::StateChange {
                    from: from.map_or(pb::JobState::Unspecified, convert::state).into(),
                    to: convert::state(to).into(),
                    fence: event.fence,
                    by: event.who,
                    reason,
                    artifact,
                    error: failure.and_then(|failure| {
                        convert::error(Some(failure.code), Some(failure.message), Some(failure.retryable))
                    }),
                })
            }
            EventKind::Progress(progress) => PbEvent::Progress(pb::Progress {
                phase: progress.phase,
                done: progress.done,
                total: progress.total,
            }),
            EventKind::Metrics(points) => {
                PbEvent::Metrics(pb::Metrics { metrics: points.into_iter().map(convert::metric).collect() })
            }
            EventKind::Log(line) => PbEvent::Log(pb::LogLine { level: line.level, message: line.message }),
        };
        Ok(pb::JobEvent { number: event.number, at: Some(timestamp(event.at)), event: Some(kind) })
    }
}
