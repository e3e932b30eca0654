//! A function of one variable, as a table over the input's codes.

use dyadic_engine::model as ir;
use tch::{Kind, Tensor};

use super::{Fake, Float, Site, Unit};
use crate::error::WorkerError;
use crate::export::Exporter;
use dyadic_plan::Unary;

/// A function of one variable.
pub(super) struct Table(pub(super) Unary);

impl Unit for Table {
    fn float(&self, at: &mut Float) -> Tensor {
        unary(at.inputs[0], self.0)
    }

    fn fake(&self, at: &Fake) -> Tensor {
        let x = at.inputs[0];
        let [input, output] = [at.unit.inputs[0], at.unit.output].map(|t| at.plan.tensors[t].coding.range());
        let steps = [at.step(at.unit.inputs[0]), at.step(at.unit.output)];
        let table = Tensor::from_slice(&entries(self.0, input, output, steps)).to_kind(Kind::Float);
        let index = x.detach().to_kind(Kind::Int64) - i64::from(input.0);
        let y = unary(&(x.to_kind(Kind::Float) * steps[0]), self.0) / steps[1];
        at.quantizer().replace(y, &table.to_device(x.device()).take(&index)).to_kind(x.kind())
    }

    fn export(&self, to: &Exporter, unit: &dyadic_plan::Unit) -> Result<ir::Op, WorkerError> {
        let steps = [to.step(unit.inputs[0]), to.step(unit.output)];
        Ok(ir::Op::Lut(entries(self.0, to.codes(unit.inputs[0]), to.codes(unit.output), steps)))
    }
}

/// One code of the output for each of the input, whose ranges and steps are given.
fn entries(f: Unary, (lo, hi): (i32, i32), range: (i32, i32), [input, output]: [f64; 2]) -> Vec<i16> {
    let entry = |code: i32| {
        let y = f.apply(f64::from(code) * input) / output;
        (y + 0.5).floor().clamp(f64::from(range.0), f64::from(range.1)) as i16
    };
    (lo..=hi).map(entry).collect()
}

fn unary(x: &Tensor, f: Unary) -> Tensor {
    match f {
        Unary::Relu => x.relu(),
        Unary::Clip(hi) => x.clamp(0.0, f64::from(hi)),
        Unary::LeakyRelu(slope) => x.clamp_min(0.0) + x.clamp_max(0.0) * f64::from(slope),
        Unary::Elu(alpha) => x.clamp_min(0.0) + (x.clamp_max(0.0).exp() - 1.0) * f64::from(alpha),
        Unary::Sigmoid => x.sigmoid(),
        Unary::HardSigmoid(alpha, beta) => (x * f64::from(alpha) + f64::from(beta)).clamp(0.0, 1.0),
        Unary::Silu => x.silu(),
        Unary::HardSwish => x.hardswish(),
        Unary::Gelu(tanh) => x.gelu(if tanh { "tanh" } else { "none" }),
        Unary::Tanh => x.tanh(),
    }
}

/// The table and the index of code 0.
pub(super) struct Exact {
    values: Tensor,
    zero: i64,
}

impl Exact {
    pub(super) fn new(table: &[i16], at: &Site) -> Self {
        let (lowest, _) = at.model.tensor(at.node.inputs[0]).format.range();
        let values = Tensor::from_slice(table).to_kind(Kind::Float).to_device(at.device);
        Exact { values, zero: -i64::from(lowest) }
    }
}

impl super::Exact for Exact {
    fn run(&self, inputs: &[&Tensor]) -> Tensor {
        self.values.take(&(inputs[0].to_kind(Kind::Int64) + self.zero))
    }
}
