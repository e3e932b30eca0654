//! The worker's settings: flags and environment, read once.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::in_place::{self, Places};

/// Claim and run jobs from the queue until told to stop.
#[derive(Debug, Clone, Args)]
pub struct Settings {
    /// PostgreSQL with Dyadic's tables.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: String,
    /// Where models, datasets, checkpoints and artifacts lie: file:///folder or s3://bucket/prefix.
    #[arg(long, env = "DYADIC_BLOBS")]
    pub blobs: String,
    /// Folder for fetched models and datasets.
    #[arg(long, env = "DYADIC_WORKER_CACHE", default_value_os_t = default_cache())]
    pub cache: PathBuf,
    /// Name of this worker; must be unique among those that run.
    #[arg(long, env = "DYADIC_WORKER_NAME")]
    name: Option<String>,
    /// Seconds that a claim lasts without a heartbeat.
    #[arg(long, env = "DYADIC_LEASE_SECS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub lease_secs: u32,
    /// Seconds without progress after which the worker lets its claim go.
    #[arg(long, env = "DYADIC_STALL_SECS", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    pub stall_secs: u32,
    /// Seconds between checkpoints: what a killed worker's successor repeats at most.
    #[arg(long, env = "DYADIC_CHECKPOINT_SECS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    pub checkpoint_secs: u32,
    /// Seconds between two looks at the queue when no notice comes.
    #[arg(long, env = "DYADIC_POLL_SECS", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=300))]
    pub poll_secs: u32,
    /// Memory that a job may take beside its network, like 2GiB [default: half of what is free when it begins].
    #[arg(long, env = "DYADIC_WORKER_MEMORY", value_parser = crate::memory::parse)]
    pub memory: Option<u64>,
    /// Folders and S3 prefixes (s3://bucket/prefix) below which this worker may read pictures that manifests list, comma-separated
    /// [default: none].
    #[arg(long, env = "DYADIC_WORKER_DATA", value_name = "PLACE,…", value_delimiter = ',')]
    data: Vec<String>,
    /// End after one look at the queue, and after the job if there was one.
    #[arg(long)]
    pub once: bool,
}

impl Settings {
    /// The given name, or host and process number.
    pub fn name(&self) -> String {
        self.name.clone().unwrap_or_else(|| format!("{}-{}", host(), std::process::id()))
    }

    /// Places whose pictures may be read where they are.
    ///
    /// # Errors
    /// If one is no such place, in words.
    pub fn places(&self) -> Result<Places, String> {
        Places::new(self.data.iter().map(|place| place.trim()).filter(|place| !place.is_empty()))
    }

    /// What jobs may require of this worker.
    pub fn capabilities(&self) -> Vec<String> {
        let mut found = vec!["cpu".to_string()];
        if tch::Cuda::is_available() {
            found.push("cuda".to_string());
        }
        if !self.data.is_empty() {
            found.push(in_place::CAPABILITY.to_string());
        }
        found
    }

    /// Between two heartbeats: four of them fit a lease.
    pub fn heartbeat(&self) -> Duration {
        Duration::from_millis(u64::from(self.lease_secs) * 250)
    }
}

/// Where fetched models, datasets and pictures are kept if nothing else is said.
pub(crate) fn default_cache() -> PathBuf {
    let home = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".cache")));
    home.unwrap_or_else(std::env::temp_dir).join("dyadic").join("worker")
}

/// This machine's name.
pub(super) fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "localhost".to_string() } else { name.to_string() }
}
