//! Depthwise convolutions, thirty-two channels at a time, with windows of any kind.
//!
//! The codes of two taps, interleaved, make one multiply-add to sixteen bits. Where a filter's sum fits these, its sums are
//! added there; they may wrap on the way. Otherwise each weight is split into `16·h + l`, whose sums always fit, and
//! which come together in 32 bits. Interleaving leaves the channels of a vector in the order in which packing puts
//! them right again, so weights and constants are laid out in that order.

use std::arch::x86_64::*;
use std::ptr;

use super::Avx2;
use crate::kernels::codes::{Codes, CodesMut};
use crate::kernels::part::{Cut, Part, Threads};
use crate::kernels::x86::direct::offsets;
use crate::kernels::{ConvLayer, Line, PreparedConv, Workspace, WorkspaceSize};
use crate::model::{Epilogue, Shape, Window};

/// Channels of a block.
const CHANNELS: usize = 32;
/// Vectors of 32-bit lanes in a block.
const VECTORS: usize = 4;
/// Fewest codes for a part.
const PART: usize = 16 * 1024;
/// Most taps of a window.
const TAPS: usize = 64;

/// A vector's worth of numbers.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(32))]
struct Numbers([i32; 8]);

/// The epilogue of a block, by vector.
#[derive(Debug, Clone)]
struct Block {
    /// The first channel. The last block of a layer may repeat some of the one before it.
    first: usize,
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
    /// Whether weights are split; each pair of taps has two lines then.
    split: bool,
    /// By block and pair of taps.
    weights: Vec<Line>,
    blocks: Vec<Block>,
    lo: i32,
    hi: i32,
    /// A row outside the input.
    zeros: Vec<u8>,
}

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

/// The channel of a block that a pair of a line holds: bytes of sixteen channels interleaved, in halves of a vector.
fn channel_of_pair(pair: usize) -> usize {
    let (vector, lane) = (pair / 16, pair % 16);
    16 * (lane / 8) + 8 * vector + lane % 8
}

impl Depthwise {
    /// Lays a layer out; `None` if it is of another kind.
    pub(super) fn new(_: Avx2, layer: &ConvLayer) -> Option<Self> {
        let conv = layer.conv;
        let Epilogue::Requantize(rule) = &conv.epilogue else { return None };
        let taps = (conv.window.kernel[0] * conv.window.kernel[1]) as usize;
        let channels = layer.input.c as usize;
        let fits = layer.is_depthwise()
            && taps <= TAPS
            && channels >= CHANNELS
            && rule.residual_shift.is_empty()
            && layer.codes.bytes() == 1;
        if !fits {
            return None;
        }
        let level = |channel: usize, tap: usize| {
            if tap < taps { conv.weights.level(channel, tap, taps) } else { 0 }
        };
        let pairs = taps.div_ceil(2);
        let pair_fits = |channel: usize, pair: usize| {
            let pair = [level(channel, 2 * pair), level(channel, 2 * pair + 1)];
            let most = pair.map(i32::abs).iter().sum::<i32>() * i32::from(layer.largest_byte);
            most <= i32::from(i16::MAX)
        };
        let split = conv.bounds.iter().any(|&bound| bound > i16::MAX as u32)
            || (0..channels).any(|channel| (0..pairs).any(|pair| !pair_fits(channel, pair)));
        // Split weights are at most eight, so that their sums of all taps must fit for the largest byte.
        if split && 8 * taps as i32 * i32::from(layer.largest_byte) > i32::from(i16::MAX) {
            return None;
        }
        let offsets = if layer.signed { offsets(layer) } else { Vec::new() };
        let firsts: Vec<usize> =
            (0..channels).step_by(CHANNELS).map(|first| first.min(channels - CHANNELS)).collect();
        let mut weights = Vec::new();
        for &first in &firsts {
            for pair in 0..pairs {
                let line = |part: &dyn Fn(i32) -> i32| {
                    Line(std::array::from_fn(|byte| {
                        part(level(first + channel_of_pair(byte / 2), 2 * pair + byte % 2)) as u8
                    }))
                };
                let high = |level: i32| (level + 8) >> 4;
                if split {
                    weights.push(line(&high));
                    weights.push(line(&|level| level - 16 * high(level)));
                } else {
                    weights.push(line(&|level| level));
                }
            }
        }
        let block = |first: usize| {
            let numbers = |number: &dyn Fn(usize) -> i32| {
                std::array::from_fn(|vector| {
                    Numbers(std::array::from_fn(|lane| number(first + channel(vector, lane))))
                })
            };
            Block {
                first,
                offset: numbers(&|channel| offsets.get(channel).copied().unwrap_or(0)),
                pre: numbers(&|channel| rule.pre[channel].into()),
                multiplier: numbers(&|channel| i32::from(rule.multiplier[channel]) & 0xFFFF),
                bias: numbers(&|channel| rule.bias[channel]),
                shift: numbers(&|channel| rule.shift[channel].into()),
            }
        };
        Some(Depthwise {
            window: conv.window,
            input: layer.input,
            output: layer.output,
            signed: layer.signed,
            split,
            weights,
            blocks: firsts.into_iter().map(block).collect(),
            lo: rule.lo,
            hi: rule.hi,
            zeros: vec![0; layer.input.w as usize * channels],
        })
    }

    /// One row of output pixels of one block; `rows` has a row of the input for every row of the window.
    ///
    /// # Safety
    /// The CPU has AVX2.
    #[target_feature(enable = "avx2")]
    unsafe fn row<const SIGNED: bool, const SPLIT: bool>(
        &self,
        rows: impl Fn(usize) -> *const u8,
        index: usize,
        out: &mut [u8],
    ) {
        let (block, channels) = (&self.blocks[index], self.input.c as usize);
        let [_, columns] = self.window.kernel.map(|side| side as usize);
        let (step, dilation) = (self.window.stride[1] as usize, self.window.dilation[1] as usize);
        let (left, width) = (self.window.padding[1] as usize, self.input.w as usize);
        let taps = self.window.kernel[0] as usize * columns;
        let lines = if SPLIT { 2 } else { 1 } * taps.div_ceil(2);
        let weights = &self.weights[index * lines..][..lines];
        assert_eq!(out.len(), self.output.w as usize * channels);
        let mut inside = [ptr::null(); TAPS];
        for (tap, place) in inside[..taps].iter_mut().enumerate() {
            let column = (tap % columns * dilation) as isize - left as isize;
            *place = rows(tap / columns).wrapping_offset(column * channels as isize + block.first as isize);
        }
        // A last tap alone is paired with itself, and a weight of 0.
        if taps % 2 == 1 {
            inside[taps] = inside[taps - 1];
        }
        let padded = taps.next_multiple_of(2);
        for (x, out) in out.chunks_exact_mut(channels).enumerate() {
            let start = x * step;
            let is_inside = start >= left && start + (columns - 1) * dilation < left + width;
            let mut outside = [ptr::null(); TAPS];
            let (places, offset) = if is_inside {
                (&inside[..padded], start * channels)
            } else {
                for (tap, place) in outside[..padded].iter_mut().enumerate() {
                    let column = start + tap.min(taps - 1) % columns * dilation;
                    let is_inside = column >= left && column < left + width;
                    *place = if is_inside {
                        inside[tap].wrapping_add(start * channels)
                    } else {
                        self.zeros.as_ptr()
                    };
                }
                (&outside[..padded], 0)
            };
            // SAFETY: every place is that of a block's channels of a pixel of a row, or zeros; so is the one in `out`.
            unsafe {
                let y = self.pixel::<SIGNED, SPLIT>(block, weights, places, offset);
                _mm256_storeu_si256(out[block.first..block.first + CHANNELS].as_mut_ptr().cast(), y);
            }
        }
    }

    /// A pixel's codes.
    ///
    /// # Safety
    /// The CPU has AVX2, and `offset` behind each place there are a block's bytes.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn pixel<const SIGNED: bool, const SPLIT: bool>(
        &self,
        block: &Block,
        weights: &[Line],
        places: &[*const u8],
        offset: usize,
    ) -> __m256i {
        let flip = _mm256_set1_epi8(i8::MIN);
        let zero = _mm256_setzero_si256();
        // By part of the weights (the only one, or high and low) and half of the channels.
        let mut sums = [[zero; 2]; 2];
        let lines = weights.chunks_exact(if SPLIT { 2 } else { 1 });
        for (places, lines) in places.as_chunks::<2>().0.iter().zip(lines) {
            // SAFETY: the caller's promise.
            let load = |place: *const u8| unsafe {
                let codes = _mm256_loadu_si256(place.wrapping_add(offset).cast());
                if SIGNED { _mm256_xor_si256(codes, flip) } else { codes }
            };
            let (a, b) = (load(places[0]), load(places[1]));
            let codes = [_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b)];
            for (sums, line) in sums.iter_mut().zip(lines) {
                for (half, (sum, codes)) in sums.iter_mut().zip(codes).enumerate() {
                    // SAFETY: a line is two aligned vectors.
                    let weights = unsafe { _mm256_load_si256(line.0.as_ptr().cast::<__m256i>().add(half)) };
                    *sum = _mm256_add_epi16(*sum, _mm256_maddubs_epi16(codes, weights));
                }
            }
        }
        // SAFETY: aligned, and a vector's size.
        let load = |numbers: &Numbers| unsafe { _mm256_load_si256(ptr::from_ref(numbers).cast()) };
        let factors = _mm256_set1_epi32(1 << 16 | 16);
        let end = |vector: usize| {
            let of_half = vector / 2;
            let both = |first: __m256i, second: __m256i| {
                if vector.is_multiple_of(2) {
                    _mm256_unpacklo_epi16(first, second)
                } else {
                    _mm256_unpackhi_epi16(first, second)
                }
            };
            let offset = load(&block.offset[vector]);
            let sum = if SPLIT {
                let sum = _mm256_madd_epi16(both(sums[0][of_half], sums[1][of_half]), factors);
                if SIGNED { _mm256_add_epi32(sum, offset) } else { sum }
            } else {
                // In the upper halves, where it may wrap.
                let sum = both(zero, sums[0][of_half]);
                let sum = if SIGNED { _mm256_add_epi32(sum, _mm256_slli_epi32::<16>(offset)) } else { sum };
                _mm256_srai_epi32::<16>(sum)
            };
            let t = _mm256_srav_epi32(sum, load(&block.pre[vector]));
            // t fits 16 bits; the upper half of each multiplier is 0.
            let scaled = _mm256_madd_epi16(t, load(&block.multiplier[vector]));
            _mm256_srav_epi32(_mm256_add_epi32(scaled, load(&block.bias[vector])), load(&block.shift[vector]))
        };
        let words = [_mm256_packs_epi32(end(0), end(1)), _mm256_packs_epi32(end(2), end(3))];
        let (lo, hi) = (_mm256_set1_epi8(self.lo as i8), _mm256_set1_epi8(self.hi as i8));
        if self.lo < 0 {
            let bytes = _mm256_packs_epi16(words[0], words[1]);
            _mm256_min_epi8(_mm256_max_epi8(bytes, lo), hi)
        } else {
            let bytes = _mm256_packus_epi16(words[0], words[1]);
            _mm256_min_epu8(_mm256_max_epu8(bytes, lo), hi)
        }
    }
}

impl PreparedConv for Depthwise {
    fn method(&self) -> &'static str {
        "avx2 depthwise"
    }

    fn weight_bytes(&self) -> usize {
        size_of_val(&*self.weights) + size_of_val(&*self.blocks)
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
        assert_eq!(codes.len(), self.input.len(), "the plan's places have their tensors' lengths");
        let channels = self.input.c as usize;
        let line = self.input.w as usize * channels;
        let (top, down) = (self.window.padding[0] as usize, self.window.stride[0] as usize);
        let dilation = self.window.dilation[0] as usize;
        for (y, out) in part.zip(out.chunks_exact_mut(self.output.w as usize * channels)) {
            let rows = |row: usize| {
                let row = (y * down + row * dilation).checked_sub(top);
                let inside = row.filter(|&row| row < self.input.h as usize);
                inside.map_or(self.zeros.as_ptr(), |row| codes[row * line..][..line].as_ptr())
            };
            for index in 0..self.blocks.len() {
                // SAFETY: the kernel's value, given to `new`, proves that the CPU has the instructions.
                unsafe {
                    match (self.signed, self.split) {
                        (false, false) => self.row::<false, false>(rows, index, out),
                        (false, true) => self.row::<false, true>(rows, index, out),
                        (true, false) => self.row::<true, false>(rows, index, out),
                        (true, true) => self.row::<true, true>(rows, index, out),
                    }
                }
            }
        }
    }
}
