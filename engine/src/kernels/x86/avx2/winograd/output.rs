//! `Aᵀ m A` of sums, and their end.

use std::arch::x86_64::*;
use std::ops::Range;

use super::{PART, Winograd};
use crate::kernels::x86::avx2::finish::{End, Sixteen, load};
use crate::kernels::x86::finish::{Residual, Target};
use crate::kernels::x86::panels::FILTERS;

impl Winograd {
    /// Finishes the patches of a range by one panel. `sums` has `[frequency][patch]`.
    ///
    /// # Safety
    /// The CPU has AVX2; the sums are there, and `residual` and `target` have the output's codes.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn finish(
        &self,
        patches: Range<usize>,
        panel: usize,
        sums: *const [i32; FILTERS],
        residual: Residual,
        target: Target,
    ) {
        let end = End::new(&self.finish, panel, residual, target).of_multiples(2);
        let corrections = self.weights.corrections(panel);
        let across = self.patches[0];
        let (width, height) = (self.output.w as usize, self.output.h as usize);
        let filters = self.finish.filters;
        let (mut row, mut column) = (patches.start / across, patches.start % across);
        for index in 0..patches.len() {
            // SAFETY: the caller's promise; positions are those of pixels that the output has.
            unsafe {
                let [one, two, three, four] = pixels(sums.add(index), corrections);
                let at = (2 * row * width + 2 * column) * filters + end.filter;
                // Pixels outside the output go where one inside goes after them.
                let right = if 2 * column + 1 < width { filters } else { 0 };
                let below = if 2 * row + 1 < height { width * filters } else { 0 };
                end.two([four, three], [at + below + right, at + below]);
                end.two([two, one], [at + right, at]);
            }
            column += 1;
            if column == across {
                (row, column) = (row + 1, 0);
            }
        }
    }
}

/// The direct sums of a patch's pixels, times four.
///
/// # Safety
/// The CPU has AVX2, and `sums` the patch's sums of all frequencies.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn pixels(sums: *const [i32; FILTERS], corrections: &[[i32; FILTERS]; 4]) -> [Sixteen; 4] {
    // SAFETY: the caller's promise.
    let (first, second) = unsafe { (half(sums, corrections, 0), half(sums, corrections, 1)) };
    [[first[0], second[0]], [first[1], second[1]], [first[2], second[2]], [first[3], second[3]]]
}

/// Eight filters of these.
///
/// # Safety
/// As above.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn half(sums: *const [i32; FILTERS], corrections: &[[i32; FILTERS]; 4], half: usize) -> [__m256i; 4] {
    // SAFETY: the caller's promise.
    let m = |frequency: usize| unsafe {
        _mm256_load_si256(sums.add(frequency * PART).cast::<__m256i>().add(half))
    };
    let column = |column: usize| inverse([m(column), m(4 + column), m(8 + column), m(12 + column)]);
    let (a, b, c, d) = (column(0), column(1), column(2), column(3));
    let (above, below) = (inverse([a[0], b[0], c[0], d[0]]), inverse([a[1], b[1], c[1], d[1]]));
    let corrected = |sum, pixel: usize| _mm256_add_epi32(sum, load(&corrections[pixel])[half]);
    [corrected(above[0], 0), corrected(above[1], 1), corrected(below[0], 2), corrected(below[1], 3)]
}

/// `Aᵀ m` of four vectors.
#[inline]
#[target_feature(enable = "avx2")]
fn inverse(m: [__m256i; 4]) -> [__m256i; 2] {
    let (sum, difference) = (_mm256_add_epi32(m[1], m[2]), _mm256_sub_epi32(m[1], m[2]));
    [_mm256_add_epi32(m[0], sum), _mm256_sub_epi32(difference, m[3])]
}
