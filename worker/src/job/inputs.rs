//! What a job reads: model bundle, dataset and checkpoint, fetched from the blob store and verified.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use dyadic_graph::network::Network;
use dyadic_store::StoreError;
use dyadic_store::blob::{BlobError, BlobStore, Digest};
use dyadic_store::job::Job;
use dyadic_store::spec::JobSpec;

use super::work::Bench;
use crate::data::{self, Loader, Outputs, Preprocess, Reading, Source, Split};
use crate::error::WorkerError;
use crate::in_place::PlaceError;
use crate::observer::Phase;
use crate::quantize::bundle_sha256;

/// Everything that [`crate::quantize`] needs.
pub(super) struct Inputs {
    pub(super) network: Network,
    pub(super) model_sha256: String,
    pub(super) train: Loader,
    pub(super) test: Loader,
    /// Names of the outputs, or the class names that the registry has; empty if there are none.
    pub(super) classes: Vec<String>,
    /// What is done to pictures.
    pub(super) preprocess: Option<Preprocess>,
    pub(super) dataset_sha256: String,
    pub(super) checkpoint: Resume,
}

/// What a run goes on from.
pub(super) enum Resume {
    /// Nothing: it begins.
    Beginning,
    /// A checkpoint's bytes.
    Checkpoint(Bytes),
    /// A checkpoint that cannot be had any more, and why.
    Lost(String),
}

/// Why a job's inputs are not at hand.
#[derive(Debug, thiserror::Error)]
pub(super) enum InputError {
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("{0}")]
    Blob(#[from] BlobError),
    #[error("{0}")]
    Worker(#[from] WorkerError),
    #[error("{0}")]
    Place(#[from] PlaceError),
    #[error("{0}")]
    Gone(String),
}

/// The largest model bundle's file and checkpoint that are read into memory.
const FILE_LIMIT: u64 = 4 << 30;

/// Fetches and reads a job's inputs.
pub(super) async fn fetch(bench: &Bench, job: &Job, spec: &JobSpec) -> Result<Inputs, InputError> {
    let Bench { store, blobs, shared, settings, places, .. } = bench;
    let cache = &settings.cache;
    let gone =
        |what: &str| InputError::Gone(format!("the job's {what} was deleted; push it and submit again"));
    let model = store.model(None, &job.model_id.ok_or_else(|| gone("model"))?.to_string()).await?;
    let dataset = store.dataset(None, &job.dataset_id.ok_or_else(|| gone("dataset"))?.to_string()).await?;

    let mut files = BTreeMap::new();
    for file in &model.files {
        files.insert(file.name.clone(), blobs.get(&file.sha256, FILE_LIMIT).await?);
        shared.tick();
    }
    let main = files.remove(&model.main_file).ok_or_else(|| gone("model's main file"))?;
    let side = || files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_ref()));
    let model_sha256 = bundle_sha256(&main, side());
    let network = dyadic_graph::import_bytes(&main, side()).map_err(WorkerError::from)?;

    let archive = cached(blobs, cache, &dataset.sha256).await?;
    shared.tick();
    let source = match data::format::by_word(&dataset.format) {
        Some(format) => Source::in_tar(&archive, format),
        None => Source::open(&archive),
    };
    let source = source.map_err(WorkerError::from)?;
    let mut told = |done: usize, all: usize| shared.advance(Phase::Load.name(), done as u64, all as u64);
    let source = places.locate(source, cache, &mut told).await?;
    let reading = reading(spec, &source)?;
    let load = |name: &str| Loader::open(&source, split(name)?, &reading).map_err(WorkerError::from);
    let train = load(&job.train_split)?;
    shared.tick();
    let test = load(&job.eval_split)?;
    let checkpoint = match &job.checkpoint_sha256 {
        None => Resume::Beginning,
        Some(digest) => match blobs.get(digest, FILE_LIMIT).await {
            Ok(bytes) => Resume::Checkpoint(bytes),
            // Work is lost, but not the job.
            Err(error @ (BlobError::Damaged { .. } | BlobError::NotFound(_))) => {
                Resume::Lost(error.to_string())
            }
            Err(error) => return Err(error.into()),
        },
    };
    let dataset_sha256 = dataset.sha256.to_string();
    let classes = if spec.labels.is_empty() { dataset.labels } else { spec.labels.clone() };
    let preprocess = reading.preprocess;
    Ok(Inputs { network, model_sha256, train, test, classes, preprocess, dataset_sha256, checkpoint })
}

/// How a job's splits are read.
fn reading(spec: &JobSpec, source: &Source) -> Result<Reading, WorkerError> {
    let preprocess = spec.preprocess.clone().map(serde_json::from_value::<Preprocess>).transpose();
    let outputs = (!spec.labels.is_empty() && !source.classes().is_empty())
        .then(|| Outputs::matching(source.classes(), &spec.labels))
        .transpose()?;
    Ok(Reading {
        preprocess: preprocess.map_err(|e| WorkerError::Invalid(format!("preprocess: {e}")))?,
        validation: spec.validation,
        outputs,
        skip_broken: spec.skip_broken.unwrap_or(Reading::SKIP_BROKEN),
    })
}

fn split(name: &str) -> Result<Split, WorkerError> {
    name.parse().map_err(|e: data::UnknownSplit| WorkerError::Invalid(e.to_string()))
}

/// A verified local copy of a blob, under its digest.
async fn cached(blobs: &BlobStore, cache: &Path, digest: &Digest) -> Result<PathBuf, InputError> {
    let path = cache.join(digest.to_string());
    if path.exists() {
        return Ok(path);
    }
    let part = cache.join(format!("{digest}.{}.part", std::process::id()));
    blobs.fetch(digest, &part).await?;
    std::fs::rename(&part, &path)
        .map_err(|source| WorkerError::Io { what: path.display().to_string(), source })?;
    Ok(path)
}
