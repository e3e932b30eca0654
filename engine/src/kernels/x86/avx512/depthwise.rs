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
    /// Whether some first shift does anything.
    shifted: bool,
    blocks: Vec<Block>,
    lo: i32,
    hi: i32,
    /// A row outside the input.
    zeros: Vec<u8>,
}

/// Codes of a column of the window, channel by channel.
type Column = [__m512i; VECTORS];

/// Bytes that laying a layer out takes at most.
pub(super) fn bytes(layer: &ConvLayer) -> u64 {
    let channels = u64::from(layer.input.c);
    let blocks = channels.div_ceil(CHANNELS as u64);
    let of_block = 2 * size_of::<Block>() as u64 + 128 * (layer.conv.window.taps() + 2);
    blocks * of_block + (u64::from(layer.input.w) + 16) * channels + 4096
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
            shifted: rule.pre.iter().any(|&pre| pre > 0),
            blocks: (0..channels).step_by(CHANNELS).map(block).collect(),
            lo: rule.lo,
            hi: rule.hi,
            zeros: vec![0; layer.input.w as usize * channels],
        })
    }

    /// One row of output pixels of one block; `rows` are those under the window, `STEP` is the horizontal stride, or 0
    /// for any. Two pixels at a time, which share what is loaded for them.
    ///
    /// # Safety
    /// The CPU has AVX-512 F, BW, VL and VNNI.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn row<const STEP: usize>(&self, rows: [&[u8]; 3], index: usize, out: &mut [u8]) {
        let (block, channels) = (&self.blocks[index], self.input.c as usize);
        let first = index * CHANNELS;
        let count = CHANNELS.min(channels - first);
        let mask = u64::MAX >> (CHANNELS - count);
        let (left, step) = (self.window.padding[1] as isize, self.window.stride[1] as isize);
        let (width, pixels) = (self.input.w as isize, self.output.w as usize);
        assert!(rows.iter().all(|row| row.len() == self.input.w as usize * channels));
        assert_eq!(out.len(), pixels * channels);
        let flip = _mm512_set1_epi8(if self.signed { i8::MIN } else { 0 });
        // Columns are inside the rows, whose lengths are checked; the mask cuts the last block's channels.
        let column = |x: isize| {
            let zero = _mm512_setzero_si512();
            let mut codes = [flip; 3];
            if (0..width).contains(&x) {
                let at = x as usize * channels + first;
                // SAFETY: as above.
                codes = rows.map(|row| unsafe {
                    _mm512_xor_si512(_mm512_maskz_loadu_epi8(mask, row.as_ptr().add(at).cast()), flip)
                });
            }
            let low = [_mm512_unpacklo_epi8(codes[0], codes[1]), _mm512_unpacklo_epi8(codes[2], zero)];
            let high = [_mm512_unpackhi_epi8(codes[0], codes[1]), _mm512_unpackhi_epi8(codes[2], zero)];
            [
                _mm512_unpacklo_epi16(low[0], low[1]),
                _mm512_unpackhi_epi16(low[0], low[1]),
                _mm512_unpacklo_epi16(high[0], high[1]),
                _mm512_unpackhi_epi16(high[0], high[1]),
            ]
        };
        let mut columns = [column(-left), column(1 - left)];
        for x in (0..pixels).step_by(2) {
            let start = x as isize * step - left;
            let (here, next) = match STEP {
                1 => {
                    let here = [columns[0], columns[1], column(start + 2)];
                    (here, [here[1], here[2], column(start + 3)])
                }
                2 => {
                    let here = [columns[0], column(start + 1), column(start + 2)];
                    (here, [here[2], column(start + 3), column(start + 4)])
                }
                _ => (
                    [column(start), column(start + 1), column(start + 2)],
                    [column(start + step), column(start + step + 1), column(start + step + 2)],
                ),
            };
            columns = if STEP == 1 { [next[1], next[2]] } else { [next[2], next[2]] };
            let codes = self.finish(block, here, next);
            let at = x * channels + first;
            let there = x + 1 < pixels;
            // SAFETY: the pixels' channels are inside `out`.
            unsafe {
                let out = out.as_mut_ptr().add(at);
                if count == CHANNELS {
                    _mm512_storeu_si512(out.cast(), codes[0]);
                    if there {
                        _mm512_storeu_si512(out.add(channels).cast(), codes[1]);
                    }
                } else {
                    _mm512_mask_storeu_epi8(out.cast(), mask, codes[0]);
                    if there {
                        _mm512_mask_storeu_epi8(out.add(channels).cast(), mask, codes[1]);
                    }
                }
            }
        }
    }

    /// Sums of two pixels, requantized and packed.
    #[expect(clippy::large_types_passed_by_value, reason = "inlined: the columns are in registers")]
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    fn finish(&self, block: &Block, here: [Column; COLUMNS], next: [Column; COLUMNS]) -> [__m512i; 2] {
        // Vector by vector, each written out: a loop would keep the columns in memory.
        let y = [
            self.requantized::<0>(block, here, next),
            self.requantized::<1>(block, here, next),
            self.requantized::<2>(block, here, next),
            self.requantized::<3>(block, here, next),
        ];
        [self.packed(y.map(|pair| pair[0])), self.packed(y.map(|pair| pair[1]))]
    }

    /// One vector of sums of two pixels, requantized.
    #[expect(clippy::large_types_passed_by_value, reason = "inlined: the columns are in registers")]
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    fn requantized<const V: usize>(
        &self,
        block: &Block,
        here: [Column; COLUMNS],
        next: [Column; COLUMNS],
    ) -> [__m512i; 2] {
        // SAFETY: lines and numbers are 64 aligned bytes.
        let load = |numbers: &Numbers| unsafe { _mm512_load_si512(numbers.0.as_ptr().cast()) };
        // SAFETY: as above.
        let weights =
            |column: usize| unsafe { _mm512_load_si512(block.weights[column][V].0.as_ptr().cast()) };
        let start = if self.signed { load(&block.offset[V]) } else { _mm512_setzero_si512() };
        let (a, b, c) = (weights(0), weights(1), weights(2));
        let sum = |columns: [Column; COLUMNS]| {
            let sum = _mm512_dpbusd_epi32(start, columns[0][V], a);
            _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(sum, columns[1][V], b), columns[2][V], c)
        };
        let mut sums = [sum(here), sum(next)];
        if self.shifted {
            let pre = load(&block.pre[V]);
            sums = [_mm512_srav_epi32(sums[0], pre), _mm512_srav_epi32(sums[1], pre)];
        }
        let (multiplier, bias) = (load(&block.multiplier[V]), load(&block.bias[V]));
        let shift = load(&block.shift[V]);
        // The sum fits 16 bits; the upper half of each multiplier is 0.
        let code = |sum| _mm512_srav_epi32(_mm512_add_epi32(_mm512_madd_epi16(sum, multiplier), bias), shift);
        [code(sums[0]), code(sums[1])]
    }

    /// Four vectors of codes as bytes, in the order of the channels.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    fn packed(&self, y: [__m512i; VECTORS]) -> __m512i {
        let (lo, hi) = (_mm512_set1_epi8(self.lo as i8), _mm512_set1_epi8(self.hi as i8));
        let words = [_mm512_packs_epi32(y[0], y[1]), _mm512_packs_epi32(y[2], y[3])];
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
                unsafe {
                    match self.window.stride[1] {
                        1 => self.row::<1>(rows, index, out),
                        2 => self.row::<2>(rows, index, out),
                        _ => self.row::<0>(rows, index, out),
                    }
                }
            }
        }
    }
}
