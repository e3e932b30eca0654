//! One claim from beginning to end.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dyadic_store::blob::{BlobError, BlobStore, Digest};
use dyadic_store::job::{Failure, Job, Lease, Outcome as Publication, Published, Worker};
use dyadic_store::notice::{Listener, Topic};
use dyadic_store::{ErrorKind, Store, StoreError};
use tokio::runtime::Runtime;
use tracing::{error, info, warn};

use super::heartbeat::{Heart, Pulse};
use super::inputs::{self, InputError, Resume};
use super::reporter::Reporter;
use super::settings::Settings;
use super::shared::{Shared, Stop};
use crate::error::WorkerError;
use crate::in_place::{PlaceError, Places};
use crate::observer::{Observer, Phase, Progress};
use crate::quantize::{Outcome, Request, quantize};

/// A drain is noticed within this time.
const SLICE: Duration = Duration::from_millis(250);
/// Between two attempts to reach a database or blob store that is away.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a finished job tries to tell so before it is left to another claim.
const REPORT_LIMIT: Duration = Duration::from_secs(600);

/// A worker at its bench.
pub(super) struct Bench {
    pub(super) settings: Settings,
    pub(super) places: Places,
    pub(super) runtime: Runtime,
    pub(super) shared: Arc<Shared>,
    pub(super) worker: Worker,
    pub(super) blobs: BlobStore,
    pub(super) store: Store,
}

/// Why the end of a run could not be reported.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("{0}")]
    Blob(#[from] BlobError),
}

impl Trouble {
    fn kind(&self) -> ErrorKind {
        match self {
            Trouble::Store(error) => error.kind(),
            Trouble::Blob(_) => ErrorKind::Unavailable,
        }
    }
}

/// How a run ended short of success.
enum Ended {
    Stopped,
    Failed(Failure),
}

impl Bench {
    fn lease_time(&self) -> Duration {
        Duration::from_secs(u64::from(self.settings.lease_secs))
    }

    /// Looks for a job that this worker can run.
    pub(super) fn claim(&self) -> Result<Option<(Lease, Job)>, StoreError> {
        self.runtime.block_on(self.store.claim(&self.worker, self.lease_time()))
    }

    /// Waits for the next look at the queue: until a notice comes, the poll is due, or a drain begins.
    pub(super) fn wait(&self, listener: &mut Option<Listener>) {
        let until = Instant::now() + Duration::from_secs(u64::from(self.settings.poll_secs));
        if listener.is_none() {
            match self.runtime.block_on(self.store.listen(&[Topic::Queue])) {
                Ok(new) => *listener = Some(new),
                Err(error) => warn!(%error, "no notices from the queue; polling"),
            }
        }
        while Instant::now() < until && !self.shared.draining() {
            let Some(listener) = listener else {
                std::thread::sleep(SLICE);
                continue;
            };
            if self.runtime.block_on(listener.next_within(SLICE)).is_some() {
                return;
            }
        }
    }

    /// Runs a claimed job to its end and reports it.
    pub(super) fn work(&self, lease: Lease, job: &Job) {
        info!(job = %lease.job, fence = lease.fence, "claimed");
        self.shared.begin();
        let pulse = Pulse {
            database_url: self.settings.database_url.clone(),
            lease,
            lease_time: self.lease_time(),
            every: self.settings.heartbeat(),
            stall_limit: Duration::from_secs(u64::from(self.settings.stall_secs)),
        };
        let heart = match Heart::start(pulse, Arc::clone(&self.shared)) {
            Ok(heart) => heart,
            Err(cause) => {
                // Without a heartbeat the lease runs out and the job is run again.
                error!(%cause, "the heartbeat cannot start");
                return;
            }
        };
        // A refused operation deep in libtorch panics; that is this job's failure, not the worker's end.
        let ended = catch_unwind(AssertUnwindSafe(|| self.quantize(lease, job))).unwrap_or_else(|panic| {
            let message = format!("the training stopped unexpectedly: {}", panic_text(panic.as_ref()));
            Err(Ended::Failed(Failure { code: "panic".into(), message, retryable: true }))
        });
        let reported = match ended {
            Ok(outcome) => self.publish(lease, outcome),
            Err(Ended::Stopped) => self.report_stop(lease),
            Err(Ended::Failed(failure)) => self.report_failure(lease, &failure),
        };
        drop(heart);
        if let Err(error) = reported {
            warn!(job = %lease.job, %error, "the end could not be reported; the lease decides");
        }
    }

    fn quantize(&self, lease: Lease, job: &Job) -> Result<Outcome, Ended> {
        let spec = job.settings.runnable().map_err(|error| {
            let (code, message) =
                ("unreadable".to_string(), format!("{error} (this worker is {})", self.worker.code_version));
            Ended::Failed(Failure { code, message, retryable: false })
        })?;
        let every = Duration::from_secs(u64::from(self.settings.checkpoint_secs));
        let handle = self.runtime.handle().clone();
        let mut reporter = Reporter::new(handle, &self.store, &self.blobs, &self.shared, lease, every);
        self.shared.advance(Phase::Load.name(), 0, 1);
        let inputs = self
            .runtime
            .block_on(inputs::fetch(self, job, spec))
            .map_err(|e| Ended::Failed(input_failure(&e)))?;
        reporter.progress(Progress { phase: Phase::Load, done: 1, total: 1 });
        let request = |resume| Request {
            network: &inputs.network,
            model_sha256: inputs.model_sha256.clone(),
            train: &inputs.train,
            test: &inputs.test,
            classes: &inputs.classes,
            labelled: inputs.train.highest_label().is_some() && inputs.test.highest_label().is_some(),
            dataset_sha256: inputs.dataset_sha256.clone(),
            spec,
            resume,
            preprocess: inputs.preprocess.as_ref(),
            memory: self.settings.memory,
        };
        let (mut result, unusable) = match &inputs.checkpoint {
            Resume::Beginning => (quantize(&request(None), &mut reporter), None),
            Resume::Lost(why) => (Err(WorkerError::Stopped), Some(why.clone())),
            Resume::Checkpoint(bytes) => match quantize(&request(Some(bytes)), &mut reporter) {
                // Another machine's arithmetic, or a retry with other settings.
                Err(WorkerError::Checkpoint(why)) => (Err(WorkerError::Stopped), Some(why)),
                result => (result, None),
            },
        };
        if let Some(why) = unusable {
            self.start_over(lease, &why, &mut reporter)?;
            result = quantize(&request(None), &mut reporter);
        }
        reporter.flush();
        result.map_err(|error| match error {
            WorkerError::Stopped => Ended::Stopped,
            error => Ended::Failed(Failure {
                code: error.code().to_string(),
                message: error.to_string(),
                retryable: error.is_retryable(),
            }),
        })
    }

    /// Gives up a checkpoint that this run cannot go on from, and says so; until then the job would take no other one.
    fn start_over(&self, lease: Lease, why: &str, reporter: &mut Reporter) -> Result<(), Ended> {
        match self.insist(lease, || async { Ok(self.store.start_over(lease).await?) }) {
            Ok(Some(())) => {
                reporter.log(&format!("the checkpoint is given up, starting over from step 0: {why}"));
                Ok(())
            }
            Ok(None) => {
                self.shared.stop(Stop::LeaseLost);
                Err(Ended::Stopped)
            }
            Err(error) => {
                let (code, message) = ("database".to_string(), error.to_string());
                Err(Ended::Failed(Failure { code, message, retryable: true }))
            }
        }
    }

    /// Stores the artifact and completes the job, fenced. If a commit's outcome is unknown, asks.
    fn publish(&self, lease: Lease, outcome: Outcome) -> Result<(), Trouble> {
        let summary = serde_json::to_value(&outcome.report).unwrap_or_default();
        let size_bytes = outcome.artifact.len() as u64;
        let artifact = bytes::Bytes::from(outcome.artifact);
        let published = self.insist(lease, || async {
            if let Some(done) = self.store.completed_by(lease).await? {
                return Ok(done);
            }
            // Touched first, so that no collection takes it between storing and completing; what is put is read back.
            self.store.touch_blob(Digest::of(&artifact), size_bytes).await?;
            let sha256 = self.blobs.put_bytes(artifact.clone()).await?;
            Ok(self
                .store
                .complete(lease, &Publication { sha256, size_bytes, summary: summary.clone() })
                .await?)
        });
        match published {
            Ok(Some(Published { version, .. })) => {
                info!(job = %lease.job, version, accuracy = outcome.report.accuracy.unwrap_or_default(), "published");
                Ok(())
            }
            Ok(None) => Ok(()),
            // A cancel came while the last evaluation ran.
            Err(error) if error.kind() == ErrorKind::Precondition => self.report_stop(lease),
            Err(Trouble::Blob(error)) => {
                let (code, message) =
                    ("blob_store".to_string(), format!("the artifact cannot be stored: {error}"));
                self.report_failure(lease, &Failure { code, message, retryable: true })
            }
            Err(error) => Err(error),
        }
    }

    /// Tells that the run failed, and why.
    fn report_failure(&self, lease: Lease, failure: &Failure) -> Result<(), Trouble> {
        warn!(job = %lease.job, code = failure.code, "failed: {}", failure.message);
        self.insist(lease, || async { Ok(self.store.fail(lease, failure).await?) }).map(|_| ())
    }

    /// Tells why the job in hand was left: cancelled, or given back by a drain.
    fn report_stop(&self, lease: Lease) -> Result<(), Trouble> {
        let cancelled = self.shared.stopped() == Some(Stop::Cancelled) || !self.shared.draining();
        if self.shared.stopped() == Some(Stop::LeaseLost) {
            info!(job = %lease.job, "left: the lease is another's");
        } else if cancelled {
            self.insist(lease, || async { Ok(self.store.acknowledge_cancel(lease).await?) })?;
            info!(job = %lease.job, "cancelled");
        } else {
            self.insist(lease, || async { Ok(self.store.give_back(lease).await?) })?;
            info!(job = %lease.job, "given back");
        }
        Ok(())
    }

    /// Repeats a call while the database is away. `None`: the lease was lost meanwhile.
    fn insist<T, F>(&self, lease: Lease, call: impl Fn() -> F) -> Result<Option<T>, Trouble>
    where
        F: Future<Output = Result<T, Trouble>>,
    {
        let began = Instant::now();
        loop {
            match self.runtime.block_on(call()) {
                Ok(done) => return Ok(Some(done)),
                Err(error) if error.kind() == ErrorKind::LeaseLost => {
                    warn!(job = %lease.job, "the lease was lost: nothing is published");
                    return Ok(None);
                }
                Err(error) if error.kind() == ErrorKind::Unavailable && began.elapsed() < REPORT_LIMIT => {
                    warn!(%error, "trying again");
                    self.shared.tick();
                    std::thread::sleep(PATIENCE);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

fn input_failure(error: &InputError) -> Failure {
    let (code, retryable) = match error {
        InputError::Store(e) => ("database", e.is_retryable()),
        InputError::Blob(dyadic_store::blob::BlobError::Damaged { .. }) => ("data_loss", false),
        InputError::Blob(_) | InputError::Place(PlaceError::Away(_)) => ("blob_store", true),
        InputError::Worker(e) => (e.code(), e.is_retryable()),
        InputError::Gone(_) => ("input_deleted", false),
        InputError::Place(PlaceError::Refused(_)) => ("dataset_place", false),
    };
    Failure { code: code.to_string(), message: error.to_string(), retryable }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_string())
}
