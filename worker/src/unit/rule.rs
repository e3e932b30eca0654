//! The requantize rule on exact integers held in floats.

use dyadic_engine::model::Requantize;
use tch::{Device, Kind, Tensor};

/// The rule's constants, shaped to broadcast over (N, C, H, W).
pub(super) struct Rule {
    pre: Tensor,
    multiplier: Tensor,
    bias: Tensor,
    residual: Option<Tensor>,
    shift: Tensor,
    lo: f64,
    hi: f64,
}

impl Rule {
    pub(super) fn new(r: &Requantize, device: Device) -> Self {
        Rule {
            pre: power(&r.pre, -1.0, device),
            multiplier: plane(&r.multiplier, device),
            bias: plane(&r.bias, device),
            residual: (!r.residual_shift.is_empty()).then(|| power(&r.residual_shift, 1.0, device)),
            shift: power(&r.shift, -1.0, device),
            lo: f64::from(r.lo),
            hi: f64::from(r.hi),
        }
    }

    /// The rule on exact sums; the sum of all terms stays below 2^24, so f32 holds it.
    pub(super) fn apply(&self, acc: &Tensor, residual: Option<&Tensor>) -> Tensor {
        let mut sum = (acc * &self.pre).floor_().to_kind(Kind::Float);
        sum = sum.g_mul_(&self.multiplier).g_add_(&self.bias);
        if let (Some(r), Some(scale)) = (residual, &self.residual) {
            sum = sum.g_add_(&(r * scale));
        }
        sum.g_mul_(&self.shift).floor_().clamp_(self.lo, self.hi)
    }
}

fn plane<T: Into<f64> + Copy>(v: &[T], device: Device) -> Tensor {
    let v: Vec<f64> = v.iter().map(|&x| x.into()).collect();
    Tensor::from_slice(&v).to_kind(Kind::Float).view([1, -1, 1, 1]).to_device(device)
}

/// `2^±v` per channel.
pub(super) fn power<T: Into<f64> + Copy>(v: &[T], sign: f64, device: Device) -> Tensor {
    let v: Vec<f64> = v.iter().map(|&x| (sign * x.into()).exp2()).collect();
    plane(&v, device)
}
