//! The second stage: fine-tuned, codebooks fitted.

use std::time::Instant;

use dyadic_store::blob::Digest;

use super::{Calibrated, Setup, key};
use crate::error::WorkerError;
use crate::observer::Observer;
use crate::state::State;
use crate::train::Trainer;

/// A state whose filters are fitted, ready to be folded.
#[derive(Debug, Clone)]
pub struct Trained {
    /// Over the calibrated stage and all settings.
    pub key: Digest,
    /// Averages in place of values, where averages are kept.
    pub state: State,
    /// As measured before.
    pub float_accuracy: f64,
    /// Training images a second over the steps that this run did; 0 if none.
    pub images_per_second: f64,
}

impl Trained {
    /// Trains to the end of the last epoch.
    ///
    /// # Errors
    /// As [`Trainer::run`].
    pub fn new(from: &Calibrated, setup: &Setup, observer: &mut dyn Observer) -> Result<Self, WorkerError> {
        let (request, spec, place) = (setup.request, setup.spec(), setup.place);
        let first_step = from.state.step;
        let float_accuracy = from.float_accuracy;
        let mut trainer =
            Trainer::new(&setup.plan, spec, request.train, &setup.coder, place, from.state.clone());
        trainer.labelled = request.labelled;
        let snapshot = |state: &State| from.checkpoint(state, setup);
        let started = Instant::now();
        let mut other_work = 0.0;
        trainer.run(observer, &snapshot, &mut |trainer, observer, epoch| {
            // The engine's answer to the same images follows the last epoch.
            if !request.labelled || epoch + 1 >= u64::from(spec.epochs) {
                return Ok(());
            }
            let began = Instant::now();
            let accuracy = trainer.accuracy(request.test, observer)?;
            observer.metric("epoch/accuracy", epoch as i64 + 1, accuracy);
            observer.log(&format!(
                "epoch {} of {}: {:.2} % (training graph)",
                epoch + 1,
                spec.epochs,
                100.0 * accuracy
            ));
            other_work += began.elapsed().as_secs_f64();
            Ok(())
        })?;
        let images = (trainer.state.step - first_step) * u64::from(spec.batch_size);
        let seconds = started.elapsed().as_secs_f64() - other_work;
        let images_per_second = if images == 0 { 0.0 } else { images as f64 / seconds };
        let state = trainer.into_exported()?;
        Ok(Trained { key: key("trained", &(from.key, spec))?, state, float_accuracy, images_per_second })
    }
}
