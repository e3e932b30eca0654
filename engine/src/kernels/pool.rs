//! Pools over NHWC codes: loops over taps outside, over channels inside.

use std::ops::Range;

use super::codes::{Codes, CodesMut};
use super::level::{Level, by_level};
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

    #[inline(always)]
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

    #[inline(always)]
    /// Calls `pool(chunk's sums, window, …)` for every output pixel of some rows and chunk of channels.
    fn each_chunk(&self, rows: Range<usize>, mut chunk: impl FnMut(usize, usize, usize, usize)) {
        let channels = self.output.c as usize;
        for y in rows {
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

/// Bytes of room that [`max`] needs: one row of the input.
pub(crate) fn max_space(geometry: &Geometry) -> usize {
    geometry.input.w as usize * geometry.input.c as usize
}

/// Largest code under each window, for the rows of output pixels from `first` on that `out` has. `space` has
/// [`max_space`] bytes.
pub(crate) fn max(
    level: Level,
    geometry: &Geometry,
    first: usize,
    x: Codes,
    out: &mut CodesMut,
    space: &mut [u8],
) {
    match (x, out) {
        (Codes::Unsigned(codes), CodesMut::Byte(out)) => {
            max_unsigned(level, geometry, first, codes, out, space);
        }
        (Codes::Signed(codes), CodesMut::Byte(out)) => max_signed(level, geometry, first, codes, out, space),
        _ => unreachable!("the check lets only codes of at most 8 bits be pooled"),
    }
}

by_level! {
    max_unsigned = max_unsigned_body(
        geometry: &Geometry, first: usize, x: &[u8], out: &mut [u8], space: &mut [u8],
    )
}
by_level! {
    max_signed = max_signed_body(
        geometry: &Geometry, first: usize, x: &[u8], out: &mut [u8], space: &mut [u8],
    )
}

#[inline(always)]
fn max_unsigned_body(geometry: &Geometry, first: usize, x: &[u8], out: &mut [u8], space: &mut [u8]) {
    max_bytes(geometry, first, x, out, space, u8::max);
}

#[inline(always)]
fn max_signed_body(geometry: &Geometry, first: usize, x: &[u8], out: &mut [u8], space: &mut [u8]) {
    max_bytes(geometry, first, x, out, space, |a, b| (a as i8).max(b as i8) as u8);
}

/// Over columns of each band of rows first, then along the rows.
#[inline(always)]
fn max_bytes(
    geometry: &Geometry,
    first: usize,
    x: &[u8],
    out: &mut [u8],
    space: &mut [u8],
    larger: impl Fn(u8, u8) -> u8 + Copy,
) {
    let channels = geometry.input.c as usize;
    let line = geometry.input.w as usize * channels;
    let [down, right] = geometry.window.dilation.map(|d| d as usize);
    let raise = |out: &mut [u8], codes: &[u8]| {
        out.iter_mut().zip(codes).for_each(|(out, &code)| *out = larger(*out, code));
    };
    let space = &mut space[..line];
    for (y, out) in out.chunks_exact_mut(geometry.output.w as usize * channels).enumerate() {
        let (top, rows) = geometry.taps(0, first + y);
        let row = |index: usize| &x[(top + index * down) * line..][..line];
        let band = if rows > 1 {
            space.copy_from_slice(row(0));
            (1..rows).for_each(|index| raise(space, row(index)));
            &*space
        } else {
            row(0)
        };
        for (x, out) in out.chunks_exact_mut(channels).enumerate() {
            let (left, columns) = geometry.taps(1, x);
            out.copy_from_slice(&band[left * channels..][..channels]);
            for column in 1..columns {
                raise(out, &band[(left + column * right) * channels..][..channels]);
            }
        }
    }
}

by_level! {
    /// Sum under each window, requantized, for the rows of output pixels from `top` on that `out` has.
    average = average_body(geometry: &Geometry, rule: &Rule, top: usize, x: Codes, out: &mut CodesMut)
}

#[inline(always)]
fn average_body(geometry: &Geometry, rule: &Rule, top: usize, x: Codes, out: &mut CodesMut) {
    let (mut sums, mut row) = ([0i32; CHUNK], [0i32; CHUNK]);
    let rows = out.len() / (geometry.output.w as usize * geometry.output.c as usize);
    geometry.each_chunk(top..top + rows, |y, column, first, len| {
        let (sums, row) = (&mut sums[..len], &mut row[..len]);
        sums.fill(0);
        geometry.each_tap(y, column, |at| {
            x.slice(at + first, len).widen(row);
            sums.iter_mut().zip(&*row).for_each(|(sum, &code)| *sum += code);
        });
        rule.apply(first, sums, None);
        out.narrow(geometry.start(y - top, column, first), sums);
    });
}
