//! Depthwise convolutions: one filter a channel, eight channels at a time.

use wide::{i16x8, i32x8};

use super::padded::Padded;
use crate::kernels::codes::Codes;
use crate::kernels::part::{Cut, Part, Threads};
use crate::kernels::requantize::Finish;
use crate::kernels::{ConvLayer, PreparedConv, Workspace, WorkspaceSize};

/// Channels of a vector.
const LANES: usize = 8;

/// Fewest codes for a part.
const PART: usize = 4 * 1024;

/// A depthwise convolution with its weights by tap.
pub(super) struct Depthwise {
    padded: Padded,
    /// `[tap][channel]`, zeros after the last channel of a tap up to a multiple of the lanes.
    weights: Vec<i16>,
    /// From a patch's beginning to each tap.
    taps: Vec<usize>,
    finish: Finish,
}

impl Depthwise {
    /// Bytes that [`Depthwise::new`] takes at most.
    pub(super) fn bytes(layer: &ConvLayer) -> u64 {
        let channels = u64::from(layer.input.c).next_multiple_of(LANES as u64);
        layer.conv.window.taps() * (2 * channels + 16) + 32 * channels
    }

    /// Lays a layer out.
    pub(super) fn new(layer: &ConvLayer) -> Self {
        let padded = Padded::new(layer);
        let taps: Vec<usize> = padded.taps().collect();
        let channels = padded.channels();
        let width = channels.next_multiple_of(LANES);
        let mut weights = vec![0; taps.len() * width];
        for tap in 0..taps.len() {
            for channel in 0..channels {
                let level = layer.conv.weights.level(channel, tap, taps.len());
                weights[tap * width + channel] = level as i16;
            }
        }
        Depthwise { padded, weights, taps, finish: Finish::new(&layer.conv.epilogue) }
    }

    /// Sums of eight channels, or fewer at the end, of the patch at `origin`. The words after the last channel belong
    /// to the next pixel; their weights are zero.
    fn sums(&self, padded: &[i16], origin: usize, first: usize) -> [i32; LANES] {
        let width = self.weights.len() / self.taps.len();
        let mut sums = i32x8::ZERO;
        for (tap, weights) in self.taps.iter().zip(self.weights.chunks_exact(width)) {
            let start = origin + tap + first;
            let codes = eight(&padded[start..]);
            sums += i16x8::new(codes).mul_widen(i16x8::new(eight(&weights[first..])));
        }
        sums.to_array()
    }
}

/// The first eight words.
#[inline]
fn eight(words: &[i16]) -> [i16; LANES] {
    let mut lanes = [0; LANES];
    lanes.copy_from_slice(&words[..LANES]);
    lanes
}

impl PreparedConv for Depthwise {
    fn method(&self) -> &'static str {
        "generic depthwise"
    }

    fn weight_bytes(&self) -> usize {
        size_of_val(&*self.weights)
    }

    fn workspace(&self) -> WorkspaceSize {
        WorkspaceSize { words: self.padded.len() + LANES, sums: self.padded.channels() + LANES, lines: 0 }
    }

    fn cut(&self, threads: Threads) -> Cut {
        let (height, codes) = (self.padded.height(), self.padded.width() * self.padded.channels());
        Cut::by_rows(height, threads, threads.most(height * codes, PART))
    }

    fn run(&self, x: Codes, residual: Option<Codes>, part: Part, workspace: &mut Workspace) {
        let channels = self.padded.channels();
        let padded = &mut workspace.words[..self.padded.len() + LANES];
        let (rows, mut out) = part.rows();
        self.padded.fill(x, &rows, padded);
        let width = self.padded.width();
        let pixels = rows.start * width..rows.end * width;
        let residual = residual.map(|codes| codes.slice(pixels.start * channels, pixels.len() * channels));
        for pixel in pixels.clone() {
            let origin = self.padded.origin(pixel);
            for first in (0..channels).step_by(LANES) {
                workspace.sums[first..first + LANES].copy_from_slice(&self.sums(padded, origin, first));
            }
            let row = &mut workspace.sums[..channels];
            self.finish.finish(0, row, residual, (pixel - pixels.start) * channels, &mut out);
        }
    }
}
