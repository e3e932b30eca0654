//! Convolutions as sums of matrix products over the runs of the patches, for any kind of matrix kernel.
#![expect(unsafe_code, reason = "matrix kernels read and write through pointers")]

use super::finish::{Finish, Residual, Target};
use super::panels::{Line, Panels};
use super::source::{Demands, Segments, Source};
use crate::kernels::codes::Codes;
use crate::kernels::levels;
use crate::kernels::part::{Cut, Part, Pieces, Threads};
use crate::kernels::{ConvLayer, PreparedConv, Workspace, WorkspaceSize};

/// A kind of matrix kernel. Holding a value proves that this CPU has it.
pub(super) trait Matrix: Copy + Send + Sync + 'static {
    /// For people.
    const NAME: &'static str;

    /// How it reads its input.
    const DEMANDS: Demands;

    /// How many panels to take at once, where `left` are left.
    fn panels(left: usize) -> usize;

    /// Whether [`Matrix::multiply`] unpacks panels itself, two at a time, where the pixels are these.
    fn unpacks(_segments: &Segments) -> bool {
        false
    }

    /// Learns what it needs from a layer's panels and pieces.
    #[must_use]
    fn fit(self, _panels: &Panels, _pieces: &[usize]) -> Self {
        self
    }

    /// Unpacks a panel; see [`Panels::get`].
    fn unpack(self, packed: &[Line], table: &Line, steps: &mut [Line]);

    /// Makes the CPU ready for segments.
    fn begin(self) {}

    /// Gives back what [`Matrix::begin`] took.
    fn end(self) {}

    /// Computes and finishes all pixels by the panels of a task.
    ///
    /// # Safety
    /// From `input` on, and [`Segments::lead`] pixels before it, everything that the task's source may read must be there,
    /// and the task's targets must have room.
    unsafe fn multiply(self, task: &Task, input: *const u8);
}

/// What the input is multiplied with, and what becomes of the sums.
pub(super) struct Task<'a> {
    /// Byte offsets of a patch's pieces of [`Demands::depth`] bytes.
    pub(super) pieces: &'a [usize],
    pub(super) pixel_step: usize,
    pub(super) segments: Segments,
    /// The first output pixel.
    pub(super) pixel: usize,
    /// `count` panels, one after the other; empty where there is a packed one.
    pub(super) panels: &'a [Line],
    /// Two packed panels with what follows them, and their tables.
    pub(super) packed: Option<(&'a [Line], &'a [Line])>,
    /// The first panel's number.
    pub(super) first: usize,
    pub(super) count: usize,
    pub(super) finish: &'a Finish,
    pub(super) residual: Residual,
    pub(super) target: Target,
}

/// A convolution for one kind of matrix kernel.
pub(super) struct Direct<M> {
    matrix: M,
    source: Source,
    pieces: Vec<usize>,
    groups: usize,
    /// Channels of a group.
    channels: usize,
    panels: Panels,
    finish: Finish,
    /// Rows of output pixels.
    rows: usize,
    /// Parts of these that are done one after the other, each by all filters.
    strips: usize,
    macs: usize,
}

/// Bytes of output codes of a strip: about half of a first cache.
const STRIP: usize = 32 * 1024;
/// Panels of more bytes than this are taken one after the other, each by all pixels.
const PANELS: usize = 256 * 1024;
/// Fewest multiply-accumulates for a part.
pub(super) const PART: usize = 256 * 1024;
/// Bytes of weights that are worth a part too: for one pixel, reading them takes longer than multiplying.
const READ: usize = 64 * 1024;
/// Share of the threads' time that makes a cut good.
const GOOD: f64 = 0.9;

impl<M: Matrix> Direct<M> {
    /// Packs a layer.
    pub(super) fn new(matrix: M, layer: &ConvLayer) -> Self {
        Self::with(matrix, layer, false)
    }

    /// Packs a layer with each weight in two, `16·h + l`: all pieces come twice, first for the h, then for the l.
    pub(super) fn split(matrix: M, layer: &ConvLayer) -> Self {
        Self::with(matrix, layer, true)
    }

    fn with(matrix: M, layer: &ConvLayer, split: bool) -> Self {
        let conv = layer.conv;
        let source = Source::new(layer, M::DEMANDS);
        let (groups, filters) = (conv.groups as usize, layer.output.c as usize);
        let depth = M::DEMANDS.depth;
        let pieces = source.runs().iter().flat_map(|run| (run.offset..run.offset + run.len).step_by(depth));
        let mut pieces: Vec<usize> = pieces.collect();
        if split {
            pieces.extend_from_within(..);
        }
        let offsets = if layer.signed { offsets(layer) } else { Vec::new() };
        let order = source.order();
        let mut panels = Panels::new(
            &conv.weights,
            groups,
            filters / groups,
            source.runs(),
            order.as_deref(),
            M::DEMANDS,
            !split,
        );
        if split {
            panels.split();
        }
        let rows = layer.output.h as usize;
        // A strip's pixels should fill some tiles.
        let most = rows * layer.output.w as usize / (8 * M::DEMANDS.pixels);
        let strips =
            if is_large(&panels) { 1 } else { (layer.output.len() / STRIP).min(most).clamp(1, rows) };
        Direct {
            rows,
            strips,
            macs: layer.macs(),
            matrix: matrix.fit(&panels, &pieces),
            pieces,
            groups,
            channels: layer.input.c as usize / groups,
            panels,
            finish: Finish::new(&conv.epilogue, groups, filters, &offsets),
            source,
        }
    }

    fn most_panels(&self) -> usize {
        M::panels(self.panels.blocks())
    }
}

/// Whether panels are to be read once only.
fn is_large(panels: &Panels) -> bool {
    panels.is_packed() || panels.bytes() > PANELS
}

/// `−128 · Σ level` of each filter, modulo 2³².
///
/// With few bits, `Σ |level|` may reach 2³⁰ (the bound on a sum is 2³¹, and a signed code's size at least 2), so that neither
/// this nor the sums that it is added to need fit 32 bits. The kernels' sums and additions wrap, so that what they come to is
/// right modulo 2³²; the bound says that the true sum fits, so it is that one.
pub(super) fn offsets(layer: &ConvLayer) -> Vec<i32> {
    let sums = levels::sums(&layer.conv.weights, layer.output.c as usize);
    sums.into_iter().map(|sum| sum.wrapping_mul(-128)).collect()
}

impl<M: Matrix> PreparedConv for Direct<M> {
    fn method(&self) -> &'static str {
        M::NAME
    }

    fn weight_bytes(&self) -> usize {
        self.panels.bytes()
    }

    fn workspace(&self) -> WorkspaceSize {
        let lines = self.source.len() / 64 + self.panels.space(self.most_panels());
        WorkspaceSize { lines, ..WorkspaceSize::default() }
    }

    fn cut(&self, threads: Threads) -> Cut {
        let most = threads.most(self.macs, PART).max(threads.most(self.panels.bytes(), READ));
        let panels = self.groups * self.panels.blocks();
        let rows = Pieces::of(self.rows, threads, most);
        let filters = Pieces::of(panels.div_ceil(M::panels(usize::MAX)), threads, most);
        if threads.finest {
            return Cut { rows: rows.count, filters: panels.min(threads.count) };
        }
        let by_rows = (rows, Cut { rows: rows.count, ..Cut::WHOLE });
        let by_filters = (filters, Cut { filters: filters.count, ..Cut::WHOLE });
        // Each thread reads its own part of large panels, or all of small ones and its own rows.
        let large = is_large(&self.panels);
        let (usual, other) = if large { (by_filters, by_rows) } else { (by_rows, by_filters) };
        let good = usual.0.used >= GOOD || usual.0.used >= other.0.used;
        let (pieces, cut) = if good { usual } else { other };
        let wanted = threads.count.min(most);
        if pieces.count >= wanted {
            return cut;
        }
        // Neither are enough.
        Cut { rows: rows.count, filters: panels.min(wanted.div_ceil(rows.count)) }
    }

    fn run(&self, x: Codes, residual: Option<Codes>, part: Part, workspace: &mut Workspace) {
        let (copy, space) = workspace.lines.split_at_mut(self.source.len() / 64);
        let rows = part.rows.of(self.rows);
        let input = self.source.fill(x, &rows, Line::bytes_mut(copy));
        let (residual, target) = (Residual::new(residual), part.target());
        let blocks = self.panels.blocks();
        let panels = part.filters.of(self.groups * blocks);
        let strips = (self.strips * rows.len()).div_ceil(self.rows);
        self.matrix.begin();
        for group in 0..self.groups {
            let of_group = panels.start.max(group * blocks)..panels.end.min((group + 1) * blocks);
            for strip in 0..strips {
                let end = rows.start + rows.len() * (strip + 1) / strips;
                let rows = rows.start + rows.len() * strip / strips..end;
                let strip = self.source.segments().strip(rows, self.source.pixel_step(), M::DEMANDS.pixels);
                let mut first = of_group.start;
                while first < of_group.end {
                    let left = of_group.end - first;
                    let pair = M::unpacks(&strip.segments) && left >= 2;
                    let packed = if pair { self.panels.packed(first) } else { None };
                    let (count, panels) = if packed.is_some() {
                        (2, &[][..])
                    } else {
                        let count = M::panels(left);
                        let unpack = |packed: &[Line], table: &Line, steps: &mut [Line]| {
                            self.matrix.unpack(packed, table, steps);
                        };
                        (count, self.panels.get(first, count, space, unpack))
                    };
                    let task = Task {
                        pieces: &self.pieces,
                        pixel_step: self.source.pixel_step(),
                        segments: strip.segments,
                        pixel: strip.pixel,
                        panels,
                        packed,
                        first,
                        count,
                        finish: &self.finish,
                        residual,
                        target,
                    };
                    let from = group * self.channels + strip.input;
                    // SAFETY: `Source` has laid the segments out inside the input (or its copy, with what is read behind
                    // it), the output has a code for every real pixel and filter, and those of these rows and panels
                    // are the part's.
                    unsafe { self.matrix.multiply(&task, input.as_ptr().add(from)) };
                    first += count;
                }
            }
        }
        self.matrix.end();
    }
}
