//! The end of sums, eight filters a vector.

use std::arch::x86_64::*;

use crate::kernels::x86::direct::Task;
use crate::kernels::x86::finish::{Residual, Target};
use crate::kernels::x86::panels::FILTERS;

/// Finishes `rows` pixels of a segment by one panel, from the segment's pixel `first` on; the segment's first output pixel
/// is `pixel`.
///
/// # Safety
/// The CPU has AVX2; the task's targets have room.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn finish(task: &Task, sums: &[[i32; FILTERS]], first: usize, rows: usize, pixel: usize) {
    let (pitch, width) = (task.segments.pitch, task.segments.width);
    let (filter, filters) = task.finish.filters_of(task.first);
    let (mut line, mut column) = (first / pitch, first % pitch);
    for sums in &sums[..rows] {
        if column < width {
            let at = (pixel + line * width + column) * task.finish.filters + filter;
            // SAFETY: the caller's promise.
            unsafe {
                match task.target {
                    Target::Sum(out) => logits(task, sums, filters, out.add(at)),
                    Target::Byte(out) => {
                        let words = codes(task, sums, filters, at);
                        let bytes = if task.finish.lo < 0 {
                            _mm256_packs_epi16(words, words)
                        } else {
                            _mm256_packus_epi16(words, words)
                        };
                        let bytes = _mm256_castsi256_si128(_mm256_permute4x64_epi64::<0b1000>(bytes));
                        let mut row = [0u8; FILTERS];
                        _mm_storeu_si128(row.as_mut_ptr().cast(), bytes);
                        out.add(at).copy_from_nonoverlapping(row.as_ptr(), filters);
                    }
                    Target::Wide(out) => {
                        let mut row = [0i16; FILTERS];
                        _mm256_storeu_si256(row.as_mut_ptr().cast(), codes(task, sums, filters, at));
                        out.add(at).copy_from_nonoverlapping(row.as_ptr(), filters);
                    }
                }
            }
        }
        column += 1;
        if column == pitch {
            (line, column) = (line + 1, 0);
        }
    }
}

/// Half of sixteen numbers.
#[inline]
#[target_feature(enable = "avx2")]
fn half(numbers: &[i32; FILTERS], half: usize) -> __m256i {
    // SAFETY: eight of the sixteen numbers.
    unsafe { _mm256_loadu_si256(numbers[8 * half..8 * half + 8].as_ptr().cast()) }
}

/// The requantize rule: sixteen 16-bit codes, already between the rule's ends.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn codes(task: &Task, sums: &[i32; FILTERS], filters: usize, at: usize) -> __m256i {
    let of = &task.finish.constants[task.first];
    // SAFETY: the caller's promise.
    let residual = unsafe { residual(task.residual, filters, at) };
    let (lo, hi) = (_mm256_set1_epi32(task.finish.lo), _mm256_set1_epi32(task.finish.hi));
    let y = [0, 1].map(|part| {
        let sum = _mm256_add_epi32(half(sums, part), half(&of.offset, part));
        let t = _mm256_srav_epi32(sum, half(&of.pre, part));
        // t fits 16 bits; the upper half of each multiplier is 0.
        let scaled = _mm256_add_epi32(_mm256_madd_epi16(t, half(&of.multiplier, part)), half(&of.bias, part));
        let r = _mm256_sllv_epi32(residual[part], half(&of.residual_shift, part));
        let y = _mm256_srav_epi32(_mm256_add_epi32(scaled, r), half(&of.shift, part));
        _mm256_min_epi32(_mm256_max_epi32(y, lo), hi)
    });
    _mm256_permute4x64_epi64::<0b1101_1000>(_mm256_packs_epi32(y[0], y[1]))
}

/// Sixteen codes of the residual operand, those after `filters` zero.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn residual(residual: Residual, filters: usize, at: usize) -> [__m256i; 2] {
    // SAFETY: the caller's promise: the operand has `filters` codes from `at` on.
    unsafe {
        match residual {
            Residual::None => [_mm256_setzero_si256(); 2],
            Residual::Unsigned(r) => {
                let row = some(r.add(at), filters);
                [0, 8].map(|first: usize| _mm256_cvtepu8_epi32(_mm_loadl_epi64(row[first..].as_ptr().cast())))
            }
            Residual::Signed(r) => {
                let row = some(r.add(at), filters);
                [0, 8].map(|first: usize| _mm256_cvtepi8_epi32(_mm_loadl_epi64(row[first..].as_ptr().cast())))
            }
            Residual::Wide(r) => {
                let row = some(r.add(at), filters);
                [0, 8]
                    .map(|first: usize| _mm256_cvtepi16_epi32(_mm_loadu_si128(row[first..].as_ptr().cast())))
            }
        }
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

/// The logits' end.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn logits(task: &Task, sums: &[i32; FILTERS], filters: usize, out: *mut i32) {
    let of = &task.finish.constants[task.first];
    let mut row = [0i32; FILTERS];
    for part in 0..2 {
        let sum = _mm256_add_epi32(half(sums, part), half(&of.offset, part));
        let y = _mm256_add_epi32(_mm256_sllv_epi32(sum, half(&of.pre, part)), half(&of.bias, part));
        // SAFETY: eight of the sixteen values.
        unsafe { _mm256_storeu_si256(row[8 * part..8 * part + 8].as_mut_ptr().cast(), y) };
    }
    // SAFETY: the caller's promise.
    unsafe { out.copy_from_nonoverlapping(row.as_ptr(), filters) };
}
