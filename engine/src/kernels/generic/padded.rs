//! The input of a convolution in 16-bit words, in the middle of its padding's zeros.

use std::ops::Range;

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

    /// Rows of output pixels.
    pub(super) fn height(&self) -> usize {
        self.output.h as usize
    }

    /// Output pixels of a row.
    pub(super) fn width(&self) -> usize {
        self.output.w as usize
    }

    /// Copies what `rows` of output pixels need of the input into the middle of zeros; `padded` has the full length.
    pub(super) fn fill(&self, x: Codes, rows: &Range<usize>, padded: &mut [i16]) {
        let row = self.input.w as usize * self.channels();
        let [top, left, ..] = self.window.padding.map(|side| side as usize);
        let left = left * self.channels();
        let down = self.window.stride[0] as usize;
        let reach = (self.window.kernel[0] as usize - 1) * self.window.dilation[0] as usize + 1;
        let lines = rows.start * down..rows.end.saturating_sub(1) * down + reach;
        let targets = padded[lines.start * self.line..].chunks_mut(self.line);
        for (line, target) in lines.zip(targets) {
            match line.checked_sub(top).filter(|&y| y < self.input.h as usize) {
                None => target.fill(0),
                Some(y) => {
                    target[..left].fill(0);
                    target[left + row..].fill(0);
                    x.slice(y * row, row).widen_to_words(&mut target[left..left + row]);
                }
            }
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
