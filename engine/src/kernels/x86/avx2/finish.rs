//! The end of sums, eight filters a vector.

use std::arch::x86_64::*;

use crate::kernels::x86::direct::Task;
use crate::kernels::x86::finish::{Constants, Finish, Residual, Target};
use crate::kernels::x86::panels::FILTERS;

/// Sums, or numbers, of sixteen filters.
pub(super) type Sixteen = [__m256i; 2];

/// Finishes `rows` pixels of a segment by the task's panel, whose end is `end`, from the segment's pixel `first` on; the segment's first output pixel
/// is `pixel`.
///
/// # Safety
/// The CPU has AVX2; the task's targets have room.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn finish(
    task: &Task,
    end: &End,
    sums: &[[i32; FILTERS]],
    first: usize,
    rows: usize,
    pixel: usize,
) {
    let (mut pitch, mut width) = (task.segments.pitch, task.segments.width);
    if pitch == width {
        // Nothing is dropped: as good as one row.
        (pitch, width) = (usize::MAX, usize::MAX);
    }
    let filters = task.finish.filters;
    // A division takes long.
    let (mut line, mut column) = if first < pitch { (0, first) } else { (first / pitch, first % pitch) };
    let mut row = 0;
    while row < rows {
        // A stretch of real pixels side by side.
        let real = width.saturating_sub(column).min(rows - row);
        let mut at = (pixel + line * width + column) * filters + end.filter;
        let (pairs, last) = sums[row..row + real].as_chunks::<2>();
        // SAFETY: the caller's promise.
        unsafe {
            for pair in pairs {
                end.two([load(&pair[0]), load(&pair[1])], [at, at + filters]);
                at += 2 * filters;
            }
            if let [last] = last {
                end.one(load(last), at);
            }
        }
        row = row.saturating_add(pitch - column);
        (line, column) = (line + 1, 0);
    }
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn load(numbers: &[i32; FILTERS]) -> Sixteen {
    // SAFETY: sixteen numbers.
    unsafe {
        let numbers = numbers.as_ptr().cast::<__m256i>();
        [_mm256_loadu_si256(numbers), _mm256_loadu_si256(numbers.add(1))]
    }
}

/// The end of one panel's sums.
pub(super) struct End<'a> {
    of: &'a Constants,
    /// Left out of `pre`'s shift, for sums that are multiples.
    shift: __m256i,
    lo: i32,
    hi: i32,
    /// First filter of the panel, and how many it has.
    pub(super) filter: usize,
    filters: usize,
    residual: Residual,
    target: Target,
    /// Whether whole vectors go from bytes, or nothing, to bytes.
    quick: bool,
}

impl<'a> End<'a> {
    /// Of panel `panel`.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn new(finish: &'a Finish, panel: usize, residual: Residual, target: Target) -> Self {
        let (filter, filters) = finish.filters_of(panel);
        let quick =
            filters == FILTERS && matches!(target, Target::Byte(_)) && !matches!(residual, Residual::Wide(_));
        let of = &finish.constants[panel];
        let shift = _mm256_setzero_si256();
        End { of, shift, lo: finish.lo, hi: finish.hi, filter, filters, residual, target, quick }
    }

    /// For sums that are `2^shift` times the right ones. Not for logits.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn of_multiples(self, shift: i32) -> Self {
        End { shift: _mm256_set1_epi32(shift), ..self }
    }

    /// Two pixels, whose codes' positions are these.
    ///
    /// # Safety
    /// The CPU has AVX2; residual and target have these positions.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn two(&self, sums: [Sixteen; 2], at: [usize; 2]) {
        // SAFETY: the caller's promise.
        unsafe {
            let Target::Byte(out) = self.target else { return self.each(sums, at) };
            if !self.quick {
                return self.each(sums, at);
            }
            let y = [
                self.words(sums[0], self.quick_residual(at[0])),
                self.words(sums[1], self.quick_residual(at[1])),
            ];
            // Within each half of a vector: four filters, four others, of the one pixel and then of the other.
            let bytes = self.bytes(y[0], y[1]);
            let apart = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
            let bytes = _mm256_permutevar8x32_epi32(bytes, apart);
            _mm_storeu_si128(out.add(at[0]).cast(), _mm256_castsi256_si128(bytes));
            _mm_storeu_si128(out.add(at[1]).cast(), _mm256_extracti128_si256::<1>(bytes));
        }
    }

    #[target_feature(enable = "avx2")]
    unsafe fn each(&self, sums: [Sixteen; 2], at: [usize; 2]) {
        // SAFETY: the caller's promise.
        unsafe {
            self.one(sums[0], at[0]);
            self.one(sums[1], at[1]);
        }
    }

    /// One pixel.
    ///
    /// # Safety
    /// As for two.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn one(&self, sums: Sixteen, at: usize) {
        let whole = self.filters == FILTERS;
        // SAFETY: the caller's promise.
        unsafe {
            match self.target {
                Target::Sum(out) => self.logits(sums, out.add(at)),
                Target::Byte(out) => {
                    let words = self.words(sums, self.residual(at));
                    let bytes = self.bytes(words, words);
                    let order = _mm256_setr_epi32(0, 4, 1, 5, 0, 4, 1, 5);
                    let bytes = _mm256_castsi256_si128(_mm256_permutevar8x32_epi32(bytes, order));
                    if whole {
                        _mm_storeu_si128(out.add(at).cast(), bytes);
                    } else {
                        let mut row = [0u8; FILTERS];
                        _mm_storeu_si128(row.as_mut_ptr().cast(), bytes);
                        out.add(at).copy_from_nonoverlapping(row.as_ptr(), self.filters);
                    }
                }
                Target::Wide(out) => {
                    let words = self.words(sums, self.residual(at));
                    let words = _mm256_permute4x64_epi64::<0b1101_1000>(words);
                    let (lo, hi) = (_mm256_set1_epi16(self.lo as i16), _mm256_set1_epi16(self.hi as i16));
                    let words = _mm256_min_epi16(_mm256_max_epi16(words, lo), hi);
                    if whole {
                        _mm256_storeu_si256(out.add(at).cast(), words);
                    } else {
                        let mut row = [0i16; FILTERS];
                        _mm256_storeu_si256(row.as_mut_ptr().cast(), words);
                        out.add(at).copy_from_nonoverlapping(row.as_ptr(), self.filters);
                    }
                }
            }
        }
    }

    /// The requantize rule, but for the ends of the range: sixteen 16-bit numbers, the two vectors' halves alternating.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn words(&self, sums: Sixteen, residual: Option<Sixteen>) -> __m256i {
        let of = self.of;
        let (pre, multiplier, bias) = (load(&of.pre), load(&of.multiplier), load(&of.bias));
        let (offset, residual_shift, shift) = (load(&of.offset), load(&of.residual_shift), load(&of.shift));
        let part = |half: usize| {
            // The offset is of sums that are no multiples, for these have none.
            let sum = _mm256_add_epi32(sums[half], offset[half]);
            let t = _mm256_srav_epi32(sum, _mm256_add_epi32(pre[half], self.shift));
            // t fits 16 bits; the upper half of each multiplier is 0.
            let mut y = _mm256_add_epi32(_mm256_madd_epi16(t, multiplier[half]), bias[half]);
            if let Some(residual) = residual {
                y = _mm256_add_epi32(y, _mm256_sllv_epi32(residual[half], residual_shift[half]));
            }
            _mm256_srav_epi32(y, shift[half])
        };
        _mm256_packs_epi32(part(0), part(1))
    }

    /// Two times sixteen numbers to bytes inside the range.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn bytes(&self, first: __m256i, second: __m256i) -> __m256i {
        let (lo, hi) = (_mm256_set1_epi8(self.lo as i8), _mm256_set1_epi8(self.hi as i8));
        if self.lo < 0 {
            let bytes = _mm256_packs_epi16(first, second);
            _mm256_min_epi8(_mm256_max_epi8(bytes, lo), hi)
        } else {
            let bytes = _mm256_packus_epi16(first, second);
            _mm256_min_epu8(_mm256_max_epu8(bytes, lo), hi)
        }
    }

    /// Sixteen codes of the residual operand, if it has bytes.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn quick_residual(&self, at: usize) -> Option<Sixteen> {
        // SAFETY: the caller's promise: the operand has sixteen codes from `at` on.
        unsafe {
            match self.residual {
                Residual::Unsigned(r) => Some(unsigned(r.add(at))),
                Residual::Signed(r) => Some(signed(r.add(at))),
                Residual::None | Residual::Wide(_) => None,
            }
        }
    }

    /// Sixteen codes of the residual operand, those after the panel's last filter zero.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn residual(&self, at: usize) -> Option<Sixteen> {
        let count = self.filters;
        // SAFETY: the caller's promise: the operand has `count` codes from `at` on.
        unsafe {
            match self.residual {
                Residual::None => None,
                Residual::Unsigned(r) if count == FILTERS => Some(unsigned(r.add(at))),
                Residual::Unsigned(r) => Some(unsigned(some(r.add(at), count).as_ptr())),
                Residual::Signed(r) if count == FILTERS => Some(signed(r.add(at))),
                Residual::Signed(r) => Some(signed(some(r.add(at), count).as_ptr())),
                Residual::Wide(r) if count == FILTERS => Some(wide(r.add(at))),
                Residual::Wide(r) => Some(wide(some(r.add(at), count).as_ptr())),
            }
        }
    }

    /// The logits' end.
    #[target_feature(enable = "avx2")]
    unsafe fn logits(&self, sums: Sixteen, out: *mut i32) {
        let (offset, shift, bias) = (load(&self.of.offset), load(&self.of.pre), load(&self.of.bias));
        let mut row = [0i32; FILTERS];
        for half in 0..2 {
            let sum = _mm256_add_epi32(sums[half], offset[half]);
            let y = _mm256_add_epi32(_mm256_sllv_epi32(sum, shift[half]), bias[half]);
            // SAFETY: eight of the sixteen values.
            unsafe { _mm256_storeu_si256(row[8 * half..8 * half + 8].as_mut_ptr().cast(), y) };
        }
        // SAFETY: the caller's promise.
        unsafe { out.copy_from_nonoverlapping(row.as_ptr(), self.filters) };
    }
}

#[inline]
#[target_feature(enable = "avx2")]
unsafe fn unsigned(codes: *const u8) -> Sixteen {
    // SAFETY: the caller's promise: sixteen codes.
    unsafe {
        [_mm_loadl_epi64(codes.cast()), _mm_loadl_epi64(codes.add(8).cast())]
            .map(|half| _mm256_cvtepu8_epi32(half))
    }
}

#[inline]
#[target_feature(enable = "avx2")]
unsafe fn signed(codes: *const i8) -> Sixteen {
    // SAFETY: the caller's promise: sixteen codes.
    unsafe {
        [_mm_loadl_epi64(codes.cast()), _mm_loadl_epi64(codes.add(8).cast())]
            .map(|half| _mm256_cvtepi8_epi32(half))
    }
}

#[inline]
#[target_feature(enable = "avx2")]
unsafe fn wide(codes: *const i16) -> Sixteen {
    // SAFETY: the caller's promise: sixteen codes.
    unsafe {
        [_mm_loadu_si128(codes.cast()), _mm_loadu_si128(codes.add(8).cast())]
            .map(|half| _mm256_cvtepi16_epi32(half))
    }
}

/// The first `count` of sixteen values.
#[inline]
unsafe fn some<T: Copy + Default>(from: *const T, count: usize) -> [T; FILTERS] {
    let mut row = [T::default(); FILTERS];
    // SAFETY: the caller's promise; `count` is at most sixteen.
    unsafe { row.as_mut_ptr().copy_from_nonoverlapping(from, count) };
    row
}
