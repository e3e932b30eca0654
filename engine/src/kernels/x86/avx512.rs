//! AVX-512 with VNNI: dot products of four bytes, sixteen filters a vector.
#![expect(unsafe_code, reason = "vector instructions, and loads and stores through pointers")]

use std::arch::x86_64::*;

use super::direct::{Direct, Matrix, Task};
use super::finish::{Constants, Finish, Residual, Target};
use super::panels::{FILTERS, Line};
use super::source::{Demands, Segments};
use crate::kernels::generic::Generic;
use crate::kernels::{ConvLayer, Kernel, PreparedConv};

/// The proof that this CPU has AVX-512 F, BW, VL, DQ and VNNI.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx512(());

impl Kernel for Avx512 {
    fn new() -> Option<Self> {
        let has = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vnni");
        has.then_some(Avx512(()))
    }

    fn name(&self) -> &'static str {
        "avx512-vnni"
    }

    fn prepare(&self, layer: &ConvLayer) -> Box<dyn PreparedConv> {
        if layer.is_depthwise() { Generic.prepare(layer) } else { Box::new(Direct::new(*self, layer)) }
    }
}

/// Most pixels of a tile, by panels − 1: what the registers hold.
const TILE: [usize; 4] = [14, 12, 8, 6];

impl Matrix for Avx512 {
    const DEMANDS: Demands = Demands { depth: 4, pixels: 1 };

    fn panels(left: usize) -> usize {
        match left {
            // Two and three instead of four and one.
            5 => 3,
            left => left.min(TILE.len()),
        }
    }

    fn unpack(self, packed: &[Line], table: &Line, steps: &mut [Line]) {
        // SAFETY: the value proves that the CPU has the instructions.
        unsafe { unpack(packed, table, steps) }
    }

    unsafe fn segment(self, task: &Task, input: *const u8, pixel: usize) {
        // SAFETY: as above; the rest is the caller's promise.
        unsafe {
            match task.count {
                1 => segment::<1>(task, input, pixel),
                2 => segment::<2>(task, input, pixel),
                3 => segment::<3>(task, input, pixel),
                _ => segment::<4>(task, input, pixel),
            }
        }
    }
}

/// Two-bit codes to levels: `levels[4·(filter % 4) + code]` within each 128 bits.
#[target_feature(enable = "avx512f,avx512bw")]
fn unpack(packed: &[Line], table: &Line, steps: &mut [Line]) {
    // SAFETY: lines are 64 aligned bytes.
    unsafe {
        let levels = _mm512_load_si512(table.0.as_ptr().cast());
        let quads = _mm512_set4_epi32(0x0C0C_0C0C, 0x0808_0808, 0x0404_0404, 0);
        let two = _mm512_set1_epi8(3);
        for (line, steps) in packed.iter().zip(steps.as_chunks_mut::<4>().0) {
            let codes = _mm512_load_si512(line.0.as_ptr().cast());
            let shifted = [
                codes,
                _mm512_srli_epi16::<2>(codes),
                _mm512_srli_epi16::<4>(codes),
                _mm512_srli_epi16::<6>(codes),
            ];
            for (step, codes) in steps.iter_mut().zip(shifted) {
                // (codes & 3) | quads
                let index = _mm512_ternarylogic_epi32::<0xEA>(codes, two, quads);
                _mm512_store_si512(step.0.as_mut_ptr().cast(), _mm512_shuffle_epi8(levels, index));
            }
        }
    }
}

/// Sums of one tile, pixel by pixel.
#[repr(C, align(64))]
struct Sums([i32; TILE[0] * 2 * FILTERS]);

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn segment<const V: usize>(task: &Task, input: *const u8, pixel: usize) {
    let pixels = task.segments.pixels;
    let tiles = pixels.div_ceil(TILE[V - 1]);
    let mut sums = Sums([0; TILE[0] * 2 * FILTERS]);
    for tile in 0..tiles {
        // Tiles of nearly equal size.
        let (first, end) = (pixels * tile / tiles, pixels * (tile + 1) / tiles);
        // SAFETY: the caller's promise.
        unsafe {
            let start = input.add(first * task.pixel_step);
            dispatch::<V>(end - first, task, start, sums.0.as_mut_ptr());
            finish(task, sums.0.as_ptr(), first, end - first, pixel);
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn dispatch<const V: usize>(pixels: usize, task: &Task, input: *const u8, sums: *mut i32) {
    macro_rules! tiles {
        ($($p:literal)*) => {
            match pixels {
                // SAFETY: the caller's promise.
                $($p if $p <= TILE[V - 1] => unsafe { tile::<$p, V>(task, input, sums) },)*
                _ => unreachable!("no tile is larger"),
            }
        };
    }
    tiles!(1 2 3 4 5 6 7 8 9 10 11 12 13 14);
}

/// Sums of `P` pixels by `V` panels.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn tile<const P: usize, const V: usize>(task: &Task, input: *const u8, sums: *mut i32) {
    // SAFETY: the caller's promise: `input` has the pieces of all pixels, the panels have as many steps.
    unsafe {
        let mut acc = [[_mm512_setzero_si512(); V]; P];
        let panel = task.pieces.len();
        let mut weights = task.panels.as_ptr().cast::<__m512i>();
        for &offset in task.pieces {
            let step: [__m512i; V] = std::array::from_fn(|v| _mm512_load_si512(weights.add(v * panel)));
            weights = weights.add(1);
            let start = input.add(offset);
            for p in 0..P {
                let codes = start.add(p * task.pixel_step).cast::<i32>().read_unaligned();
                let codes = _mm512_set1_epi32(codes);
                for v in 0..V {
                    acc[p][v] = _mm512_dpbusd_epi32(acc[p][v], codes, step[v]);
                }
            }
        }
        for p in 0..P {
            for v in 0..V {
                _mm512_store_si512(sums.add((p * V + v) * FILTERS).cast(), acc[p][v]);
            }
        }
    }
}

/// Finishes `rows` pixels of a segment, from its pixel `first` on: `sums` has `[row][panel][filter]`.
///
/// # Safety
/// The CPU has AVX-512 F, BW, VL and DQ; the task's targets have room.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) unsafe fn finish(task: &Task, sums: *const i32, first: usize, rows: usize, pixel: usize) {
    for index in 0..task.count {
        let panel = task.first + index;
        let rows = Rows { sums, index, of: task.count, first, rows, pixel, segments: task.segments };
        // SAFETY: the caller's promise.
        unsafe {
            match (task.target, task.residual) {
                (Target::Sum(out), _) => logits(task.finish, panel, &rows, out),
                (Target::Byte(out), Residual::None) => codes(
                    task.finish,
                    panel,
                    &rows,
                    |_, _| _mm512_setzero_si512(),
                    |at, mask, y| bytes(out.add(at), mask, y),
                ),
                (Target::Byte(out), Residual::Unsigned(r)) => codes(
                    task.finish,
                    panel,
                    &rows,
                    |at, mask| _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, r.add(at).cast())),
                    |at, mask, y| bytes(out.add(at), mask, y),
                ),
                (target, residual) => codes(
                    task.finish,
                    panel,
                    &rows,
                    |at, mask| match residual {
                        Residual::None => _mm512_setzero_si512(),
                        Residual::Unsigned(r) => {
                            _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, r.add(at).cast()))
                        }
                        Residual::Signed(r) => _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(mask, r.add(at))),
                        Residual::Wide(r) => _mm512_cvtepi16_epi32(_mm256_maskz_loadu_epi16(mask, r.add(at))),
                    },
                    |at, mask, y| match target {
                        Target::Byte(out) => bytes(out.add(at), mask, y),
                        Target::Wide(out) => _mm512_mask_cvtepi32_storeu_epi16(out.add(at).cast(), mask, y),
                        Target::Sum(_) => unreachable!("handled above"),
                    },
                ),
            }
        }
    }
}

/// Which sums become which pixels.
struct Rows {
    sums: *const i32,
    /// Panel within a row of sums.
    index: usize,
    /// Panels of a row.
    of: usize,
    first: usize,
    rows: usize,
    pixel: usize,
    segments: Segments,
}

impl Rows {
    /// Calls `each(sums of sixteen filters, output pixel)` for every real pixel.
    #[inline(always)]
    unsafe fn each(&self, mut each: impl FnMut(*const i32, usize)) {
        let Segments { pitch, width, .. } = self.segments;
        let (mut line, mut column) = (self.first / pitch, self.first % pitch);
        for row in 0..self.rows {
            if column < width {
                // SAFETY: the sums have a row for every pixel.
                let sums = unsafe { self.sums.add((row * self.of + self.index) * FILTERS) };
                each(sums, self.pixel + line * width + column);
            }
            column += 1;
            if column == pitch {
                (line, column) = (line + 1, 0);
            }
        }
    }
}

#[inline(always)]
unsafe fn vector(numbers: &[i32; FILTERS]) -> __m512i {
    // SAFETY: sixteen numbers.
    unsafe { _mm512_loadu_si512(numbers.as_ptr().cast()) }
}

fn mask_of(finish: &Finish, panel: usize) -> (usize, __mmask16) {
    let (first, count) = finish.filters_of(panel);
    (first, ((1u32 << count) - 1) as __mmask16)
}

/// Stores the low bytes of the lanes of the mask.
#[inline(always)]
unsafe fn bytes(out: *mut u8, mask: __mmask16, y: __m512i) {
    // SAFETY: the callers have the instructions and the room.
    unsafe { _mm_mask_storeu_epi8(out.cast(), mask, _mm512_cvtepi32_epi8(y)) }
}

/// The requantize rule.
#[inline(always)]
unsafe fn codes(
    finish: &Finish,
    panel: usize,
    rows: &Rows,
    residual: impl Fn(usize, __mmask16) -> __m512i,
    store: impl Fn(usize, __mmask16, __m512i),
) {
    // SAFETY: the callers have the instructions.
    unsafe {
        let (first, mask) = mask_of(finish, panel);
        let of: &Constants = &finish.constants[panel];
        let (offset, pre, multiplier) = (vector(&of.offset), vector(&of.pre), vector(&of.multiplier));
        let (bias, residual_shift, shift) = (vector(&of.bias), vector(&of.residual_shift), vector(&of.shift));
        let (lo, hi) = (_mm512_set1_epi32(finish.lo), _mm512_set1_epi32(finish.hi));
        rows.each(|sums, pixel| {
            let at = pixel * finish.filters + first;
            let sum = _mm512_add_epi32(_mm512_load_si512(sums.cast()), offset);
            let t = _mm512_srav_epi32(sum, pre);
            // t fits 16 bits; the upper half of each multiplier is 0.
            let scaled = _mm512_add_epi32(_mm512_madd_epi16(t, multiplier), bias);
            let r = _mm512_sllv_epi32(residual(at, mask), residual_shift);
            let y = _mm512_srav_epi32(_mm512_add_epi32(scaled, r), shift);
            store(at, mask, _mm512_min_epi32(_mm512_max_epi32(y, lo), hi));
        });
    }
}

/// The logits' end.
#[inline(always)]
unsafe fn logits(finish: &Finish, panel: usize, rows: &Rows, out: *mut i32) {
    // SAFETY: as above.
    unsafe {
        let (first, mask) = mask_of(finish, panel);
        let of = &finish.constants[panel];
        let (offset, shift, bias) = (vector(&of.offset), vector(&of.pre), vector(&of.bias));
        rows.each(|sums, pixel| {
            let sum = _mm512_add_epi32(_mm512_load_si512(sums.cast()), offset);
            let y = _mm512_add_epi32(_mm512_sllv_epi32(sum, shift), bias);
            _mm512_mask_storeu_epi32(out.add(pixel * finish.filters + first), mask, y);
        });
    }
}
