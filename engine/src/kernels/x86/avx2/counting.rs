//! Direct sums in sixteen bits.

use std::arch::x86_64::*;

use super::Avx2;
use super::finish::{End, finish};
use super::products::{Loop, Widen};
use crate::kernels::x86::direct::{Matrix, Task};
use crate::kernels::x86::panels::{FILTERS, Line, Panels};
use crate::kernels::x86::source::Demands;

/// Products of one layer.
///
/// A sum in sixteen bits is one of every other product of a filter's four lanes: two products a step. With unsigned codes
/// it is at most the largest code times the sum of its positive weights, and at least the same with the negative ones, and
/// so is every sum on the way there. The weights are known, so they are looked at: the largest number of steps is taken
/// for which this fits sixteen bits wherever one begins.
///
/// Where one step may not fit, every weight is split in two: `16·h + l`. All steps are done with the h, then all with the
/// l; widening to 32 bits multiplies by 16.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counting {
    /// Steps whose sums fit sixteen bits.
    steps: usize,
    largest_byte: i32,
    split: bool,
    /// Whether steps come in fours that lie side by side.
    fours: bool,
    #[expect(dead_code, reason = "holding it is the proof")]
    proof: Avx2,
}

/// Most pixels of a tile: two vectors of sums each, and four registers for the rest.
const TILE: usize = 6;

impl Counting {
    /// For codes up to this one; [`Matrix::fit`] counts the steps.
    pub(super) fn new(proof: Avx2, largest_byte: u8, split: bool) -> Self {
        Counting { steps: 1, largest_byte: largest_byte.into(), split, fours: false, proof }
    }
}

/// Passes over all weights that finding the number of steps may take: real layers take about one.
const PASSES: usize = 16;

/// Whether sixteen bits hold the sums of each lane over every part of `steps` steps; `looked` grows by the steps that were
/// looked at.
fn fits(weights: &[Line], steps: usize, largest_byte: i32, looked: &mut usize) -> bool {
    weights.chunks(steps).all(|part| {
        // Of positive weights and of negative ones. Where they saturate, they are too large anyway.
        let (mut above, mut below) = ([0u16; 64], [0u16; 64]);
        for line in part {
            for ((above, below), &weight) in above.iter_mut().zip(&mut below).zip(&line.0) {
                let weight = i16::from(weight as i8);
                *above = above.saturating_add(weight.max(0) as u16);
                *below = below.saturating_add((-weight).max(0) as u16);
            }
        }
        *looked += part.len();
        let most = |sums: &[u16; 64]| {
            let pairs = sums.as_chunks::<2>().0.iter();
            pairs.map(|&[a, b]| i32::from(a) + i32::from(b)).max().unwrap_or(0)
        };
        most(&above) * largest_byte <= i32::from(i16::MAX)
            && most(&below) * largest_byte <= -i32::from(i16::MIN)
    })
}

/// Steps that may be added in sixteen bits, in parts of nearly equal size; 0 if not even one may. Multiples of four where
/// there are enough.
///
/// `panels` calls what it is given with `count` lists of `steps` steps, until that says no. Sizes are tried from the largest
/// on; weights on which that takes too long get a smaller size than they might have.
pub(super) fn most_steps(
    panels: impl Fn(&mut dyn FnMut(&[Line]) -> bool),
    count: usize,
    steps: usize,
    largest_byte: i32,
) -> usize {
    let (mut parts, mut looked) = (1, 0);
    loop {
        let exact = steps.div_ceil(parts);
        let part = if exact > 2 { exact.next_multiple_of(4) } else { exact };
        let mut fit = true;
        panels(&mut |panel| {
            fit = fits(panel, part, largest_byte, &mut looked);
            fit
        });
        if fit {
            return part;
        }
        // The next smaller size.
        let smaller = match part {
            0 | 1 => return 0,
            2 => 1,
            3 | 4 => 2,
            part => part - 4,
        };
        if looked > PASSES * count * steps {
            return safe_steps(panels, largest_byte).min(smaller);
        }
        parts = steps.div_ceil(smaller);
    }
}

/// As many steps as fit wherever they stand, by the largest one; 0 if that does not fit.
fn safe_steps(panels: impl Fn(&mut dyn FnMut(&[Line]) -> bool), largest_byte: i32) -> usize {
    let mut most = 0;
    panels(&mut |panel| {
        for pair in panel.iter().flat_map(|line| line.0.as_chunks::<2>().0) {
            let of_sign = |sign: i32| pair.iter().map(|&w| (sign * i32::from(w as i8)).max(0)).sum::<i32>();
            most = most.max(of_sign(1)).max(of_sign(-1));
        }
        true
    });
    match (i32::from(i16::MAX) / (most * largest_byte).max(1)) as usize {
        steps @ 4.. => steps / 4 * 4,
        steps => steps.min(2),
    }
}

impl Matrix for Counting {
    const NAME: &'static str = "avx2 direct";
    const DEMANDS: Demands = Demands { depth: 4, pixels: 1 };

    fn panels(_left: usize) -> usize {
        1
    }

    fn fit(mut self, panels: &Panels, pieces: &[usize]) -> Self {
        let of_half = if self.split { pieces.len() / 2 } else { pieces.len() };
        let unpack = |packed: &[Line], table: &Line, steps: &mut [Line]| self.unpack(packed, table, steps);
        let halves = |each: &mut dyn FnMut(&[Line]) -> bool| {
            panels.each(unpack, |panel| panel.chunks(of_half).all(&mut *each));
        };
        let count = panels.count() * if self.split { 2 } else { 1 };
        self.steps = most_steps(halves, count, of_half, self.largest_byte);
        assert!(self.steps > 0, "two halves of weights times bytes fit");
        let (fours, rest) = pieces.as_chunks::<4>();
        self.fours = rest.is_empty()
            && of_half.is_multiple_of(4)
            && self.steps.is_multiple_of(4)
            && fours.iter().all(|&[a, b, c, d]| b == a + 4 && c == a + 8 && d == a + 12);
        self
    }

    fn unpack(self, packed: &[Line], table: &Line, steps: &mut [Line]) {
        // SAFETY: the value proves that the CPU has the instructions.
        unsafe { unpack(packed, table, steps) }
    }

    unsafe fn multiply(self, task: &Task, input: *const u8) {
        let pixels = task.segments.pixels;
        let tiles = pixels.div_ceil(TILE);
        let (small, larger) = (pixels / tiles, pixels % tiles);
        let mut sums = Sums([[0; FILTERS]; TILE]);
        // SAFETY: the value proves that the CPU has the instructions.
        let end = unsafe { End::new(task.finish, task.first, task.residual, task.target) };
        for segment in 0..task.segments.count {
            let pixel = task.pixel + segment * task.segments.output_step;
            let mut first = 0;
            for tile in 0..tiles {
                // Tiles of nearly equal size.
                let size = small + usize::from(tile < larger);
                // SAFETY: the value proves that the CPU has the instructions; the rest is the caller's promise.
                unsafe {
                    let start = input.add(segment * task.segments.input_step + first * task.pixel_step);
                    sum(task, self, size, start, &mut sums);
                    finish(task, &end, &sums.0, first, size, pixel);
                }
                first += size;
            }
        }
    }
}

/// Sums of one tile, pixel by pixel.
#[repr(C, align(64))]
struct Sums([[i32; FILTERS]; TILE]);

/// Sums of `pixels` pixels by one panel, in 16 bits, widened as often as they must be.
///
/// # Safety
/// The CPU has AVX2; `input` has the pieces of all pixels, the panel as many steps.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn sum(task: &Task, counting: Counting, pixels: usize, input: *const u8, sums: &mut Sums) {
    let mut products = Loop {
        weights: task.panels.as_ptr(),
        input,
        step: task.pixel_step,
        wide: sums.0.as_mut_ptr(),
        widen: Widen::Store,
    };
    let (high, low) =
        if counting.split { task.pieces.split_at(task.pieces.len() / 2) } else { (&[][..], task.pieces) };
    for (pieces, is_high) in [(high, true), (low, false)] {
        for pieces in pieces.chunks(counting.steps) {
            // SAFETY: the caller's promise; the sums have room for every tile.
            unsafe {
                products.pieces(pixels, pieces, counting.fours, is_high);
                products.weights = products.weights.add(pieces.len());
            }
            products.widen = Widen::Add;
        }
    }
}

/// Two-bit codes to levels: `levels[4·(filter % 4) + code]` within each 128 bits.
#[target_feature(enable = "avx2")]
fn unpack(packed: &[Line], table: &Line, steps: &mut [Line]) {
    let quads =
        _mm256_set_epi32(0x0C0C_0C0C, 0x0808_0808, 0x0404_0404, 0, 0x0C0C_0C0C, 0x0808_0808, 0x0404_0404, 0);
    let three = _mm256_set1_epi8(3);
    // SAFETY: lines are 64 aligned bytes, two vectors.
    unsafe {
        for half in 0..2 {
            let levels = _mm256_load_si256(table.0.as_ptr().cast::<__m256i>().add(half));
            for (line, steps) in packed.iter().zip(steps.as_chunks_mut::<4>().0) {
                let bits = _mm256_load_si256(line.0.as_ptr().cast::<__m256i>().add(half));
                let shifted = [
                    bits,
                    _mm256_srli_epi16::<2>(bits),
                    _mm256_srli_epi16::<4>(bits),
                    _mm256_srli_epi16::<6>(bits),
                ];
                for (step, bits) in steps.iter_mut().zip(shifted) {
                    let index = _mm256_or_si256(_mm256_and_si256(bits, three), quads);
                    let weights = _mm256_shuffle_epi8(levels, index);
                    _mm256_store_si256(step.0.as_mut_ptr().cast::<__m256i>().add(half), weights);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panel(steps: &[[i8; 2]]) -> Vec<Line> {
        let line = |two: &[i8; 2]| {
            let mut line = Line([0; 64]);
            (line.0[62], line.0[63]) = (two[0] as u8, two[1] as u8);
            line
        };
        steps.iter().map(line).collect()
    }

    fn most(steps: &[[i8; 2]], largest_byte: i32) -> usize {
        let panel = panel(steps);
        most_steps(|each| _ = each(&panel), 1, steps.len(), largest_byte)
    }

    #[test]
    fn no_weights_are_looked_at_many_times() {
        // Every part of more than one step fails, and shows it at its very end.
        let steps = 20_000;
        let mut weights = vec![[0, 0]; steps];
        weights[steps - 64..].fill([127, 127]);
        let (panel, passes) = (panel(&weights), std::cell::Cell::new(0));
        let counted = |each: &mut dyn FnMut(&[Line]) -> bool| {
            passes.set(passes.get() + 1);
            _ = each(&panel);
        };
        assert_eq!(most_steps(counted, 1, steps, 128), 1);
        assert!(passes.get() <= 32, "{} passes over all weights", passes.get());
    }

    #[test]
    fn steps_are_as_many_as_fit_in_parts_of_nearly_equal_size() {
        // 32767 / 255 = 128.5
        assert_eq!(most(&[[64, 64]; 9], 255), 1);
        assert_eq!(most(&[[65, 64]; 9], 255), 0);
        assert_eq!(most(&[[64, -64]; 9], 255), 2);
        assert_eq!(most(&[[1, 1]; 9], 255), 12);
        assert_eq!(most(&[[1, 1]; 90], 255), 48);
        assert_eq!(most(&[[1, 1]; 129], 255), 44);
        assert_eq!(most(&[[1, 1]; 128], 255), 64);
        assert_eq!(most(&[[9, 0]; 15], 255), 8);
        // −128·256 fits, 128·256 does not.
        assert_eq!(most(&[[-64, -64]; 2], 256), 1);
        assert_eq!(most(&[[64, 64]; 2], 256), 0);
        // Sums beyond what they are counted in.
        assert_eq!(most(&[[127, 127]; 5000], 1), 128);
    }
    #[test]
    fn steps_that_are_found_in_a_hurry_fit_wherever_they_stand() {
        for (pair, largest_byte) in [([1i8, -1], 255), ([9, 3], 255), ([-64, -64], 128), ([127, 127], 128)] {
            let panel = panel(&[pair; 64]);
            let steps = safe_steps(|each| _ = each(&panel), largest_byte);
            assert!(steps > 0 && (steps.is_multiple_of(4) || steps < 3), "{pair:?}: {steps}");
            for from in 0..panel.len() {
                let part = &panel[from..panel.len().min(from + steps)];
                assert!(fits(part, part.len(), largest_byte, &mut 0), "{pair:?}: {steps} from {from}");
            }
        }
        let panel = panel(&[[127, 127]; 4]);
        assert_eq!(safe_steps(|each| _ = each(&panel), 255), 0);
    }
}
