//! Mean over windows; padding counts as zero.

use dyadic_engine::model as ir;
use dyadic_graph::network::Window;
use tch::{Kind, Tensor};

use super::rule::Rule;
use super::{Fake, Float, Site, Unit, from_window, pair, to_window};
use crate::error::WorkerError;
use crate::export::Exporter;

/// Mean over windows.
pub(super) struct AveragePool<'a>(pub(super) &'a Window);

impl AveragePool<'_> {
    fn positions(&self) -> u32 {
        (self.0.kernel[0] * self.0.kernel[1]) as u32
    }
}

impl Unit for AveragePool<'_> {
    fn float(&self, at: &mut Float) -> Tensor {
        sum(at.inputs[0], self.0) / f64::from(self.positions())
    }

    fn fake(&self, at: &Fake) -> Tensor {
        let x = at.inputs[0];
        let positions = self.positions();
        let (lo, hi) = at.plan.tensors[at.unit.inputs[0]].coding.range();
        let bound = lo.unsigned_abs().max(hi.unsigned_abs()).saturating_mul(positions);
        let sum = sum(&x.to_kind(Kind::Float), self.0);
        at.uniform(&sum, at.ratio(0) / f64::from(positions), bound).to_kind(at.kind(x))
    }

    fn export(&self, to: &Exporter, unit: &dyadic_plan::Unit) -> Result<ir::Op, WorkerError> {
        let positions = self.positions();
        let bound = to.reach(unit.inputs[0]).saturating_mul(positions);
        let rule = to.uniform(unit, to.ratio(unit, 0) / f64::from(positions), bound)?;
        Ok(ir::Op::AvgPool(to_window(self.0), rule))
    }
}

/// Sum over windows, which have no dilation (the plan refuses one); padding counts as zero. Of integers it is exact while
/// it stays below 2^24.
fn sum(x: &Tensor, window: &Window) -> Tensor {
    let kernel = pair(window.kernel);
    if kernel == x.size()[2..] && window.padding == [0; 4] {
        return x.sum_dim_intlist([2i64, 3].as_slice(), true, x.kind());
    }
    let [top, left, bottom, right] = window.padding.map(|p| p as i64);
    let x = if window.padding == [0; 4] { x.shallow_clone() } else { x.zero_pad2d(left, right, top, bottom) };
    x.avg_pool2d(kernel, pair(window.stride), [0, 0], false, true, 1)
}

/// The exact sum over windows, requantized.
pub(super) struct Exact {
    window: Window,
    rule: Rule,
}

impl Exact {
    pub(super) fn new(window: &ir::Window, rule: &ir::Requantize, at: &Site) -> Self {
        Exact { window: from_window(window), rule: Rule::new(rule, at.device) }
    }
}

impl super::Exact for Exact {
    fn run(&self, inputs: &[&Tensor]) -> Tensor {
        self.rule.apply(&sum(inputs[0], &self.window), None)
    }
}
