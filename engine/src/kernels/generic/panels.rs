//! Weights as the dot products read them.

use super::dot::{BLOCK, LANES};
use crate::model::Weights;

/// Levels as 16-bit words, by group, block of [`BLOCK`] filters, [`LANES`] weights, filter: `[group][block][k /
/// LANES][filter][LANES]`. Missing filters and weights are zero.
#[derive(Debug)]
pub(super) struct Panels {
    words: Vec<i16>,
    /// Filters of a group.
    filters: usize,
    /// Weights of a filter, with zeros up to a multiple of the lanes.
    length: usize,
}

impl Panels {
    /// Packs `groups` groups of `filters` filters; each filter gets `length` weights, a multiple of the lanes.
    pub(super) fn new(weights: &Weights, groups: usize, filters: usize, length: usize) -> Self {
        let per_filter = weights.codes.len() / (groups * filters);
        let blocks = filters.div_ceil(BLOCK);
        let mut words = vec![0; groups * blocks * BLOCK * length];
        for filter in 0..groups * filters {
            let (group, within) = (filter / filters, filter % filters);
            let panel = (group * blocks + within / BLOCK) * BLOCK * length;
            for index in 0..per_filter {
                let at = panel + (index / LANES * BLOCK + within % BLOCK) * LANES + index % LANES;
                words[at] = weights.level(filter, index, per_filter) as i16;
            }
        }
        Panels { words, filters, length }
    }

    /// Bytes in all.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.words)
    }

    /// Filters of a group.
    pub(super) fn filters(&self) -> usize {
        self.filters
    }

    /// The panels of one group, each with its first filter's number in the group.
    pub(super) fn blocks(&self, group: usize) -> impl Iterator<Item = (usize, &[i16])> {
        let size = BLOCK * self.length;
        let blocks = self.filters.div_ceil(BLOCK);
        let words = &self.words[group * blocks * size..(group + 1) * blocks * size];
        words.chunks_exact(size).enumerate().map(|(block, panel)| (block * BLOCK, panel))
    }
}
