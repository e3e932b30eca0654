//! The heartbeat: a thread with its own connection that keeps a claim alive while, and only while, work advances.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use dyadic_store::job::Lease;
use dyadic_store::{ErrorKind, Store};
use tracing::{error, warn};

use super::shared::{Shared, Stop};

/// What a heartbeat needs to know.
pub(super) struct Pulse {
    pub(super) database_url: String,
    pub(super) lease: Lease,
    pub(super) lease_time: Duration,
    pub(super) every: Duration,
    pub(super) stall_limit: Duration,
}

/// A running heartbeat; ends when dropped.
pub(super) struct Heart {
    end: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// After a failed beat the next one comes sooner.
const RETRY: Duration = Duration::from_secs(1);

impl Heart {
    pub(super) fn start(pulse: Pulse, shared: Arc<Shared>) -> std::io::Result<Self> {
        let (end, ended) = mpsc::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name("heartbeat".into()).spawn(move || {
            runtime.block_on(async { beat(&pulse, &shared, &ended).await });
        })?;
        Ok(Heart { end: Some(end), thread: Some(thread) })
    }
}

impl Drop for Heart {
    fn drop(&mut self) {
        self.end.take();
        if let Some(thread) = self.thread.take() {
            // A panic there has already been printed; the lease then ends by itself.
            let _ = thread.join();
        }
    }
}

async fn beat(pulse: &Pulse, shared: &Shared, ended: &mpsc::Receiver<()>) {
    let store = match Store::connect_lazy(&pulse.database_url, 1) {
        Ok(store) => store,
        Err(error) => return error!(%error, "no heartbeat: the lease will run out"),
    };
    let mut moved = (shared.ticks(), Instant::now());
    let mut wait = pulse.every;
    while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(wait) {
        let ticks = shared.ticks();
        if ticks != moved.0 {
            moved = (ticks, Instant::now());
        }
        if moved.1.elapsed() > pulse.stall_limit {
            error!(
                seconds = moved.1.elapsed().as_secs(),
                "no progress: the heartbeat stops and the lease runs out"
            );
            return;
        }
        wait = match store.heartbeat(pulse.lease, pulse.lease_time, &shared.progress()).await {
            Ok(answer) => {
                if answer.cancel_requested {
                    shared.stop(Stop::Cancelled);
                }
                pulse.every
            }
            Err(error) if error.kind() == ErrorKind::LeaseLost => {
                warn!("the lease is lost");
                return shared.stop(Stop::LeaseLost);
            }
            // A database that is away is not a lost lease: carry on and ask again.
            Err(error) => {
                warn!(%error, "heartbeat failed; trying again");
                RETRY.min(pulse.every)
            }
        };
    }
}
