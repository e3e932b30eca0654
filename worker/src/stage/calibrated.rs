//! The first stage: the float network measured, and the state that training starts from.

use dyadic_store::blob::Digest;
use tch::Kind;

use super::{Setup, key, report};
use crate::batch;
use crate::calibrate::Calibration;
use crate::checkpoint::Checkpoint;
use crate::error::WorkerError;
use crate::net::{FloatNet, Place, correct};
use crate::observer::{Control, Observer, Phase};
use crate::state::State;

/// Calibration sees this many training images.
const IMAGES: usize = 10_000;

/// The float network's accuracy and a state that computes what it computes.
#[derive(Debug, Clone)]
pub struct Calibrated {
    /// Over network, images, normalization and activation widths; codebooks do not matter.
    pub key: Digest,
    /// Normalizations that change nothing, activation steps; or a checkpoint's state, part of the way.
    pub state: State,
    /// Top-1 of the float network on the evaluation images; 0 where these have no labels.
    pub float_accuracy: f64,
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
            Some(bytes) => Some(Checkpoint::from_bytes(bytes, &setup.plan, &setup.origin)?),
            None => None,
        };
        if let Some(Checkpoint { state, float_accuracy: Some(float_accuracy), .. }) = resumed {
            observer.log(&format!("resuming at step {}", state.step));
            return Ok(Calibrated { key, state, float_accuracy });
        }
        let float_accuracy = if request.labelled { measure_float(setup, observer)? } else { 0.0 };
        if request.labelled {
            observer.metric("float/accuracy", 0, float_accuracy);
            observer.log(&format!("float network: {:.2} %", 100.0 * float_accuracy));
        }
        let calibrated = Calibrated { key, state: calibrate(setup, observer)?, float_accuracy };
        // Calibration may have taken as long as many steps.
        if observer.wants_checkpoint(0)
            && observer.checkpoint(calibrated.checkpoint(&calibrated.state, setup)?, 0) == Control::Stop
        {
            return Err(WorkerError::Stopped);
        }
        Ok(calibrated)
    }

    /// A checkpoint of a state that was trained from this.
    pub(super) fn checkpoint(&self, state: &State, setup: &Setup) -> Result<Vec<u8>, WorkerError> {
        let float_accuracy = Some(self.float_accuracy);
        Checkpoint { origin: setup.origin.clone(), state: state.clone(), float_accuracy }.to_bytes()
    }
}

fn measure_float(setup: &Setup, observer: &mut dyn Observer) -> Result<f64, WorkerError> {
    let place = Place { kind: Kind::Float, ..setup.place };
    let net = FloatNet::new(&setup.plan, place);
    let (count, batch, mut hits) = (setup.request.test.len(), batch::images(&setup.plan), 0);
    for start in (0..count).step_by(batch) {
        let indices: Vec<usize> = (start..(start + batch).min(count)).collect();
        let (images, labels) = setup.coder.real_batch(setup.request.test, &indices, place);
        hits += correct(&net.logits(&setup.plan, &images), &labels);
        report(observer, Phase::Calibrate, start + indices.len(), count)?;
    }
    Ok(hits as f64 / count.max(1) as f64)
}

fn calibrate(setup: &Setup, observer: &mut dyn Observer) -> Result<State, WorkerError> {
    let place = Place { kind: Kind::Float, ..setup.place };
    let mut calibration = Calibration::new(&setup.plan, place);
    let images = setup.training(IMAGES);
    let mut done = 0;
    for indices in images.chunks(batch::images(&setup.plan)) {
        calibration.add(&setup.coder.real_batch(setup.request.train, indices, place).0);
        done += indices.len();
        report(observer, Phase::Calibrate, done, images.len())?;
    }
    calibration.finish(setup.coder.step, setup.spec().ema.is_some())
}
