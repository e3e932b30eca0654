//! What the training thread, the heartbeat and the signal handler know of each other.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use dyadic_store::job::Progress;

/// Why training has to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// A user wants it.
    Cancelled,
    /// Another claim has the job, or none: nothing may be written any more.
    LeaseLost,
}

/// State of the job in hand.
#[derive(Debug, Default)]
pub(super) struct Shared {
    draining: AtomicBool,
    stop: AtomicU8,
    ticks: AtomicU64,
    progress: Mutex<Progress>,
}

const CANCELLED: u8 = 1;
const LEASE_LOST: u8 = 2;

impl Shared {
    /// Forgets the last job.
    pub(super) fn begin(&self) {
        self.stop.store(0, Ordering::SeqCst);
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = Progress::default();
        self.tick();
    }

    /// No further job; the one in hand is given back.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
    }

    pub(super) fn draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// A lost lease is never taken back by a later cancel.
    pub(super) fn stop(&self, why: Stop) {
        let code = match why {
            Stop::Cancelled => CANCELLED,
            Stop::LeaseLost => LEASE_LOST,
        };
        self.stop.fetch_max(code, Ordering::SeqCst);
    }

    pub(super) fn stopped(&self) -> Option<Stop> {
        match self.stop.load(Ordering::SeqCst) {
            CANCELLED => Some(Stop::Cancelled),
            LEASE_LOST => Some(Stop::LeaseLost),
            _ => None,
        }
    }

    /// Work was done.
    pub(super) fn advance(&self, phase: &str, done: u64, total: u64) {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        if progress.phase != phase {
            progress.phase = phase.to_string();
        }
        (progress.done, progress.total) = (done, total);
        drop(progress);
        self.tick();
    }

    /// The progress counter moves.
    pub(super) fn tick(&self) {
        self.ticks.fetch_add(1, Ordering::SeqCst);
    }

    /// How often the counter has moved.
    pub(super) fn ticks(&self) -> u64 {
        self.ticks.load(Ordering::SeqCst)
    }

    pub(super) fn progress(&self) -> Progress {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
