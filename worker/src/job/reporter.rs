//! Carries what a quantization reports to the database: metrics and log lines in batches, checkpoints as blobs.

use std::time::{Duration, Instant};

use dyadic_store::blob::{BlobStore, Digest};
use dyadic_store::job::{Lease, LogLine};
use dyadic_store::queue::NewMetric;
use dyadic_store::{ErrorKind, Store};
use tokio::runtime::Handle;
use tracing::{info, warn};

use super::shared::{Shared, Stop};
use crate::observer::{Control, Observer, Phase, Progress};

/// Metrics and lines wait this long at most, and in this number, before they are written.
const FLUSH_EVERY: Duration = Duration::from_secs(2);
const FLUSH_COUNT: usize = 500;
/// While the database is away, no more than this many are kept.
const KEEP: usize = 100_000;

/// The observer of a claimed job.
pub(super) struct Reporter<'a> {
    runtime: Handle,
    store: &'a Store,
    blobs: &'a BlobStore,
    shared: &'a Shared,
    lease: Lease,
    checkpoint_every: Duration,
    last_checkpoint: Instant,
    last_flush: Instant,
    metrics: Vec<NewMetric>,
    lines: Vec<LogLine>,
}

impl<'a> Reporter<'a> {
    pub(super) fn new(
        runtime: Handle,
        store: &'a Store,
        blobs: &'a BlobStore,
        shared: &'a Shared,
        lease: Lease,
        checkpoint_every: Duration,
    ) -> Self {
        let now = Instant::now();
        Reporter {
            runtime,
            store,
            blobs,
            shared,
            lease,
            checkpoint_every,
            last_checkpoint: now,
            last_flush: now,
            metrics: Vec::new(),
            lines: Vec::new(),
        }
    }

    /// Writes what waits. A database that is away keeps it waiting; a lost lease ends the job.
    pub(super) fn flush(&mut self) {
        self.last_flush = Instant::now();
        let written = self.runtime.block_on(async {
            if !self.metrics.is_empty() {
                self.store.append_metrics(self.lease, &self.metrics).await?;
                self.metrics.clear();
            }
            if !self.lines.is_empty() {
                self.store.append_log(self.lease, &self.lines).await?;
                self.lines.clear();
            }
            Ok::<_, dyadic_store::StoreError>(())
        });
        match written {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::LeaseLost => self.shared.stop(Stop::LeaseLost),
            Err(error) => {
                warn!(%error, waiting = self.metrics.len(), "metrics are not written yet");
                let excess = self.metrics.len().saturating_sub(KEEP);
                self.metrics.drain(..excess);
            }
        }
    }
}

impl Observer for Reporter<'_> {
    fn progress(&mut self, p: Progress) -> Control {
        self.shared.advance(p.phase.name(), p.done, p.total);
        if self.last_flush.elapsed() > FLUSH_EVERY || self.metrics.len() + self.lines.len() > FLUSH_COUNT {
            self.flush();
        }
        // A drain waits for the checkpoint that follows a training step.
        let give_back_now = self.shared.draining() && p.phase != Phase::Train;
        if self.shared.stopped().is_some() || give_back_now { Control::Stop } else { Control::Continue }
    }

    fn metric(&mut self, name: &str, step: i64, value: f64) {
        let step = u64::try_from(step).unwrap_or(0);
        self.metrics.push(NewMetric { name: name.to_string(), step, value });
    }

    fn log(&mut self, line: &str) {
        info!("{line}");
        self.lines.push(LogLine { level: "info".to_string(), message: line.to_string() });
    }

    fn wants_checkpoint(&mut self, _step: u64) -> bool {
        self.shared.draining() || self.last_checkpoint.elapsed() > self.checkpoint_every
    }

    fn checkpoint(&mut self, bytes: Vec<u8>, step: u64) -> Control {
        self.flush();
        let size = bytes.len() as u64;
        let written = self.runtime.block_on(async {
            // Touched first, so that no collection takes it between storing and referring to it.
            self.store.touch_blob(Digest::of(&bytes), size).await.map_err(|e| e.to_string())?;
            let digest = self.blobs.put_bytes(bytes).await.map_err(|e| e.to_string())?;
            match self.store.checkpoint(self.lease, digest, size, step).await {
                Err(error) if error.kind() == ErrorKind::LeaseLost => Ok(false),
                other => other.map(|()| true).map_err(|e| e.to_string()),
            }
        });
        match written {
            Ok(true) => self.last_checkpoint = Instant::now(),
            Ok(false) => self.shared.stop(Stop::LeaseLost),
            // The last one still stands; the next try comes after the next step.
            Err(error) => warn!(error, "the checkpoint was not written"),
        }
        if self.shared.stopped().is_some() || self.shared.draining() {
            Control::Stop
        } else {
            Control::Continue
        }
    }
}
