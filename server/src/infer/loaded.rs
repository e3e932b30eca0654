//! A version that is ready: its engine behind a batcher, and what clients may know of it.

use std::sync::Arc;

use dyadic_engine::artifact::Provenance;
use dyadic_engine::model::{Normalization, Shape};
use dyadic_engine::{Artifact, Engine};

use super::LoadError;
use super::batcher::{Batcher, BatcherLimits};
use super::statistics::Statistics;
use crate::config::Limits;

/// What clients may know of a version.
#[derive(Debug, Clone)]
pub struct Signature {
    /// Name of the input tensor.
    pub input: String,
    /// Height, width, channels of one input sample.
    pub input_shape: Shape,
    /// Name of the output tensor.
    pub output: String,
    /// Height, width, channels of one output sample.
    pub output_shape: Shape,
    /// Class names, or none.
    pub labels: Vec<String>,
    /// Present where 8-bit images are taken too.
    pub normalization: Option<Normalization>,
    /// What a picture becomes the network's bytes by, as its artifact says.
    pub preprocess: Option<serde_json::Value>,
    /// Most samples of a request, ≥ 1.
    pub max_batch: usize,
}

/// A version that is ready.
pub struct Loaded {
    /// Served name.
    pub name: String,
    /// Version, from 1.
    pub version: u64,
    /// Of the artifact file.
    pub sha256: [u8; 32],
    /// What clients may know.
    pub signature: Signature,
    /// Runs requests.
    pub batcher: Batcher,
    /// Counters.
    pub statistics: Arc<Statistics>,
    /// Its queue's sizes, as announced.
    pub limits: Limits,
}

/// Bytes of one FP32 sample's element.
const FLOAT_BYTES: usize = 4;

/// Most multiply-accumulates of all golden inputs of an artifact that comes from anywhere: a VGG-16's with eight, and a
/// minute of the slowest kernel.
const MAX_REPLAYED_MACS: u64 = 1 << 37;

/// What a message holds beside tensor bytes, at most.
const MESSAGE_OVERHEAD: usize = 64 << 10;

impl Loaded {
    /// Reads an artifact's bytes, builds the engine, replays the certificate and starts the threads. Takes seconds of CPU
    /// for large models: not for async threads.
    pub fn load(
        name: &str,
        version: u64,
        sha256: [u8; 32],
        bytes: &[u8],
        limits: &Limits,
    ) -> Result<Self, LoadError> {
        let Artifact { model, provenance, certificate } = Artifact::from_bytes(bytes)?;
        let engine = Engine::new(model)?;
        if !certificate.inputs.is_empty() {
            engine.verify(&certificate).map_err(|mismatch| LoadError::Certificate(mismatch.to_string()))?;
        }
        let signature = Signature { preprocess: provenance.preprocess, ..Signature::of(&engine, limits)? };
        let statistics = Arc::new(Statistics::default());
        let batcher_limits = BatcherLimits {
            model: name.to_owned(),
            max_batch: signature.max_batch,
            max_queue: limits.infer_queue,
            threads: limits.infer_threads(),
        };
        let batcher = Batcher::start(engine, batcher_limits, statistics.clone())?;
        let (name, limits) = (name.to_owned(), limits.clone());
        Ok(Self { name, version, sha256, signature, batcher, statistics, limits })
    }
}

/// Whether a server with these limits can serve an artifact that comes from anywhere: it is read, its engine built, and its
/// certificate replayed, which it must have and which is bounded. Answers where it says that it comes from. Takes seconds
/// of CPU: not for async threads.
pub(crate) fn check(bytes: Vec<u8>, limits: &Limits) -> Result<Provenance, LoadError> {
    let Artifact { model, provenance, certificate } = Artifact::from_vec(bytes)?;
    let macs = model.work().saturating_mul(certificate.inputs.len() as u64);
    if macs > MAX_REPLAYED_MACS {
        return Err(LoadError::TooMuchToReplay { macs, limit: MAX_REPLAYED_MACS });
    }
    let engine = Engine::new(model)?;
    Signature::of(&engine, limits)?;
    engine.verify(&certificate).map_err(|mismatch| LoadError::Certificate(mismatch.to_string()))?;
    Ok(provenance)
}

impl Signature {
    fn of(engine: &Engine, limits: &Limits) -> Result<Self, LoadError> {
        let model = engine.model();
        let sample_bytes = engine.input_shape().len().max(engine.output_len()).saturating_mul(FLOAT_BYTES);
        let room = limits.max_message_bytes.saturating_sub(MESSAGE_OVERHEAD);
        let fits = room / sample_bytes.max(1);
        if fits == 0 {
            return Err(LoadError::TooLarge { sample_bytes, limit: limits.max_message_bytes });
        }
        Ok(Self {
            input: model.input.name.clone(),
            input_shape: engine.input_shape(),
            output: model.output.name.clone(),
            output_shape: engine.model().output_shape(),
            labels: model.output.labels.clone(),
            normalization: model.input.normalization.clone(),
            preprocess: None,
            max_batch: fits.min(limits.max_batch.max(1) as usize),
        })
    }

    /// One FP32 input sample as clients see it: channel-first; flat features have one axis, series two.
    pub fn input_dims(&self) -> Vec<i64> {
        channel_first(self.input_shape)
    }

    /// One UINT8 input sample: height, width, channels.
    pub fn bytes_dims(&self) -> Vec<i64> {
        let Shape { h, w, c } = self.input_shape;
        [h, w, c].map(i64::from).to_vec()
    }

    /// One output sample, channel-first; flat features have one axis, series two.
    pub fn output_dims(&self) -> Vec<i64> {
        channel_first(self.output_shape)
    }
}

fn channel_first(shape: Shape) -> Vec<i64> {
    match shape {
        Shape { h: 1, w: 1, c } => vec![i64::from(c)],
        Shape { h: 1, w, c } => vec![c.into(), w.into()],
        Shape { h, w, c } => [c, h, w].map(i64::from).to_vec(),
    }
}
