//! Maximum over windows; codes pass as they are.

use dyadic_engine::model as ir;
use dyadic_graph::network::Window;
use tch::Tensor;

use super::{Fake, Float, Unit, from_window, pair, to_window};
use crate::error::WorkerError;
use crate::export::Exporter;

/// Maximum over windows.
pub(super) struct MaxPool<'a>(pub(super) &'a Window);

impl Unit for MaxPool<'_> {
    fn float(&self, at: &mut Float) -> Tensor {
        max_pool(at.inputs[0], self.0)
    }

    fn fake(&self, at: &Fake) -> Tensor {
        max_pool(at.inputs[0], self.0)
    }

    fn export(&self, _: &Exporter, _: &dyadic_plan::Unit) -> Result<ir::Op, WorkerError> {
        Ok(ir::Op::MaxPool(to_window(self.0)))
    }
}

/// The same on the engine's window.
pub(super) struct Exact(Window);

impl Exact {
    pub(super) fn new(window: &ir::Window) -> Self {
        Exact(from_window(window))
    }
}

impl super::Exact for Exact {
    fn run(&self, inputs: &[&Tensor]) -> Tensor {
        max_pool(inputs[0], &self.0)
    }
}

/// Maximum over windows; what lies outside does not take part.
fn max_pool(x: &Tensor, window: &Window) -> Tensor {
    let [top, left, bottom, right] = window.padding.map(|p| p as i64);
    let symmetric = top == bottom
        && left == right
        && 2 * top <= window.kernel[0] as i64
        && 2 * left <= window.kernel[1] as i64;
    let (x, padding) = if symmetric {
        (x.shallow_clone(), [top, left])
    } else {
        (pad_with_lowest(x, [left, right, top, bottom]), [0, 0])
    };
    x.max_pool2d(pair(window.kernel), pair(window.stride), padding, pair(window.dilation), false)
}

/// Pads with −∞, which every kind has.
fn pad_with_lowest(x: &Tensor, sides: [i64; 4]) -> Tensor {
    let inside = x.ones_like().constant_pad_nd(sides);
    x.constant_pad_nd(sides).masked_fill(&inside.eq(0.0), f64::NEG_INFINITY)
}
