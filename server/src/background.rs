//! What goes on beside calls: passing on the database's notices, loading served versions, reaping dead workers' jobs,
//! collecting unreferenced blobs and abandoned uploads.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dyadic_store::blob::BlobStore;
use dyadic_store::notice::{Notice as Heard, Topic};
use dyadic_store::queue::Reaper;
use dyadic_store::registry::CollectError;
use dyadic_store::{Store, StoreError};
use tokio_util::sync::CancellationToken;

use crate::config::Limits;
use crate::infer::loader::Loader;
use crate::infer::registry::Registry;
use crate::notices::{Notice, Notices};
use crate::upload::SpoolDir;

/// How often unreferenced blobs are looked for.
const COLLECT: Duration = Duration::from_secs(600);
/// How long a blob that nothing references stays.
const BLOB_AGE: Duration = Duration::from_secs(24 * 3600);
/// Blobs that are collected at once.
const BLOBS: u32 = 100;
/// How long an upload that broke can be resumed.
const UPLOAD_AGE: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long to wait before listening again.
const LISTEN_AGAIN: Duration = Duration::from_secs(5);

/// What the tasks need.
pub(crate) struct Parts {
    pub(crate) store: Store,
    pub(crate) blobs: BlobStore,
    pub(crate) spools: SpoolDir,
    pub(crate) registry: Arc<Registry>,
    pub(crate) notices: Notices,
    pub(crate) limits: Limits,
    pub(crate) drain: CancellationToken,
}

/// Starts the tasks; they end with the drain.
pub(crate) fn start(parts: Parts) {
    let Parts { store, blobs, spools, registry, notices, limits, drain } = parts;
    let subscription = notices.subscribe();
    tokio::spawn(drain.clone().run_until_cancelled_owned(listen(store.clone(), notices)));
    tokio::spawn(drain.clone().run_until_cancelled_owned(reap(store.clone(), limits.clone())));
    tokio::spawn(drain.clone().run_until_cancelled_owned(collect(store.clone(), blobs.clone(), spools)));
    let loader = Loader { store, blobs, registry, limits };
    tokio::spawn(loader.run(subscription, drain));
}

async fn listen(store: Store, notices: Notices) {
    loop {
        match store.listen(&[Topic::Job, Topic::Served]).await {
            Ok(mut listener) => loop {
                match listener.next().await {
                    Ok(Heard::Job(job)) => notices.send(Notice::Job(job)),
                    // Watches poll; a lost notice costs them 5 seconds.
                    Ok(Heard::Served(_) | Heard::Missed) => notices.send(Notice::Served),
                    Ok(Heard::Queued) => {}
                    Err(error) => {
                        tracing::warn!(%error, "cannot listen to the database; polling");
                        break;
                    }
                }
            },
            Err(error) => tracing::warn!(%error, "cannot listen to the database; polling"),
        }
        tokio::time::sleep(LISTEN_AGAIN).await;
    }
}

async fn reap(store: Store, limits: Limits) {
    let mut reaper = Reaper::new(u64::from(limits.lease_secs));
    let mut tick = tokio::time::interval(limits.reap_every());
    loop {
        tick.tick().await;
        match reaper.tick(&store, Instant::now()).await {
            Ok(reaped) => {
                for job in reaped {
                    tracing::warn!(job = %job.job, state = job.state.name(), "its worker went silent");
                }
            }
            Err(error) => tracing::warn!(%error, "leases cannot be looked at"),
        }
    }
}

async fn collect(store: Store, blobs: BlobStore, spools: SpoolDir) {
    let mut tick = tokio::time::interval(COLLECT);
    loop {
        tick.tick().await;
        if let Err(error) = collect_blobs(&store, &blobs).await {
            tracing::warn!(%error, "blobs cannot be collected");
        }
        let spools = spools.clone();
        match tokio::task::spawn_blocking(move || spools.remove_abandoned(UPLOAD_AGE)).await {
            Ok(Ok(0)) | Err(_) => {}
            Ok(Ok(count)) => tracing::info!(count, "abandoned uploads removed"),
            Ok(Err(error)) => tracing::warn!(%error, "abandoned uploads cannot be removed"),
        }
    }
}

/// Until all that may go is gone, or nothing more can be removed now.
async fn collect_blobs(store: &Store, blobs: &BlobStore) -> Result<(), StoreError> {
    let Some(mut collector) = store.collector().await? else { return Ok(()) };
    loop {
        let marked = collector.mark(BLOB_AGE, BLOBS).await?;
        let mut removed = 0;
        for digest in marked {
            match collector.remove(blobs, digest).await {
                Ok(true) => {
                    removed += 1;
                    tracing::info!(%digest, "blob collected");
                }
                Ok(false) => {}
                Err(CollectError::Blob(error)) => tracing::warn!(%digest, %error, "a blob cannot be removed"),
                Err(CollectError::Store(error)) => return Err(error),
            }
        }
        if removed < BLOBS {
            return Ok(());
        }
    }
}
