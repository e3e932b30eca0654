//! The input of a convolution as matrix kernels read it: bytes, unsigned, padding included.
//!
//! Every output pixel's patch is the same list of *runs*, stretches of bytes at fixed distances from the patch's
//! beginning. The patches of neighbouring pixels begin [`Source::pixel_step`] bytes apart, within a *segment*: a row of
//! output pixels, or (where the stride is 1) all rows at once, with pixels between them that are computed and dropped.
//! Signed codes are read with 128 added to them.

use std::ops::Range;

use crate::kernels::ConvLayer;
use crate::kernels::codes::Codes;
use crate::model::{Shape, Window};

/// What a kind of matrix kernel asks of its input.
#[derive(Debug, Clone, Copy)]
pub(super) struct Demands {
    /// Bytes of a run are read in multiples of this.
    pub(super) depth: usize,
    /// Pixels of a segment are read in multiples of this.
    pub(super) pixels: usize,
}

/// A stretch of a patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// From the patch's beginning, bytes.
    pub(super) offset: usize,
    /// Length, bytes.
    pub(super) len: usize,
}

/// Pixels that lie at one distance from each other in the input. Of every `pitch` pixels the first `width` are real.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segments {
    /// How many there are.
    pub(super) count: usize,
    /// From one segment's input to the next, bytes.
    pub(super) input_step: usize,
    /// From one segment's output to the next, pixels.
    pub(super) output_step: usize,
    /// Pixels of each, dropped ones included.
    pub(super) pixels: usize,
    /// Real pixels of a row.
    pub(super) width: usize,
    /// Pixels of a row with those that are dropped.
    pub(super) pitch: usize,
    /// Pixels before the first one at which the only tile of fewer pixels than it takes begins, so that it does not read
    /// behind the source; they are computed and dropped.
    pub(super) lead: usize,
}

/// Some rows of output pixels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Strip {
    /// Their segments.
    pub(super) segments: Segments,
    /// Where the first one's input begins, bytes.
    pub(super) input: usize,
    /// Their first output pixel.
    pub(super) pixel: usize,
}

impl Segments {
    /// Tiles of so many pixels, each with its segment and its first pixel there: the last tile of a segment is full too,
    /// and repeats some pixels. Where there are fewer than a tile's, it begins [`Segments::lead`] before these, and reads
    /// on behind them.
    pub(super) fn tile(&self, tile: usize, pixels: usize) -> (usize, usize) {
        let of_segment = self.pixels.div_ceil(pixels);
        let (segment, tile) = (tile / of_segment, tile % of_segment);
        (segment, (tile * pixels).min(self.pixels.saturating_sub(pixels)))
    }

    /// The segments of some rows of output pixels, of which there is at least one, for tiles of so many pixels.
    pub(super) fn strip(&self, rows: Range<usize>, pixel_step: usize, tile: usize) -> Strip {
        if self.count > 1 {
            let (input, pixel) = (rows.start * self.input_step, rows.start * self.output_step);
            return Strip { segments: Segments { count: rows.len(), ..*self }, input, pixel };
        }
        let pixels = (rows.len() - 1) * self.pitch + self.width;
        let start = rows.start * self.pitch;
        let behind = self.pixels.saturating_sub(start + pixels);
        let lead = tile.saturating_sub(pixels + behind).min(start);
        let segments = Segments { pixels, lead, ..*self };
        Strip { segments, input: start * pixel_step, pixel: rows.start * self.width }
    }
}

/// Where everything lies.
#[derive(Debug, Clone)]
pub(super) struct Source {
    window: Window,
    input: Shape,
    in_place: bool,
    signed: bool,
    /// Pixels of a padded row.
    pitch: usize,
    /// Rows of the input that lie in one line of the copy, pixel by pixel side by side.
    stack: usize,
    /// Bytes of the padded copy with what may be read behind it; 0 if the input is read in place.
    len: usize,
    runs: Vec<Run>,
    segments: Segments,
    pixel_step: usize,
}

impl Source {
    /// The source of a layer, for kernels with these demands.
    pub(super) fn new(layer: &ConvLayer, demands: Demands) -> Self {
        let (window, input) = (layer.conv.window, layer.input);
        let [top, left, bottom, right] = window.padding.map(|side| side as usize);
        let pitch = input.w as usize + left + right;
        let channels = input.c as usize;
        let stack = stack(layer, demands);
        let pixel_step = window.stride[1] as usize * channels * stack;
        let line = pitch * channels * stack;
        let (runs, segments) = if stack == 1 {
            (runs(&window, layer.conv.groups as usize, channels, pitch), segments(layer, pitch, demands))
        } else {
            let lines = (window.kernel[0] as usize).div_ceil(stack);
            let len = window.kernel[1] as usize * channels * stack;
            let runs = (0..lines)
                .map(|index| Run { offset: index * (stack / window.stride[0] as usize).max(1) * line, len });
            (runs.collect(), by_rows(layer, line))
        };
        let padded = window.padding.iter().any(|&side| side > 0);
        let whole = runs.iter().all(|run| run.len.is_multiple_of(demands.depth));
        let in_place = stack == 1 && !padded && !layer.signed && whole && segments.pixels >= demands.pixels;
        let copy = if stack == 1 {
            (input.h as usize + top + bottom) * line
        } else {
            // A line begins wherever a row of output pixels does, and further kernel rows reach some lines on.
            let last = runs.last().map_or(0, |run| run.offset);
            layer.output.h as usize * line + last
        };
        let behind = demands.depth + 2 * demands.pixels * pixel_step;
        let len = if in_place { 0 } else { (copy + behind).next_multiple_of(64) };
        Source {
            window,
            input,
            in_place,
            signed: layer.signed,
            pitch,
            stack,
            len,
            runs,
            segments,
            pixel_step,
        }
    }

    /// Bytes that [`Source::fill`] needs.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The runs of a patch, in the order of the weights.
    pub(super) fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Which weight of a filter belongs to each position of the runs, where they are not simply in order; `None` for
    /// positions without a weight.
    pub(super) fn order(&self) -> Option<Vec<Option<usize>>> {
        if self.stack == 1 {
            return None;
        }
        let [rows, columns] = self.window.kernel.map(|side| side as usize);
        let channels = self.input.c as usize;
        let mut order = Vec::new();
        for first in (0..rows).step_by(self.stack) {
            for column in 0..columns {
                for row in first..first + self.stack {
                    let weight = |channel| (row * columns + column) * channels + channel;
                    order.extend((0..channels).map(|channel| (row < rows).then(|| weight(channel))));
                }
            }
        }
        Some(order)
    }

    /// The segments.
    pub(super) fn segments(&self) -> &Segments {
        &self.segments
    }

    /// From one pixel's patch to the next, bytes.
    pub(super) fn pixel_step(&self) -> usize {
        self.pixel_step
    }

    /// The bytes to read: `x` itself, or its padded copy in `space`, which has [`Source::len`] bytes; of it only what
    /// `rows` of output pixels need is written.
    pub(super) fn fill<'a>(&self, x: Codes<'a>, rows: &Range<usize>, space: &'a mut [u8]) -> &'a [u8] {
        let (Codes::Unsigned(codes) | Codes::Signed(codes)) = x else {
            unreachable!("the check lets convolutions read codes of at most 8 bits only");
        };
        if self.in_place {
            return codes;
        }
        if self.stack > 1 {
            self.fill_stacked(codes, rows, space);
            return space;
        }
        let zero = if self.signed { 0x80 } else { 0 };
        let channels = self.input.c as usize;
        let line = self.pitch * channels;
        let row = self.input.w as usize * channels;
        let [top, left, ..] = self.window.padding.map(|side| side as usize);
        let left = left * channels;
        let down = self.window.stride[0] as usize;
        let reach = (self.window.kernel[0] as usize - 1) * self.window.dilation[0] as usize + 1;
        let lines = rows.start * down..rows.end.saturating_sub(1) * down + reach;
        for (index, target) in lines.clone().zip(space[lines.start * line..].chunks_exact_mut(line)) {
            let Some(y) = index.checked_sub(top).filter(|&y| y < self.input.h as usize) else {
                target.fill(zero);
                continue;
            };
            let codes = &codes[y * row..][..row];
            let (before, target) = target.split_at_mut(left);
            let (target, after) = target.split_at_mut(row);
            // Short: a loop beats a call.
            for side in [before, after] {
                let (chunks, rest) = side.as_chunks_mut::<16>();
                for chunk in chunks {
                    *chunk = [zero; 16];
                }
                for byte in rest {
                    *byte = zero;
                }
            }
            if self.signed {
                target.iter_mut().zip(codes).for_each(|(t, &code)| *t = code ^ 0x80);
            } else {
                target.copy_from_slice(codes);
            }
        }
        space
    }

    /// The copy with several rows to a line.
    fn fill_stacked(&self, codes: &[u8], rows: &Range<usize>, space: &mut [u8]) {
        let (channels, stack) = (self.input.c as usize, self.stack);
        let (width, height) = (self.input.w as usize * channels, self.input.h as usize);
        let [top, left, ..] = self.window.padding.map(|side| side as usize);
        let down = self.window.stride[0] as usize;
        let line = self.pitch * channels * stack;
        let zero = if self.signed { 0x80 } else { 0 };
        // A line begins where a row of output pixels does, and the last kernel rows reach some lines on.
        let reach = self.runs.last().map_or(0, |run| run.offset.div_ceil(line)) + 1;
        let lines = rows.start..rows.end.saturating_sub(1) + reach;
        for (index, target) in lines.clone().zip(space[lines.start * line..].chunks_exact_mut(line)) {
            target.fill(0);
            let inside = &mut target[left * channels * stack..][..width * stack];
            for within in 0..stack {
                let Some(row) = (index * down + within).checked_sub(top).filter(|&row| row < height) else {
                    continue;
                };
                let row = &codes[row * width..][..width];
                if channels == 3 {
                    let pixels = inside[3 * within..].chunks_mut(3 * stack);
                    for (pixel, codes) in pixels.zip(row.as_chunks::<3>().0) {
                        if let Some(pixel) = pixel.first_chunk_mut::<3>() {
                            *pixel = *codes;
                        }
                    }
                } else {
                    let pixels = inside[channels * within..].chunks_mut(channels * stack);
                    for (pixel, codes) in pixels.zip(row.chunks_exact(channels)) {
                        pixel[..channels].copy_from_slice(codes);
                    }
                }
            }
            for code in target {
                *code ^= zero;
            }
        }
    }
}

/// How many rows of the input to lay side by side: with few channels, short runs would mostly be zeros. Lines begin
/// where rows of output pixels do, so it is the vertical stride, or the whole kernel; the cheaper one.
fn stack(layer: &ConvLayer, demands: Demands) -> usize {
    let (conv, channels) = (layer.conv, layer.input.c as usize);
    let [rows, columns] = conv.window.kernel.map(|side| side as usize);
    let down = conv.window.stride[0] as usize;
    let few = 2 * columns * channels <= demands.depth;
    if !few || rows == 1 || conv.groups > 1 || conv.window.dilation != [1, 1] {
        return 1;
    }
    let panels = (layer.output.c as usize).div_ceil(16);
    let cost = |stack: usize| {
        let pieces = rows.div_ceil(stack) * (columns * channels * stack).div_ceil(demands.depth);
        // A product takes as long as copying about one code of each of its pixels.
        pieces * panels * layer.output.w as usize + stack * layer.input.w as usize
    };
    // Kernel rows further on must begin lines of their own.
    let candidates = [down, rows].into_iter().filter(|&stack| stack > 1 && stack <= rows);
    candidates.chain([1]).min_by_key(|&stack| cost(stack)).unwrap_or(1)
}

/// Kernel rows where their columns lie side by side, single taps otherwise.
fn runs(window: &Window, groups: usize, channels: usize, pitch: usize) -> Vec<Run> {
    let [rows, columns] = window.kernel.map(|side| side as usize);
    let [down, right] = window.dilation.map(|step| step as usize);
    let of_group = channels / groups;
    let joined = groups == 1 && (right == 1 || columns == 1);
    let (taps, len) = if joined { (1, columns * channels) } else { (columns, of_group) };
    let offset = |row: usize, tap: usize| (row * down * pitch + tap * right) * channels;
    (0..rows).flat_map(|row| (0..taps).map(move |tap| Run { offset: offset(row, tap), len })).collect()
}

/// All pixels at once where that wastes less than row by row.
fn segments(layer: &ConvLayer, pitch: usize, demands: Demands) -> Segments {
    let (window, channels) = (&layer.conv.window, layer.input.c as usize);
    let (height, width) = (layer.output.h as usize, layer.output.w as usize);
    let at_once = (height - 1) * pitch + width;
    let in_rows = height * width.next_multiple_of(demands.pixels);
    let down = window.stride[0] as usize;
    if window.stride == [1, 1] && (pitch == width || at_once < in_rows) {
        return Segments { count: 1, input_step: 0, output_step: 0, pixels: at_once, width, pitch, lead: 0 };
    }
    by_rows(layer, down * pitch * channels)
}

/// One segment a row of output pixels.
fn by_rows(layer: &ConvLayer, input_step: usize) -> Segments {
    let (height, width) = (layer.output.h as usize, layer.output.w as usize);
    Segments { count: height, input_step, output_step: width, pixels: width, width, pitch: width, lead: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Format, Op};
    use crate::testing::{Builder, ConvCase};

    const TILES: Demands = Demands { depth: 64, pixels: 16 };

    /// Checks that no tile of any strip reads outside an input that is read in place.
    fn check(shape: Shape, case: &ConvCase) {
        let (mut builder, x) = Builder::new(1, shape, Format::Unsigned { bits: 8 });
        let y = builder.conv(x, case, None);
        let model = builder.finish("in place", y);
        let Op::Conv(conv) = &model.nodes[0].op else { panic!("a convolution was built") };
        let (output, codes) = (model.output_shape(), case.output);
        let layer = ConvLayer { conv, input: shape, signed: false, largest_byte: 255, codes, output };
        let source = Source::new(&layer, TILES);
        assert_eq!(source.len(), 0, "{shape} is read in place");
        let patch = source.runs().iter().map(|run| run.offset + run.len).max().expect("a patch has runs");
        let height = output.h as usize;
        for parts in 1..=height {
            for part in 0..parts {
                let rows = height * part / parts..height * (part + 1) / parts;
                let strip = source.segments().strip(rows.clone(), source.pixel_step(), TILES.pixels);
                let segments = strip.segments;
                for tile in 0..segments.count * segments.pixels.div_ceil(TILES.pixels) {
                    let (segment, first) = segments.tile(tile, TILES.pixels);
                    let from = strip.input + segment * segments.input_step + first * source.pixel_step();
                    let from = from.checked_sub(segments.lead * source.pixel_step()).expect("inside");
                    let end = from + (TILES.pixels - 1) * source.pixel_step() + patch;
                    assert!(end <= shape.len(), "{shape}, rows {rows:?}: {end} of {}", shape.len());
                }
            }
        }
    }

    #[test]
    fn no_tile_reads_behind_an_input_that_is_read_in_place() {
        for (h, w) in [(8, 8), (5, 7), (16, 1), (7, 14), (2, 8), (3, 31)] {
            check(Shape { h, w, c: 64 }, &ConvCase::square(16, 1, 1));
        }
        let unpadded = ConvCase::square(16, 3, 1);
        let window = Window { padding: [0; 4], ..unpadded.window };
        check(Shape { h: 9, w: 11, c: 64 }, &ConvCase { window, ..unpadded });
    }
}
