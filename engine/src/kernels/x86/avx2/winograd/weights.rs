//! `G' g G'ᵀ` of filters, as the products read it.

use super::{FREQUENCIES, LINE, Line, PURE};
use crate::kernels::levels;
use crate::kernels::x86::avx2::counting::most_steps;
use crate::kernels::x86::panels::FILTERS;
use crate::model::Weights;

/// Fewer steps than this in sixteen bits, and direct sums are quicker.
const LEAST: usize = 4;

/// All filters of a layer, in panels: `[panel][frequency][step][filter][4]`.
pub(super) struct Transformed {
    lines: Vec<Line>,
    /// Steps whose sums fit sixteen bits, `[panel][frequency]`.
    most: Vec<usize>,
    /// Takes the added 128 back, from four times the sums: `[panel][pixel][filter]`.
    corrections: Vec<[[i32; FILTERS]; 4]>,
    /// Steps of four channels; a multiple of four.
    steps: usize,
}

/// The weights of a panel at a frequency.
#[derive(Clone, Copy)]
pub(super) struct OfFrequency<'a> {
    pub(super) lines: &'a [Line],
    /// So many steps may be added in sixteen bits.
    pub(super) most: usize,
}

impl Transformed {
    /// Transforms filters of 3 × 3 taps; `None` where a number does not fit eight bits, or not even a
    /// few products sixteen.
    pub(super) fn new(weights: &Weights, filters: usize, channels: usize) -> Option<Self> {
        let panels = filters.div_ceil(FILTERS);
        let steps = channels.div_ceil(16) * 4;
        let mut corrections = vec![[[0; FILTERS]; 4]; panels];
        let mut lines = Vec::with_capacity(panels * FREQUENCIES * steps);
        let mut most = Vec::with_capacity(panels * FREQUENCIES);
        // By frequency and step.
        let mut numbers = vec![[0i16; LINE]; FREQUENCIES * steps];
        // The same of one filter: what is written in one go should lie close together.
        let mut of_filter = vec![[0i16; 4]; FREQUENCIES * steps];
        let mut levels = vec![0; 9 * channels];
        for (panel, corrections) in corrections.iter_mut().enumerate() {
            numbers.fill([0; LINE]);
            for lane in 0..FILTERS.min(filters - panel * FILTERS) {
                levels::levels(weights, panel * FILTERS + lane, 9 * channels, 0, &mut levels);
                let taps: [&[u8]; 9] = std::array::from_fn(|tap| &levels[tap * channels..][..channels]);
                let mut sums = [0i32; FREQUENCIES];
                for channel in 0..channels {
                    let transformed = transform(taps.map(|tap| i16::from(tap[channel] as i8)));
                    for (frequency, value) in transformed.into_iter().enumerate() {
                        of_filter[frequency * steps + channel / 4][channel % 4] = value;
                        sums[frequency] += i32::from(value);
                    }
                }
                for (numbers, of_filter) in numbers.iter_mut().zip(&of_filter) {
                    numbers[4 * lane..4 * lane + 4].copy_from_slice(of_filter);
                }
                sums[PURE] = 0;
                for (pixel, sum) in inverse(sums).into_iter().enumerate() {
                    // Modulo 2³², as the sums that it is added to: only what they come to fits.
                    corrections[pixel][lane] = sum.wrapping_mul(-128);
                }
            }
            for (frequency, numbers) in numbers.chunks_exact(steps).enumerate() {
                let largest = if frequency == PURE { 252 } else { 254 };
                if numbers.as_flattened().iter().any(|&number| i8::try_from(number).is_err()) {
                    return None;
                }
                let start = lines.len();
                lines.extend(numbers.iter().map(|numbers| Line(numbers.map(|number| number as u8))));
                let fit = most_steps(|each| each(&lines[start..]), steps, largest);
                if fit < LEAST {
                    return None;
                }
                most.push(fit);
            }
        }
        Some(Transformed { lines, most, corrections, steps })
    }

    /// How long a channel of a patch takes, in products; widening a part takes as long as about two steps.
    pub(super) fn cost(&self) -> usize {
        let of_one = |&most: &usize| self.steps + 2 * self.steps.div_ceil(most);
        let of_all: usize = self.most.iter().map(of_one).sum();
        of_all.div_ceil(self.steps * self.corrections.len())
    }

    /// The weights of a panel at a frequency.
    pub(super) fn get(&self, panel: usize, frequency: usize) -> OfFrequency<'_> {
        let index = panel * FREQUENCIES + frequency;
        let lines = &self.lines[index * self.steps..][..self.steps];
        OfFrequency { lines, most: self.most[index] }
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
