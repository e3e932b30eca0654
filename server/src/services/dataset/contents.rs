//! Looking into datasets: once when they come, or when a job needs to know what is in one that came before that was done.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dyadic_data::{Contents, Format, Outputs, Source};
use dyadic_store::Store;
use dyadic_store::blob::BlobStore;
use dyadic_store::registry::Dataset;
use tokio::sync::Semaphore;

use super::header::Declared;
use crate::error::ApiError;
use crate::upload::SpoolDir;

/// A dataset that was never looked into is, at submit, up to this size; a larger one is left to the worker.
const LATE_LIMIT: u64 = 4 << 30;

/// Reads datasets on blocking threads, few at a time.
#[derive(Clone)]
pub(crate) struct Reader {
    store: Store,
    blobs: BlobStore,
    spools: SpoolDir,
    permits: Arc<Semaphore>,
}

impl Reader {
    pub(crate) fn new(store: Store, blobs: BlobStore, spools: SpoolDir, at_once: usize) -> Self {
        Self { store, blobs, spools, permits: Arc::new(Semaphore::new(at_once.max(1))) }
    }

    /// What is in the tar at `path`, which is of this format.
    pub(super) async fn read(
        &self,
        path: PathBuf,
        format: &'static dyn Format,
    ) -> Result<Contents, ApiError> {
        let permit = self.permits.clone().acquire_owned().await.map_err(ApiError::internal)?;
        let read = tokio::task::spawn_blocking(move || {
            // A caller that goes away does not let another one in before this ends.
            let _permit = permit;
            Contents::of(&Source::in_tar(&path, format)?)
        });
        Ok(read.await.map_err(ApiError::internal)??)
    }

    /// What is in a registered dataset: what was found before, or is found now; none if it is too large to be fetched for
    /// that, or its format is not known here.
    pub(crate) async fn known(&self, dataset: &Dataset) -> Result<Option<Contents>, ApiError> {
        // What another version wrote may not be what this one reads.
        if let Some(Ok(contents)) = dataset.contents.clone().map(serde_json::from_value) {
            return Ok(Some(contents));
        }
        let Some(format) = dyadic_data::format::by_word(&dataset.format) else { return Ok(None) };
        if dataset.size_bytes > LATE_LIMIT {
            return Ok(None);
        }
        let spool = self.spools.temporary().await?;
        self.blobs.fetch(&dataset.sha256, spool.path()).await?;
        let contents = self.read(spool.path().to_owned(), format).await?;
        self.keep(dataset, &contents).await?;
        Ok(Some(contents))
    }

    /// Keeps what was found.
    pub(super) async fn keep(&self, dataset: &Dataset, contents: &Contents) -> Result<(), ApiError> {
        let value = serde_json::to_value(contents).map_err(ApiError::internal)?;
        Ok(self.store.set_dataset_contents(dataset.id, &value).await?)
    }
}

/// Reads a tar that came and compares it with what was declared of it.
pub(super) async fn check(reader: &Reader, declared: &Declared, path: &Path) -> Result<Contents, ApiError> {
    let contents = reader.read(path.to_owned(), declared.format).await?;
    let there: Vec<&str> = contents.splits.iter().map(|found| found.split.name()).collect();
    for split in &declared.splits {
        if !there.contains(&split.name.as_str()) {
            let reason = format!("{:?} is declared; in the tar are {}", split.name, there.join(" and "));
            return Err(ApiError::field("splits", reason));
        }
        if contents.uniform && !split.paths.is_empty() {
            let reason =
                format!("{:?} has its files in this format's own places; leave the paths out", split.name);
            return Err(ApiError::field("splits", reason));
        }
    }
    if !declared.format.orders_classes() {
        return match Outputs::matching(&contents.classes, &declared.labels) {
            Err(error) if !declared.labels.is_empty() => Err(ApiError::field("labels", error.to_string())),
            _ => Ok(contents),
        };
    }
    let highest = contents.splits.iter().filter_map(|found| found.highest_label).max();
    match highest {
        Some(highest) if !declared.labels.is_empty() && highest as usize >= declared.labels.len() => {
            let reason = format!("label {highest} occurs, and {} classes have names", declared.labels.len());
            Err(ApiError::field("labels", reason))
        }
        _ => Ok(contents),
    }
}
