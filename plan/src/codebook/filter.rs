//! One quantized filter.

/// One filter, quantized.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filter {
    /// Distinct integer levels, ascending, |level| ≤ 127, at most 2^bits.
    pub levels: Vec<i8>,
    /// The value of a level is `level · 2^exponent`.
    pub exponent: i32,
    /// The codes were chosen at `scale · 2^exponent` for a level's 1: 1 by distance, free by angle, where what follows
    /// absorbs it.
    pub scale: f32,
    /// Index into `levels`, one a weight.
    pub codes: Vec<u8>,
    /// A latent weight w receives gradient where `−clip.0 ≤ w ≤ clip.1`: twice the largest level of its sign, or of the
    /// other where a side has none, at the scale that codes are chosen at.
    pub clip: (f32, f32),
}

/// A weight that cannot be quantized.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("weight {index} is {value}; only finite weights can be quantized")]
pub struct NotFinite {
    /// Position in the filter.
    pub index: usize,
    /// NaN or an infinity.
    pub value: f32,
}

impl Filter {
    /// The filter's values.
    pub fn dequantize(&self, out: &mut [f32]) {
        let unit = (self.exponent as f32).exp2();
        for (o, &c) in out.iter_mut().zip(&self.codes) {
            *o = f32::from(self.levels.get(usize::from(c)).copied().unwrap_or(0)) * unit;
        }
    }

    /// The filter of all zeros.
    pub(super) fn set_zero(&mut self, weights: usize) {
        self.levels.clear();
        self.levels.push(0);
        (self.exponent, self.scale) = (0, 1.0);
        self.codes.clear();
        self.codes.resize(weights, 0);
        self.clip = (f32::INFINITY, f32::INFINITY);
    }

    pub(super) fn is_fitted(&self) -> bool {
        self.levels.len() > 1
    }

    pub(super) fn set_clip(&mut self) {
        let unit = (self.exponent as f32).exp2() * self.scale;
        let lowest = f32::from(self.levels.first().copied().unwrap_or(0)).min(0.0);
        let highest = f32::from(self.levels.last().copied().unwrap_or(0)).max(0.0);
        let (negative, positive) = (-2.0 * lowest * unit, 2.0 * highest * unit);
        self.clip = (
            if negative > 0.0 { negative } else { positive },
            if positive > 0.0 { positive } else { negative },
        );
    }
}
