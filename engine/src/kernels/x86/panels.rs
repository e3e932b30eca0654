//! Weights as matrix kernels read them.
//!
//! A *panel* holds sixteen filters. Its *steps* are four weights of each: `[step][filter][4]`, 64 bytes. Every run of a
//! patch is filled up to whole steps (or more, as the kernel demands) with zero weights. Two-bit weights of large layers
//! stay packed, four steps in 64 bytes, and are unpacked a few panels at a time, just before they are used: reading
//! them from far memory takes longer than unpacking.

use super::source::{Demands, Run};
use super::transpose::transpose;
pub(super) use crate::kernels::Line;
use crate::kernels::levels;
use crate::model::Weights;

/// Filters of a panel.
pub(super) const FILTERS: usize = 16;
/// Bytes of a step.
pub(super) const STEP: usize = 64;
/// Layers with more weights than this stay packed if they can: smaller ones stay in the second cache.
const PACKED_FROM: usize = 1 << 20;

/// All panels of a layer.
#[derive(Debug)]
pub(super) struct Panels {
    lines: Vec<Line>,
    /// Four levels a filter, sixteen filters a panel, where the weights are packed.
    tables: Option<Vec<Line>>,
    /// Steps of a panel; a multiple of four where packed.
    steps: usize,
    /// Panels of a group.
    blocks: usize,
}

impl Panels {
    /// Packs `groups` groups of `filters` filters, whose patches are `runs`; the weights come in that
    /// order, or in the given one (see [`Source::order`](super::source::Source::order)). Large two-bit
    /// layers stay packed if `pack` allows it.
    pub(super) fn new(
        weights: &Weights,
        groups: usize,
        filters: usize,
        runs: &[Run],
        order: Option<&[Option<usize>]>,
        demands: Demands,
        pack: bool,
    ) -> Self {
        let blocks = filters.div_ceil(FILTERS);
        let steps = runs.iter().map(|run| run.len.next_multiple_of(demands.depth) / 4).sum();
        // Missing weights need a zero level, which a packed filter may lack.
        let whole = runs.iter().all(|run| run.len.is_multiple_of(demands.depth.max(16)));
        let packed =
            pack && weights.bits == 2 && whole && order.is_none() && weights.codes.len() > PACKED_FROM;
        // Unpacking may read some lines ahead.
        let (of_panel, ahead) = if packed { (steps / 4, 12) } else { (steps, 0) };
        let mut panels = Panels {
            lines: Vec::with_capacity(groups * blocks * of_panel + ahead),
            tables: packed.then(|| Vec::with_capacity(groups * blocks)),
            steps,
            blocks,
        };
        let per_filter = weights.codes.len() / (groups * filters);
        // Sixteen filters, one after the other, as they go into the steps.
        let room = (4 * steps).next_multiple_of(STEP);
        let mut rows = vec![0; FILTERS * room];
        let mut levels = vec![0; if packed { 0 } else { per_filter }];
        for first in (0..groups).flat_map(|group| (0..filters).step_by(FILTERS).map(move |f| (group, f))) {
            let (first, count) = (first.0 * filters + first.1, FILTERS.min(filters - first.1));
            let (rows_of_filters, missing) = rows.split_at_mut(count * room);
            missing.fill(0);
            for (filter, row) in (first..).zip(rows_of_filters.chunks_exact_mut(room)) {
                if packed {
                    weights.codes.read(filter * per_filter, &mut row[..per_filter]);
                } else {
                    levels::levels(weights, filter, per_filter, 0, &mut levels);
                    place(&levels, runs, order, demands, row);
                }
            }
            if let Some(tables) = &mut panels.tables {
                let mut line = Line([0; STEP]);
                let of_filters = &weights.tables[4 * first..4 * (first + count)];
                line.0.iter_mut().zip(of_filters).for_each(|(entry, &level)| *entry = level as u8);
                tables.push(line);
                interleave(&rows, steps, |steps| {
                    panels.lines.extend(steps.as_chunks().0.iter().map(pack_steps));
                });
            } else {
                interleave(&rows, steps, |steps| panels.lines.extend_from_slice(steps));
            }
        }
        panels.lines.extend((0..ahead).map(|_| Line([0; STEP])));
        panels
    }

    /// Turns each weight into two, `16·h + l`: the steps of a panel have the h, as many more the l. The panels must not
    /// be packed.
    pub(super) fn split(&mut self) {
        assert!(self.tables.is_none(), "panels to be split are made unpacked");
        let high = |weight: u8| ((i16::from(weight as i8) + 8) >> 4) as u8;
        let low = |weight: u8| weight.wrapping_sub(high(weight) << 4);
        let mut halves = Vec::with_capacity(2 * self.lines.len());
        for panel in self.lines.chunks_exact(self.steps.max(1)) {
            halves.extend(panel.iter().map(|line| Line(line.0.map(high))));
            halves.extend(panel.iter().map(|line| Line(line.0.map(low))));
        }
        self.lines = halves;
        self.steps *= 2;
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.tables.as_ref().map_or(self.lines.len() / self.steps.max(1), Vec::len)
    }

    /// Calls `each` with the steps of every panel, one after the other, until it says no.
    pub(super) fn each(
        &self,
        unpack: impl Fn(&[Line], &Line, &mut [Line]),
        mut each: impl FnMut(&[Line]) -> bool,
    ) {
        let mut space = vec![Line([0; STEP]); self.space(1)];
        for panel in 0..self.count() {
            if !each(self.get(panel, 1, &mut space, &unpack)) {
                return;
            }
        }
    }

    /// Bytes in all.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.lines) + self.tables.as_ref().map_or(0, |tables| size_of_val(&**tables))
    }

    /// Panels of a group.
    pub(super) fn blocks(&self) -> usize {
        self.blocks
    }

    /// Whether the weights are packed.
    pub(super) fn is_packed(&self) -> bool {
        self.tables.is_some()
    }

    /// Panels from `panel` on as they are packed, and their tables; `None` if the panels are not packed.
    pub(super) fn packed(&self, panel: usize) -> Option<(&[Line], &[Line])> {
        let tables = self.tables.as_ref()?;
        Some((&self.lines[panel * self.steps / 4..], &tables[panel..]))
    }

    /// Lines that [`Panels::get`] needs for this many panels.
    pub(super) fn space(&self, panels: usize) -> usize {
        if self.tables.is_some() { panels * self.steps } else { 0 }
    }

    /// `count` panels one after the other, from `first` on (counted over all groups): as they are, or unpacked into
    /// `space` by `unpack(packed line, levels of the sixteen filters, four steps)`.
    pub(super) fn get<'a>(
        &'a self,
        first: usize,
        count: usize,
        space: &'a mut [Line],
        unpack: impl Fn(&[Line], &Line, &mut [Line]),
    ) -> &'a [Line] {
        let Some(tables) = &self.tables else {
            return &self.lines[first * self.steps..(first + count) * self.steps];
        };
        let of_panel = self.steps / 4;
        for (panel, target) in (first..first + count).zip(space.chunks_exact_mut(self.steps)) {
            unpack(&self.lines[panel * of_panel..(panel + 1) * of_panel], &tables[panel], target);
        }
        &space[..count * self.steps]
    }
}

/// Lays a filter's levels down as its row: run by run, each filled up to whole steps. What is not written stays zero.
fn place(levels: &[u8], runs: &[Run], order: Option<&[Option<usize>]>, demands: Demands, row: &mut [u8]) {
    let (mut from, mut to) = (0, 0);
    for run in runs {
        let target = &mut row[to..to + run.len];
        match order {
            None => target.copy_from_slice(&levels[from..from + run.len]),
            Some(order) => {
                for (target, index) in target.iter_mut().zip(&order[from..]) {
                    *target = index.map_or(0, |index| levels[index]);
                }
            }
        }
        from += run.len;
        to += run.len.next_multiple_of(demands.depth);
    }
}

/// Sixteen rows as steps of four bytes of each, and what `push` makes of up to sixteen steps at a time.
fn interleave(rows: &[u8], steps: usize, mut push: impl FnMut(&[Line])) {
    let rows = rows.as_chunks::<STEP>().0;
    let of_row = rows.len() / FILTERS;
    for chunk in 0..steps.div_ceil(FILTERS) {
        let lines = transpose(std::array::from_fn(|filter| &rows[filter * of_row + chunk]));
        push(&lines[..FILTERS.min(steps - chunk * FILTERS)]);
    }
}

/// Four steps of two-bit codes in one line.
fn pack_steps([a, b, c, d]: &[Line; 4]) -> Line {
    Line(std::array::from_fn(|byte| a.0[byte] | b.0[byte] << 2 | c.0[byte] << 4 | d.0[byte] << 6))
}
