//! Channels chosen by their numbers; codes pass as they are.

use dyadic_engine::model as ir;
use tch::Tensor;

use super::{Fake, Float, Site, Unit};
use crate::error::WorkerError;
use crate::export::Exporter;

/// The input's channels of these numbers.
pub(super) struct Select<'a>(pub(super) &'a [u32]);

impl Unit for Select<'_> {
    fn float(&self, at: &mut Float) -> Tensor {
        chosen(at.inputs[0], &numbers(self.0, at.inputs[0].device()))
    }

    fn fake(&self, at: &Fake) -> Tensor {
        chosen(at.inputs[0], &numbers(self.0, at.inputs[0].device()))
    }

    fn export(&self, _: &Exporter, _: &dyadic_plan::Unit) -> Result<ir::Op, WorkerError> {
        Ok(ir::Op::Select(self.0.to_vec()))
    }
}

/// The same on the engine's list.
pub(super) struct Exact(Tensor);

impl Exact {
    pub(super) fn new(channels: &[u32], at: &Site) -> Self {
        Exact(numbers(channels, at.device))
    }
}

impl super::Exact for Exact {
    fn run(&self, inputs: &[&Tensor]) -> Tensor {
        chosen(inputs[0], &self.0)
    }
}

fn numbers(channels: &[u32], device: tch::Device) -> Tensor {
    let channels: Vec<i64> = channels.iter().map(|&channel| channel.into()).collect();
    Tensor::from_slice(&channels).to_device(device)
}

fn chosen(x: &Tensor, channels: &Tensor) -> Tensor {
    x.index_select(1, channels)
}
