//! The clamp at the end of a unit, on real values.

use dyadic_plan::Act;
use tch::Tensor;

/// `x` after the activation.
pub(super) fn apply(x: Tensor, act: Act) -> Tensor {
    match act {
        Act::None => x,
        Act::Relu => x.relu(),
        Act::Clip(hi) => x.clamp(0.0, f64::from(hi)),
    }
}
