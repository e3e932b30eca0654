//! The window of a convolution or pool: its geometry, the check of it, and which positions lie under it.

use serde::{Deserialize, Serialize};

use crate::check::{MAX_TENSOR_CODES, MAX_WINDOW, Problem, in_range, same_shape};
use crate::model::{Shape, Tensor};
use crate::reference::{At, Operand};

/// Window of a convolution or pool. Output size is in the output tensor's shape and must equal
/// `floor((in + pad_begin + pad_end − dilation·(kernel−1) − 1) / stride) + 1` (ceil mode is expressed by padding).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Height and width, ≥ 1.
    pub kernel: [u32; 2],
    /// Rows and columns, ≥ 1.
    pub stride: [u32; 2],
    /// Top, left, bottom, right.
    pub padding: [u32; 4],
    /// Rows and columns, ≥ 1.
    pub dilation: [u32; 2],
}

impl Window {
    /// Rows and columns that the dilated kernel spans.
    pub fn span(&self) -> [u64; 2] {
        [0, 1].map(|axis| u64::from(self.dilation[axis]) * u64::from(self.kernel[axis]).saturating_sub(1) + 1)
    }

    /// Height and width of the output for an input of this height and width; `None` where the padded input is smaller
    /// than the window, or the stride is 0.
    pub fn output(&self, input: [u32; 2]) -> Option<[u64; 2]> {
        let span = self.span();
        let along = |axis: usize| {
            let padded =
                u64::from(input[axis]) + u64::from(self.padding[axis]) + u64::from(self.padding[axis + 2]);
            Some(padded.checked_sub(span[axis])?.checked_div(u64::from(self.stride[axis]))? + 1)
        };
        Some([along(0)?, along(1)?])
    }

    /// Kernel positions.
    pub(crate) fn taps(&self) -> u64 {
        u64::from(self.kernel[0]) * u64::from(self.kernel[1])
    }

    /// The kernel's sides, for people.
    pub(crate) fn sides(&self) -> String {
        format!("{}×{}", self.kernel[0], self.kernel[1])
    }

    /// Input position of a tap along one axis; `None` before the first row or column.
    pub(crate) fn position(&self, axis: usize, out: u32, tap: u32) -> Option<u32> {
        (out * self.stride[axis] + tap * self.dilation[axis]).checked_sub(self.padding[axis])
    }

    /// The codes under the window at an output position; positions in the padding are left out.
    pub(crate) fn under<'a>(&'a self, x: &'a Operand, at: At) -> impl Iterator<Item = i32> + 'a {
        (0..self.kernel[0]).flat_map(move |tap_y| {
            (0..self.kernel[1]).filter_map(move |tap_x| {
                x.at(self.position(0, at.y, tap_y), self.position(1, at.x, tap_x), at.c)
            })
        })
    }

    /// Ranges, and the height and width that they give.
    pub(crate) fn check(&self, x: &Tensor, output: &Tensor) -> Result<(), Problem> {
        let max = i64::from(MAX_WINDOW);
        for axis in 0..2 {
            in_range("kernel", self.kernel[axis].into(), 1, max)?;
            in_range("stride", self.stride[axis].into(), 1, max)?;
            in_range("dilation", self.dilation[axis].into(), 1, max)?;
        }
        let mut padded = [u64::from(x.shape.h), u64::from(x.shape.w)];
        for (side, &amount) in self.padding.iter().enumerate() {
            in_range("padding", amount.into(), 0, max)?;
            padded[side % 2] += u64::from(amount);
        }
        let codes = padded[0] * padded[1] * u64::from(x.shape.c);
        in_range("codes in the padded input", codes as i64, 1, MAX_TENSOR_CODES as i64)?;
        let size = self.output([x.shape.h, x.shape.w]);
        let Some([h, w]) = size else {
            return Err(Problem::Rule("the window is larger than the padded input"));
        };
        let expected = Shape { h: h as u32, w: w as u32, c: output.shape.c };
        same_shape("output", output.shape, expected)
    }

    /// The same of a pool, whose window must touch the input everywhere, and whose channels stay.
    pub(crate) fn check_pool(&self, x: &Tensor, output: &Tensor) -> Result<(), Problem> {
        self.check(x, output)?;
        same_shape("output", output.shape, Shape { c: x.shape.c, ..output.shape })?;
        for (axis, (size, out)) in
            [(x.shape.h, output.shape.h), (x.shape.w, output.shape.w)].into_iter().enumerate()
        {
            if !(0..out).all(|position| self.touches_input(axis, position, size)) {
                return Err(Problem::Rule("a pool's window lies wholly in the padding"));
            }
        }
        Ok(())
    }

    /// Whether the window at this output position covers at least one position of the input along `axis`.
    fn touches_input(&self, axis: usize, position: u32, size: u32) -> bool {
        let start = i64::from(position) * i64::from(self.stride[axis]) - i64::from(self.padding[axis]);
        let dilation = i64::from(self.dilation[axis]);
        // The first tap at or after position 0.
        let tap = if start >= 0 { 0 } else { (-start + dilation - 1) / dilation };
        tap < i64::from(self.kernel[axis]) && start + tap * dilation < i64::from(size)
    }
}
