//! Sum of two tensors that no convolution absorbs.

use dyadic_engine::model as ir;
use tch::{Kind, Tensor};

use super::{Fake, Float, Unit, act};
use crate::error::WorkerError;
use crate::export::Exporter;
use dyadic_plan::{Act, Refusal};

/// Sum, then the activation.
pub(super) struct Add(pub(super) Act);

impl Unit for Add {
    fn float(&self, at: &mut Float) -> Tensor {
        act::apply(at.inputs[0] + at.inputs[1], self.0)
    }

    fn fake(&self, at: &Fake) -> Tensor {
        // Sums of codes may need more bits than bf16 has.
        let wide = |i: usize| at.inputs[i].to_kind(Kind::Float);
        let sum = add_scaled(wide(0) * at.ratio(0), &wide(1), at.ratio(1));
        at.quantizer().apply_exact(sum, self.0).to_kind(at.inputs[0].kind())
    }

    /// `((a << ka) + (b << kb) + 2^(s−1)) >> s` with the smallest shifts that make every step a multiple.
    fn export(&self, to: &Exporter, unit: &dyadic_plan::Unit) -> Result<ir::Op, WorkerError> {
        let out = to.exponent(unit.output);
        let finest = to.exponent(unit.inputs[0]).min(to.exponent(unit.inputs[1])).min(out);
        let shift = (out - finest) as u32;
        let operand = [0, 1].map(|i| to.exponent(unit.inputs[i]) - finest);
        let spread = operand.iter().map(|&k| k as u32).fold(shift, u32::max);
        if shift > 15 || operand.iter().any(|&k| k > 15) {
            let reason =
                format!("the steps that calibration or training gave operands and sum differ by 2^{spread}");
            return Err(Refusal::new(unit.name.clone(), reason).into());
        }
        let (lo, hi) = to.range(unit.output, self.0);
        let bias = if shift > 0 { 1 << (shift - 1) } else { 0 };
        let operand_shift = operand.map(|k| k as u8);
        Ok(ir::Op::Add(ir::Add { operand_shift, bias, shift: shift as u8, lo, hi }))
    }
}

/// `z + r·ratio`, in place where nothing else reads `z`.
pub(super) fn add_scaled(mut z: Tensor, r: &Tensor, ratio: f64) -> Tensor {
    if ratio == 1.0 { z.g_add_(r) } else { z.g_add_(&(r * ratio)) }
}

/// The engine's rule.
pub(super) struct Exact(pub(super) ir::Add);

impl super::Exact for Exact {
    fn run(&self, inputs: &[&Tensor]) -> Tensor {
        let a = self.0;
        let scaled = |i: usize| inputs[i] * f64::from(a.operand_shift[i]).exp2();
        let sum = scaled(0) + scaled(1) + f64::from(a.bias);
        (sum * (-f64::from(a.shift)).exp2()).floor().clamp(f64::from(a.lo), f64::from(a.hi))
    }
}
