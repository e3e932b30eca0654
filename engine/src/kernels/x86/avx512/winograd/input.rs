//! `Bᵀ d B` of patches, sixty-four channels at a time.

use std::arch::x86_64::*;
use std::ops::Range;

use super::{FREQUENCIES, LINE, Line, PURE, Winograd};

impl Winograd {
    /// Transforms the patches of a range into `space`, as [`Layout`](super::Layout) says.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    pub(super) fn transform(&self, patches: Range<usize>, codes: &[u8], space: &mut [Line]) {
        let across = self.patches[0];
        let mut patch = patches.start;
        while patch < patches.end {
            // A row of patches, or what of it is in the range.
            let (row, column) = (patch / across, patch % across);
            let count = (across - column).min(patches.end - patch);
            for first in (0..self.input.c as usize).step_by(LINE) {
                self.row(row, column..column + count, first, codes, (patch - patches.start, space));
            }
            patch += count;
        }
    }

    /// Patches `columns` of row `row`, channels `first ..` of a line; `target` is the first one's place.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
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
        let rows: [&[u8]; 4] = std::array::from_fn(|within| {
            let y = (2 * row + within).checked_sub(self.before[0]).filter(|&y| y < self.input.h as usize);
            y.map_or(&self.zeros[..], |y| &codes[y * line..][..line])
        });
        let mask = u64::MAX >> (LINE - LINE.min(channels - first));
        // The transformed column x of the padded input.
        let column = |x: usize| {
            let Some(x) = x.checked_sub(self.before[1]).filter(|&x| x < width) else {
                return [_mm512_setzero_si512(); 4];
            };
            let at = x * channels + first;
            // SAFETY: the mask leaves the channels that the row has from `at` on, and every row has the same length.
            let d: [__m512i; 4] = std::array::from_fn(|row| unsafe {
                _mm512_maskz_loadu_epi8(mask, rows[row].as_ptr().add(at).cast())
            });
            transformed(d)
        };
        let flip = _mm512_set1_epi8(i8::MIN);
        let layout = self.layout();
        let (place, space) = target;
        let lines = layout.depth / LINE;
        let start = place * lines + first / LINE;
        let last = start + (columns.len() - 1) * lines + (FREQUENCIES - 1) * layout.frequency;
        assert!(last < space.len(), "the workspace has a line for every frequency of every patch");
        let mut left = [column(2 * columns.start), column(2 * columns.start + 1)];
        for (index, patch) in columns.enumerate() {
            let right = [column(2 * patch + 2), column(2 * patch + 3)];
            for down in 0..4 {
                let y = transformed([left[0][down], left[1][down], right[0][down], right[1][down]]);
                for (across, y) in y.into_iter().enumerate() {
                    let frequency = 4 * down + across;
                    let y = if frequency == PURE { y } else { _mm512_xor_si512(y, flip) };
                    // SAFETY: not beyond the last line, which has been checked.
                    unsafe {
                        let line =
                            space.as_mut_ptr().add(start + index * lines + frequency * layout.frequency);
                        _mm512_store_si512(line.cast(), y);
                    }
                }
            }
            left = right;
        }
    }
}

/// `Bᵀ d` of four vectors.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn transformed(d: [__m512i; 4]) -> [__m512i; 4] {
    [
        _mm512_sub_epi8(d[0], d[2]),
        _mm512_add_epi8(d[1], d[2]),
        _mm512_sub_epi8(d[2], d[1]),
        _mm512_sub_epi8(d[1], d[3]),
    ]
}
