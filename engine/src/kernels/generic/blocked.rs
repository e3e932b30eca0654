//! Convolutions as dot products of patches with blocks of filters.
//!
//! Where the kernel's rows lie side by side in memory the dot products read the padded input in place; otherwise each
//! patch is gathered first.

use super::dot::{self, BLOCK, LANES};
use super::padded::Padded;
use super::panels::Panels;
use crate::kernels::codes::Codes;
use crate::kernels::part::{Cut, Part, Threads};
use crate::kernels::requantize::Finish;
use crate::kernels::{ConvLayer, PreparedConv, Workspace, WorkspaceSize};

/// Output pixels whose sums are kept before they are finished.
const PIXELS: usize = 32;

/// Fewest multiply-accumulates for a part.
const PART: usize = 32 * 1024;

/// A convolution in panels.
pub(super) struct Blocked {
    padded: Padded,
    filters: usize,
    groups: usize,
    panels: Panels,
    patch: Patch,
    finish: Finish,
    macs: usize,
}

/// How a patch of the padded input is read.
#[derive(Debug, Clone, Copy)]
enum Patch {
    /// In place: this many runs of this many codes, one a kernel row.
    InPlace {
        /// Kernel rows.
        runs: usize,
        /// Codes of a kernel row.
        run: usize,
    },
    /// Gathered into one run of this many codes, zeros at its end.
    Gathered(usize),
}

impl Blocked {
    /// Bytes that [`Blocked::new`] takes at most.
    pub(super) fn bytes(layer: &ConvLayer) -> u64 {
        let (groups, filters) = (u64::from(layer.conv.groups), u64::from(layer.output.c));
        let weights = layer.conv.window.taps() * (u64::from(layer.input.c) / groups);
        let panels = groups * (filters / groups).next_multiple_of(dot::BLOCK as u64);
        2 * panels * weights.next_multiple_of(LANES as u64) + 32 * filters
    }

    /// Packs a layer.
    pub(super) fn new(layer: &ConvLayer) -> Self {
        let conv = layer.conv;
        let groups = conv.groups as usize;
        let cin = layer.input.c as usize / groups;
        let [rows, columns] = conv.window.kernel.map(|side| side as usize);
        let run = columns * cin;
        let in_place = groups == 1 && conv.window.dilation[1] == 1 && run.is_multiple_of(LANES);
        let (patch, length) = if in_place {
            (Patch::InPlace { runs: rows, run }, rows * run)
        } else {
            let length = (rows * run).next_multiple_of(LANES);
            (Patch::Gathered(length), length)
        };
        Blocked {
            padded: Padded::new(layer),
            filters: layer.output.c as usize,
            groups,
            panels: Panels::new(&conv.weights, groups, layer.output.c as usize / groups, length),
            patch,
            finish: Finish::new(&conv.epilogue),
            macs: layer.macs(),
        }
    }

    /// Copies one group's patch into a run.
    fn gather(&self, padded: &[i16], origin: usize, group: usize, run: &mut [i16]) {
        let cin = self.padded.channels() / self.groups;
        let mut filled = 0;
        for tap in self.padded.taps() {
            let from = origin + tap + group * cin;
            run[filled..filled + cin].copy_from_slice(&padded[from..from + cin]);
            filled += cin;
        }
        run[filled..].fill(0);
    }

    /// Sums of `count` pixels from `first` on, of one group, into `sums`: one row of all filters a pixel.
    fn sums(&self, padded: &[i16], patches: &mut [i16], group: usize, pixels: [usize; 2], sums: &mut [i32]) {
        let [first, count] = pixels;
        let filters = self.filters;
        let mut origins = [0; PIXELS];
        let (source, runs, run, step) = match self.patch {
            Patch::InPlace { runs, run } => {
                for (index, origin) in origins[..count].iter_mut().enumerate() {
                    *origin = self.padded.origin(first + index);
                }
                (padded, runs, run, self.padded.row_step())
            }
            Patch::Gathered(length) => {
                for (index, origin) in origins[..count].iter_mut().enumerate() {
                    *origin = index * length;
                    let run = &mut patches[index * length..(index + 1) * length];
                    self.gather(padded, self.padded.origin(first + index), group, run);
                }
                (&*patches, 1, length, 0)
            }
        };
        for (block, panel) in self.panels.blocks(group) {
            let target = group * self.panels.filters() + block;
            let used = BLOCK.min(self.panels.filters() - block);
            let runs = dot::Runs { source, count: runs, run, step };
            dot::block(&runs, &origins[..count], panel, |pixel, dots| {
                let row = &mut sums[pixel * filters..(pixel + 1) * filters];
                row[target..target + used].copy_from_slice(&dots[..used]);
            });
        }
    }
}

impl PreparedConv for Blocked {
    fn method(&self) -> &'static str {
        "generic"
    }

    fn weight_bytes(&self) -> usize {
        self.panels.bytes()
    }

    fn workspace(&self) -> WorkspaceSize {
        let patches = match self.patch {
            Patch::InPlace { .. } => 0,
            Patch::Gathered(length) => PIXELS * length,
        };
        WorkspaceSize { words: self.padded.len() + patches, sums: PIXELS * self.filters, lines: 0 }
    }

    fn cut(&self, threads: Threads) -> Cut {
        Cut::by_rows(self.padded.height(), threads, threads.most(self.macs, PART))
    }

    fn run(&self, x: Codes, residual: Option<Codes>, part: Part, workspace: &mut Workspace) {
        let (rows, mut out) = part.rows();
        let (padded, patches) = workspace.words.split_at_mut(self.padded.len());
        self.padded.fill(x, &rows, padded);
        let (filters, width) = (self.filters, self.padded.width());
        let pixels = rows.start * width..rows.end * width;
        let residual = residual.map(|codes| codes.slice(pixels.start * filters, pixels.len() * filters));
        for first in pixels.clone().step_by(PIXELS) {
            let count = PIXELS.min(pixels.end - first);
            let sums = &mut workspace.sums[..count * filters];
            for group in 0..self.groups {
                self.sums(padded, patches, group, [first, count], sums);
            }
            for (pixel, row) in sums.chunks_exact_mut(filters).enumerate() {
                let start = (first - pixels.start + pixel) * filters;
                self.finish.finish(0, row, residual, start, &mut out);
            }
        }
    }
}
