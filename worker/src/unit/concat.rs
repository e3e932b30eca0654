//! Tensors of one coding side by side, along channels.

use dyadic_engine::model as ir;
use tch::Tensor;

use super::{Fake, Float, Unit};
use crate::error::WorkerError;
use crate::export::Exporter;

/// Along channels.
pub(super) struct Concat;

impl Unit for Concat {
    fn float(&self, at: &mut Float) -> Tensor {
        Tensor::cat(&at.inputs, 1)
    }

    fn fake(&self, at: &Fake) -> Tensor {
        Tensor::cat(&at.inputs, 1)
    }

    fn export(&self, _: &Exporter, _: &dyadic_plan::Unit) -> Result<ir::Op, WorkerError> {
        Ok(ir::Op::Concat)
    }
}

/// The codes as they are.
pub(super) struct Exact;

impl super::Exact for Exact {
    fn run(&self, inputs: &[&Tensor]) -> Tensor {
        Tensor::cat(inputs, 1)
    }
}
