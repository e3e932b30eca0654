//! The choice of an activation step: the power of two whose rounding does least harm to the values seen.

use std::thread;

use tch::{Kind, Tensor};

use crate::layout;

/// How many exponents below the one that covers the largest value are tried for a step.
const EXPONENTS: usize = 5;
/// Values whose errors are added up by one thread; sums of such parts are added in their order, whatever the threads.
const PART: usize = 1 << 16;
/// Values whose squared errors are added in f32 before the sum goes on in f64.
const BLOCK: usize = 256;
/// Sums that run side by side.
const LANES: usize = 8;
/// Added and taken away again, it rounds to the nearest integer, ties to even, below 2^22.
const ROUND: f32 = 12_582_912.0;

/// Lowest and highest code of a tensor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    pub(super) lo: i32,
    pub(super) hi: i32,
}

/// Squared error of each candidate exponent, from the highest down.
#[derive(Debug, Clone)]
pub(super) struct StepErrors {
    top: i32,
    errors: [f64; EXPONENTS],
}

/// A tensor's values on the CPU, in the order in which they lie.
#[derive(Debug, Default)]
pub(super) struct Values(Vec<f32>);

impl Values {
    /// Takes a tensor's values; room is used again.
    pub(super) fn take(&mut self, value: &Tensor) -> &[f32] {
        let value = layout::as_it_lies(&value.to_kind(Kind::Float).to_device(tch::Device::Cpu));
        self.0.resize(value.numel(), 0.0);
        value.copy_data(&mut self.0, value.numel());
        &self.0
    }
}

/// The exponent under which the largest magnitude is the highest code; none where nothing differs from 0, or not all is finite.
pub(super) fn covering(values: &[f32], range: Range) -> Option<i32> {
    let mut most = [0f32; LANES];
    // NaN must not get lost: it differs from itself.
    let mut sound = [true; LANES];
    for block in values.chunks(LANES) {
        for ((most, sound), &v) in most.iter_mut().zip(&mut sound).zip(block) {
            let size = v.abs();
            *most = if size > *most { size } else { *most };
            *sound &= !v.is_nan();
        }
    }
    let largest = f64::from(most.into_iter().fold(0f32, f32::max));
    let sound = sound.into_iter().all(|s| s) && largest > 0.0 && largest.is_finite();
    sound.then(|| (largest / f64::from(range.hi)).log2().ceil() as i32)
}

impl StepErrors {
    /// Nothing seen; the candidates begin at `top`.
    pub(super) fn new(top: i32) -> Self {
        StepErrors { top, errors: [0.0; EXPONENTS] }
    }

    /// Begins the candidates at `top` if they began lower.
    pub(super) fn raise(&mut self, top: i32) {
        self.top = self.top.max(top);
    }

    /// Adds each candidate's squared rounding error on `values`, whose own covering exponent is `top`.
    pub(super) fn add(&mut self, values: &[f32], range: Range, top: i32) {
        while self.top < top {
            // What was seen before was not clipped there: a step twice as wide has four times the error.
            self.errors.rotate_right(1);
            self.errors[0] = 4.0 * self.errors[1];
            self.top += 1;
        }
        let steps = std::array::from_fn(|below| (self.top as f32 - below as f32).exp2());
        for (error, new) in self.errors.iter_mut().zip(squared_errors(values, steps, range)) {
            *error += new;
        }
    }

    /// The exponent with the least error.
    pub(super) fn best(&self) -> i32 {
        let best = self.errors.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(i, _)| i);
        (self.top - best as i32).clamp(-24, 24)
    }
}

/// Σ(x − round(x/step)·step)² for each step, the same whatever the number of threads.
fn squared_errors(values: &[f32], steps: [f32; EXPONENTS], range: Range) -> [f64; EXPONENTS] {
    let threads = usize::try_from(tch::get_num_threads()).unwrap_or(1).max(1);
    let parts = values.len().div_ceil(PART);
    let share = parts.div_ceil(threads).max(1) * PART;
    let of_parts = |values: &[f32]| -> Vec<[f64; EXPONENTS]> {
        values.chunks(PART).map(|part| steps.map(|step| of_part(part, step, range))).collect()
    };
    let (first, rest) = values.split_at(share.min(values.len()));
    let sums = thread::scope(|scope| {
        let others: Vec<_> = rest.chunks(share).map(|values| scope.spawn(move || of_parts(values))).collect();
        let mut sums = of_parts(first);
        for other in others {
            sums.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        sums
    });
    sums.iter().fold([0.0; EXPONENTS], |sum, part| std::array::from_fn(|i| sum[i] + part[i]))
}

/// As [`squared_errors`], of one part and one step, a power of two.
fn of_part(values: &[f32], step: f32, range: Range) -> f64 {
    let (lo, hi) = (range.lo as f32, range.hi as f32);
    let inverse = 1.0 / step;
    let mut all = 0.0;
    for block in values.chunks(BLOCK) {
        let mut sums = [0f32; LANES];
        let mut rest = block.chunks_exact(LANES);
        let squared = |v: f32| {
            let code = v * inverse;
            let code = if code < lo { lo } else { code };
            let code = if code > hi { hi } else { code };
            let error = ((code + ROUND) - ROUND) * step - v;
            error * error
        };
        for lanes in &mut rest {
            for (sum, &v) in sums.iter_mut().zip(lanes) {
                *sum += squared(v);
            }
        }
        for (sum, &v) in sums.iter_mut().zip(rest.remainder()) {
            *sum += squared(v);
        }
        all += sums.iter().map(|&s| f64::from(s)).sum::<f64>();
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(count: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 7919) % 10_007) as f32 / 613.0 - 7.0).collect()
    }

    #[test]
    fn errors_are_those_of_rounding_and_clamping_and_do_not_depend_on_threads() {
        let values = values(3 * PART + 1234);
        let range = Range { lo: -8, hi: 7 };
        let steps = std::array::from_fn(|i| (1.0 - i as f32).exp2());
        let threads = tch::get_num_threads();
        let found: Vec<_> = [1, 2, 5]
            .into_iter()
            .map(|n| {
                tch::set_num_threads(n);
                squared_errors(&values, steps, range)
            })
            .collect();
        tch::set_num_threads(threads);
        assert!(found.iter().all(|f| f.map(f64::to_bits) == found[0].map(f64::to_bits)));
        for (step, found) in steps.into_iter().zip(found[0]) {
            let error = |v: &f32| {
                let code = f64::from(*v / step).round_ties_even().clamp(-8.0, 7.0);
                (code * f64::from(step) - f64::from(*v)).powi(2)
            };
            let wanted: f64 = values.iter().map(error).sum();
            assert!((found - wanted).abs() < 1e-5 * wanted, "{step}: {found} and {wanted}");
        }
    }

    #[test]
    fn what_is_not_finite_and_what_is_all_zero_cover_nothing() {
        let range = Range { lo: 0, hi: 15 };
        assert_eq!(covering(&[0.0; 9], range), None);
        for bad in [f32::NAN, f32::INFINITY] {
            for at in [0, 3, 9] {
                let mut values = vec![1.0; 10];
                values[at] = bad;
                assert_eq!(covering(&values, range), None);
            }
        }
        assert_eq!(covering(&[-30.0, 3.0, 0.5], range), Some(1));
        assert_eq!(covering(&[-30.1, 3.0, 0.5], range), Some(2));
    }
}
