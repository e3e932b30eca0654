//! `Aᵀ m A` of sums, and their end.

use std::arch::x86_64::*;
use std::ops::Range;

use super::{Line, OF_FREQUENCY, PANELS, Winograd};
use crate::kernels::part::Target;
use crate::kernels::x86::avx512::finish::{finish, pack};
use crate::kernels::x86::direct::Task;
use crate::kernels::x86::finish::{Constants, Residual};
use crate::kernels::x86::panels::FILTERS;
use crate::kernels::x86::source::Segments;

/// The four pixels of a patch, of which some may lie outside the output: position of the first one, and what is there
/// to the right and below.
#[derive(Clone, Copy)]
struct Square {
    /// Of the first pixel.
    pixel: usize,
    right: bool,
    below: bool,
}

/// One panel of a part.
struct Panel<'a> {
    winograd: &'a Winograd,
    patches: Range<usize>,
    /// Of the first patch at the first frequency.
    sums: *const i32,
    /// Sums from one patch to the next.
    step: usize,
    of: &'a Constants,
    /// The first filter.
    filter: usize,
}

impl Winograd {
    /// Finishes the patches of a range by one block of panels.
    ///
    /// # Safety
    /// The CPU has what [`Avx512`](super::Avx512) proves; `residual` and `target` have the output's codes.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    pub(super) unsafe fn finish(
        &self,
        patches: Range<usize>,
        block: usize,
        sums: &[Line],
        residual: Residual,
        target: Target,
    ) {
        let panels = self.weights.panels(block);
        for index in 0..panels {
            let number = block * PANELS + index;
            let (filter, filters) = self.finish.filters_of(number);
            let panel = Panel {
                winograd: self,
                patches: patches.clone(),
                sums: sums[index..].as_ptr().cast(),
                step: panels * FILTERS,
                of: &self.finish.constants[number],
                filter,
            };
            let signed = self.finish.lo < 0;
            // SAFETY: the caller's promise.
            unsafe {
                let unsigned_code =
                    |r: *const u8, at| _mm512_cvtepu8_epi32(_mm_loadu_si128(r.add(at).cast()));
                let signed_code = |r: *const i8, at| _mm512_cvtepi8_epi32(_mm_loadu_si128(r.add(at).cast()));
                let none = |_| _mm512_setzero_si512();
                match (target, residual) {
                    (Target::Byte(out), Residual::None) if filters == FILTERS && signed => {
                        panel.bytes::<true, false>(none, out);
                    }
                    (Target::Byte(out), Residual::None) if filters == FILTERS => {
                        panel.bytes::<false, false>(none, out);
                    }
                    (Target::Byte(out), Residual::Unsigned(r)) if filters == FILTERS && signed => {
                        panel.bytes::<true, true>(|at| unsigned_code(r, at), out);
                    }
                    (Target::Byte(out), Residual::Unsigned(r)) if filters == FILTERS => {
                        panel.bytes::<false, true>(|at| unsigned_code(r, at), out);
                    }
                    (Target::Byte(out), Residual::Signed(r)) if filters == FILTERS && signed => {
                        panel.bytes::<true, true>(|at| signed_code(r, at), out);
                    }
                    (Target::Byte(out), Residual::Signed(r)) if filters == FILTERS => {
                        panel.bytes::<false, true>(|at| signed_code(r, at), out);
                    }
                    _ => panel.one_by_one(number, residual, target),
                }
            }
        }
    }
}

impl Panel<'_> {
    /// Calls `each(sums of the patch, its pixels)`.
    #[inline(always)]
    fn squares(&self, mut each: impl FnMut(*const i32, Square)) {
        let (across, output) = (self.winograd.patches[0], self.winograd.output);
        let (width, height) = (output.w as usize, output.h as usize);
        let (mut row, mut column) = (self.patches.start / across, self.patches.start % across);
        for index in 0..self.patches.len() {
            let square = Square {
                pixel: 2 * row * width + 2 * column,
                right: 2 * column + 1 < width,
                below: 2 * row + 1 < height,
            };
            each(self.sums.wrapping_add(index * self.step), square);
            column += 1;
            if column == across {
                (row, column) = (row + 1, 0);
            }
        }
    }

    /// The direct sums of a patch's pixels, times four.
    #[inline(always)]
    unsafe fn pixels(sums: *const i32) -> [__m512i; 4] {
        // SAFETY: the caller has the instructions and the sums of all frequencies.
        unsafe {
            let m = |frequency: usize| _mm512_load_si512(sums.add(frequency * OF_FREQUENCY * FILTERS).cast());
            let rows: [[__m512i; 2]; 4] = std::array::from_fn(|column| {
                let [a, b, c, d] = [m(column), m(4 + column), m(8 + column), m(12 + column)];
                inverse([a, b, c, d])
            });
            let [top_left, top_right] = inverse(rows.map(|row| row[0]));
            let [bottom_left, bottom_right] = inverse(rows.map(|row| row[1]));
            [top_left, top_right, bottom_left, bottom_right]
        }
    }

    /// The requantize rule to bytes, four pixels at a time; `ADD` adds the residual's codes.
    ///
    /// # Safety
    /// The CPU has the instructions; `out`, and what `residual` reads, have the output's codes.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    unsafe fn bytes<const SIGNED: bool, const ADD: bool>(
        &self,
        residual: impl Fn(usize) -> __m512i,
        out: *mut u8,
    ) {
        let rule = &self.winograd.finish;
        let (width, filters) = (self.winograd.output.w as usize, rule.filters);
        // SAFETY: sixteen numbers each; positions are those of pixels that the output has.
        unsafe {
            let vector = |numbers: &[i32; FILTERS]| _mm512_loadu_si512(numbers.as_ptr().cast());
            let pre = _mm512_add_epi32(vector(&self.of.pre), _mm512_set1_epi32(2));
            let (multiplier, bias) = (vector(&self.of.multiplier), vector(&self.of.bias));
            let (residual_shift, shift) = (vector(&self.of.residual_shift), vector(&self.of.shift));
            let (lo, hi) = (_mm512_set1_epi8(rule.lo as i8), _mm512_set1_epi8(rule.hi as i8));
            self.squares(|sums, square| {
                let at = square.pixel * filters + self.filter;
                let (right, below) = (filters, width * filters);
                // Pixels outside the output take a residual from inside.
                let places = [
                    at,
                    if square.right { at + right } else { at },
                    if square.below { at + below } else { at },
                    if square.right && square.below { at + below + right } else { at },
                ];
                let sums = Self::pixels(sums);
                let y: [__m512i; 4] = std::array::from_fn(|pixel| {
                    // t fits 16 bits; the upper half of each multiplier is 0.
                    let t = _mm512_srav_epi32(sums[pixel], pre);
                    let mut y = _mm512_add_epi32(_mm512_madd_epi16(t, multiplier), bias);
                    if ADD {
                        y = _mm512_add_epi32(y, _mm512_sllv_epi32(residual(places[pixel]), residual_shift));
                    }
                    _mm512_srav_epi32(y, shift)
                });
                let bytes = pack::<SIGNED>(y, lo, hi);
                // Those outside the output first: the first pixel writes over them.
                _mm_storeu_si128(out.add(places[3]).cast(), _mm512_extracti32x4_epi32::<3>(bytes));
                _mm_storeu_si128(out.add(places[2]).cast(), _mm512_extracti32x4_epi32::<2>(bytes));
                _mm_storeu_si128(out.add(places[1]).cast(), _mm512_extracti32x4_epi32::<1>(bytes));
                _mm_storeu_si128(out.add(places[0]).cast(), _mm512_castsi512_si128(bytes));
            });
        }
    }

    /// The same for panels, operands and outputs of every kind.
    ///
    /// # Safety
    /// The CPU has the instructions; `residual` and `target` have the output's codes.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    unsafe fn one_by_one(&self, number: usize, residual: Residual, target: Target) {
        #[repr(C, align(64))]
        struct Pixels([i32; 2 * FILTERS]);
        let (width, everywhere) = (self.winograd.output.w as usize, usize::MAX);
        let row = Segments {
            count: 1,
            input_step: 0,
            output_step: 0,
            pixels: 2,
            width: everywhere,
            pitch: everywhere,
            lead: 0,
        };
        let task = Task {
            pieces: &[],
            pixel_step: 0,
            segments: row,
            pixel: 0,
            panels: &[],
            packed: None,
            first: number,
            count: 1,
            finish: &self.winograd.finish,
            residual,
            target,
        };
        self.squares(|sums, square| {
            // SAFETY: the caller's promise; pixels outside the output are left out.
            unsafe {
                let sums = Self::pixels(sums).map(|sum| _mm512_srai_epi32::<2>(sum));
                for down in 0..=usize::from(square.below) {
                    let mut pixels = Pixels([0; 2 * FILTERS]);
                    let [left, right] = pixels.0.as_chunks_mut::<FILTERS>().0 else { unreachable!() };
                    _mm512_store_si512(left.as_mut_ptr().cast(), sums[2 * down]);
                    _mm512_store_si512(right.as_mut_ptr().cast(), sums[2 * down + 1]);
                    let count = 1 + usize::from(square.right);
                    finish(&task, pixels.0.as_ptr(), 0, count, square.pixel + down * width);
                }
            }
        });
    }
}

/// `Aᵀ m` of four vectors.
#[inline]
#[target_feature(enable = "avx512f")]
fn inverse(m: [__m512i; 4]) -> [__m512i; 2] {
    let (sum, difference) = (_mm512_add_epi32(m[1], m[2]), _mm512_sub_epi32(m[1], m[2]));
    [_mm512_add_epi32(m[0], sum), _mm512_sub_epi32(difference, m[3])]
}
