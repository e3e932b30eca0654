//! Exact integer Winograd, F(2 × 2, 3 × 3): four output pixels for 16 products a channel, where direct sums take 36.
//!
//! Why it is exact stands in [`winograd`]. Sums in 16 bits are counted as direct ones are, for each frequency.

mod input;
mod output;
mod weights;

use std::ops::Range;

use super::Avx2;
use super::products::{Loop, Widen};
use crate::kernels::codes::Codes;
use crate::kernels::part::{Cut, Part, Pieces, Threads};
use crate::kernels::x86::direct::PART as LEAST;
use crate::kernels::x86::finish::{Finish, Residual, Target};
use crate::kernels::x86::panels::FILTERS;
use crate::kernels::x86::winograd::{self, FREQUENCIES, PURE};
use crate::kernels::{ConvLayer, Line, PreparedConv, Workspace, WorkspaceSize};
use crate::model::Shape;
use weights::{OfFrequency, Transformed};

/// Most patches that are multiplied at once: with two vectors of filters, twelve vectors of sums.
const TILE: usize = 6;
/// Most patches whose sums are kept: the weights of a frequency are read once for these.
const PART: usize = 24;
/// Bytes of transformed input at a time: a part of a second cache.
const CHUNK: usize = 256 * 1024;
/// Channels that are transformed at a time.
const VECTOR: usize = 32;
/// More bytes of weights than this are better read by one thread each.
const WEIGHTS: usize = 512 * 1024;
/// Bytes of a line.
const LINE: usize = 64;

/// A layer ready to run.
pub(super) struct Winograd {
    input: Shape,
    output: Shape,
    /// Rows and columns of padding above and to the left.
    before: [usize; 2],
    /// Patches of a row and in all.
    patches: [usize; 2],
    /// Bytes of a transformed patch at one frequency.
    depth: usize,
    macs: usize,
    weights: Transformed,
    finish: Finish,
    /// A row outside the input.
    zeros: Vec<u8>,
}

impl Winograd {
    /// Transforms a layer's weights; `None` if it is of another kind, or direct sums are quicker.
    pub(super) fn new(_: Avx2, layer: &ConvLayer) -> Option<Self> {
        let conv = layer.conv;
        if !winograd::suits(layer) {
            return None;
        }
        let (filters, channels) = (layer.output.c as usize, layer.input.c as usize);
        let across = layer.output.w.div_ceil(2) as usize;
        let patches = [across, across * layer.output.h.div_ceil(2) as usize];
        let pixels = (layer.output.h * layer.output.w) as usize;
        // Two thirds of what direct sums take, at most: the transforms take time as well.
        let pays = |cost: usize| 3 * cost * patches[1] <= 2 * 9 * pixels;
        if !pays(FREQUENCIES) {
            return None;
        }
        let weights = Transformed::new(&conv.weights, filters, channels)?;
        if !pays(weights.cost()) {
            return None;
        }
        Some(Winograd {
            input: layer.input,
            output: layer.output,
            before: [conv.window.padding[0] as usize, conv.window.padding[1] as usize],
            patches,
            depth: channels.next_multiple_of(VECTOR),
            macs: layer.macs(),
            weights,
            finish: Finish::new(&conv.epilogue, 1, filters, &[]),
            zeros: vec![0; layer.input.w as usize * channels + VECTOR],
        })
    }

    /// Patches that are transformed at a time.
    fn chunk(&self) -> usize {
        let most = (CHUNK / (FREQUENCIES * self.depth)).max(TILE);
        let chunks = self.patches[1].div_ceil(most);
        self.patches[1].div_ceil(chunks)
    }

    /// From one frequency to the next, lines. Odd, so that the frequencies of a patch lie in different sets of a cache.
    fn frequency(&self) -> usize {
        (self.chunk() * self.depth).div_ceil(LINE) | 1
    }

    /// Computes some patches by some panels.
    ///
    /// # Safety
    /// The CPU has AVX2, `codes` is the whole input, `residual` and `target` have the output's codes, and `space` has
    /// [`PreparedConv::workspace`]'s lines.
    #[target_feature(enable = "avx2")]
    unsafe fn work(
        &self,
        (patches, panels): (Range<usize>, Range<usize>),
        codes: &[u8],
        (residual, target): (Residual, Target),
        space: &mut [Line],
    ) {
        let most = self.chunk();
        let (space, sums) = space.split_at_mut(FREQUENCIES * self.frequency());
        let sums = sums.as_mut_ptr().cast::<[i32; FILTERS]>();
        let chunks = patches.len().div_ceil(most);
        for chunk in 0..chunks {
            let first = patches.start + patches.len() * chunk / chunks;
            let count = patches.start + patches.len() * (chunk + 1) / chunks - first;
            self.transform(first..first + count, codes, space);
            // Parts of nearly equal size.
            let parts = count.div_ceil(PART);
            for panel in panels.clone() {
                for part in 0..parts {
                    let from = count * part / parts;
                    let of_part = count * (part + 1) / parts - from;
                    for frequency in 0..FREQUENCIES {
                        let weights = self.weights.get(panel, frequency);
                        // SAFETY: the transformed patches are there, and there is room for a part's sums.
                        unsafe {
                            let start = space.as_ptr().add(frequency * self.frequency()).cast::<u8>();
                            let sums = sums.add(frequency * PART);
                            products(weights, start.add(from * self.depth), self.depth, of_part, sums);
                        }
                    }
                    // SAFETY: the caller's promise; the sums are there.
                    unsafe {
                        let patches = first + from..first + from + of_part;
                        self.finish(patches, panel, sums, residual, target);
                    }
                }
            }
        }
    }
}

/// Sums of some patches, `depth` bytes from one to the next, by one panel at one frequency.
///
/// # Safety
/// The CPU has AVX2; every patch has four bytes a step, and `sums` has room.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn products(
    weights: OfFrequency,
    input: *const u8,
    depth: usize,
    patches: usize,
    sums: *mut [i32; FILTERS],
) {
    let tiles = patches.div_ceil(TILE);
    for tile in 0..tiles {
        // Tiles of nearly equal size.
        let (first, end) = (patches * tile / tiles, patches * (tile + 1) / tiles);
        // SAFETY: the caller's promise.
        unsafe {
            let input = input.add(first * depth);
            let mut of = Loop {
                weights: weights.lines.as_ptr(),
                input,
                step: depth,
                wide: sums.add(first),
                widen: Widen::Store,
            };
            for lines in weights.lines.chunks(weights.most) {
                of.run(end - first, lines.len(), size_of_val(weights.lines));
                of.weights = of.weights.add(lines.len());
                of.input = of.input.add(4 * lines.len());
                of.widen = Widen::Add;
            }
        }
    }
}

impl PreparedConv for Winograd {
    fn method(&self) -> &'static str {
        "avx2 winograd"
    }

    fn weight_bytes(&self) -> usize {
        self.weights.bytes()
    }

    fn workspace(&self) -> WorkspaceSize {
        let lines = FREQUENCIES * (self.frequency() + PART);
        WorkspaceSize { lines, ..WorkspaceSize::default() }
    }

    fn cut(&self, threads: Threads) -> Cut {
        let most = threads.most(self.macs, LEAST);
        let patches = Pieces::of(self.patches[1].div_ceil(TILE), threads, most);
        let panels = Pieces::of(self.finish.constants.len(), threads, most);
        if threads.finest {
            return Cut { rows: self.patches[1].min(2 * threads.count), filters: panels.count };
        }
        // Each thread reads its own part of many weights, or all of few ones and its own patches.
        let by_filters = self.weights.bytes() > WEIGHTS && panels.used >= patches.used;
        if by_filters {
            Cut { filters: panels.count, ..Cut::WHOLE }
        } else {
            Cut { rows: patches.count, ..Cut::WHOLE }
        }
    }

    fn run(&self, x: Codes, residual: Option<Codes>, part: Part, workspace: &mut Workspace) {
        let Codes::Unsigned(codes) = x else {
            unreachable!("`new` takes layers that read unsigned codes");
        };
        assert_eq!(codes.len(), self.input.len(), "the plan's places have their tensors' lengths");
        let share = (part.rows.of(self.patches[1]), part.filters.of(self.finish.constants.len()));
        let operands = (Residual::new(residual), part.target());
        let lines = self.workspace().lines;
        // SAFETY: the kernel's value, given to `new`, proves that the CPU has the instructions; the output and the
        // residual operand have a code for every pixel and filter, and those of these patches and panels are the part's.
        unsafe { self.work(share, codes, operands, &mut workspace.lines[..lines]) }
    }
}
