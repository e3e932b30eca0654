//! Exact integer Winograd, F(2 × 2, 3 × 3): four output pixels for 16 products a channel, where direct sums take 36.
//!
//! Why it is exact stands in [`winograd`]. The sums' first value takes the added 128 back.

mod input;
mod output;
pub(super) mod weights;

use std::arch::x86_64::*;
use std::ops::Range;

use super::{Avx512, dot};
use crate::kernels::codes::Codes;
use crate::kernels::part::{Cut, Part, Pieces, Target, Threads};
use crate::kernels::x86::direct::PART;
use crate::kernels::x86::finish::{Finish, Residual};
use crate::kernels::x86::winograd::{self, FREQUENCIES, PURE};
use crate::kernels::{ConvLayer, Line, PreparedConv, Workspace, WorkspaceSize};
use crate::model::Shape;
use weights::Transformed;

/// Panels of sixteen filters that are taken at once.
const PANELS: usize = 2;
/// Most patches that are multiplied at once: with two panels, 24 vectors of sums.
const PATCHES: usize = 12;
/// Bytes of transformed input at a time: a quarter of a second cache.
const CHUNK: usize = 256 * 1024;
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
    /// Patches that are transformed at a time.
    chunk: usize,
    layout: Layout,
    macs: usize,
    weights: Transformed,
    finish: Finish,
    /// A row outside the input.
    zeros: Vec<u8>,
}

/// Transformed patches: where frequency `f` of patch `p` lies.
#[derive(Debug, Clone, Copy)]
struct Layout {
    /// From one frequency to the next, lines. Odd, so that the frequencies of a patch lie in different sets of a cache.
    frequency: usize,
    /// From one patch to the next, bytes.
    depth: usize,
}

/// Lines of the sums of one frequency.
const OF_FREQUENCY: usize = PATCHES * PANELS;
/// Lines of the sums of some patches by one block of panels: `[frequency][patch][panel]`, sixteen filters a line.
const SUMS: usize = FREQUENCIES * OF_FREQUENCY;

impl Winograd {
    /// Transforms a layer's weights; `None` if it is of another kind, or too few channels make it slower than direct
    /// sums.
    pub(super) fn new(_: Avx512, layer: &ConvLayer) -> Option<Self> {
        let conv = layer.conv;
        if !winograd::suits(layer) {
            return None;
        }
        let (filters, channels) = (layer.output.c as usize, layer.input.c as usize);
        let weights = Transformed::new(&conv.weights, filters, channels)?;
        let across = layer.output.w.div_ceil(2) as usize;
        let all = across * layer.output.h.div_ceil(2) as usize;
        let depth = input::depth(channels);
        let chunks = all.div_ceil((CHUNK / (FREQUENCIES * depth)).max(PATCHES));
        let chunk = all.div_ceil(chunks);
        Some(Winograd {
            input: layer.input,
            output: layer.output,
            before: [conv.window.padding[0] as usize, conv.window.padding[1] as usize],
            patches: [across, all],
            chunk,
            layout: Layout { frequency: (chunk * depth).div_ceil(LINE) | 1, depth },
            macs: layer.macs(),
            weights,
            finish: Finish::new(&conv.epilogue, 1, filters, &[]),
            zeros: vec![0; layer.input.w as usize * channels],
        })
    }

    /// Computes some patches by some blocks of panels.
    ///
    /// # Safety
    /// The CPU has what [`Avx512`] proves, `codes` is the whole input, `residual` and `target` have the output's
    /// codes, and `space` has [`PreparedConv::workspace`]'s lines.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn work(
        &self,
        (patches, blocks): (Range<usize>, Range<usize>),
        codes: &[u8],
        (residual, target): (Residual, Target),
        space: &mut [Line],
    ) {
        let (layout, most) = (self.layout, self.chunk);
        let (space, sums) = space.split_at_mut(FREQUENCIES * layout.frequency);
        let chunks = patches.len().div_ceil(most);
        for chunk in 0..chunks {
            let first = patches.start + patches.len() * chunk / chunks;
            let end = patches.start + patches.len() * (chunk + 1) / chunks;
            self.transform(first..end, codes, space);
            let parts = (end - first).div_ceil(PATCHES);
            for block in blocks.clone() {
                for part in 0..parts {
                    // Parts of nearly equal size.
                    let from = (end - first) * part / parts;
                    let count = (end - first) * (part + 1) / parts - from;
                    // SAFETY: the caller's promise; the transformed patches are there.
                    unsafe {
                        let start = space.as_ptr().cast::<u8>().add(from * layout.depth);
                        match self.weights.panels(block) {
                            1 => self.products::<1>(block, start, count, sums),
                            _ => self.products::<2>(block, start, count, sums),
                        }
                        self.finish(first + from..first + from + count, block, sums, residual, target);
                    }
                }
            }
        }
    }

    /// All frequencies of `patches` patches by one block of `V` panels.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn products<const V: usize>(
        &self,
        block: usize,
        start: *const u8,
        patches: usize,
        sums: &mut [Line],
    ) {
        macro_rules! sizes {
            ($($p:literal)*) => {
                match patches {
                    $($p => multiply::<$p, V>,)*
                    _ => unreachable!("no part is larger"),
                }
            };
        }
        let multiply = sizes!(1 2 3 4 5 6 7 8 9 10 11 12);
        // SAFETY: `start` has the patches of every frequency.
        unsafe { multiply(self.weights.block(block), start, self.layout, sums) };
    }
}

/// Sums of `P` patches by `V` panels at all frequencies, from their first values on.
///
/// # Safety
/// The CPU has the instructions; from `input` on, the layout has the patches of every frequency, each with four bytes a
/// step.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn multiply<const P: usize, const V: usize>(
    (weights, firsts): (&[[Line; V]], &[[Line; V]]),
    input: *const u8,
    layout: Layout,
    sums: &mut [Line],
) {
    let steps = weights.len() / FREQUENCIES;
    let of_frequency = weights.chunks_exact(steps).zip(firsts).zip(sums.chunks_exact_mut(OF_FREQUENCY));
    for (frequency, ((weights, firsts), sums)) in of_frequency.enumerate() {
        assert!(P * V <= sums.len(), "a line for every sum");
        // SAFETY: the caller's promise; lines are 64 aligned bytes.
        unsafe {
            let load = |line: &Line| _mm512_load_si512(line.0.as_ptr().cast());
            let input = input.add(frequency * layout.frequency * LINE);
            let firsts: [__m512i; V] = std::array::from_fn(|v| load(&firsts[v]));
            let mut acc = [firsts; P];
            for (step, weights) in weights.iter().enumerate() {
                let weights: [__m512i; V] = std::array::from_fn(|v| load(&weights[v]));
                let start = input.add(4 * step);
                for (p, sums) in acc.iter_mut().enumerate() {
                    dot(start.add(p * layout.depth), &weights, sums);
                }
            }
            // By reference, row by row: an iterator that takes the array by value moves it through memory.
            for (p, row) in acc.iter().enumerate() {
                for (v, sum) in row.iter().enumerate() {
                    _mm512_store_si512(sums.as_mut_ptr().add(p * V + v).cast(), *sum);
                }
            }
        }
    }
}

impl PreparedConv for Winograd {
    fn method(&self) -> &'static str {
        "avx512-vnni winograd"
    }

    fn weight_bytes(&self) -> usize {
        self.weights.bytes()
    }

    fn workspace(&self) -> WorkspaceSize {
        WorkspaceSize { lines: FREQUENCIES * self.layout.frequency + SUMS, ..WorkspaceSize::default() }
    }

    fn cut(&self, threads: Threads) -> Cut {
        let most = threads.most(self.macs, PART);
        let patches = Pieces::of(self.patches[1].div_ceil(PATCHES), threads, most);
        let blocks = Pieces::of(self.weights.blocks(), threads, most);
        if threads.finest {
            return Cut { rows: self.patches[1].min(2 * threads.count), filters: blocks.count };
        }
        // Each thread reads its own part of many weights, or all of few ones and its own patches.
        let by_filters = self.weights.bytes() > WEIGHTS && blocks.used >= patches.used;
        if by_filters {
            Cut { filters: blocks.count, ..Cut::WHOLE }
        } else {
            Cut { rows: patches.count, ..Cut::WHOLE }
        }
    }

    fn run(&self, x: Codes, residual: Option<Codes>, part: Part, workspace: &mut Workspace) {
        let Codes::Unsigned(codes) = x else {
            unreachable!("`new` takes layers that read unsigned codes");
        };
        assert_eq!(codes.len(), self.input.len(), "the plan's places have their tensors' lengths");
        let share = (part.rows.of(self.patches[1]), part.filters.of(self.weights.blocks()));
        let lines = self.workspace().lines;
        // SAFETY: the kernel's value, given to `new`, proves that the CPU has the instructions; the output and the
        // residual operand have a code for every pixel and filter, and those of the share are the part's.
        unsafe {
            let (residual, target) = (Residual::new(residual), part.target());
            self.work(share, codes, (residual, target), &mut workspace.lines[..lines]);
        }
    }
}
