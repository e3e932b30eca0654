//! A function of one variable, as a table over the input's codes.

use dyadic_engine::model as ir;
use tch::{Kind, Tensor};

use super::{Fake, Float, Site, Unit};
use crate::error::WorkerError;
use crate::export::Exporter;
use dyadic_plan::{Act, Unary};

/// A function of one variable.
pub(super) struct Table(pub(super) Unary);

impl Unit for Table {
    fn float(&self, at: &mut Float) -> Tensor {
        unary(at.inputs[0], self.0)
    }

    fn fake(&self, at: &Fake) -> Tensor {
        let y = unary(&(at.inputs[0] * at.step(at.unit.inputs[0])), self.0) / at.step(at.unit.output);
        at.quantizer().apply(y, Act::None)
    }

    fn export(&self, to: &Exporter, unit: &dyadic_plan::Unit) -> Result<ir::Op, WorkerError> {
        let (lo, hi) = to.codes(unit.inputs[0]);
        let (out_lo, out_hi) = to.range(unit.output, Act::None);
        let entry = |code: i32| {
            let y = self.0.apply(f64::from(code) * to.step(unit.inputs[0])) / to.step(unit.output);
            (y + 0.5).floor().clamp(f64::from(out_lo), f64::from(out_hi)) as i16
        };
        Ok(ir::Op::Lut((lo..=hi).map(entry).collect()))
    }
}

fn unary(x: &Tensor, f: Unary) -> Tensor {
    match f {
        Unary::Relu => x.relu(),
        Unary::Clip(hi) => x.clamp(0.0, f64::from(hi)),
        Unary::LeakyRelu(slope) => x.maximum(&(x * f64::from(slope))),
        Unary::Sigmoid => x.sigmoid(),
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
