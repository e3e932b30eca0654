//! Mean over windows; padding counts as zero.

use dyadic_engine::model as ir;
use dyadic_graph::network::Window;
use tch::{Kind, Tensor};

use super::conv::convolve;
use super::rule::Rule;
use super::{Fake, Float, Site, Unit, from_window, pair, to_window};
use crate::error::WorkerError;
use crate::export::Exporter;
use dyadic_plan::TensorPlan;

/// Mean over windows.
pub(super) struct AveragePool<'a>(pub(super) &'a Window);

impl AveragePool<'_> {
    fn positions(&self) -> u32 {
        (self.0.kernel[0] * self.0.kernel[1]) as u32
    }
}

impl Unit for AveragePool<'_> {
    fn float(&self, at: &mut Float) -> Tensor {
        average(at.inputs[0], &at.plan.tensors[at.unit.inputs[0]], self.0)
    }

    fn fake(&self, at: &Fake) -> Tensor {
        let x = at.inputs[0];
        let positions = self.positions();
        let input = &at.plan.tensors[at.unit.inputs[0]];
        let sum = average(&x.to_kind(Kind::Float), input, self.0) * f64::from(positions);
        let (lo, hi) = input.coding.range();
        let bound = lo.unsigned_abs().max(hi.unsigned_abs()).saturating_mul(positions);
        at.uniform(&sum, at.ratio(0) / f64::from(positions), bound).to_kind(x.kind())
    }

    fn export(&self, to: &Exporter, unit: &dyadic_plan::Unit) -> Result<ir::Op, WorkerError> {
        let positions = self.positions();
        let bound = to.reach(unit.inputs[0]).saturating_mul(positions);
        let rule = to.uniform(unit, to.ratio(unit, 0) / f64::from(positions), bound)?;
        Ok(ir::Op::AvgPool(to_window(self.0), rule))
    }
}

/// Sum over windows divided by the window's size; padding counts as zero.
fn average(x: &Tensor, tensor: &TensorPlan, window: &Window) -> Tensor {
    if window.dilation != [1, 1] {
        let [kh, kw] = pair(window.kernel);
        let channels = tensor.shape[0] as i64;
        let ones = Tensor::ones([channels, 1, kh, kw], (x.kind(), x.device()));
        return convolve(x, &ones, window, tensor.shape[0]) / (kh * kw) as f64;
    }
    if window.kernel == [tensor.shape[1], tensor.shape[2]] && window.padding == [0; 4] {
        return x.mean_dim([2i64, 3].as_slice(), true, x.kind());
    }
    let [top, left, bottom, right] = window.padding.map(|p| p as i64);
    let x = if window.padding == [0; 4] { x.shallow_clone() } else { x.zero_pad2d(left, right, top, bottom) };
    x.avg_pool2d(pair(window.kernel), pair(window.stride), [0, 0], false, true, None)
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
        // With a divisor of 1 the pool is the sum, exact while it stays below 2^24 (checked by the engine's bounds).
        let x = inputs[0];
        let channels = x.size()[1];
        let [kh, kw] = pair(self.window.kernel);
        let sum = if self.window.dilation == [1, 1] {
            let [top, left, bottom, right] = self.window.padding.map(|p| p as i64);
            let x = x.zero_pad2d(left, right, top, bottom);
            x.avg_pool2d([kh, kw], pair(self.window.stride), [0, 0], false, true, 1)
        } else {
            let ones = Tensor::ones([channels, 1, kh, kw], (x.kind(), x.device()));
            convolve(x, &ones, &self.window, channels as usize)
        };
        self.rule.apply(&sum, None)
    }
}
