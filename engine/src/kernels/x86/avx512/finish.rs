//! The end of sums, sixteen filters a vector.

use std::arch::x86_64::*;

use crate::kernels::x86::direct::Task;
use crate::kernels::x86::finish::{Constants, Residual, Target};
use crate::kernels::x86::panels::FILTERS;
use crate::kernels::x86::source::Segments;

/// Finishes `rows` pixels of a segment, from its pixel `first` on; the segment's first output pixel is `pixel`. `sums`
/// has `[row][panel][filter]`.
///
/// # Safety
/// The CPU has AVX-512 F, BW, VL and DQ; the task's targets have room.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(in crate::kernels::x86) unsafe fn finish(
    task: &Task,
    sums: *const i32,
    first: usize,
    rows: usize,
    pixel: usize,
) {
    for index in 0..task.count {
        let (filter, filters) = task.finish.filters_of(task.first + index);
        let of = &task.finish.constants[task.first + index];
        // SAFETY: the sums have as many panels as the task.
        let sums = unsafe { sums.add(index * FILTERS) };
        let rows = Rows { sums, step: task.count * FILTERS, first, count: rows, pixel, filter, task };
        let mask = ((1u32 << filters) - 1) as __mmask16;
        // SAFETY: the caller's promise.
        unsafe {
            match (task.target, task.residual) {
                (Target::Sum(out), _) => {
                    logits(of, &rows, |at, y| _mm512_mask_storeu_epi32(out.add(at), mask, y));
                }
                (Target::Byte(out), residual)
                    if filters == FILTERS && !matches!(residual, Residual::Wide(_)) =>
                {
                    if task.finish.lo >= 0 {
                        to_bytes::<false>(of, &rows, residual, out);
                    } else {
                        to_bytes::<true>(of, &rows, residual, out);
                    }
                }
                (target, residual) => {
                    let residual = |at| match residual {
                        Residual::None => _mm512_setzero_si512(),
                        Residual::Unsigned(r) => {
                            _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, r.add(at).cast()))
                        }
                        Residual::Signed(r) => _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(mask, r.add(at))),
                        Residual::Wide(r) => _mm512_cvtepi16_epi32(_mm256_maskz_loadu_epi16(mask, r.add(at))),
                    };
                    codes(of, &rows, residual, |at, y| match target {
                        Target::Byte(out) => {
                            _mm_mask_storeu_epi8(out.add(at).cast(), mask, _mm512_cvtepi32_epi8(y));
                        }
                        Target::Wide(out) => {
                            _mm256_mask_storeu_epi16(out.add(at), mask, _mm512_cvtepi32_epi16(y));
                        }
                        Target::Sum(_) => unreachable!("handled above"),
                    });
                }
            }
        }
    }
}

/// Whether [`quick`] can finish a task.
pub(super) fn is_quick(task: &Task) -> bool {
    matches!(task.target, Target::Byte(_))
        && !matches!(task.residual, Residual::Wide(_))
        && task.segments.pitch == task.segments.width
}

/// What [`quick`] expects in the sums of `V` panels from the start.
#[inline(always)]
pub(super) unsafe fn offsets<const V: usize>(task: &Task) -> [__m512i; V] {
    // SAFETY: the callers have the instruction.
    unsafe { std::array::from_fn(|v| vector(&task.finish.constants[task.first + v].offset)) }
}

/// Finishes sums in registers, those of `P` pixels side by side, of which output pixel `pixel` is the first.
///
/// # Safety
/// The callers have AVX-512 F, BW, VL and DQ; [`is_quick`] holds, and the task's targets have room.
#[inline(always)]
pub(super) unsafe fn quick<const P: usize, const V: usize>(
    task: &Task,
    mut acc: [[__m512i; V]; P],
    pixel: usize,
) {
    let rule = task.finish;
    let (filter, _) = rule.filters_of(task.first);
    let (last, of_last) = rule.filters_of(task.first + V - 1);
    let start = pixel * rule.filters + filter;
    // Filters of all panels.
    let count = last - filter + of_last;
    // SAFETY: the caller's promise.
    unsafe {
        for v in 0..V {
            let of = &rule.constants[task.first + v];
            let (pre, multiplier, bias) = (vector(&of.pre), vector(&of.multiplier), vector(&of.bias));
            let (residual_shift, shift) = (vector(&of.residual_shift), vector(&of.shift));
            if !of.unshifted {
                for row in &mut acc {
                    row[v] = _mm512_srav_epi32(row[v], pre);
                }
            }
            for row in &mut acc {
                // t fits 16 bits; the upper half of each multiplier is 0.
                row[v] = _mm512_add_epi32(_mm512_madd_epi16(row[v], multiplier), bias);
            }
            let (first, filters) = (start + v * FILTERS, FILTERS.min(count - v * FILTERS));
            let mask = ((1u32 << filters) - 1) as __mmask16;
            let add = |sum: &mut __m512i, residual| {
                *sum = _mm512_add_epi32(*sum, _mm512_sllv_epi32(residual, residual_shift));
            };
            match task.residual {
                Residual::Unsigned(r) => {
                    for (p, row) in acc.iter_mut().enumerate() {
                        let codes = _mm_maskz_loadu_epi8(mask, r.add(first + p * rule.filters).cast());
                        add(&mut row[v], _mm512_cvtepu8_epi32(codes));
                    }
                }
                Residual::Signed(r) => {
                    for (p, row) in acc.iter_mut().enumerate() {
                        let codes = _mm_maskz_loadu_epi8(mask, r.add(first + p * rule.filters));
                        add(&mut row[v], _mm512_cvtepi8_epi32(codes));
                    }
                }
                _ => {}
            }
            for row in &mut acc {
                row[v] = _mm512_srav_epi32(row[v], shift);
            }
        }
        let Target::Byte(out) = task.target else { unreachable!("quick tasks write bytes") };
        let out = out.add(start);
        if rule.lo >= 0 {
            store::<P, V, false>(task, &acc, out, count);
        } else {
            store::<P, V, true>(task, &acc, out, count);
        }
    }
}

/// Packs and stores the codes of `P` pixels by `count` filters, four vectors at a time.
#[inline(always)]
unsafe fn store<const P: usize, const V: usize, const SIGNED: bool>(
    task: &Task,
    y: &[[__m512i; V]; P],
    out: *mut u8,
    count: usize,
) {
    let together = if V <= 2 { 4 / V } else { 1 };
    let mask = u64::MAX >> (64 - count);
    // SAFETY: the caller's promise.
    unsafe {
        let (lo, hi) = (_mm512_set1_epi8(task.finish.lo as i8), _mm512_set1_epi8(task.finish.hi as i8));
        let at = |p: usize| out.add(p * task.finish.filters);
        for first in (0..P).step_by(together) {
            // The last ones are repeated where there are no more.
            let vector = |index: usize| {
                let (p, v) = if V <= 2 { (first + index / V, index % V) } else { (first, index.min(V - 1)) };
                y[p.min(P - 1)][v]
            };
            let bytes = pack::<SIGNED>(std::array::from_fn(vector), lo, hi);
            if count < V * FILTERS {
                // Rare: one pixel after the other, under a mask.
                for index in 0..together.min(P - first) {
                    let shifted = match index * V {
                        0 => bytes,
                        1 => _mm512_alignr_epi64::<2>(bytes, bytes),
                        2 => _mm512_alignr_epi64::<4>(bytes, bytes),
                        _ => _mm512_alignr_epi64::<6>(bytes, bytes),
                    };
                    _mm512_mask_storeu_epi8(at(first + index).cast(), mask, shifted);
                }
                continue;
            }
            match V {
                4 => _mm512_storeu_si512(at(first).cast(), bytes),
                3 => {
                    _mm256_storeu_si256(at(first).cast(), _mm512_castsi512_si256(bytes));
                    _mm_storeu_si128(at(first).add(32).cast(), _mm512_extracti32x4_epi32::<2>(bytes));
                }
                2 => {
                    _mm256_storeu_si256(at(first).cast(), _mm512_castsi512_si256(bytes));
                    if first + 1 < P {
                        _mm256_storeu_si256(at(first + 1).cast(), _mm512_extracti64x4_epi64::<1>(bytes));
                    }
                }
                _ => {
                    _mm_storeu_si128(at(first).cast(), _mm512_castsi512_si128(bytes));
                    if first + 1 < P {
                        _mm_storeu_si128(at(first + 1).cast(), _mm512_extracti32x4_epi32::<1>(bytes));
                    }
                    if first + 2 < P {
                        _mm_storeu_si128(at(first + 2).cast(), _mm512_extracti32x4_epi32::<2>(bytes));
                    }
                    if first + 3 < P {
                        _mm_storeu_si128(at(first + 3).cast(), _mm512_extracti32x4_epi32::<3>(bytes));
                    }
                }
            }
        }
    }
}

/// Four vectors of sixteen codes to bytes between `lo` and `hi`, one vector's after the other's. Saturation does a part
/// of the clamping.
#[inline(always)]
pub(super) unsafe fn pack<const SIGNED: bool>(y: [__m512i; 4], lo: __m512i, hi: __m512i) -> __m512i {
    // SAFETY: the callers have the instructions.
    unsafe {
        // Packing interleaves the vectors by four bytes; this brings each one's together.
        let apart = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        let words = [_mm512_packs_epi32(y[0], y[1]), _mm512_packs_epi32(y[2], y[3])];
        let bytes = if SIGNED {
            let bytes = _mm512_packs_epi16(words[0], words[1]);
            _mm512_min_epi8(_mm512_max_epi8(bytes, lo), hi)
        } else {
            let bytes = _mm512_packus_epi16(words[0], words[1]);
            _mm512_min_epu8(_mm512_max_epu8(bytes, lo), hi)
        };
        _mm512_permutexvar_epi32(apart, bytes)
    }
}

/// Which sums of one panel become which pixels.
struct Rows<'a> {
    sums: *const i32,
    /// From one row of sums to the next.
    step: usize,
    first: usize,
    count: usize,
    pixel: usize,
    filter: usize,
    task: &'a Task<'a>,
}

impl Rows<'_> {
    /// Calls `each(sums of sixteen filters, position of the first one's output, pixels)` for every stretch of real pixels
    /// side by side.
    #[inline(always)]
    unsafe fn stretches(&self, mut each: impl FnMut(*const i32, usize, usize)) {
        let Segments { pitch, width, .. } = self.task.segments;
        let filters = self.task.finish.filters;
        let (mut line, mut column) = (self.first / pitch, self.first % pitch);
        let mut row = 0;
        while row < self.count {
            let real = width.saturating_sub(column).min(self.count - row);
            let at = (self.pixel + line * width + column) * filters + self.filter;
            // SAFETY: the sums have a row for every pixel.
            each(unsafe { self.sums.add(row * self.step) }, at, real);
            row += pitch - column;
            (line, column) = (line + 1, 0);
        }
    }

    /// Calls `each(sums of sixteen filters, position of the first one's output)` for every real pixel.
    #[inline(always)]
    unsafe fn each(&self, mut each: impl FnMut(*const i32, usize)) {
        // SAFETY: as above.
        unsafe {
            self.stretches(|sums, at, pixels| {
                for pixel in 0..pixels {
                    each(sums.add(pixel * self.step), at + pixel * self.task.finish.filters);
                }
            });
        }
    }
}

#[inline(always)]
unsafe fn vector(numbers: &[i32; FILTERS]) -> __m512i {
    // SAFETY: sixteen numbers; the callers have the instruction.
    unsafe { _mm512_loadu_si512(numbers.as_ptr().cast()) }
}

/// The requantize rule.
#[inline(always)]
unsafe fn codes(
    of: &Constants,
    rows: &Rows,
    residual: impl Fn(usize) -> __m512i,
    store: impl Fn(usize, __m512i),
) {
    // SAFETY: the callers have the instructions.
    unsafe {
        let (offset, pre, multiplier) = (vector(&of.offset), vector(&of.pre), vector(&of.multiplier));
        let (bias, residual_shift, shift) = (vector(&of.bias), vector(&of.residual_shift), vector(&of.shift));
        let (lo, hi) = (_mm512_set1_epi32(rows.task.finish.lo), _mm512_set1_epi32(rows.task.finish.hi));
        rows.each(|sums, at| {
            let sum = _mm512_add_epi32(_mm512_load_si512(sums.cast()), offset);
            let t = _mm512_srav_epi32(sum, pre);
            // t fits 16 bits; the upper half of each multiplier is 0.
            let scaled = _mm512_add_epi32(_mm512_madd_epi16(t, multiplier), bias);
            let y = _mm512_add_epi32(scaled, _mm512_sllv_epi32(residual(at), residual_shift));
            let y = _mm512_srav_epi32(y, shift);
            store(at, _mm512_min_epi32(_mm512_max_epi32(y, lo), hi));
        });
    }
}

/// The requantize rule to bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn to_bytes<const SIGNED: bool>(of: &Constants, rows: &Rows, residual: Residual, out: *mut u8) {
    // SAFETY: the caller's promise.
    unsafe {
        let unsigned = |r: *const u8, at| _mm512_cvtepu8_epi32(_mm_loadu_si128(r.add(at).cast()));
        let signed = |r: *const i8, at| _mm512_cvtepi8_epi32(_mm_loadu_si128(r.add(at).cast()));
        let nothing = |_| _mm512_setzero_si512();
        match (residual, of.plain) {
            (Residual::Unsigned(r), true) => bytes::<SIGNED, true, true>(of, rows, |at| unsigned(r, at), out),
            (Residual::Unsigned(r), false) => {
                bytes::<SIGNED, false, true>(of, rows, |at| unsigned(r, at), out);
            }
            (Residual::Signed(r), true) => bytes::<SIGNED, true, true>(of, rows, |at| signed(r, at), out),
            (Residual::Signed(r), false) => bytes::<SIGNED, false, true>(of, rows, |at| signed(r, at), out),
            (_, true) => bytes::<SIGNED, true, false>(of, rows, nothing, out),
            (_, false) => bytes::<SIGNED, false, false>(of, rows, nothing, out),
        }
    }
}

/// The same, four pixels at a time: saturation does a part of the clamping. `PLAIN` leaves offsets and first shifts out,
/// `ADD` adds the residual's codes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn bytes<const SIGNED: bool, const PLAIN: bool, const ADD: bool>(
    of: &Constants,
    rows: &Rows,
    residual: impl Fn(usize) -> __m512i,
    out: *mut u8,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let (offset, pre, multiplier) = (vector(&of.offset), vector(&of.pre), vector(&of.multiplier));
        let (bias, residual_shift, shift) = (vector(&of.bias), vector(&of.residual_shift), vector(&of.shift));
        let lo = _mm512_set1_epi8(rows.task.finish.lo as i8);
        let hi = _mm512_set1_epi8(rows.task.finish.hi as i8);
        let filters = rows.task.finish.filters;
        let scaled = |sums: *const i32, at: usize| {
            let mut t = _mm512_load_si512(sums.cast());
            if !PLAIN {
                t = _mm512_srav_epi32(_mm512_add_epi32(t, offset), pre);
            }
            let mut y = _mm512_add_epi32(_mm512_madd_epi16(t, multiplier), bias);
            if ADD {
                y = _mm512_add_epi32(y, _mm512_sllv_epi32(residual(at), residual_shift));
            }
            _mm512_srav_epi32(y, shift)
        };
        let pack = |y| pack::<SIGNED>(y, lo, hi);
        rows.stretches(|mut sums, mut at, pixels| {
            for _ in 0..pixels / 4 {
                let y =
                    pack(std::array::from_fn(|row| scaled(sums.add(row * rows.step), at + row * filters)));
                _mm_storeu_si128(out.add(at).cast(), _mm512_castsi512_si128(y));
                _mm_storeu_si128(out.add(at + filters).cast(), _mm512_extracti32x4_epi32::<1>(y));
                _mm_storeu_si128(out.add(at + 2 * filters).cast(), _mm512_extracti32x4_epi32::<2>(y));
                _mm_storeu_si128(out.add(at + 3 * filters).cast(), _mm512_extracti32x4_epi32::<3>(y));
                sums = sums.add(4 * rows.step);
                at += 4 * filters;
            }
            for _ in 0..pixels % 4 {
                let y = scaled(sums, at);
                _mm_storeu_si128(out.add(at).cast(), _mm512_castsi512_si128(pack([y; 4])));
                sums = sums.add(rows.step);
                at += filters;
            }
        });
    }
}

/// The logits' end.
#[inline(always)]
unsafe fn logits(of: &Constants, rows: &Rows, store: impl Fn(usize, __m512i)) {
    // SAFETY: as above.
    unsafe {
        let (offset, shift, bias) = (vector(&of.offset), vector(&of.pre), vector(&of.bias));
        rows.each(|sums, at| {
            let sum = _mm512_add_epi32(_mm512_load_si512(sums.cast()), offset);
            store(at, _mm512_add_epi32(_mm512_sllv_epi32(sum, shift), bias));
        });
    }
}
