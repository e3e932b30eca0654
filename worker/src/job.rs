//! Working the queue: claim a job, fetch what it needs, quantize, publish; give it back or report why not.
//!
//! The fence decides: every write about a job carries its claim's number, and a worker that has lost its lease stops
//! without leaving a trace. Training runs on the main thread; the heartbeat has its own thread and connection.

mod heartbeat;
mod inputs;
mod reporter;
mod settings;
mod shared;
mod work;

use std::sync::Arc;

use dyadic_store::Store;
use dyadic_store::blob::BlobStore;
use dyadic_store::job::Worker;
use tracing::{info, warn};

pub use settings::Settings;
pub(crate) use settings::default_cache;

use shared::Shared;
use work::Bench;

/// Connections of the training side; the heartbeat has one more of its own.
const CONNECTIONS: u32 = 3;

/// Works the queue until SIGTERM or SIGINT, which gives the job in hand back after a last checkpoint.
///
/// # Errors
/// What keeps a worker from starting: settings, blob store, runtime. Later failures are the jobs'.
pub fn run(settings: Settings) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let shared = Arc::new(Shared::default());
    let draining = Arc::clone(&shared);
    runtime.spawn(async move {
        wait_for_signal().await;
        info!("draining: the job in hand is given back after a checkpoint");
        draining.drain();
    });
    let worker = Worker {
        name: settings.name(),
        host: settings::host(),
        code_version: env!("CARGO_PKG_VERSION").to_string(),
        capabilities: settings.capabilities(),
    };
    let places = settings.places().map_err(|e| anyhow::anyhow!("--data (DYADIC_WORKER_DATA): {e}"))?;
    std::fs::create_dir_all(&settings.cache)?;
    let blobs = BlobStore::open(&settings.blobs)?;
    if let Err(error) = runtime.block_on(blobs.clear_staging()) {
        warn!(%error, "what killed writers left in the blob store stays");
    }
    // The pool belongs to the runtime that makes it.
    let entered = runtime.enter();
    let store = Store::connect_lazy(&settings.database_url, CONNECTIONS)?;
    drop(entered);
    info!(worker = worker.name, capabilities = ?worker.capabilities, "waiting for jobs");
    let bench = Bench { settings, places, runtime, shared, worker, blobs, store };
    let mut listener = None;
    while !bench.shared.draining() {
        match bench.claim() {
            Ok(Some((lease, job))) => bench.work(lease, &job),
            Ok(None) if !bench.settings.once => bench.wait(&mut listener),
            Ok(None) => {}
            Err(error) => {
                warn!(%error, "the queue cannot be asked; trying again");
                bench.wait(&mut listener);
            }
        }
        if bench.settings.once {
            break;
        }
    }
    // A listener gives its connection back through the runtime.
    let entered = bench.runtime.enter();
    drop(listener);
    drop(entered);
    Ok(())
}

/// Returns at the first SIGTERM or SIGINT.
async fn wait_for_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        // Without handlers the signals end the process, and the lease runs out.
        _ => std::future::pending().await,
    }
}
