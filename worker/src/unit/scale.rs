//! Product of two tensors, of which the second is held to few signed digits; it may have one code a channel.

use dyadic_engine::model as ir;
use tch::{Kind, Tensor};

use super::{Fake, Float, Site, Unit, act};
use crate::error::WorkerError;
use crate::export::Exporter;
use dyadic_plan::{Act, Refusal};

/// Product, then the activation.
pub(super) struct Scale {
    pub(super) act: Act,
    pub(super) digits: u8,
}

impl Unit for Scale {
    fn float(&self, at: &mut Float) -> Tensor {
        act::apply(at.inputs[0] * at.inputs[1], self.act)
    }

    fn fake(&self, at: &Fake) -> Tensor {
        // Products of codes need more bits than bf16 has.
        let [x, gate] = [0, 1].map(|i| at.inputs[i].to_kind(Kind::Float));
        let unit = at.step(at.unit.inputs[0]) * at.step(at.unit.inputs[1]) / at.step(at.unit.output);
        let (lo, hi) = at.plan.tensors[at.unit.inputs[1]].coding.range();
        let factors = Factors::new(self.digits, lo, hi, x.device());
        let exact = {
            let _guard = tch::no_grad_guard();
            // Powers of two, so that f32 holds every step of it.
            (&x * factors.of(&gate) * unit + 0.5).floor()
        };
        // The gate's codes are what it multiplies with, as far as the gradient goes.
        let product = x * gate * unit;
        let quantizer = at.quantizer();
        let (least, most) = quantizer.range(self.act);
        quantizer.replace_after(product, self.act, &exact.clamp(least, most)).to_kind(at.kind(at.inputs[0]))
    }

    /// `(x·factor + 2^(s−1)) >> s`.
    fn export(&self, to: &Exporter, unit: &dyadic_plan::Unit) -> Result<ir::Op, WorkerError> {
        let shift = to.exponent(unit.output) - to.exponent(unit.inputs[0]) - to.exponent(unit.inputs[1]);
        if !(0..=22).contains(&shift) {
            let reason = format!(
                "the steps that calibration or training gave the product and its operands differ by 2^{shift}"
            );
            return Err(Refusal::new(&unit.name, reason).into());
        }
        let (lo, hi) = to.range(unit.output, self.act);
        let bias = if shift > 0 { 1 << (shift - 1) } else { 0 };
        Ok(ir::Op::Scale(ir::Scale { digits: self.digits, bias, shift: shift as u8, lo, hi }))
    }
}

/// What each code of a gate multiplies with.
struct Factors {
    values: Tensor,
    lowest: i64,
}

impl Factors {
    fn new(digits: u8, lo: i32, hi: i32, device: tch::Device) -> Self {
        let rule = ir::Scale { digits, bias: 0, shift: 0, lo: 0, hi: 0 };
        let values: Vec<f32> = (lo..=hi).map(|gate| rule.factor(gate) as f32).collect();
        Factors { values: Tensor::from_slice(&values).to_device(device), lowest: lo.into() }
    }

    fn of(&self, gate: &Tensor) -> Tensor {
        self.values.take(&(gate.detach().to_kind(Kind::Int64) - self.lowest))
    }
}

/// The engine's rule.
pub(super) struct Exact {
    rule: ir::Scale,
    factors: Factors,
}

impl Exact {
    pub(super) fn new(rule: &ir::Scale, at: &Site) -> Self {
        let (lo, hi) = at.model.tensor(at.node.inputs[1]).format.range();
        Exact { rule: *rule, factors: Factors::new(rule.digits, lo, hi, at.device) }
    }
}

impl super::Exact for Exact {
    fn run(&self, inputs: &[&Tensor]) -> Tensor {
        let sum = inputs[0] * self.factors.of(inputs[1]) + f64::from(self.rule.bias);
        let (lo, hi) = (f64::from(self.rule.lo), f64::from(self.rule.hi));
        (sum * (-f64::from(self.rule.shift)).exp2()).floor().clamp(lo, hi)
    }
}
