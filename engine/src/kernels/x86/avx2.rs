//! AVX2: multiply-adds of byte pairs, summed in sixteen bits for as long as no sum can pass them.
//!
//! `maddubs` saturates, and so could the sums: both are kept from it by counting, see [`Counting`].
#![expect(unsafe_code, reason = "vector instructions, and loads and stores through pointers")]

mod counting;
mod depthwise;
mod finish;
mod products;
mod winograd;

use std::arch::asm;
use std::arch::x86_64::*;

use super::avx512::best_rate;
use super::direct::Direct;
use crate::kernels::generic::Generic;
use crate::kernels::level::{Level, Unit};
use crate::kernels::{ConvLayer, Kernel, PreparedConv};
use counting::Counting;

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
        Level::up_to(Unit::Avx2)
    }

    fn peak(&self) -> Option<f64> {
        const ROUNDS: u32 = 100_000;
        // SAFETY: the value proves that the CPU has the instructions.
        Some(best_rate(|| unsafe { products(ROUNDS) }, f64::from(ROUNDS) * 8.0 * 32.0))
    }

    fn bytes(&self, layer: &ConvLayer) -> u64 {
        if layer.is_depthwise() {
            return depthwise::bytes(layer).max(Generic.bytes(layer));
        }
        let split = layer.conv.weights.bits == 8 || splits(layer);
        let direct = Direct::<Counting>::bytes(layer, split);
        if super::winograd::suits(layer) { direct.max(super::winograd::bytes(layer)) } else { direct }
    }

    fn prepare(&self, layer: &ConvLayer) -> Box<dyn PreparedConv> {
        if let Some(depthwise) = depthwise::Depthwise::new(*self, layer) {
            return Box::new(depthwise);
        }
        if layer.is_depthwise() {
            return Generic.prepare(layer);
        }
        if let Some(winograd) = winograd::Winograd::new(*self, layer) {
            return Box::new(winograd);
        }
        let split = splits(layer);
        let counting = Counting::new(*self, layer.largest_byte, split);
        Box::new(if split { Direct::split(counting, layer) } else { Direct::new(counting, layer) })
    }
}

/// Whether one step, two products, may not fit sixteen bits.
fn splits(layer: &ConvLayer) -> bool {
    let weights = &layer.conv.weights;
    let largest = if weights.bits == 8 {
        weights.codes.iter().map(|code| (code as i8).unsigned_abs()).max()
    } else {
        weights.tables.iter().map(|level| level.unsigned_abs()).max()
    };
    2 * u32::from(largest.unwrap_or(0)) * u32::from(layer.largest_byte) > i16::MAX as u32
}

/// Eight vectors of products a round, added to sums in 16 bits, on registers.
#[target_feature(enable = "avx2")]
unsafe fn products(rounds: u32) {
    let (x, w) = (_mm256_set1_epi8(3), _mm256_set1_epi8(2));
    let mut acc = [_mm256_setzero_si256(); 8];
    for _ in 0..rounds {
        for sum in &mut acc {
            // SAFETY: registers only. Written out, for a compiler would see that nothing changes.
            unsafe {
                asm!(
                    "vpmaddubsw {t}, {x}, {w}",
                    "vpaddw {sum}, {sum}, {t}",
                    t = out(ymm_reg) _,
                    x = in(ymm_reg) x,
                    w = in(ymm_reg) w,
                    sum = inout(ymm_reg) *sum,
                    options(pure, nomem, nostack, preserves_flags),
                );
            }
        }
    }
    std::hint::black_box(acc);
}
