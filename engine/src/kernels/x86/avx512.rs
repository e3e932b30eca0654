//! AVX-512 with VNNI: dot products of four bytes, sixteen filters a vector.
#![expect(unsafe_code, reason = "vector instructions, and loads and stores through pointers")]

mod depthwise;
mod finish;
mod rows;
mod winograd;

use std::arch::x86_64::*;

pub(super) use finish::finish;

use super::direct::{Direct, Matrix, Task};
use super::panels::{FILTERS, Line};
use super::source::Demands;
use crate::kernels::generic::Generic;
use crate::kernels::level::{Level, Unit};
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

    fn level(&self) -> Level {
        Level::up_to(Unit::Avx512Vbmi)
    }

    fn peak(&self) -> Option<f64> {
        const ROUNDS: u32 = 200_000;
        // SAFETY: the value proves that the CPU has the instructions.
        Some(best_rate(|| unsafe { products(ROUNDS) }, f64::from(ROUNDS) * 16.0 * 64.0))
    }

    fn bytes(&self, layer: &ConvLayer) -> u64 {
        if layer.is_depthwise() {
            return depthwise::bytes(layer).max(Generic.bytes(layer));
        }
        let direct = Direct::<Avx512>::bytes(layer, false).max(rows::bytes(layer));
        if super::winograd::suits(layer) { direct.max(super::winograd::bytes(layer)) } else { direct }
    }

    fn prepare(&self, layer: &ConvLayer) -> Box<dyn PreparedConv> {
        if let Some(depthwise) = depthwise::Depthwise::new(*self, layer) {
            return Box::new(depthwise);
        }
        if let Some(rows) = rows::Rows::new(*self, layer) {
            return Box::new(rows);
        }
        if let Some(winograd) = winograd::Winograd::new(*self, layer) {
            return Box::new(winograd);
        }
        if layer.is_depthwise() { Generic.prepare(layer) } else { Box::new(Direct::new(*self, layer)) }
    }
}

/// The best of some rounds, in 10⁹ a second.
pub(super) fn best_rate(mut round: impl FnMut(), work: f64) -> f64 {
    let time = (0..20).map(|_| {
        let start = std::time::Instant::now();
        round();
        start.elapsed()
    });
    work / time.min().unwrap_or_default().as_secs_f64() * 1e-9
}

/// Sixteen dot products a round, on registers.
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn products(rounds: u32) {
    let mut acc = [_mm512_setzero_si512(); 16];
    let (x, w) = (std::hint::black_box(_mm512_set1_epi8(3)), _mm512_set1_epi8(2));
    for _ in 0..rounds {
        for sum in &mut acc {
            *sum = _mm512_dpbusd_epi32(*sum, x, w);
        }
    }
    std::hint::black_box(acc);
}

/// Most pixels of a tile, by panels − 1: what the registers hold.
const TILE: [usize; 4] = [14, 12, 8, 6];

impl Matrix for Avx512 {
    const NAME: &'static str = "avx512-vnni direct";
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

    unsafe fn multiply(self, task: &Task, input: *const u8) {
        for segment in 0..task.segments.count {
            // SAFETY: the value proves that the CPU has the instructions; the rest is the caller's promise.
            unsafe {
                let input = input.add(segment * task.segments.input_step);
                let pixel = task.pixel + segment * task.segments.output_step;
                match task.count {
                    1 => multiply::<1>(task, input, pixel),
                    2 => multiply::<2>(task, input, pixel),
                    3 => multiply::<3>(task, input, pixel),
                    _ => multiply::<4>(task, input, pixel),
                }
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

/// A tile of a segment.
#[derive(Clone, Copy)]
struct Tile {
    /// The first pixel of the segment.
    first: usize,
    /// The segment's first output pixel.
    pixel: usize,
    /// Whether sums become codes without leaving their registers.
    quick: bool,
}

/// One segment, whose first output pixel is `pixel`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn multiply<const V: usize>(task: &Task, input: *const u8, pixel: usize) {
    let pixels = task.segments.pixels;
    let tiles = pixels.div_ceil(TILE[V - 1]);
    let quick = finish::is_quick(task);
    for tile in 0..tiles {
        // Tiles of nearly equal size.
        let (first, end) = (pixels * tile / tiles, pixels * (tile + 1) / tiles);
        // SAFETY: the caller's promise.
        unsafe {
            let start = input.add(first * task.pixel_step);
            dispatch::<V>(end - first, task, start, Tile { first, pixel, quick });
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn dispatch<const V: usize>(pixels: usize, task: &Task, input: *const u8, at: Tile) {
    macro_rules! tiles {
        ($($p:literal)*) => {
            match pixels {
                // SAFETY: the caller's promise.
                $($p if $p <= TILE[V - 1] => unsafe { tile::<$p, V>(task, input, at) },)*
                _ => unreachable!("no tile is larger"),
            }
        };
    }
    tiles!(1 2 3 4 5 6 7 8 9 10 11 12 13 14);
}

/// Adds the products of four codes, at any address, by one step of `V` panels. Written out, so that the codes are in a
/// register for these products only: left alone, the compiler loads those of many pixels first, and then lacks registers
/// for the sums.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn dot<const V: usize>(codes: *const u8, step: &[__m512i; V], sums: &mut [__m512i; V]) {
    // SAFETY: `codes` has four bytes.
    unsafe {
        match V {
            1 => std::arch::asm!(
                "vpbroadcastd zmm31, dword ptr [{at}]",
                "vpdpbusd {sum0}, zmm31, {step0}",
                at = in(reg) codes,
                out("zmm31") _,
                sum0 = inout(zmm_reg) sums[0],
                step0 = in(zmm_reg) step[0],
                options(pure, readonly, nostack, preserves_flags),
            ),
            2 => std::arch::asm!(
                "vpbroadcastd zmm31, dword ptr [{at}]",
                "vpdpbusd {sum0}, zmm31, {step0}",
                "vpdpbusd {sum1}, zmm31, {step1}",
                at = in(reg) codes,
                out("zmm31") _,
                sum0 = inout(zmm_reg) sums[0],
                step0 = in(zmm_reg) step[0],
                sum1 = inout(zmm_reg) sums[1],
                step1 = in(zmm_reg) step[1],
                options(pure, readonly, nostack, preserves_flags),
            ),
            3 => std::arch::asm!(
                "vpbroadcastd zmm31, dword ptr [{at}]",
                "vpdpbusd {sum0}, zmm31, {step0}",
                "vpdpbusd {sum1}, zmm31, {step1}",
                "vpdpbusd {sum2}, zmm31, {step2}",
                at = in(reg) codes,
                out("zmm31") _,
                sum0 = inout(zmm_reg) sums[0],
                step0 = in(zmm_reg) step[0],
                sum1 = inout(zmm_reg) sums[1],
                step1 = in(zmm_reg) step[1],
                sum2 = inout(zmm_reg) sums[2],
                step2 = in(zmm_reg) step[2],
                options(pure, readonly, nostack, preserves_flags),
            ),
            _ => std::arch::asm!(
                "vpbroadcastd zmm31, dword ptr [{at}]",
                "vpdpbusd {sum0}, zmm31, {step0}",
                "vpdpbusd {sum1}, zmm31, {step1}",
                "vpdpbusd {sum2}, zmm31, {step2}",
                "vpdpbusd {sum3}, zmm31, {step3}",
                at = in(reg) codes,
                out("zmm31") _,
                sum0 = inout(zmm_reg) sums[0],
                step0 = in(zmm_reg) step[0],
                sum1 = inout(zmm_reg) sums[1],
                step1 = in(zmm_reg) step[1],
                sum2 = inout(zmm_reg) sums[2],
                step2 = in(zmm_reg) step[2],
                sum3 = inout(zmm_reg) sums[3],
                step3 = in(zmm_reg) step[3],
                options(pure, readonly, nostack, preserves_flags),
            ),
        }
    }
}

/// `P` pixels by `V` panels.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn tile<const P: usize, const V: usize>(task: &Task, input: *const u8, at: Tile) {
    // SAFETY: the caller's promise: `input` has the pieces of all pixels, the panels have as many steps.
    unsafe {
        let mut acc = [[_mm512_setzero_si512(); V]; P];
        if at.quick {
            acc = [finish::offsets(task); P];
        }
        let panel = task.pieces.len();
        let mut weights = task.panels.as_ptr().cast::<__m512i>();
        for &offset in task.pieces {
            let step: [__m512i; V] = std::array::from_fn(|v| _mm512_load_si512(weights.add(v * panel)));
            weights = weights.add(1);
            let start = input.add(offset);
            for (p, sums) in acc.iter_mut().enumerate() {
                dot(start.add(p * task.pixel_step), &step, sums);
            }
        }
        if at.quick {
            finish::quick(task, acc, at.pixel + at.first);
            return;
        }
        let mut sums = Sums([0; TILE[0] * 2 * FILTERS]);
        // By reference, row by row: an iterator that takes the array by value moves it through memory.
        for (p, row) in acc.iter().enumerate() {
            for (v, sum) in row.iter().enumerate() {
                _mm512_store_si512(sums.0[(p * V + v) * FILTERS..].as_mut_ptr().cast(), *sum);
            }
        }
        finish(task, sums.0.as_ptr(), at.first, P, at.pixel);
    }
}
