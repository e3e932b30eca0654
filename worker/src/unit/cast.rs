//! The same values in another width or step.

use dyadic_engine::model as ir;
use tch::{Kind, Tensor};

use super::rule::Rule;
use super::{Fake, Float, Site, Unit};
use crate::error::WorkerError;
use crate::export::Exporter;

/// Re-codes its input.
pub(super) struct Cast;

impl Unit for Cast {
    fn float(&self, at: &mut Float) -> Tensor {
        at.inputs[0].shallow_clone()
    }

    fn fake(&self, at: &Fake) -> Tensor {
        let x = at.inputs[0];
        let (lo, hi) = at.plan.tensors[at.unit.inputs[0]].coding.range();
        let bound = lo.unsigned_abs().max(hi.unsigned_abs());
        at.uniform(&x.to_kind(Kind::Float), at.ratio(0), bound).to_kind(at.kind(x))
    }

    fn export(&self, to: &Exporter, unit: &dyadic_plan::Unit) -> Result<ir::Op, WorkerError> {
        Ok(ir::Op::Affine(to.uniform(unit, to.ratio(unit, 0), to.reach(unit.inputs[0]))?))
    }
}

/// A requantization of codes.
pub(super) struct Exact(Rule);

impl Exact {
    pub(super) fn new(rule: &ir::Requantize, at: &Site) -> Self {
        Exact(Rule::new(rule, at.device))
    }
}

impl super::Exact for Exact {
    fn run(&self, inputs: &[&Tensor]) -> Tensor {
        self.0.apply(inputs[0], None)
    }
}
