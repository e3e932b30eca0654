//! `G' g G'ᵀ` of filters, as the products read it.

use super::{FREQUENCIES, LINE, Line, PURE};
use crate::kernels::x86::avx2::counting::most_steps;
use crate::kernels::x86::panels::FILTERS;
use crate::model::Weights;

/// Fewer steps than this in sixteen bits, and direct sums are as quick.
const LEAST: usize = 4;

/// All filters of a layer, in panels: `[panel][frequency][step][filter][4]`.
///
/// Where numbers do not fit eight bits, or few products sixteen, each is split into `16·h + l`: all steps of the h come
/// first, then all of the l.
pub(super) struct Transformed {
    lines: Vec<Line>,
    /// `[panel][frequency]`.
    places: Vec<Place>,
    /// Takes the added 128 back, from four times the sums: `[panel][pixel][filter]`.
    corrections: Vec<[[i32; FILTERS]; 4]>,
    /// Steps of four channels; a multiple of four.
    steps: usize,
}

/// Where a panel's weights of a frequency lie.
#[derive(Debug, Clone, Copy)]
struct Place {
    start: usize,
    /// Steps whose sums fit sixteen bits.
    most: usize,
    is_split: bool,
}

/// The weights of a panel at a frequency.
#[derive(Clone, Copy)]
pub(super) struct OfFrequency<'a> {
    /// The h of split ones.
    pub(super) high: &'a [Line],
    pub(super) low: &'a [Line],
    /// So many steps may be added in sixteen bits.
    pub(super) most: usize,
}

impl Transformed {
    /// Transforms filters of 3 × 3 taps; `None` where so few steps fit sixteen bits that direct sums are quicker.
    pub(super) fn new(weights: &Weights, filters: usize, channels: usize) -> Option<Self> {
        let panels = filters.div_ceil(FILTERS);
        let steps = channels.div_ceil(16) * 4;
        let mut corrections = vec![[[0; FILTERS]; 4]; panels];
        let (mut lines, mut places) = (Vec::new(), Vec::new());
        // By frequency and step.
        let mut numbers = vec![[0i16; LINE]; FREQUENCIES * steps];
        let mut levels = vec![0i16; 9 * channels];
        for (panel, corrections) in corrections.iter_mut().enumerate() {
            numbers.fill([0; LINE]);
            for lane in 0..FILTERS.min(filters - panel * FILTERS) {
                for (index, level) in levels.iter_mut().enumerate() {
                    *level = weights.level(panel * FILTERS + lane, index, 9 * channels) as i16;
                }
                let taps: [&[i16]; 9] = std::array::from_fn(|tap| &levels[tap * channels..][..channels]);
                let mut sums = [0i32; FREQUENCIES];
                for channel in 0..channels {
                    let transformed = transform(taps.map(|tap| tap[channel]));
                    for (frequency, value) in transformed.into_iter().enumerate() {
                        numbers[frequency * steps + channel / 4][4 * lane + channel % 4] = value;
                        sums[frequency] += i32::from(value);
                    }
                }
                sums[PURE] = 0;
                for (pixel, sum) in inverse(sums).into_iter().enumerate() {
                    corrections[pixel][lane] = -128 * sum;
                }
            }
            for (frequency, numbers) in numbers.chunks_exact(steps).enumerate() {
                let largest = if frequency == PURE { 252 } else { 254 };
                let (added, most, is_split) = split_if_needed(numbers, largest)?;
                places.push(Place { start: lines.len(), most, is_split });
                lines.extend(added);
            }
        }
        Some(Transformed { lines, places, corrections, steps })
    }

    /// How many times a patch's numbers are multiplied, split weights twice: the mean of all panels.
    pub(super) fn products(&self) -> usize {
        let of_panels = self.lines.len() / self.steps;
        of_panels.div_ceil(self.corrections.len())
    }

    /// The weights of a panel at a frequency.
    pub(super) fn get(&self, panel: usize, frequency: usize) -> OfFrequency<'_> {
        let Place { start, most, is_split } = self.places[panel * FREQUENCIES + frequency];
        let (high, low) = self.lines[start..].split_at(if is_split { self.steps } else { 0 });
        OfFrequency { high, low: &low[..self.steps], most }
    }

    /// What to add to the pixels of a patch.
    pub(super) fn corrections(&self, panel: usize) -> &[[i32; FILTERS]; 4] {
        &self.corrections[panel]
    }

    /// Bytes in all.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.lines) + size_of_val(&*self.places) + size_of_val(&*self.corrections)
    }
}

/// The numbers of a panel at a frequency as bytes, how many steps fit sixteen bits, and whether they are split.
fn split_if_needed(numbers: &[[i16; LINE]], largest: i32) -> Option<(Vec<Line>, usize, bool)> {
    let steps = numbers.len();
    let bytes =
        |part: fn(i16) -> i16| numbers.iter().map(move |line| Line(line.map(|number| part(number) as u8)));
    if numbers.iter().flatten().all(|&number| i8::try_from(number).is_ok()) {
        let whole: Vec<Line> = bytes(|number| number).collect();
        let most = most_steps(|each| each(&whole), steps, largest);
        if most >= LEAST {
            return Some((whole, most, false));
        }
    }
    // A sum of nine levels is at most 1143, so both fit eight bits.
    let high = bytes(|number| (number + 8) >> 4);
    let low = bytes(|number| number - (((number + 8) >> 4) << 4));
    let both: Vec<Line> = high.chain(low).collect();
    let most = most_steps(|each| both.chunks_exact(steps).for_each(each), steps, largest);
    (most >= LEAST).then_some((both, most, true))
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
