//! What the database says has changed, passed on to whoever waits for it.
//!
//! Notices may be lost: the connection that listens may break. So nobody waits for one longer than its own polling interval.

use std::time::Duration;

use tokio::sync::broadcast;
use uuid::Uuid;

/// Notices that wait for a slow reader, who then looks at everything.
const KEPT: usize = 1024;

/// Something has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Notice {
    /// A job has a new event.
    Job(Uuid),
    /// A served name has a new version, or another latest one.
    Served,
}

/// Where notices come out; cloning shares it.
#[derive(Debug, Clone)]
pub(crate) struct Notices(broadcast::Sender<Notice>);

/// One reader.
#[derive(Debug)]
pub(crate) struct Subscription(broadcast::Receiver<Notice>);

impl Notices {
    pub(crate) fn new() -> Self {
        Self(broadcast::Sender::new(KEPT))
    }

    /// Passes one on; nobody may be waiting.
    pub(crate) fn send(&self, notice: Notice) {
        let _ = self.0.send(notice);
    }

    /// Reads from now on.
    pub(crate) fn subscribe(&self) -> Subscription {
        Subscription(self.0.subscribe())
    }
}

impl Subscription {
    /// Returns when this has changed, when notices were missed, or after `at_most`.
    pub(crate) async fn about(&mut self, notice: Notice, at_most: Duration) {
        let changed = async {
            loop {
                match self.0.recv().await {
                    Ok(other) if other != notice => {}
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => return,
                    // No more notices: polling goes on.
                    Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
                }
            }
        };
        let _ = tokio::time::timeout(at_most, changed).await;
    }
}
