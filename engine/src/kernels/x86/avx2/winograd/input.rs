//! `Bᵀ d B` of patches, thirty-two channels at a time.

use std::arch::x86_64::*;
use std::ops::Range;

use super::{FREQUENCIES, LINE, Line, VECTOR, Winograd};

impl Winograd {
    /// Transforms the patches of a range into `space`: `[frequency][patch][channel]`.
    #[target_feature(enable = "avx2")]
    pub(super) fn transform(&self, patches: Range<usize>, codes: &[u8], space: &mut [Line]) {
        let across = self.patches[0];
        let mut patch = patches.start;
        while patch < patches.end {
            // A row of patches, or what of it is in the range.
            let (row, column) = (patch / across, patch % across);
            let count = (across - column).min(patches.end - patch);
            for first in (0..self.input.c as usize).step_by(VECTOR) {
                self.row(row, column..column + count, first, codes, (patch - patches.start, space));
            }
            patch += count;
        }
    }

    /// Patches `columns` of row `row`, channels `first ..` of a vector; `target` is the first one's place.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn row(
        &self,
        row: usize,
        columns: Range<usize>,
        first: usize,
        codes: &[u8],
        target: (usize, &mut [Line]),
    ) {
        let (channels, width) = (self.input.c as usize, self.input.w as usize);
        let line = width * channels;
        // From a row's beginning to the end of the input: what follows a pixel's channels is multiplied with zeros.
        let rows: [&[u8]; 4] = std::array::from_fn(|within| {
            let y = (2 * row + within).checked_sub(self.before[0]).filter(|&y| y < self.input.h as usize);
            y.map_or(&self.zeros[..], |y| &codes[y * line..])
        });
        let least = rows.iter().map(|row| row.len()).min().unwrap_or_default();
        // The transformed column x of the padded input.
        let column = |x: usize| {
            let Some(x) = x.checked_sub(self.before[1]).filter(|&x| x < width) else {
                return transformed([_mm256_setzero_si256(); 4]);
            };
            let at = x * channels + first;
            if at + VECTOR <= least {
                // SAFETY: every row has this many bytes.
                let load = |row: &[u8]| unsafe { _mm256_loadu_si256(row.as_ptr().add(at).cast()) };
                return transformed([load(rows[0]), load(rows[1]), load(rows[2]), load(rows[3])]);
            }
            let few = rows.map(|row| {
                let mut few = [0; VECTOR];
                let codes = &row[at..row.len().min(at + VECTOR)];
                few[..codes.len()].copy_from_slice(codes);
                few
            });
            // SAFETY: a vector's bytes.
            let load = |few: &[u8; VECTOR]| unsafe { _mm256_loadu_si256(few.as_ptr().cast()) };
            transformed([load(&few[0]), load(&few[1]), load(&few[2]), load(&few[3])])
        };
        let (place, space) = target;
        let stride = self.frequency() * LINE;
        let start = place * self.depth + first;
        let last = start + (columns.len() - 1) * self.depth + (FREQUENCIES - 1) * stride;
        assert!(last + VECTOR <= size_of_val(space), "the workspace has every frequency of every patch");
        let mut target = space.as_mut_ptr().cast::<u8>().wrapping_add(start);
        let mut left = [column(2 * columns.start), column(2 * columns.start + 1)];
        for patch in columns {
            let right = [column(2 * patch + 2), column(2 * patch + 3)];
            // SAFETY: not beyond the last vector, which has been checked; depths and strides are multiples of a vector.
            unsafe {
                let store = |frequency: usize, y: __m256i| {
                    _mm256_store_si256(target.add(frequency * stride).cast(), y);
                };
                for down in 0..4 {
                    let d = [left[0][down], left[1][down], right[0][down], right[1][down]];
                    let mut y = shifted(d);
                    if down == 1 {
                        // The pure sum.
                        y[1] = _mm256_add_epi8(d[1], d[2]);
                    }
                    for (across, &y) in y.iter().enumerate() {
                        store(4 * down + across, y);
                    }
                }
            }
            target = target.wrapping_add(self.depth);
            left = right;
        }
    }
}

/// `Bᵀ d` of four vectors.
#[inline]
#[target_feature(enable = "avx2")]
fn transformed(d: [__m256i; 4]) -> [__m256i; 4] {
    [
        _mm256_sub_epi8(d[0], d[2]),
        _mm256_add_epi8(d[1], d[2]),
        _mm256_sub_epi8(d[2], d[1]),
        _mm256_sub_epi8(d[1], d[3]),
    ]
}

/// The same, and 128 more.
#[inline]
#[target_feature(enable = "avx2")]
fn shifted(d: [__m256i; 4]) -> [__m256i; 4] {
    let flip = _mm256_set1_epi8(i8::MIN);
    let (one, two) = (_mm256_xor_si256(d[1], flip), _mm256_xor_si256(d[2], flip));
    [
        _mm256_sub_epi8(d[0], two),
        _mm256_add_epi8(one, d[2]),
        _mm256_sub_epi8(two, d[1]),
        _mm256_sub_epi8(one, d[3]),
    ]
}
