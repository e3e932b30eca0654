//! Carries what a quantization reports to the database: metrics and log lines in batches, checkpoints as blobs.

use std::time::{Duration, Instant};

use dyadic_store::blob::{BlobError, BlobStore, Digest};
use dyadic_store::job::{Lease, LogLine};
use dyadic_store::queue::NewMetric;
use dyadic_store::{ErrorKind, Store, StoreError};
use tokio::runtime::Handle;
use tracing::{info, warn};

use super::shared::{Shared, Stop};
use crate::observer::{Control, Observer, Phase, Progress};

/// Metrics and lines wait this long at most, and in this number, before they are written.
const FLUSH_EVERY: Duration = Duration::from_secs(2);
const FLUSH_COUNT: usize = 500;
/// While the database is away, no more than this many are kept.
const KEEP: usize = 100_000;

/// A checkpoint that failed is tried again after this time.
const CHECKPOINT_AGAIN: Duration = Duration::from_secs(10);

/// Why there is no new checkpoint.
#[derive(Debug, thiserror::Error)]
enum NotWritten {
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("{0}")]
    Blob(#[from] BlobError),
}

/// The observer of a claimed job.
pub(super) struct Reporter<'a> {
    runtime: Handle,
    store: &'a Store,
    blobs: &'a BlobStore,
    shared: &'a Shared,
    lease: Lease,
    checkpoint_every: Duration,
    next_checkpoint: Instant,
    /// The last one was not written, and the job's log says so.
    checkpoint_failed: bool,
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
            next_checkpoint: now + checkpoint_every,
            checkpoint_failed: false,
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

impl Reporter<'_> {
    /// Announces, stores, and only then refers to a checkpoint.
    async fn write_checkpoint(&self, bytes: Vec<u8>, step: u64) -> Result<(), NotWritten> {
        let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
        self.store.announce_checkpoint(self.lease, digest, size, step).await?;
        self.blobs.put_bytes(bytes).await?;
        Ok(self.store.checkpoint(self.lease, digest, size, step).await?)
    }

    /// A line for the job's log and for our own.
    fn say(&mut self, level: &str, message: String) {
        if level == "warn" {
            warn!("{message}");
        } else {
            info!("{message}");
        }
        self.lines.push(LogLine { level: level.to_string(), message });
    }
}

impl Observer for Reporter<'_> {
    fn progress(&mut self, p: Progress) -> Control {
        self.shared.advance(p.phase.name(), p.done, p.total);
        if self.last_flush.elapsed() > FLUSH_EVERY || self.metrics.len() + self.lines.len() > FLUSH_COUNT {
            self.flush();
        }
        // A drain waits for the checkpoint that follows, where the phase has one.
        let give_back_now = self.shared.draining() && !p.phase.is_kept();
        if self.shared.stopped().is_some() || give_back_now { Control::Stop } else { Control::Continue }
    }

    fn metric(&mut self, name: &str, step: i64, value: f64) {
        let step = u64::try_from(step).unwrap_or(0);
        self.metrics.push(NewMetric { name: name.to_string(), step, value });
    }

    fn log(&mut self, line: &str) {
        self.say("info", line.to_string());
    }

    fn wants_checkpoint(&mut self, step: u64) -> bool {
        // What went before the first step is kept whenever it is done.
        step == 0 || self.shared.draining() || Instant::now() >= self.next_checkpoint
    }

    fn wants_checkpoint_within(&mut self, _phase: Phase) -> bool {
        self.shared.draining() || Instant::now() >= self.next_checkpoint
    }

    fn checkpoint(&mut self, bytes: Vec<u8>, step: u64) -> Control {
        self.flush();
        let wait = match self.runtime.block_on(self.write_checkpoint(bytes, step)) {
            Ok(()) => {
                if std::mem::take(&mut self.checkpoint_failed) {
                    self.say("info", format!("checkpoints are written again, at step {step}"));
                }
                self.checkpoint_every
            }
            Err(NotWritten::Store(error)) if error.kind() == ErrorKind::LeaseLost => {
                self.shared.stop(Stop::LeaseLost);
                self.checkpoint_every
            }
            Err(error) => {
                // The last one still stands.
                if !std::mem::replace(&mut self.checkpoint_failed, true) {
                    self.say("warn", format!("the checkpoint at step {step} was not written: {error}"));
                }
                self.checkpoint_every.min(CHECKPOINT_AGAIN)
            }
        };
        self.next_checkpoint = Instant::now() + wait;
        if self.shared.stopped().is_some() || self.shared.draining() {
            Control::Stop
        } else {
            Control::Continue
        }
    }
}
