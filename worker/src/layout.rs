//! How tensors lie in memory: values are copied out without being put in another order first.

use tch::Tensor;

/// The tensor with its axes in the order in which its values lie, where that is NCHW or NHWC; otherwise copied to NHWC.
pub(crate) fn as_it_lies(x: &Tensor) -> Tensor {
    if x.dim() != 4 || x.is_contiguous() { x.contiguous() } else { by_position(x) }
}

/// (N, C, H, W) as (N, H, W, C), one position's channels side by side in memory.
pub(crate) fn by_position(x: &Tensor) -> Tensor {
    x.permute([0, 2, 3, 1]).contiguous()
}
