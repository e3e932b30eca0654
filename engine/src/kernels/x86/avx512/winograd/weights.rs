//! `G' g G'ᵀ` of filters, as the products read it.

use super::{FREQUENCIES, LINE, Line, PANELS, PURE};
use crate::kernels::x86::panels::FILTERS;
use crate::model::Weights;

/// All filters of a layer, in blocks of panels: `[block][frequency][step][panel][filter][4]`.
pub(in crate::kernels::x86) struct Transformed {
    lines: Vec<Line>,
    /// What takes the added 128 back, `[block][frequency][panel][filter]` in 32 bits.
    firsts: Vec<Line>,
    /// Steps of four channels.
    steps: usize,
    /// Panels in all.
    panels: usize,
}

impl Transformed {
    /// Transforms filters of 3 × 3 taps; `None` where a number does not fit eight bits.
    pub(super) fn new(weights: &Weights, filters: usize, channels: usize) -> Option<Self> {
        let panels = filters.div_ceil(FILTERS);
        let steps = channels.div_ceil(4);
        let mut lines = vec![Line([0; LINE]); panels * FREQUENCIES * steps];
        let mut firsts = vec![Line([0; LINE]); panels * FREQUENCIES];
        let mut levels = vec![0i8; 9 * channels];
        let mut numbers = vec![[0i8; FREQUENCIES]; steps * 4];
        for filter in 0..filters {
            let of = 9 * channels;
            for (index, level) in levels.iter_mut().enumerate() {
                *level = weights.level(filter, index, of) as i8;
            }
            let mut sums = [0i32; FREQUENCIES];
            for (channel, numbers) in numbers[..channels].iter_mut().enumerate() {
                let transformed =
                    transform(std::array::from_fn(|tap| levels[tap * channels + channel].into()));
                for ((number, sum), value) in numbers.iter_mut().zip(&mut sums).zip(transformed) {
                    *number = i8::try_from(value).ok()?;
                    *sum += i32::from(value);
                }
            }
            let (block, within, lane) =
                (filter / FILTERS / PANELS, filter / FILTERS % PANELS, 4 * (filter % FILTERS));
            let of_block = PANELS.min(panels - block * PANELS);
            for frequency in 0..FREQUENCIES {
                let first = (block * PANELS * FREQUENCIES + frequency * of_block) * steps + within;
                for (step, numbers) in numbers.as_chunks::<4>().0.iter().enumerate() {
                    let line = &mut lines[first + step * of_block].0[lane..lane + 4];
                    line.copy_from_slice(&numbers.map(|number| number[frequency] as u8));
                }
                if frequency != PURE {
                    let line = &mut firsts[block * PANELS * FREQUENCIES + frequency * of_block + within];
                    line.0[lane..lane + 4].copy_from_slice(&(-128 * sums[frequency]).to_ne_bytes());
                }
            }
        }
        Some(Transformed { lines, firsts, steps, panels })
    }

    /// Blocks of panels.
    pub(super) fn blocks(&self) -> usize {
        self.panels.div_ceil(PANELS)
    }

    /// Panels of a block.
    pub(super) fn panels(&self, block: usize) -> usize {
        PANELS.min(self.panels - block * PANELS)
    }

    /// The weights of a block at a frequency, step by step, and the sums' first values. The block has `V` panels.
    pub(super) fn block<const V: usize>(&self, block: usize, frequency: usize) -> (&[[Line; V]], &[Line; V]) {
        assert_eq!(self.panels(block), V, "panels of a block");
        let first = block * PANELS * FREQUENCIES + frequency * V;
        let (weights, _) = self.lines[first * self.steps..][..V * self.steps].as_chunks();
        (weights, self.firsts[first..].first_chunk().expect("every block has its first values"))
    }

    /// Bytes in all.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.lines) + size_of_val(&*self.firsts)
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
