//! Depthwise 3 × 3 convolutions, sixty-four channels at a time.
//!
//! The three codes of a column of the window, and a zero, make one 32-bit lane, so that three dot products give a pixel;
//! with stride 1 a column serves three pixels. Interleaving leaves the channels of a vector in the order in which packing
//! puts them right again, so weights and constants are laid out in that order.

use std::arch::x86_64::*;

use super::Avx512;
use crate::kernels::codes::{Codes, CodesMut};
use crate::kernels::part::{Cut, Part, Threads};
use crate::kernels::x86::direct::offsets;
use crate::kernels::{ConvLayer, Line, PreparedConv, Workspace, WorkspaceSize};
use crate::model::{Epilogue, Shape, Window};

/// Channels of a block.
const CHANNELS: usize = 64;
/// Vectors of 32-bit lanes in a block.
const VECTORS: usize = 4;
/// Fewest codes for a part.
const PART: usize = 16 * 1024;
/// Columns of the window.
const COLUMNS: usize = 3;

/// A vector's worth of numbers.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Numbers([i32; 16]);

/// The epilogue of a block, by vector.
#[derive(Debug, Clone)]
struct Block {
    /// By column and vector: three weights and a zero of each channel.
    weights: [[Line; VECTORS]; COLUMNS],
    offset: [Numbers; VECTORS],
    pre: [Numbers; VECTORS],
    multiplier: [Numbers; VECTORS],
    bias: [Numbers; VECTORS],
    shift: [Numbers; VECTORS],
}

/// A depthwise convolution laid out.
pub(super) struct Depthwise {
    window: Window,
    input: Shape,
    output: Shape,
    signed: bool,
    blocks: Vec<Block>,
    lo: i32,
    hi: i32,
    /// A row outside the input.
    zeros: Vec<u8>,
}

/// The channel of a block that lane `lane` of vector `vector` holds.
fn channel(vector: usize, lane: usize) -> usize {
    16 * (lane / 4) + 4 * vector + lane % 4
}

impl Depthwise {
    /// Lays a layer out; `None` if it is of another kind.
    pub(super) fn new(_: Avx512, layer: &ConvLayer) -> Option<Self> {
        let conv = layer.conv;
        let Epilogue::Requantize(rule) = &conv.epilogue else { return None };
        let fits = layer.is_depthwise()
            && conv.window.kernel == [3, 3]
            && conv.window.dilation == [1, 1]
            && rule.residual_shift.is_empty()
            && layer.codes.bytes() == 1;
        if !fits {
            return None;
        }
        let offsets = if layer.signed { offsets(layer) } else { Vec::new() };
        let channels = layer.input.c as usize;
        let numbers = |first: usize, number: &dyn Fn(usize) -> i32| {
            std::array::from_fn(|vector| {
                let at = |lane| Some(first + channel(vector, lane)).filter(|&channel| channel < channels);
                Numbers(std::array::from_fn(|lane| at(lane).map_or(0, number)))
            })
        };
        let block = |first: usize| Block {
            weights: std::array::from_fn(|column| {
                std::array::from_fn(|vector| {
                    Line(std::array::from_fn(|byte| {
                        let (channel, row) = (first + channel(vector, byte / 4), byte % 4);
                        let inside = channel < channels && row < 3;
                        if inside { conv.weights.level(channel, 3 * row + column, 9) as u8 } else { 0 }
                    }))
                })
            }),
            offset: numbers(first, &|channel| offsets.get(channel).copied().unwrap_or(0)),
            pre: numbers(first, &|channel| rule.pre[channel].into()),
            multiplier: numbers(first, &|channel| i32::from(rule.multiplier[channel]) & 0xFFFF),
            bias: numbers(first, &|channel| rule.bias[channel]),
            shift: numbers(first, &|channel| rule.shift[channel].into()),
        };
        Some(Depthwise {
            window: conv.window,
            input: layer.input,
            output: layer.output,
            signed: layer.signed,
            blocks: (0..channels).step_by(CHANNELS).map(block).collect(),
            lo: rule.lo,
            hi: rule.hi,
            zeros: vec![0; layer.input.w as usize * channels],
        })
    }

    /// One row of output pixels of one block; `rows` are those under the window.
    ///
    /// # Safety
    /// The CPU has AVX-512 F, BW, VL and VNNI.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn row(&self, rows: [&[u8]; 3], index: usize, out: &mut [u8]) {
        let (block, channels) = (&self.blocks[index], self.input.c as usize);
        let first = index * CHANNELS;
        let count = CHANNELS.min(channels - first);
        let mask = u64::MAX >> (CHANNELS - count);
        let (left, step) = (self.window.padding[1] as isize, self.window.stride[1] as isize);
        let width = self.input.w as isize;
        assert!(rows.iter().all(|row| row.len() == self.input.w as usize * channels));
        assert_eq!(out.len(), self.output.w as usize * channels);
        let flip = _mm512_set1_epi8(if self.signed { i8::MIN } else { 0 });
        // SAFETY: columns are inside the rows, whose lengths are checked; the mask cuts the last block's channels.
        let column = |x: isize| unsafe {
            let zero = _mm512_setzero_si512();
            let codes: [__m512i; 3] = std::array::from_fn(|row| {
                let inside = (0..width).contains(&x);
                let codes = if inside {
                    _mm512_maskz_loadu_epi8(
                        mask,
                        rows[row].as_ptr().add(x as usize * channels + first).cast(),
                    )
                } else {
                    zero
                };
                _mm512_xor_si512(codes, flip)
            });
            let low = [_mm512_unpacklo_epi8(codes[0], codes[1]), _mm512_unpacklo_epi8(codes[2], zero)];
            let high = [_mm512_unpackhi_epi8(codes[0], codes[1]), _mm512_unpackhi_epi8(codes[2], zero)];
            [
                _mm512_unpacklo_epi16(low[0], low[1]),
                _mm512_unpackhi_epi16(low[0], low[1]),
                _mm512_unpacklo_epi16(high[0], high[1]),
                _mm512_unpackhi_epi16(high[0], high[1]),
            ]
        };
        let mut columns = [column(-left), column(1 - left), column(2 - left)];
        for x in 0..self.output.w as isize {
            if x > 0 {
                let start = x * step - left;
                columns = match step {
                    1 => [columns[1], columns[2], column(start + 2)],
                    2 => [columns[2], column(start + 1), column(start + 2)],
                    _ => [column(start), column(start + 1), column(start + 2)],
                };
            }
            let at = x as usize * channels + first;
            // SAFETY: the CPU has the instructions, and the pixel's channels are inside `out`.
            unsafe {
                let y = self.finish(block, &columns);
                _mm512_mask_storeu_epi8(out.as_mut_ptr().add(at).cast(), mask, y);
            }
        }
    }

    /// Sums of a pixel, requantized and packed.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    fn finish(&self, block: &Block, columns: &[[__m512i; VECTORS]; COLUMNS]) -> __m512i {
        // SAFETY: lines and numbers are 64 aligned bytes.
        let load = |numbers: &Numbers| unsafe { _mm512_load_si512(numbers.0.as_ptr().cast()) };
        let y: [__m512i; VECTORS] = std::array::from_fn(|vector| {
            let mut sum = load(&block.offset[vector]);
            for (column, weights) in columns.iter().zip(&block.weights) {
                // SAFETY: as above.
                let weights = unsafe { _mm512_load_si512(weights[vector].0.as_ptr().cast()) };
                sum = _mm512_dpbusd_epi32(sum, column[vector], weights);
            }
            let t = _mm512_srav_epi32(sum, load(&block.pre[vector]));
            let scaled = _mm512_madd_epi16(t, load(&block.multiplier[vector]));
            _mm512_srav_epi32(_mm512_add_epi32(scaled, load(&block.bias[vector])), load(&block.shift[vector]))
        });
        let words = [_mm512_packs_epi32(y[0], y[1]), _mm512_packs_epi32(y[2], y[3])];
        let (lo, hi) = (_mm512_set1_epi8(self.lo as i8), _mm512_set1_epi8(self.hi as i8));
        if self.lo < 0 {
            let bytes = _mm512_packs_epi16(words[0], words[1]);
            _mm512_min_epi8(_mm512_max_epi8(bytes, lo), hi)
        } else {
            let bytes = _mm512_packus_epi16(words[0], words[1]);
            _mm512_min_epu8(_mm512_max_epu8(bytes, lo), hi)
        }
    }
}

impl PreparedConv for Depthwise {
    fn method(&self) -> &'static str {
        "avx512-vnni depthwise"
    }

    fn weight_bytes(&self) -> usize {
        size_of_val(&*self.blocks)
    }

    fn workspace(&self) -> WorkspaceSize {
        WorkspaceSize::default()
    }

    fn cut(&self, threads: Threads) -> Cut {
        Cut::by_rows(self.output.h as usize, threads, threads.most(self.output.len(), PART))
    }

    fn run(&self, x: Codes, _residual: Option<Codes>, part: Part, _workspace: &mut Workspace) {
        let (part, out) = part.rows();
        let (Codes::Unsigned(codes) | Codes::Signed(codes), CodesMut::Byte(out)) = (x, out) else {
            unreachable!("`new` takes layers that write bytes, and convolutions read bytes");
        };
        let channels = self.input.c as usize;
        let line = self.input.w as usize * channels;
        let (top, down) = (self.window.padding[0] as usize, self.window.stride[0] as usize);
        for (y, out) in part.zip(out.chunks_exact_mut(self.output.w as usize * channels)) {
            let rows = [0, 1, 2].map(|row| {
                let inside = (y * down + row).checked_sub(top).filter(|&row| row < self.input.h as usize);
                inside.map_or(&*self.zeros, |row| &codes[row * line..][..line])
            });
            for index in 0..self.blocks.len() {
                // SAFETY: the kernel's value, given to `new`, proves that the CPU has the instructions.
                unsafe { self.row(rows, index, out) };
            }
        }
    }
}
