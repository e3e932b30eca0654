//! `Bᵀ d B` of patches, up to sixty-four channels at a time.

use std::arch::x86_64::*;
use std::ops::Range;

use super::{FREQUENCIES, LINE, Line, PURE, Winograd};

/// A vector of bytes. All functions need AVX-512 F, BW and VL.
trait Bytes: Copy {
    /// How many.
    const LEN: usize;

    unsafe fn zero() -> Self;

    /// The bytes that the mask names; the others are not read, and are 0.
    unsafe fn load(from: *const u8, mask: u64) -> Self;

    unsafe fn store(self, to: *mut u8);

    unsafe fn plus(self, other: Self) -> Self;

    unsafe fn minus(self, other: Self) -> Self;

    /// With 128 added.
    unsafe fn flipped(self) -> Self;
}

macro_rules! bytes {
    ($vector:ty, $mask:ty: $zero:ident $load:ident $store:ident $add:ident $sub:ident $xor:ident $set:ident) => {
        impl Bytes for $vector {
            const LEN: usize = size_of::<$vector>();

            #[inline(always)]
            unsafe fn zero() -> Self {
                // SAFETY: the callers have the instructions; the same for all functions here.
                unsafe { $zero() }
            }

            #[inline(always)]
            unsafe fn load(from: *const u8, mask: u64) -> Self {
                // SAFETY: what the mask names is there.
                unsafe { $load(mask as $mask, from.cast()) }
            }

            #[inline(always)]
            unsafe fn store(self, to: *mut u8) {
                // SAFETY: there is room.
                unsafe { $store(to.cast(), self) }
            }

            #[inline(always)]
            unsafe fn plus(self, other: Self) -> Self {
                // SAFETY: as above.
                unsafe { $add(self, other) }
            }

            #[inline(always)]
            unsafe fn minus(self, other: Self) -> Self {
                // SAFETY: as above.
                unsafe { $sub(self, other) }
            }

            #[inline(always)]
            unsafe fn flipped(self) -> Self {
                // SAFETY: as above.
                unsafe { $xor(self, $set(i8::MIN)) }
            }
        }
    };
}
bytes!(__m128i, __mmask16: _mm_setzero_si128 _mm_maskz_loadu_epi8 _mm_storeu_si128 _mm_add_epi8 _mm_sub_epi8
    _mm_xor_si128 _mm_set1_epi8);
bytes!(__m256i, __mmask32: _mm256_setzero_si256 _mm256_maskz_loadu_epi8 _mm256_storeu_si256 _mm256_add_epi8
    _mm256_sub_epi8 _mm256_xor_si256 _mm256_set1_epi8);
bytes!(__m512i, __mmask64: _mm512_setzero_si512 _mm512_maskz_loadu_epi8 _mm512_storeu_si512 _mm512_add_epi8
    _mm512_sub_epi8 _mm512_xor_si512 _mm512_set1_epi8);

/// Bytes of a transformed patch at one frequency: whole vectors, of which narrow layers take narrow ones.
pub(super) fn depth(channels: usize) -> usize {
    match channels {
        ..=16 => 16,
        17..=32 => 32,
        _ => channels.next_multiple_of(LINE),
    }
}

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
            let (columns, place) = (column..column + count, patch - patches.start);
            for first in (0..self.input.c as usize).step_by(LINE) {
                // SAFETY: the features are this function's own.
                unsafe {
                    match self.layout.depth {
                        16 => self.row::<__m128i>(row, columns.clone(), first, codes, (place, space)),
                        32 => self.row::<__m256i>(row, columns.clone(), first, codes, (place, space)),
                        _ => self.row::<__m512i>(row, columns.clone(), first, codes, (place, space)),
                    }
                }
            }
            patch += count;
        }
    }

    /// Patches `columns` of row `row`, channels `first ..` of a vector; `target` is the first one's place.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    unsafe fn row<V: Bytes>(
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
        let mask = u64::MAX >> (LINE - V::LEN.min(channels - first));
        // The transformed column x of the padded input.
        let column = |x: usize| -> [V; 4] {
            let Some(x) = x.checked_sub(self.before[1]).filter(|&x| x < width) else {
                // SAFETY: the features are this function's own.
                return [unsafe { V::zero() }; 4];
            };
            let at = x * channels + first;
            // SAFETY: the mask leaves the channels that the row has from `at` on, and every row has the same length.
            unsafe { transformed(rows.map(|row| V::load(row.as_ptr().add(at), mask))) }
        };
        let layout = self.layout;
        let (place, space) = target;
        let frequency = layout.frequency * LINE;
        let start = place * layout.depth + first;
        let end = start + (columns.len() - 1) * layout.depth + (FREQUENCIES - 1) * frequency + V::LEN;
        assert!(end <= size_of_val(space), "the workspace has room for every frequency of every patch");
        let space = space.as_mut_ptr().cast::<u8>();
        let mut left = [column(2 * columns.start), column(2 * columns.start + 1)];
        for (index, patch) in columns.enumerate() {
            let right = [column(2 * patch + 2), column(2 * patch + 3)];
            for down in 0..4 {
                // SAFETY: not beyond the end, which has been checked.
                unsafe {
                    let y = transformed([left[0][down], left[1][down], right[0][down], right[1][down]]);
                    let to = space.add(start + index * layout.depth + 4 * down * frequency);
                    y[0].flipped().store(to);
                    (if 4 * down + 1 == PURE { y[1] } else { y[1].flipped() }).store(to.add(frequency));
                    y[2].flipped().store(to.add(2 * frequency));
                    y[3].flipped().store(to.add(3 * frequency));
                }
            }
            left = right;
        }
    }
}

/// `Bᵀ d` of four vectors.
#[inline(always)]
unsafe fn transformed<V: Bytes>(d: [V; 4]) -> [V; 4] {
    // SAFETY: the callers have the instructions.
    unsafe { [d[0].minus(d[2]), d[1].plus(d[2]), d[2].minus(d[1]), d[1].minus(d[3])] }
}
