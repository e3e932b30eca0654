//! The third stage: the integer network, not yet compared with the engine.

use std::sync::Arc;

use dyadic_engine::model::Model;
use dyadic_store::blob::Digest;
use dyadic_store::spec::Requant;
use tch::{Device, Kind};

use super::{BATCH, Setup, Trained, key};
use crate::data::Augment;
use crate::error::WorkerError;
use crate::export::Naming;
use crate::net::Place;
use crate::observer::Observer;
use crate::recalibrate;
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
        let naming = Naming {
            normalization: Some(setup.coder.normalization.clone()),
            labels: class_names(&request.test.classes, plan.tensors[plan.output].shape.iter().product()),
            shift_only: spec.requant == Requant::Shift,
        };
        let order = setup.order();
        // As training saw them: its statistics are what the weights were adapted to.
        let augment = spec.augment.then_some(Augment { seed: spec.seed, epoch: u64::MAX });
        let count = recalibrate::images(plan).min(request.train.len());
        let place = Place { device: Device::Cpu, kind: Kind::Float };
        let codes: Vec<_> = (0..count)
            .step_by(BATCH)
            .map(|start| {
                let indices: Vec<usize> =
                    (start..(start + BATCH).min(count)).map(|i| order.index(i)).collect();
                setup.coder.batch(request.train, &indices, augment, place).0
            })
            .collect();
        let model = Arc::new(recalibrate::build(plan, &mut state, &naming, &codes, observer)?);
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
