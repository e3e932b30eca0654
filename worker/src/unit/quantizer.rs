//! Rounding and clamping in the fake-quantized network.

use tch::{Kind, Tensor};

use crate::net::Leaves;
use crate::state::State;
use dyadic_plan::{Act, Coding, Plan};

/// Rounds and clamps one tensor's values, given in units of its step.
pub(super) struct Quantizer<'a> {
    lo: f64,
    hi: f64,
    unit: f64,
    scale: Option<&'a Tensor>,
}

impl<'a> Quantizer<'a> {
    pub(super) fn new(plan: &Plan, state: &State, leaves: &'a Leaves, tensor: usize) -> Self {
        let coding = plan.tensors[tensor].coding;
        let (lo, hi) = coding.range();
        let scale = match coding {
            Coding::Codes { step, .. } => leaves.scale[step].as_ref(),
            _ => None,
        };
        Quantizer { lo: f64::from(lo), hi: f64::from(hi), unit: f64::from(state.step_value(coding)), scale }
    }

    /// For values that are multiples of a power of two: these lie halfway often, and halves must go up as in the engine.
    /// (Elsewhere halves are made by bf16, and going to even keeps their mean.)
    pub(super) fn apply_exact(&self, z: Tensor, act: Act) -> Tensor {
        if self.scale.is_none() {
            let _guard = tch::no_grad_guard();
            let _ = z.detach().g_add_scalar_(0.5).floor_();
        }
        self.apply(z, act)
    }

    /// Codes that are known: `z` gives the gradient, `codes` the values.
    pub(super) fn replace(&self, z: Tensor, codes: &Tensor) -> Tensor {
        self.replace_after(z, Act::None, codes)
    }

    /// The same behind an activation: the gradient passes where it does.
    pub(super) fn replace_after(&self, z: Tensor, act: Act, codes: &Tensor) -> Tensor {
        let learning = self.scale.is_some();
        let y = self.apply(z, act);
        if !learning {
            let _guard = tch::no_grad_guard();
            y.detach().copy_(codes);
        }
        y
    }

    /// Lowest and highest code behind an activation.
    pub(super) fn range(&self, act: Act) -> (f64, f64) {
        match act {
            Act::None => (self.lo, self.hi),
            Act::Relu => (0.0, self.hi),
            Act::Clip(limit) => (0.0, self.hi.min((f64::from(limit) / self.unit + 0.5).floor())),
        }
    }

    /// Rounds and clamps; the gradient passes between the lowest and the highest code.
    #[expect(clippy::needless_pass_by_value, reason = "it is changed in place, and nobody else may read it")]
    pub(super) fn apply(&self, z: Tensor, act: Act) -> Tensor {
        let (lo, hi) = self.range(act);
        if let Some(scale) = self.scale {
            let kind = z.kind();
            let zero = Tensor::from_slice(&[0f32]).to_device(z.device());
            let y = z
                .to_kind(Kind::Float)
                .internal_fake_quantize_learnable_per_tensor_affine(scale, &zero, lo as i64, hi as i64, 1.0);
            return y.to_kind(kind);
        }
        if !z.requires_grad() {
            return z.detach().clamp_(lo, hi).round_();
        }
        // `z` where it lies between `lo` and `hi`, else 0, and the same for its gradient: hardtanh's derivative, times `z`.
        // It keeps `z` for the backward pass, not its result, so that the codes can be written over that.
        let y = z.detach().hardtanh_backward(&z, lo, hi);
        let _guard = tch::no_grad_guard();
        let _ = z.detach().clamp_out(&y.detach(), lo, hi).round_();
        y
    }
}
