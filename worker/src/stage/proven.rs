//! The last stage: the integer network run by the engine on every evaluation image, equal to the training graph's.

use dyadic_store::blob::Digest;

use super::{Folded, Setup, key};
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

impl Proven {
    /// Runs the evaluation images through both. `float` is what is known of the float network's answers for them.
    ///
    /// # Errors
    /// [`WorkerError::NotExact`] if any logit differs in any bit.
    pub fn new(
        from: &Folded,
        float: &FloatOutputs,
        setup: &Setup,
        observer: &mut dyn Observer,
    ) -> Result<Self, WorkerError> {
        let evaluation = Evaluation {
            plan: &setup.plan,
            model: &from.model,
            data: setup.request.test,
            coder: &setup.coder,
            float,
            memory: setup.memory,
        };
        let exactness = evaluate(&evaluation, observer)?;
        Ok(Proven { key: key("proven", &from.key)?, exactness })
    }

    /// Top-1 of the engine.
    pub fn accuracy(&self) -> f64 {
        self.exactness.correct as f64 / self.exactness.images.max(1) as f64
    }
}
