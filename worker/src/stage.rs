//! A quantization in stages: [`Calibrated`] → [`Trained`] → [`Folded`] → [`Proven`], each made from the one before by a
//! function that only reads it.
//!
//! Each stage has a key, a digest over everything that it depends on and nothing else, under which it can be kept: one
//! calibration serves every codebook, any trained state can be folded again.

mod calibrated;
mod folded;
mod proven;
mod trained;

use dyadic_engine::model::Normalization;
use dyadic_store::blob::Digest;
use dyadic_store::spec::JobSpec;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

pub use calibrated::Calibrated;
pub use folded::Folded;
pub use proven::{Known, Proven};
pub use trained::Trained;

use crate::arithmetic;
use crate::checkpoint::Origin;
use crate::data::Epoch;
use crate::error::WorkerError;
use crate::images::Coder;
use crate::memory;
use crate::net::Place;
use crate::observer::{Control, Observer, Phase, Progress};
use crate::quantize::{Request, hex, rules};
use dyadic_plan::{Plan, Rules, lower};

/// Statistics are taken from one image for so many that are trained on.
const TRAINED_SHARE: usize = 8;
/// But from so many in any case.
const FEW: usize = 512;

/// What every stage reads: the request and what follows from it at once.
pub struct Setup<'a> {
    /// What is to be quantized, its limits already applied.
    pub request: &'a Request<'a>,
    /// The lowered network.
    pub plan: Plan,
    /// Byte images to codes.
    pub coder: Coder,
    /// Where training runs.
    pub place: Place,
    /// What a checkpoint must agree on.
    pub origin: Origin,
    /// Bytes of memory that the run may take.
    pub memory: usize,
}

impl<'a> Setup<'a> {
    /// Checks the request and lowers its network.
    ///
    /// # Errors
    /// [`WorkerError::Refused`] and [`WorkerError::Invalid`]: what can be refused without running anything.
    pub fn new(request: &'a Request<'a>) -> Result<Self, WorkerError> {
        Setup::with_rules(request, &rules(request.spec)?)
    }

    /// As [`Setup::new`], with codebooks and widths that settings have no word for.
    ///
    /// # Errors
    /// As [`Setup::new`].
    pub fn with_rules(request: &'a Request<'a>, rules: &Rules) -> Result<Self, WorkerError> {
        let spec = request.spec;
        let plan = lower(request.network, rules).map_err(WorkerError::Refused)?;
        check_fit(&plan, request)?;
        arithmetic::set_threads(spec.threads);
        let normalization =
            Normalization { mean: spec.normalization.mean.clone(), std: spec.normalization.std.clone() };
        let coder = Coder::new(normalization, request.train.shape())?;
        let place = arithmetic::place(spec);
        let origin = Origin { fingerprint: fingerprint(request)?, arithmetic: arithmetic::describe(place) };
        let memory = request.memory.unwrap_or_else(memory::default_budget);
        let memory = usize::try_from(memory).unwrap_or(usize::MAX);
        Ok(Setup { request, plan, coder, place, origin, memory })
    }

    /// The settings.
    pub fn spec(&self) -> &'a JobSpec {
        self.request.spec
    }

    /// The training images that statistics are taken from, at most `most`, in the order in which they are taken where nothing
    /// is trained. A run that trains on few images takes few: they are not to cost more than they are worth.
    fn training(&self, most: usize) -> Vec<usize> {
        let (images, spec) = (self.request.train.len(), self.spec());
        let trained = images.saturating_mul(spec.epochs as usize);
        let most = if spec.epochs > 0 { most.min((trained / TRAINED_SHARE).max(FEW)) } else { most };
        let order = Epoch::new(images, spec.seed, u64::MAX);
        (0..most.min(images)).map(|i| order.index(i)).collect()
    }
}

/// Checks that images and labels fit the network.
fn check_fit(plan: &Plan, request: &Request) -> Result<(), WorkerError> {
    let shape = plan.tensors[0].shape;
    for data in [request.train, request.test] {
        let [height, width, channels] = data.shape();
        let have = [channels, height, width];
        if have != shape {
            return Err(WorkerError::Invalid(format!(
                "the network reads {shape:?} (channels, height, width) and the dataset has {have:?}"
            )));
        }
        if data.is_empty() {
            return Err(WorkerError::Invalid("the dataset has no image".into()));
        }
    }
    let outputs: usize = plan.tensors[plan.output].shape.iter().product();
    let highest = request.train.highest_label().max(request.test.highest_label());
    if let Some(highest) = highest.filter(|&highest| highest as usize >= outputs) {
        return Err(WorkerError::Invalid(format!(
            "label {highest} occurs, but the network has {outputs} outputs"
        )));
    }
    let used = request.train.len();
    if request.spec.epochs > 0 && used < request.spec.batch_size as usize {
        return Err(WorkerError::Invalid(format!(
            "{used} training images do not fill one batch of {}; choose a smaller batch",
            request.spec.batch_size
        )));
    }
    Ok(())
}

/// What a checkpoint must agree on to be resumed.
fn fingerprint(request: &Request) -> Result<String, WorkerError> {
    let spec = serde_json::to_string(request.spec).map_err(|e| WorkerError::Invalid(e.to_string()))?;
    let mut hash = Sha256::new();
    for part in [request.model_sha256.as_str(), &request.dataset_sha256, &spec] {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    Ok(hex(hash))
}

/// A digest over a stage's name and its inputs.
fn key(stage: &str, inputs: &impl Serialize) -> Result<Digest, WorkerError> {
    let inputs = serde_json::to_vec(&(env!("CARGO_PKG_VERSION"), stage, inputs));
    Ok(Digest::of(&inputs.map_err(|e| WorkerError::Invalid(e.to_string()))?))
}

/// Tells how far a phase is, and whether to go on.
pub(crate) fn report(
    observer: &mut dyn Observer,
    phase: Phase,
    done: usize,
    total: usize,
) -> Result<(), WorkerError> {
    match observer.progress(Progress { phase, done: done as u64, total: total as u64 }) {
        Control::Continue => Ok(()),
        Control::Stop => Err(WorkerError::Stopped),
    }
}
