//! The third stage: the integer network, not yet compared with the engine.

use std::sync::Arc;

use dyadic_engine::model::Model;
use dyadic_store::blob::Digest;
use dyadic_store::spec::Requant;
use tch::{Device, Kind};

use super::{Setup, Trained, key};
use crate::batch;
use crate::data::Augment;
use crate::error::WorkerError;
use crate::export::Naming;
use crate::images::ahead;
use crate::net::Place;
use crate::observer::Observer;
use crate::recalibrate::{self, Folding};
use crate::state::State;

/// The integer network and the state that it was folded from.
#[derive(Debug, Clone)]
pub struct Folded {
    /// Over the trained stage.
    pub key: Digest,
    /// Its statistics are those of the integer network.
    pub state: State,
    /// Checked.
    pub model: Arc<Model>,
}

impl Folded {
    /// Builds the integer network, unit by unit.
    ///
    /// # Errors
    /// As [`recalibrate::build`].
    pub fn new(from: &Trained, setup: &Setup, observer: &mut dyn Observer) -> Result<Self, WorkerError> {
        let (request, spec, plan) = (setup.request, setup.spec(), &setup.plan);
        let mut state = from.state.clone();
        let classes = if request.classes.is_empty() { request.test.classes() } else { request.classes };
        let naming = Naming {
            normalization: Some(setup.coder.normalization.clone()),
            labels: class_names(classes, plan.tensors[plan.output].shape.iter().product()),
            shift_only: spec.requant == Requant::Shift,
        };
        // As training saw them: its statistics are what the weights were adapted to. Without training, as calibration did.
        let trained = from.state.step > 0;
        let augment = (trained && spec.augment).then_some(Augment { seed: spec.seed, epoch: u64::MAX });
        let place = Place { device: Device::Cpu, kind: Kind::Int8 };
        let images = setup.training(recalibrate::images(plan));
        let mut codes = Vec::new();
        for batch in ahead(request.train, &images, batch::exact_images(plan, setup.memory), augment) {
            let batch = batch?;
            if !batch.indices.is_empty() {
                codes.push(setup.coder.codes(&batch, place));
            }
        }
        let folding = Folding { plan, naming: &naming, batches: &codes, memory: setup.memory };
        let model = Arc::new(recalibrate::build(&folding, &mut state, observer)?);
        Ok(Folded { key: key("folded", &from.key)?, state, model })
    }
}

/// One name for each output, or none: a network may have more outputs than the dataset has classes.
fn class_names(known: &[String], outputs: usize) -> Vec<String> {
    if known.is_empty() || known.len() > outputs {
        return Vec::new();
    }
    known.iter().cloned().chain((known.len()..outputs).map(|i| i.to_string())).collect()
}
