//! The last stage: the integer network run by the engine on every evaluation image, equal to the training graph's.

use dyadic_store::blob::Digest;

use super::{Folded, Setup, Trained, key};
use crate::checkpoint::{Checkpoint, Verified};
use crate::error::WorkerError;
use crate::evaluate::{Evaluation, Exactness, evaluate};
use crate::float::FloatOutputs;
use crate::observer::Observer;

/// What the engine computes, and that it is what was trained.
#[derive(Debug, Clone)]
pub struct Proven {
    /// Over the folded stage.
    pub key: Digest,
    /// Images, hits and the digest of all outputs.
    pub exactness: Exactness,
}

/// What need not be computed again.
#[derive(Debug)]
pub struct Known<'a> {
    /// The float network's answers, as far as they are known.
    pub float: &'a FloatOutputs,
    /// What a run that was interrupted has held the engine to.
    pub verified: Option<Verified>,
}

impl Proven {
    /// Runs the evaluation images through both; checkpoints go on from `trained`.
    ///
    /// # Errors
    /// [`WorkerError::NotExact`] if any logit differs in any bit, [`WorkerError::Stopped`] if the observer says so.
    pub fn new(
        from: &Folded,
        trained: &Trained,
        known: Known,
        setup: &Setup,
        observer: &mut dyn Observer,
    ) -> Result<Self, WorkerError> {
        let evaluation = Evaluation {
            plan: &setup.plan,
            model: &from.model,
            data: setup.request.test,
            coder: &setup.coder,
            float: known.float,
            memory: setup.memory,
            state_sha256: from.state.sha256(),
            step: trained.state.step,
            snapshot: &|verified| {
                Checkpoint {
                    origin: setup.origin.clone(),
                    state: trained.state.clone(),
                    float_accuracy: Some(trained.float_accuracy),
                    verified: Some(verified),
                }
                .to_bytes()
            },
        };
        let exactness = evaluate(&evaluation, known.verified, observer)?;
        Ok(Proven { key: key("proven", &from.key)?, exactness })
    }

    /// Top-1 of the engine.
    pub fn accuracy(&self) -> f64 {
        self.exactness.correct as f64 / self.exactness.images.max(1) as f64
    }
}
