//! What codebooks cost and how well they fit, over many filters.

use super::Filter;

/// Figures over many filters.
#[derive(Debug, Clone, Copy, Default)]
pub struct Statistics {
    squared_error: f64,
    least_error: f64,
    squared: f64,
    zeros: u64,
    digits: u64,
    weights: u64,
}

impl Statistics {
    /// Takes in one filter and the weights that it stands for.
    pub fn add(&mut self, w: &[f32], filter: &Filter) {
        let unit = f64::from(filter.exponent).exp2();
        let (mut product, mut norm, mut squared) = (0.0, 0.0, 0.0);
        for (&x, &code) in w.iter().zip(&filter.codes) {
            let level = filter.levels.get(usize::from(code)).copied().unwrap_or(0);
            let (x, value) = (f64::from(x), f64::from(level) * unit);
            self.squared_error += (x - value) * (x - value);
            squared += x * x;
            product += x * value;
            norm += value * value;
            self.zeros += u64::from(level == 0);
            self.digits += u64::from(digits(level));
            self.weights += 1;
        }
        self.squared += squared;
        self.least_error += if norm > 0.0 { (squared - product * product / norm).max(0.0) } else { squared };
    }

    /// ‖w − ŵ‖² / ‖w‖²; 0 for zeros.
    pub fn relative_error(&self) -> f64 {
        if self.squared > 0.0 { self.squared_error / self.squared } else { 0.0 }
    }

    /// The same with each filter at the real scale that is best for it, which a normalization behind it finds.
    pub fn scaled_error(&self) -> f64 {
        if self.squared > 0.0 { self.least_error / self.squared } else { 0.0 }
    }

    /// Share of weights at level 0.
    pub fn sparsity(&self) -> f64 {
        self.zeros as f64 / self.weights.max(1) as f64
    }

    /// Signed powers of two a weight, on average.
    pub fn shift_adds(&self) -> f64 {
        self.digits as f64 / self.weights.max(1) as f64
    }
}

/// Non-zero canonical signed digits of a level: the fewest signed powers of two that it is the sum of.
pub fn digits(level: i8) -> u8 {
    let n = u32::from(level.unsigned_abs());
    (n ^ (3 * n)).count_ones() as u8
}
