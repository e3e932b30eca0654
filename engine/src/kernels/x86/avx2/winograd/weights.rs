//! `G' g G'ᵀ` of filters, as the products read it.

use super::{FREQUENCIES, LINE, Line, PURE};
use crate::kernels::x86::avx2::counting::most_steps;
use crate::kernels::x86::panels::FILTERS;
use crate::model::Weights;

/// All filters of a layer, in panels: `[panel][frequency][step][filter][4]`.
pub(super) struct Transformed {
    lines: Vec<Line>,
    /// Steps whose sums fit sixteen bits, `[panel][frequency]`.
    most: Vec<u16>,
    /// Takes the added 128 back, from four times the sums: `[panel][pixel][filter]`.
    corrections: Vec<[[i32; FILTERS]; 4]>,
    /// Steps of four channels; a multiple of four.
    steps: usize,
}

/// The weights of a panel at a frequency.
#[derive(Clone, Copy)]
pub(super) struct OfFrequency<'a> {
    pub(super) lines: &'a [Line],
    /// So many may be added in sixteen bits.
    pub(super) steps: usize,
}

impl Transformed {
    /// Transforms filters of 3 × 3 taps; `None` where a number does not fit eight bits, or so few steps fit sixteen that
    /// direct sums are quicker.
    pub(super) fn new(weights: &Weights, filters: usize, channels: usize) -> Option<Self> {
        let panels = filters.div_ceil(FILTERS);
        let steps = channels.div_ceil(16) * 4;
        let mut lines = vec![Line([0; LINE]); panels * FREQUENCIES * steps];
        let mut corrections = vec![[[0; FILTERS]; 4]; panels];
        for filter in 0..filters {
            let (panel, lane) = (filter / FILTERS, filter % FILTERS);
            let mut sums = [0i32; FREQUENCIES];
            for channel in 0..channels {
                let tap = |tap| weights.level(filter, tap * channels + channel, 9 * channels) as i16;
                for (frequency, value) in transform(std::array::from_fn(tap)).into_iter().enumerate() {
                    let line = (panel * FREQUENCIES + frequency) * steps + channel / 4;
                    lines[line].0[4 * lane + channel % 4] = i8::try_from(value).ok()? as u8;
                    sums[frequency] += i32::from(value);
                }
            }
            sums[PURE] = 0;
            for (pixel, sum) in inverse(sums).into_iter().enumerate() {
                corrections[panel][pixel][lane] = -128 * sum;
            }
        }
        let of_all = lines.chunks_exact(steps).enumerate();
        let most = of_all.map(|(index, lines)| {
            let largest = if index % FREQUENCIES == PURE { 252 } else { 254 };
            let most = most_steps(lines, largest);
            // Parts of nearly equal size, of whole fours.
            let part = steps.div_ceil(steps.div_ceil(most.max(1))).next_multiple_of(4);
            if part <= most { part as u16 } else { (most / 4 * 4) as u16 }
        });
        let most: Vec<u16> = most.collect();
        most.iter().all(|&most| most > 0).then_some(Transformed { lines, most, corrections, steps })
    }

    /// The weights of a panel at a frequency.
    pub(super) fn get(&self, panel: usize, frequency: usize) -> OfFrequency<'_> {
        let index = panel * FREQUENCIES + frequency;
        let lines = &self.lines[index * self.steps..][..self.steps];
        OfFrequency { lines, steps: self.most[index].into() }
    }

    /// What to add to the pixels of a patch.
    pub(super) fn corrections(&self, panel: usize) -> &[[i32; FILTERS]; 4] {
        &self.corrections[panel]
    }

    /// Bytes in all.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.lines) + size_of_val(&*self.most) + size_of_val(&*self.corrections)
    }
}

/// `G' g G'ᵀ` of one channel's taps.
fn transform(g: [i16; 9]) -> [i16; FREQUENCIES] {
    let along = |[a, b, c]: [i16; 3]| [2 * a, a + b + c, a - b + c, 2 * c];
    let columns: [[i16; 4]; 3] =
        std::array::from_fn(|column| along([g[column], g[3 + column], g[6 + column]]));
    let mut all = [0; FREQUENCIES];
    for (row, of_row) in all.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        *of_row = along(columns.map(|column| column[row]));
    }
    all
}

/// `Aᵀ m A`.
fn inverse(m: [i32; FREQUENCIES]) -> [i32; 4] {
    let along = |[a, b, c, d]: [i32; 4]| [a + b + c, b - c - d];
    let columns: [[i32; 2]; 4] =
        std::array::from_fn(|column| along(std::array::from_fn(|row| m[4 * row + column])));
    let [top, bottom] = [0, 1].map(|row| along(columns.map(|column| column[row])));
    [top[0], top[1], bottom[0], bottom[1]]
}
