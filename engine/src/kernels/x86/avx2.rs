//! AVX2: multiply-adds of byte pairs, summed in sixteen bits for as long as no sum can pass them.
//!
//! `maddubs` saturates, and so could the sums: both are kept from it by counting. A pair of products is at most twice the
//! largest code times the largest level, so that many steps may be added before they are widened to 32 bits. Where not
//! even one pair fits, every weight is split in two halves, which takes two steps.
#![expect(unsafe_code, reason = "vector instructions, and loads and stores through pointers")]

mod finish;

use std::arch::x86_64::*;

use super::direct::{Direct, Matrix, Task};
use super::panels::{FILTERS, Line};
use super::source::Demands;
use crate::kernels::generic::Generic;
use crate::kernels::level::Level;
use crate::kernels::{ConvLayer, Kernel, PreparedConv};

/// The proof that this CPU has AVX2.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx2(());

impl Kernel for Avx2 {
    fn new() -> Option<Self> {
        is_x86_feature_detected!("avx2").then_some(Avx2(()))
    }

    fn name(&self) -> &'static str {
        "avx2"
    }

    fn level(&self) -> Level {
        Level::Avx2
    }

    fn prepare(&self, layer: &ConvLayer) -> Box<dyn PreparedConv> {
        if layer.is_depthwise() {
            return Generic.prepare(layer);
        }
        let weights = &layer.conv.weights;
        let largest = if weights.bits == 8 {
            weights.codes.iter().map(|code| (code as i8).unsigned_abs()).max()
        } else {
            weights.tables.iter().map(|level| level.unsigned_abs()).max()
        };
        let largest = u32::from(largest.unwrap_or(0));
        let fits = |level: u32| (i16::MAX as u32) / (2 * u32::from(layer.largest_byte) * level).max(1);
        let (split, steps) = match fits(largest) {
            0 => (true, fits(largest.div_ceil(2))),
            steps => (false, steps),
        };
        assert!(steps > 0, "half a level times a byte fits");
        let counting = Counting { steps: steps as usize, proof: *self };
        Box::new(if split { Direct::split(counting, layer) } else { Direct::new(counting, layer) })
    }
}

/// Products of one layer.
#[derive(Debug, Clone, Copy)]
struct Counting {
    /// Steps whose sums fit sixteen bits.
    steps: usize,
    #[expect(dead_code, reason = "holding it is the proof")]
    proof: Avx2,
}

/// Most pixels of a tile: two vectors of sums each, and four registers for the rest.
const TILE: usize = 4;

impl Matrix for Counting {
    const NAME: &'static str = "avx2 direct";
    const DEMANDS: Demands = Demands { depth: 4, pixels: 1 };

    fn panels(_left: usize) -> usize {
        1
    }

    fn unpack(self, packed: &[Line], table: &Line, steps: &mut [Line]) {
        // SAFETY: the value proves that the CPU has the instructions.
        unsafe { unpack(packed, table, steps) }
    }

    unsafe fn multiply(self, task: &Task, input: *const u8) {
        let pixels = task.segments.pixels;
        let tiles = pixels.div_ceil(TILE);
        for segment in 0..task.segments.count {
            for tile in 0..tiles {
                // Tiles of nearly equal size.
                let (first, end) = (pixels * tile / tiles, pixels * (tile + 1) / tiles);
                let mut sums = Sums([[0; FILTERS]; TILE]);
                // SAFETY: the value proves that the CPU has the instructions; the rest is the caller's promise.
                unsafe {
                    let start = input.add(segment * task.segments.input_step + first * task.pixel_step);
                    match end - first {
                        1 => products::<1>(task, self.steps, start, &mut sums),
                        2 => products::<2>(task, self.steps, start, &mut sums),
                        3 => products::<3>(task, self.steps, start, &mut sums),
                        _ => products::<4>(task, self.steps, start, &mut sums),
                    }
                    let pixel = task.pixel + segment * task.segments.output_step;
                    finish::finish(task, &sums.0, first, end - first, pixel);
                }
            }
        }
    }
}

/// Sums of one tile, pixel by pixel.
#[repr(C, align(64))]
struct Sums([[i32; FILTERS]; TILE]);

/// Sums of `P` pixels by one panel.
///
/// # Safety
/// The CPU has AVX2; `input` has the pieces of all pixels, the panel as many steps.
#[target_feature(enable = "avx2")]
unsafe fn products<const P: usize>(task: &Task, steps: usize, input: *const u8, sums: &mut Sums) {
    let ones = _mm256_set1_epi16(1);
    let mut weights = task.panels.as_ptr().cast::<__m256i>();
    for pieces in task.pieces.chunks(steps) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut narrow = [[_mm256_setzero_si256(); 2]; P];
            for &offset in pieces {
                let step = [_mm256_load_si256(weights), _mm256_load_si256(weights.add(1))];
                weights = weights.add(2);
                let start = input.add(offset);
                for (p, sums) in narrow.iter_mut().enumerate() {
                    let codes = start.add(p * task.pixel_step).cast::<i32>().read_unaligned();
                    let codes = _mm256_set1_epi32(codes);
                    for (sum, step) in sums.iter_mut().zip(step) {
                        *sum = _mm256_add_epi16(*sum, _mm256_maddubs_epi16(codes, step));
                    }
                }
            }
            for (wide, narrow) in sums.0.iter_mut().zip(narrow) {
                let wide = wide.as_mut_ptr().cast::<__m256i>();
                for (half, narrow) in narrow.into_iter().enumerate() {
                    let pairs = _mm256_madd_epi16(narrow, ones);
                    _mm256_store_si256(
                        wide.add(half),
                        _mm256_add_epi32(_mm256_load_si256(wide.add(half)), pairs),
                    );
                }
            }
        }
    }
}

/// Two-bit codes to levels: `levels[4·(filter % 4) + code]` within each 128 bits.
#[target_feature(enable = "avx2")]
fn unpack(packed: &[Line], table: &Line, steps: &mut [Line]) {
    let quads =
        _mm256_set_epi32(0x0C0C_0C0C, 0x0808_0808, 0x0404_0404, 0, 0x0C0C_0C0C, 0x0808_0808, 0x0404_0404, 0);
    let three = _mm256_set1_epi8(3);
    // SAFETY: lines are 64 aligned bytes, two vectors.
    unsafe {
        for half in 0..2 {
            let levels = _mm256_load_si256(table.0.as_ptr().cast::<__m256i>().add(half));
            for (line, steps) in packed.iter().zip(steps.as_chunks_mut::<4>().0) {
                let bits = _mm256_load_si256(line.0.as_ptr().cast::<__m256i>().add(half));
                let shifted = [
                    bits,
                    _mm256_srli_epi16::<2>(bits),
                    _mm256_srli_epi16::<4>(bits),
                    _mm256_srli_epi16::<6>(bits),
                ];
                for (step, bits) in steps.iter_mut().zip(shifted) {
                    let index = _mm256_or_si256(_mm256_and_si256(bits, three), quads);
                    let weights = _mm256_shuffle_epi8(levels, index);
                    _mm256_store_si256(step.0.as_mut_ptr().cast::<__m256i>().add(half), weights);
                }
            }
        }
    }
}
