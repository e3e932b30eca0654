//! `G' g G'ᵀ` of filters, as the products read it.

use std::arch::x86_64::*;

use super::{FREQUENCIES, LINE, Line, PANELS, PURE};
use crate::kernels::level::{Level, Unit};
use crate::kernels::levels;
use crate::kernels::x86::panels::FILTERS;
use crate::kernels::x86::transpose::transpose;
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
        let mut lines = Vec::with_capacity(panels * FREQUENCIES * steps);
        let mut firsts = Vec::with_capacity(panels * FREQUENCIES);
        let mut levels = vec![0; TAPS * channels];
        let room = channels.next_multiple_of(LINE);
        let mut taps = vec![0; TAPS * room];
        // Frequency by frequency a row for each filter of a block; a line more keeps these in different sets of a cache.
        let of_frequency = PANELS * FILTERS * room + LINE;
        let mut numbers = vec![0; FREQUENCIES * of_frequency];
        for first in (0..panels).step_by(PANELS) {
            let of_block = PANELS.min(panels - first);
            let mut sums = [[0; FREQUENCIES]; PANELS * FILTERS];
            for (within, sums) in sums.iter_mut().enumerate() {
                let filter = first * FILTERS + within;
                if filter < filters {
                    levels::levels(weights, filter, TAPS * channels, 0, &mut levels);
                } else {
                    levels.fill(0);
                }
                for (row, levels) in taps.chunks_exact_mut(room).zip(levels.chunks_exact(channels)) {
                    row[..channels].copy_from_slice(levels);
                }
                let sum = |row: &[u8]| row.iter().map(|&level| i32::from(level as i8)).sum::<i32>();
                *sums = transform(std::array::from_fn(|tap| sum(&taps[tap * room..(tap + 1) * room])));
                if !transform_rows(&taps, room, &mut numbers[within * room..], of_frequency) {
                    return None;
                }
            }
            for (frequency, numbers) in numbers.chunks_exact(of_frequency).enumerate() {
                let rows = numbers.as_chunks::<LINE>().0;
                for chunk in 0..steps.div_ceil(FILTERS) {
                    let row = |within: usize| &rows[within * (room / LINE) + chunk];
                    let panels: [[Line; FILTERS]; PANELS] = std::array::from_fn(|panel| {
                        transpose(std::array::from_fn(|filter| row(panel * FILTERS + filter)))
                    });
                    for step in 0..FILTERS.min(steps - chunk * FILTERS) {
                        lines.extend(panels[..of_block].iter().map(|panel| panel[step]));
                    }
                }
                for sums in &sums.as_chunks::<FILTERS>().0[..of_block] {
                    let mut line = Line([0; LINE]);
                    if frequency != PURE {
                        for (target, sums) in line.0.as_chunks_mut::<4>().0.iter_mut().zip(sums) {
                            *target = (-128 * sums[frequency]).to_ne_bytes();
                        }
                    }
                    firsts.push(line);
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

    /// The weights of a block, frequency by frequency and step by step, and the sums' first values at each frequency. The
    /// block has `V` panels.
    pub(super) fn block<const V: usize>(&self, block: usize) -> (&[[Line; V]], &[[Line; V]]) {
        assert_eq!(self.panels(block), V, "panels of a block");
        let (first, count) = (block * PANELS * FREQUENCIES, V * FREQUENCIES);
        let (weights, _) = self.lines[first * self.steps..][..count * self.steps].as_chunks();
        let (firsts, _) = self.firsts[first..][..count].as_chunks();
        (weights, firsts)
    }

    /// Bytes in all.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.lines) + size_of_val(&*self.firsts)
    }
}

/// Taps of a filter.
const TAPS: usize = 9;
/// Channels that are transformed at a time.
const LANES: usize = 32;

/// `G' g G'ᵀ` of one filter's taps.
fn transform(g: [i32; TAPS]) -> [i32; FREQUENCIES] {
    let along = |[a, b, c]: [i32; 3]| [2 * a, a + b + c, a - b + c, 2 * c];
    let columns: [[i32; 4]; 3] =
        std::array::from_fn(|column| along([g[column], g[3 + column], g[6 + column]]));
    let mut all = [0; FREQUENCIES];
    for (row, of_row) in all.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        *of_row = along(columns.map(|column| column[row]));
    }
    all
}

/// The same of all channels, each tap a row of `room` levels. The number at a frequency of each channel goes into the
/// row that begins `step` bytes after the one before. Whether all of them fit eight bits.
fn transform_rows(taps: &[u8], room: usize, numbers: &mut [u8], step: usize) -> bool {
    assert!(Level::of_cpu().unit() == Unit::Avx512, "only kernels for AVX-512 transform weights");
    assert!(room.is_multiple_of(LANES) && taps.len() >= TAPS * room, "rows of whole vectors");
    assert!(numbers.len() >= (FREQUENCIES - 1) * step + room, "a row for each frequency");
    // SAFETY: the CPU has the instructions, and all rows are there.
    unsafe { transform_vectors(taps.as_ptr(), room, numbers.as_mut_ptr(), step) }
}

/// # Safety
/// The CPU has AVX-512 BW; all rows are there, and `room` is a multiple of the lanes.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn transform_vectors(taps: *const u8, room: usize, numbers: *mut u8, step: usize) -> bool {
    let along = |[a, b, c]: [__m512i; 3]| {
        let ends = _mm512_add_epi16(a, c);
        let (twice_a, twice_c) = (_mm512_add_epi16(a, a), _mm512_add_epi16(c, c));
        [twice_a, _mm512_add_epi16(ends, b), _mm512_sub_epi16(ends, b), twice_c]
    };
    // For −128 ..= 127 and no other number, `n` or its complement is at most 127.
    let mut bits = _mm512_setzero_si512();
    for first in (0..room).step_by(LANES) {
        // SAFETY: the caller's promise.
        let tap = |tap: usize| unsafe {
            _mm512_cvtepi8_epi16(_mm256_loadu_si256(taps.add(tap * room + first).cast()))
        };
        let [a, b, c]: [[__m512i; 4]; 3] =
            std::array::from_fn(|column| along([tap(column), tap(3 + column), tap(6 + column)]));
        for (row, ((a, b), c)) in a.into_iter().zip(b).zip(c).enumerate() {
            let of_row = along([a, b, c]);
            for (column, number) in of_row.into_iter().enumerate() {
                bits = _mm512_or_si512(bits, _mm512_xor_si512(number, _mm512_srai_epi16::<15>(number)));
                // SAFETY: as above.
                unsafe {
                    let target = numbers.add((4 * row + column) * step + first);
                    _mm256_storeu_si256(target.cast(), _mm512_cvtepi16_epi8(number));
                }
            }
        }
    }
    _mm512_cmpgt_epu16_mask(bits, _mm512_set1_epi16(127)) == 0
}
