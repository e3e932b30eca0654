//! The first stage: the float network measured, and the state that training starts from.

use dyadic_store::blob::Digest;
use tch::Kind;

use super::{Setup, key, report};
use crate::batch;
use crate::calibrate::Calibration;
use crate::checkpoint::{self, Checkpoint, Measuring, Resumed, Verified};
use crate::error::WorkerError;
use crate::float::{self, FloatOutputs};
use crate::images::{ahead, labels};
use crate::net::{FloatNet, Place, correct};
use crate::observer::{Control, Observer, Phase};
use crate::state::State;
use dyadic_plan::Plan;

/// Calibration sees this many training images,
const IMAGES: usize = 10_000;
/// or fewer where they come to more multiply-accumulates than this,
const MACS: u64 = 1 << 41;
/// but not fewer than this.
const FEWEST: usize = 512;

/// The float network's accuracy and a state that computes what it computes.
#[derive(Debug, Clone)]
pub struct Calibrated {
    /// Over network, images, normalization and activation widths; codebooks do not matter.
    pub key: Digest,
    /// Normalizations that change nothing, activation steps; or a checkpoint's state, part of the way.
    pub state: State,
    /// Top-1 of the float network on the evaluation images; 0 where these have no labels.
    pub float_accuracy: f64,
    /// What it answered for them, as far as that is known already.
    pub float: FloatOutputs,
    /// Of a checkpoint that was trained to its end: what the engine has been held to already.
    pub verified: Option<Verified>,
}

impl Calibrated {
    /// Measures and calibrates, or takes the state of the request's checkpoint.
    ///
    /// # Errors
    /// [`WorkerError::Checkpoint`], [`WorkerError::Stopped`] and what calibration finds.
    pub fn new(setup: &Setup, observer: &mut dyn Observer) -> Result<Self, WorkerError> {
        let (request, spec) = (setup.request, setup.spec());
        let key = key(
            "calibrated",
            &(
                (&request.model_sha256, &request.dataset_sha256, &setup.origin.arithmetic),
                (&spec.normalization, spec.activation_bits, spec.seed, spec.ema.is_some()),
                (spec.train_limit, spec.eval_limit),
            ),
        )?;
        let resumed = match request.resume {
            Some(bytes) => Some(Resumed::from_bytes(bytes, &setup.plan, &setup.origin)?),
            None => None,
        };
        let (mut known, mut begun) = (None, Measuring { images: 0, done: 0, hits: 0 });
        match resumed {
            Some(Resumed::Measuring(measuring)) => {
                observer.log(&format!(
                    "resuming at step 0: the float network is measured on {} images already",
                    measuring.done
                ));
                begun = measuring;
            }
            Some(Resumed::Measured(accuracy)) => known = Some(accuracy),
            Some(Resumed::State(checkpoint)) => {
                if let Checkpoint { state, float_accuracy: Some(float_accuracy), verified, .. } = *checkpoint
                {
                    observer.log(&format!("resuming at step {}", state.step));
                    let float = FloatOutputs::default();
                    return Ok(Calibrated { key, state, float_accuracy, float, verified });
                }
            }
            None => {}
        }
        let mut float = FloatOutputs::new(&setup.plan, request.test.len());
        let float_accuracy = match known {
            Some(accuracy) => {
                observer.log("resuming at step 0: the float network is measured already");
                accuracy
            }
            None if request.labelled => measure_and_keep(setup, begun, &mut float, observer)?,
            None => 0.0,
        };
        let state = calibrate(setup, &mut float, observer)?;
        let calibrated = Calibrated { key, state, float_accuracy, float, verified: None };
        // Calibration may have taken as long as many steps.
        if observer.wants_checkpoint(0)
            && observer.checkpoint(calibrated.checkpoint(&calibrated.state, setup)?, 0) == Control::Stop
        {
            return Err(WorkerError::Stopped);
        }
        Ok(calibrated)
    }

    /// What the float network answered, once the state is not needed any more.
    #[must_use]
    pub fn into_float(self) -> FloatOutputs {
        self.float
    }

    /// A checkpoint of a state that was trained from this.
    pub(super) fn checkpoint(&self, state: &State, setup: &Setup) -> Result<Vec<u8>, WorkerError> {
        let (origin, float_accuracy) = (setup.origin.clone(), Some(self.float_accuracy));
        Checkpoint { origin, state: state.clone(), float_accuracy, verified: None }.to_bytes()
    }
}

/// Measures the float network, tells its accuracy, and keeps it: that may have taken long.
fn measure_and_keep(
    setup: &Setup,
    begun: Measuring,
    float: &mut FloatOutputs,
    observer: &mut dyn Observer,
) -> Result<f64, WorkerError> {
    let accuracy = measure_float(setup, begun, float, observer)?;
    observer.metric("float/accuracy", 0, accuracy);
    observer.log(&format!("float network: {:.2} %", 100.0 * accuracy));
    if observer.wants_checkpoint(0)
        && observer.checkpoint(checkpoint::measured(&setup.origin, accuracy)?, 0) == Control::Stop
    {
        return Err(WorkerError::Stopped);
    }
    Ok(accuracy)
}

fn measure_float(
    setup: &Setup,
    begun: Measuring,
    float: &mut FloatOutputs,
    observer: &mut dyn Observer,
) -> Result<f64, WorkerError> {
    let (data, plan) = (setup.request.test, &setup.plan);
    let place = Place { kind: Kind::Float, ..setup.place };
    let net = FloatNet::new(plan, place);
    let (size, mut so_far) = (batch::images(plan), begun);
    let left: Vec<usize> = (begun.images as usize..data.len()).collect();
    for batch in ahead(data, &left, size, None) {
        let batch = batch?;
        so_far.images = (so_far.images + size as u64).min(data.len() as u64);
        if !batch.indices.is_empty() {
            let logits = net.logits(plan, &setup.coder.real(&batch, place));
            so_far.hits += correct(&logits, &labels(&batch, place)) as u64;
            float.keep(&batch.indices, &float::values(plan, &logits)?);
        }
        so_far.done += batch.indices.len() as u64;
        report(observer, Phase::Float, so_far.images as usize, data.len())?;
        if observer.wants_checkpoint_within(Phase::Float)
            && observer.checkpoint(checkpoint::measuring(&setup.origin, so_far)?, 0) == Control::Stop
        {
            return Err(WorkerError::Stopped);
        }
    }
    Ok(so_far.hits as f64 / so_far.done.max(1) as f64)
}

/// Where nothing has measured the float network and the images are those of the evaluation, its answers are kept, too.
fn calibrate(
    setup: &Setup,
    float: &mut FloatOutputs,
    observer: &mut dyn Observer,
) -> Result<State, WorkerError> {
    let (request, plan) = (setup.request, &setup.plan);
    let place = Place { kind: Kind::Float, ..setup.place };
    let mut calibration = Calibration::new(plan, place);
    let images = setup.training(images(plan));
    let known = std::ptr::eq(request.train, request.test) && !request.labelled;
    let mut done = 0;
    for batch in ahead(request.train, &images, batch::images(plan), None) {
        let batch = batch?;
        if batch.indices.is_empty() {
            continue;
        }
        let outputs = calibration.add(&setup.coder.real(&batch, place));
        if known {
            float.keep(&batch.indices, &float::values(plan, &outputs)?);
        }
        done += batch.indices.len();
        report(observer, Phase::Calibrate, done, images.len())?;
    }
    calibration.finish(setup.coder.step, setup.spec().ema.is_some())
}

/// How many images calibrate a network at most.
fn images(plan: &Plan) -> usize {
    let macs: u64 = plan.weights.iter().map(|w| w.macs).sum();
    usize::try_from(MACS / macs.max(1)).unwrap_or(IMAGES).clamp(FEWEST, IMAGES)
}
