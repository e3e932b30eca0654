//! Pools over NHWC codes: loops over taps outside, over channels inside.

use super::codes::{Codes, CodesMut};
use super::requantize::{CHUNK, Rule};
use crate::model::{Shape, Window};

/// A pool's geometry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Geometry {
    /// The window.
    pub(crate) window: Window,
    /// Shape of the input.
    pub(crate) input: Shape,
    /// Shape of the output.
    pub(crate) output: Shape,
}

impl Geometry {
    /// The taps along one axis that fall into the input at an output position: first input position, and how many.
    fn taps(&self, axis: usize, position: usize) -> (usize, usize) {
        let size = [self.input.h, self.input.w][axis] as i64;
        let dilation = i64::from(self.window.dilation[axis]);
        let start =
            position as i64 * i64::from(self.window.stride[axis]) - i64::from(self.window.padding[axis]);
        let skipped = if start < 0 { (-start + dilation - 1) / dilation } else { 0 };
        let first = start + skipped * dilation;
        let fitting = if first < size { (size - 1 - first) / dilation + 1 } else { 0 };
        let left = i64::from(self.window.kernel[axis]) - skipped;
        (first.max(0) as usize, fitting.min(left).max(0) as usize)
    }

    /// Calls `tap(position of the pixel's first code)` for every input pixel under the window.
    fn each_tap(&self, y: usize, x: usize, mut tap: impl FnMut(usize)) {
        let (first_row, rows) = self.taps(0, y);
        let (first_column, columns) = self.taps(1, x);
        let [down, right] = self.window.dilation.map(|d| d as usize);
        for row in 0..rows {
            let line = (first_row + row * down) * self.input.w as usize;
            for column in 0..columns {
                tap((line + first_column + column * right) * self.input.c as usize);
            }
        }
    }

    /// Calls `pool(chunk's sums, window, …)` for every output pixel and chunk of channels.
    fn each_chunk(&self, mut chunk: impl FnMut(usize, usize, usize, usize)) {
        let channels = self.output.c as usize;
        for y in 0..self.output.h as usize {
            for x in 0..self.output.w as usize {
                for first in (0..channels).step_by(CHUNK) {
                    chunk(y, x, first, CHUNK.min(channels - first));
                }
            }
        }
    }

    fn start(&self, y: usize, x: usize, first: usize) -> usize {
        (y * self.output.w as usize + x) * self.output.c as usize + first
    }
}

/// Largest code under each window.
pub(crate) fn max(geometry: &Geometry, x: Codes, out: &mut CodesMut) {
    let (mut most, mut row) = ([0i32; CHUNK], [0i32; CHUNK]);
    geometry.each_chunk(|y, column, first, len| {
        let (most, row) = (&mut most[..len], &mut row[..len]);
        most.fill(i32::MIN);
        geometry.each_tap(y, column, |at| {
            x.slice(at + first, len).widen(row);
            most.iter_mut().zip(&*row).for_each(|(most, &code)| *most = (*most).max(code));
        });
        out.narrow(geometry.start(y, column, first), most);
    });
}

/// Sum under each window, requantized.
pub(crate) fn average(geometry: &Geometry, rule: &Rule, x: Codes, out: &mut CodesMut) {
    let (mut sums, mut row) = ([0i32; CHUNK], [0i32; CHUNK]);
    geometry.each_chunk(|y, column, first, len| {
        let (sums, row) = (&mut sums[..len], &mut row[..len]);
        sums.fill(0);
        geometry.each_tap(y, column, |at| {
            x.slice(at + first, len).widen(row);
            sums.iter_mut().zip(&*row).for_each(|(sum, &code)| *sum += code);
        });
        rule.apply(first, sums, None);
        out.narrow(geometry.start(y, column, first), sums);
    });
}
