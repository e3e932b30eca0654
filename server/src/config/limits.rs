//! Caps and time-outs.

use std::time::Duration;

/// Caps and time-outs of the server; every one has a flag and an environment variable.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Limits")]
pub struct Limits {
    /// Largest message that is read, in bytes; bounds the largest inference batch.
    #[arg(long, env = "DYADIC_MAX_MESSAGE_BYTES", default_value_t = 16 << 20)]
    pub max_message_bytes: usize,

    /// Largest model bundle, in bytes.
    #[arg(long, env = "DYADIC_MAX_MODEL_BYTES", default_value_t = 2 << 30)]
    pub max_model_bytes: u64,

    /// Most files in a model bundle.
    #[arg(long, env = "DYADIC_MAX_MODEL_FILES", default_value_t = 64)]
    pub max_model_files: usize,

    /// Largest dataset, in bytes.
    #[arg(long, env = "DYADIC_MAX_DATASET_BYTES", default_value_t = 64 << 30)]
    pub max_dataset_bytes: u64,

    /// Longest silence in an upload, in seconds.
    #[arg(long, env = "DYADIC_UPLOAD_IDLE_SECS", default_value_t = 60)]
    pub upload_idle_secs: u64,

    /// Calls that run at once, over all connections; more are turned away.
    #[arg(long, env = "DYADIC_MAX_CALLS", default_value_t = 1024)]
    pub max_calls: usize,

    /// Jobs that are watched at once; more are turned away.
    #[arg(long, env = "DYADIC_MAX_WATCHERS", default_value_t = 1024)]
    pub max_watchers: usize,

    /// Uploads that are checked at once.
    #[arg(long, env = "DYADIC_MAX_IMPORTS", default_value_t = 2)]
    pub max_imports: usize,

    /// Jobs in the queue; more are turned away.
    #[arg(long, env = "DYADIC_MAX_QUEUED_JOBS", default_value_t = 10_000)]
    pub max_queued_jobs: u32,

    /// Calls that run at once on one connection.
    #[arg(long, env = "DYADIC_MAX_STREAMS", default_value_t = 256)]
    pub max_streams: u32,

    /// Largest batch of an inference request; what fits into a message bounds it too.
    #[arg(long, env = "DYADIC_MAX_BATCH", default_value_t = 64)]
    pub max_batch: u32,

    /// Inference requests that wait for one model version; more are turned away.
    #[arg(long, env = "DYADIC_INFER_QUEUE", default_value_t = 256)]
    pub infer_queue: usize,

    /// Longest time an inference request waits, in milliseconds, where the request sets none.
    #[arg(long, env = "DYADIC_INFER_QUEUE_MS", default_value_t = 10_000)]
    pub infer_queue_ms: u64,

    /// Threads that run one model version; the default is one a core.
    #[arg(long, env = "DYADIC_INFER_THREADS")]
    pub infer_threads: Option<usize>,

    /// Longest time for any call but uploads, downloads and watches, in seconds.
    #[arg(long, env = "DYADIC_CALL_SECS", default_value_t = 60)]
    pub call_secs: u64,

    /// Seconds that a worker's claim lasts without a heartbeat; to be set alike on servers and workers.
    #[arg(long, env = "DYADIC_LEASE_SECS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub lease_secs: u32,

    /// Versions of one served name that stay loaded, beside the latest.
    #[arg(long, env = "DYADIC_LOADED_VERSIONS", default_value_t = 8)]
    pub loaded_versions: usize,
}

impl Limits {
    /// Longest silence in an upload.
    pub fn upload_idle(&self) -> Duration {
        Duration::from_secs(self.upload_idle_secs)
    }

    /// Longest wait in an inference queue.
    pub fn infer_queue_wait(&self) -> Duration {
        Duration::from_millis(self.infer_queue_ms)
    }

    /// Longest time for a unary call.
    pub fn call(&self) -> Duration {
        Duration::from_secs(self.call_secs)
    }

    /// Between two looks at leases: at least four fit a lease, since a gap of half a lease starts the reaper anew.
    pub fn reap_every(&self) -> Duration {
        Duration::from_millis(u64::from(self.lease_secs) * 250).min(Duration::from_secs(5))
    }

    /// Threads of one model version, ≥ 1.
    pub fn infer_threads(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        self.infer_threads.unwrap_or_else(cores).max(1)
    }
}
