//! What both kernels for exact Winograd, F(2 × 2, 3 × 3), share: which layers it computes exactly, and its numbers.
//!
//! `Y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A` with a 4 × 4 patch `d` and a 3 × 3 filter `g` (Lavin and Gray, "Fast Algorithms for
//! Convolutional Neural Networks", 2016). Everything is an integer: with `G' = 2 G` the sums are exactly four times the
//! direct ones, so that a shift by two gives these. Codes of at most six bits keep `Bᵀ d B` within eight: the one of its
//! 16 numbers that is a pure sum lies in 0 ..= 252, the others lie in −126 ..= 126 and are read with 128 added, which is
//! taken back. Sums may wrap on the way; the last one fits 32 bits, so it is right.

use super::panels::FILTERS;
use crate::kernels::ConvLayer;
use crate::model::Epilogue;

/// Numbers of a transformed patch.
pub(super) const FREQUENCIES: usize = 16;
/// The one that is a pure sum: row 1, column 1.
pub(super) const PURE: usize = 5;
/// Fewest channels for which this is quicker than direct sums.
pub(super) const CHANNELS: usize = 16;

/// Whether a layer is of the kind that is computed exactly, if its transformed weights fit eight bits: four times a sum
/// stays below 2³¹, and codes have at most six bits and no sign.
pub(super) fn suits(layer: &ConvLayer) -> bool {
    let (conv, window) = (layer.conv, &layer.conv.window);
    window.kernel == [3, 3]
        && window.stride == [1, 1]
        && window.dilation == [1, 1]
        && conv.groups == 1
        && !layer.signed
        && layer.largest_byte <= 63
        && layer.input.c as usize >= CHANNELS
        && matches!(conv.epilogue, Epilogue::Requantize(_))
        && conv.bounds.iter().all(|&bound| bound < 1 << 29)
}

/// Bytes that transforming a layer's weights takes at most.
pub(super) fn bytes(layer: &ConvLayer) -> u64 {
    let panels = u64::from(layer.output.c).div_ceil(FILTERS as u64);
    let channels = u64::from(layer.input.c).next_multiple_of(64);
    let line = FILTERS as u64 * channels * FREQUENCIES as u64;
    // What stays; two panels while they are transformed, in words; what takes the 128 back; a row of zeros.
    panels * (line + 2048) + 4 * line + 64 * channels + u64::from(layer.input.w) * channels
}
