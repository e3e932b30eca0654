//! Convolutions as sums of matrix products over the runs of the patches, for any kind of matrix kernel.
#![expect(unsafe_code, reason = "matrix kernels read and write through pointers")]

use super::finish::{Finish, Residual, Target};
use super::panels::{Line, Panels};
use super::source::{Demands, Segments, Source};
use crate::kernels::codes::{Codes, CodesMut};
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
    /// From `input` on, everything that the task's source may read must be there, and the task's targets must have
    /// room.
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
}

/// Bytes of output codes of a strip: about half of a first cache.
const STRIP: usize = 32 * 1024;
/// Panels of more bytes than this are taken one after the other, each by all pixels.
const PANELS: usize = 256 * 1024;

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
        let strips = if panels.is_packed() || panels.bytes() > PANELS {
            1
        } else {
            (layer.output.len() / STRIP).min(most).clamp(1, rows)
        };
        Direct {
            rows,
            strips,
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

/// `−128 · Σ level` of each filter.
pub(super) fn offsets(layer: &ConvLayer) -> Vec<i32> {
    let filters = layer.output.c as usize;
    let per_filter = layer.conv.weights.codes.len() / filters;
    let sum = |filter: usize| -> i32 {
        (0..per_filter).map(|index| layer.conv.weights.level(filter, index, per_filter)).sum()
    };
    (0..filters).map(|filter| -128 * sum(filter)).collect()
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

    fn run(&self, x: Codes, residual: Option<Codes>, mut out: CodesMut, workspace: &mut Workspace) {
        let (copy, space) = workspace.lines.split_at_mut(self.source.len() / 64);
        let input = self.source.fill(x, Line::bytes_mut(copy));
        let (residual, target) = (Residual::new(residual), Target::new(&mut out));
        self.matrix.begin();
        for group in 0..self.groups {
            for strip in 0..self.strips {
                let rows = self.rows * strip / self.strips..self.rows * (strip + 1) / self.strips;
                let strip = self.source.segments().strip(rows, self.source.pixel_step());
                let mut block = 0;
                while block < self.panels.blocks() {
                    let first = group * self.panels.blocks() + block;
                    let pair = M::unpacks(&strip.segments) && block + 2 <= self.panels.blocks();
                    let packed = if pair { self.panels.packed(first) } else { None };
                    let (count, panels) = if packed.is_some() {
                        (2, &[][..])
                    } else {
                        let count = M::panels(self.panels.blocks() - block);
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
                    // it), and the output has a code for every real pixel and filter.
                    unsafe { self.matrix.multiply(&task, input.as_ptr().add(from)) };
                    block += count;
                }
            }
        }
        self.matrix.end();
    }
}
