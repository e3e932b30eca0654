//! The input of a convolution in 16-bit words, in the middle of its padding's zeros.

use crate::kernels::ConvLayer;
use crate::kernels::codes::Codes;
use crate::model::{Shape, Window};

/// Where things lie in the padded input; all positions count words.
#[derive(Debug, Clone, Copy)]
pub(super) struct Padded {
    window: Window,
    input: Shape,
    output: Shape,
    /// Words of one row.
    line: usize,
}

impl Padded {
    /// The geometry of a layer.
    pub(super) fn new(layer: &ConvLayer) -> Self {
        let (window, input) = (layer.conv.window, layer.input);
        let [_, left, _, right] = window.padding;
        let line = (input.w + left + right) as usize * input.c as usize;
        Padded { window, input, output: layer.output, line }
    }

    /// Words in all.
    pub(super) fn len(&self) -> usize {
        let [top, _, bottom, _] = self.window.padding;
        (self.input.h + top + bottom) as usize * self.line
    }

    /// Channels of a pixel.
    pub(super) fn channels(&self) -> usize {
        self.input.c as usize
    }

    /// Output pixels.
    pub(super) fn pixels(&self) -> usize {
        self.output.h as usize * self.output.w as usize
    }

    /// Copies the input into the middle of zeros; `padded` has the full length.
    pub(super) fn fill(&self, x: Codes, padded: &mut [i16]) {
        let (row, rows) = (self.input.w as usize * self.channels(), self.input.h as usize);
        let left = self.window.padding[1] as usize * self.channels();
        let top = self.window.padding[0] as usize;
        padded[..top * self.line].fill(0);
        padded[(top + rows) * self.line..].fill(0);
        let middle = &mut padded[top * self.line..(top + rows) * self.line];
        for (y, target) in middle.chunks_exact_mut(self.line).enumerate() {
            target[..left].fill(0);
            target[left + row..].fill(0);
            x.slice(y * row, row).widen_to_words(&mut target[left..left + row]);
        }
    }

    /// Where the patch of an output pixel begins.
    pub(super) fn origin(&self, pixel: usize) -> usize {
        let (y, x) = (pixel / self.output.w as usize, pixel % self.output.w as usize);
        let [down, right] = self.window.stride.map(|stride| stride as usize);
        y * down * self.line + x * right * self.channels()
    }

    /// From one kernel row to the next.
    pub(super) fn row_step(&self) -> usize {
        self.line * self.window.dilation[0] as usize
    }

    /// From a patch's beginning to each of its taps, row by row.
    pub(super) fn taps(&self) -> impl Iterator<Item = usize> + use<> {
        let [rows, columns] = self.window.kernel.map(|side| side as usize);
        let column_step = self.window.dilation[1] as usize * self.channels();
        let row_step = self.row_step();
        (0..rows).flat_map(move |row| (0..columns).map(move |column| row * row_step + column * column_step))
    }
}
