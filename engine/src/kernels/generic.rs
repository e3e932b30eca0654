//! The portable kernel: safe Rust that compilers turn into multiply-add vectors of 16-bit codes.
//!
//! The input is widened to 16 bits with its padding. Where the kernel's rows lie side by side in memory the dot
//! products read it in place; otherwise each patch is gathered first. Weights are interleaved by blocks of filters.

mod dot;
mod panels;

use super::codes::{Codes, CodesMut};
use super::requantize::Finish;
use super::{ConvLayer, Kernel, PreparedConv, Workspace, WorkspaceSize};
use crate::model::{Shape, Window};
use dot::{BLOCK, LANES};
use panels::Panels;

/// Output pixels whose sums are kept before they are finished.
const PIXELS: usize = 32;

/// Runs anywhere.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Generic;

impl Kernel for Generic {
    fn new() -> Option<Self> {
        Some(Generic)
    }

    fn name(&self) -> &'static str {
        "generic"
    }

    fn prepare(&self, layer: &ConvLayer) -> Box<dyn PreparedConv> {
        Box::new(GenericConv::new(layer))
    }
}

/// A convolution in panels.
struct GenericConv {
    window: Window,
    input: Shape,
    output: Shape,
    groups: usize,
    panels: Panels,
    patch: Patch,
    finish: Finish,
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

impl GenericConv {
    fn new(layer: &ConvLayer) -> Self {
        let conv = layer.conv;
        let groups = conv.groups as usize;
        let cin = layer.input.c as usize / groups;
        let [rows, columns] = conv.window.kernel.map(|side| side as usize);
        let run = columns * cin;
        let in_place = groups == 1 && conv.window.dilation[1] == 1 && run.is_multiple_of(LANES);
        let (patch, padded) = if in_place {
            (Patch::InPlace { runs: rows, run }, rows * run)
        } else {
            let length = (rows * run).next_multiple_of(LANES);
            (Patch::Gathered(length), length)
        };
        GenericConv {
            window: conv.window,
            input: layer.input,
            output: layer.output,
            groups,
            panels: Panels::new(&conv.weights, groups, layer.output.c as usize / groups, padded),
            patch,
            finish: Finish::new(&conv.epilogue),
        }
    }

    /// Height and width of the padded input.
    fn padded(&self) -> [usize; 2] {
        let [top, left, bottom, right] = self.window.padding;
        [(self.input.h + top + bottom) as usize, (self.input.w + left + right) as usize]
    }

    fn padded_len(&self) -> usize {
        let [h, w] = self.padded();
        h * w * self.input.c as usize
    }

    /// Copies the input into the middle of zeros.
    fn pad(&self, x: Codes, padded: &mut [i16]) {
        let (row, pixels) = (self.input.w as usize * self.input.c as usize, self.input.h as usize);
        let line = self.padded()[1] * self.input.c as usize;
        let left = self.window.padding[1] as usize * self.input.c as usize;
        let top = self.window.padding[0] as usize;
        padded[..top * line].fill(0);
        padded[(top + pixels) * line..].fill(0);
        for (y, target) in padded[top * line..(top + pixels) * line].chunks_exact_mut(line).enumerate() {
            target[..left].fill(0);
            target[left + row..].fill(0);
            x.slice(y * row, row).widen_to_words(&mut target[left..left + row]);
        }
    }

    /// Where the patch of an output pixel begins in the padded input.
    fn origin(&self, pixel: usize) -> usize {
        let (y, x) = (pixel / self.output.w as usize, pixel % self.output.w as usize);
        let [down, right] = self.window.stride.map(|stride| stride as usize);
        (y * down * self.padded()[1] + x * right) * self.input.c as usize
    }

    /// Copies one group's patch into a run.
    fn gather(&self, padded: &[i16], origin: usize, group: usize, run: &mut [i16]) {
        let cin = self.input.c as usize / self.groups;
        let line = self.padded()[1] * self.input.c as usize;
        let [rows, columns] = self.window.kernel.map(|side| side as usize);
        let [down, right] = self.window.dilation.map(|dilation| dilation as usize);
        let mut filled = 0;
        for row in 0..rows {
            for column in 0..columns {
                let from = origin + row * down * line + column * right * self.input.c as usize + group * cin;
                run[filled..filled + cin].copy_from_slice(&padded[from..from + cin]);
                filled += cin;
            }
        }
        run[filled..].fill(0);
    }

    /// Sums of `count` pixels from `first` on, of one group, into `sums`: one row of all filters a pixel.
    fn sums(&self, padded: &[i16], patches: &mut [i16], group: usize, pixels: [usize; 2], sums: &mut [i32]) {
        let [first, count] = pixels;
        let filters = self.output.c as usize;
        let mut origins = [0; PIXELS];
        let (source, runs, run, step) = match self.patch {
            Patch::InPlace { runs, run } => {
                for (index, origin) in origins[..count].iter_mut().enumerate() {
                    *origin = self.origin(first + index);
                }
                let line = self.padded()[1] * self.input.c as usize;
                (padded, runs, run, line * self.window.dilation[0] as usize)
            }
            Patch::Gathered(length) => {
                for (index, origin) in origins[..count].iter_mut().enumerate() {
                    *origin = index * length;
                    let run = &mut patches[index * length..(index + 1) * length];
                    self.gather(padded, self.origin(first + index), group, run);
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

impl PreparedConv for GenericConv {
    fn workspace(&self) -> WorkspaceSize {
        let patches = match self.patch {
            Patch::InPlace { .. } => 0,
            Patch::Gathered(length) => PIXELS * length,
        };
        WorkspaceSize { words: self.padded_len() + patches, sums: PIXELS * self.output.c as usize }
    }

    fn run(&self, x: Codes, residual: Option<Codes>, mut out: CodesMut, workspace: &mut Workspace) {
        let (padded, patches) = workspace.words.split_at_mut(self.padded_len());
        self.pad(x, padded);
        let filters = self.output.c as usize;
        let pixels = self.output.h as usize * self.output.w as usize;
        for first in (0..pixels).step_by(PIXELS) {
            let count = PIXELS.min(pixels - first);
            let sums = &mut workspace.sums[..count * filters];
            for group in 0..self.groups {
                self.sums(padded, patches, group, [first, count], sums);
            }
            for (pixel, row) in sums.chunks_exact_mut(filters).enumerate() {
                self.finish.finish(0, row, residual, (first + pixel) * filters, &mut out);
            }
        }
    }
}
