//! Weights as matrix kernels read them.
//!
//! A *panel* holds sixteen filters. Its *steps* are four weights of each: `[step][filter][4]`, 64 bytes. Every run of a
//! patch is filled up to whole steps (or more, as the kernel demands) with zero weights. Two-bit weights of large layers
//! stay packed, four steps in 64 bytes, and are unpacked a few panels at a time, just before they are used: reading
//! them from far memory takes longer than unpacking.

use super::source::{Demands, Run};
pub(super) use crate::kernels::Line;
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

/// Where a filter's bytes lie in each step.
#[derive(Debug, Clone, Copy)]
struct Lane {
    panel: usize,
    /// The first of four.
    byte: usize,
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
        let mut panels = Panels {
            // Unpacking may read some steps ahead.
            lines: vec![
                Line([0; STEP]);
                if packed { groups * blocks * steps / 4 + 12 } else { groups * blocks * steps }
            ],
            tables: packed.then(|| vec![Line([0; STEP]); groups * blocks]),
            steps,
            blocks,
        };
        for filter in 0..groups * filters {
            let (group, within) = (filter / filters, filter % filters);
            let lane = Lane { panel: group * blocks + within / FILTERS, byte: within % FILTERS * 4 };
            panels.place(weights, filter, lane, runs, order, demands);
        }
        panels
    }

    /// Lays one filter down as four bytes a step.
    fn place(
        &mut self,
        weights: &Weights,
        filter: usize,
        at: Lane,
        runs: &[Run],
        order: Option<&[Option<usize>]>,
        demands: Demands,
    ) {
        let Lane { panel, byte: lane } = at;
        let positions = runs.iter().map(|run| run.len).sum::<usize>();
        let per_filter = order.map_or(positions, |order| order.iter().flatten().count());
        let codes = &weights.codes[filter * per_filter..][..per_filter];
        let table =
            (weights.bits < 8).then(|| &weights.tables[filter << weights.bits..][..1 << weights.bits]);
        if let Some(tables) = &mut self.tables {
            let levels = table.expect("packed weights have tables").iter().map(|&level| level as u8);
            tables[panel].0[lane..lane + 4].iter_mut().zip(levels).for_each(|(t, level)| *t = level);
            let lines = &mut self.lines[panel * self.steps / 4..][..self.steps / 4];
            for (line, codes) in lines.iter_mut().zip(codes.as_chunks::<16>().0) {
                for (step, codes) in codes.as_chunks::<4>().0.iter().enumerate() {
                    let target = &mut line.0[lane..lane + 4];
                    target.iter_mut().zip(codes).for_each(|(t, code)| *t |= code << (2 * step));
                }
            }
            return;
        }
        let level = |code: u8| table.map_or(code, |table| table[usize::from(code)] as u8);
        let levels: Vec<u8> = match order {
            None => codes.iter().map(|&code| level(code)).collect(),
            Some(order) => order.iter().map(|index| index.map_or(0, |index| level(codes[index]))).collect(),
        };
        let mut lines = &mut self.lines[panel * self.steps..][..self.steps];
        let mut rest = &*levels;
        for run in runs {
            let (levels, later_levels) = rest.split_at(run.len);
            let (of_run, later_lines) = lines.split_at_mut(run.len.next_multiple_of(demands.depth) / 4);
            (rest, lines) = (later_levels, later_lines);
            for (line, levels) in of_run.iter_mut().zip(levels.chunks(4)) {
                line.0[lane..lane + levels.len()].copy_from_slice(levels);
            }
        }
    }

    /// Turns each weight into two, `16·h + l`: the steps of a panel have the h, as many more the l. The panels must not
    /// be packed.
    pub(super) fn split(&mut self) {
        assert!(self.tables.is_none(), "panels to be split are made unpacked");
        let high = |weight: u8| ((i16::from(weight as i8) + 8) >> 4) as u8;
        let low = |weight: u8| weight.wrapping_sub(high(weight) << 4);
        let halves = |panel: &[Line]| {
            let high = panel.iter().map(|line| Line(line.0.map(high)));
            high.chain(panel.iter().map(|line| Line(line.0.map(low)))).collect::<Vec<_>>()
        };
        self.lines = self.lines.chunks_exact(self.steps.max(1)).flat_map(halves).collect();
        self.steps *= 2;
    }

    /// Calls `each` with the steps of every panel, one after the other.
    pub(super) fn each(&self, unpack: impl Fn(&[Line], &Line, &mut [Line]), mut each: impl FnMut(&[Line])) {
        let count = self.tables.as_ref().map_or(self.lines.len() / self.steps.max(1), Vec::len);
        let mut space = vec![Line([0; STEP]); self.space(1)];
        for panel in 0..count {
            each(self.get(panel, 1, &mut space, &unpack));
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
