//! Codebooks: how the weights of one filter become integer levels times a power of two.
//!
//! A fitted [`Filter`] stands for `level · 2^exponent`, level by level from a short ascending list. The readings of
//! APTQ and APQ differ in which lists they allow and in what "best" means; every fit here is exact for its criterion.

mod angle;
mod histogram;
mod ladder;
mod sign_split;

/// Which codebooks a filter may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// APTQ: two unipolar power-of-two subfilters, ternary.
    SignSplit(Boundary),
    /// APQ with one shift a weight: 0 and ±2^j, 2 to 4 bits.
    SingleShift {
        /// Code width.
        bits: u8,
    },
    /// APQ with at most two signed powers of two a weight, 4 and 5 bits.
    TwoTerm {
        /// Code width.
        bits: u8,
    },
    /// All integers up to ±127: first and last layers.
    Linear8,
}

/// What the ternary boundary optimizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boundary {
    /// Euclidean distance between filter and codebook.
    L2,
    /// Angle between them: right where a normalization follows and absorbs any scale.
    Angle,
}

impl Method {
    /// Bits of a code.
    pub fn bits(self) -> u8 {
        match self {
            Method::SignSplit(_) => 2,
            Method::SingleShift { bits } | Method::TwoTerm { bits } => bits,
            Method::Linear8 => 8,
        }
    }
}

/// One filter, quantized.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filter {
    /// Distinct integer levels, ascending, |level| ≤ 127, at most 2^bits; 0 is among them.
    pub levels: Vec<i8>,
    /// The value of a level is `level · 2^exponent`.
    pub exponent: i32,
    /// Index into `levels`, one a weight.
    pub codes: Vec<u8>,
    /// A latent weight w receives gradient where `−clip.0 ≤ w ≤ clip.1`: twice the largest level of its sign, or of the
    /// other where a side has none.
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
    fn set_zero(&mut self, weights: usize) {
        self.levels.clear();
        self.levels.push(0);
        self.exponent = 0;
        self.codes.clear();
        self.codes.resize(weights, 0);
        self.clip = (f32::INFINITY, f32::INFINITY);
    }

    fn is_fitted(&self) -> bool {
        self.levels.len() > 1
    }

    fn set_clip(&mut self) {
        let unit = (self.exponent as f32).exp2();
        let lowest = f32::from(self.levels.first().copied().unwrap_or(0)).min(0.0);
        let highest = f32::from(self.levels.last().copied().unwrap_or(0)).max(0.0);
        let (negative, positive) = (-2.0 * lowest * unit, 2.0 * highest * unit);
        self.clip = (
            if negative > 0.0 { negative } else { positive },
            if positive > 0.0 { positive } else { negative },
        );
    }
}

/// Fits filters; keeps its scratch space between calls.
#[derive(Debug, Default)]
pub struct Fitter {
    angle: angle::Angle,
    scratch: ladder::Scratch,
    counts: histogram::Histogram,
}

impl Fitter {
    /// The best codebook for `w`.
    ///
    /// # Errors
    /// [`NotFinite`] for NaN and infinite weights.
    pub fn fit(&mut self, method: Method, w: &[f32], out: &mut Filter) -> Result<(), NotFinite> {
        check(w)?;
        if w.iter().all(|&x| x == 0.0) {
            out.set_zero(w.len());
            return Ok(());
        }
        match method {
            Method::SignSplit(Boundary::Angle) => angle::fit(&mut self.angle, w, out),
            Method::SignSplit(Boundary::L2) => sign_split::fit_l2(&mut self.counts, w, out),
            _ => ladder::fit(ladder::levels(method), w, &mut self.scratch, out),
        }
        out.set_clip();
        Ok(())
    }

    /// As [`Fitter::fit`], but only exponents next to the last ones are tried, where that saves time.
    ///
    /// # Errors
    /// [`NotFinite`] for NaN and infinite weights.
    pub fn refit(&mut self, method: Method, w: &[f32], out: &mut Filter) -> Result<(), NotFinite> {
        if matches!(method, Method::SignSplit(_)) || !out.is_fitted() {
            return self.fit(method, w, out);
        }
        check(w)?;
        let around = out.exponent - 1..=out.exponent + 1;
        ladder::fit_within(ladder::levels(method), w, around, &mut self.scratch, out);
        out.set_clip();
        Ok(())
    }

    /// Levels and exponent stay; each weight takes its best code among them.
    ///
    /// For the angle boundary the thresholds stay free: with the ratio of the two levels given, the best prefix of the
    /// weights in order of their key is found as in the full fit. Everywhere else the nearest level is the best.
    ///
    /// # Errors
    /// [`NotFinite`] for NaN and infinite weights.
    pub fn assign(&mut self, method: Method, w: &[f32], out: &mut Filter) -> Result<(), NotFinite> {
        if !out.is_fitted() {
            return self.fit(method, w, out);
        }
        check(w)?;
        match method {
            Method::SignSplit(Boundary::Angle) => angle::assign(&mut self.angle, w, out),
            _ => ladder::assign_nearest(w, out),
        }
        Ok(())
    }
}

fn check(w: &[f32]) -> Result<(), NotFinite> {
    match w.iter().position(|x| !x.is_finite()) {
        Some(index) => Err(NotFinite { index, value: w[index] }),
        None => Ok(()),
    }
}

/// Figures over many filters.
#[derive(Debug, Clone, Copy, Default)]
pub struct Statistics {
    squared_error: f64,
    squared: f64,
    zeros: u64,
    digits: u64,
    weights: u64,
}

impl Statistics {
    /// Takes in one filter and the weights that it stands for.
    pub fn add(&mut self, w: &[f32], filter: &Filter) {
        let unit = f64::from(filter.exponent).exp2();
        for (&x, &code) in w.iter().zip(&filter.codes) {
            let level = filter.levels.get(usize::from(code)).copied().unwrap_or(0);
            let error = f64::from(x) - f64::from(level) * unit;
            self.squared_error += error * error;
            self.squared += f64::from(x) * f64::from(x);
            self.zeros += u64::from(level == 0);
            self.digits += u64::from(digits(level));
            self.weights += 1;
        }
    }

    /// ‖w − ŵ‖² / ‖w‖²; 0 for zeros.
    pub fn relative_error(&self) -> f64 {
        if self.squared > 0.0 { self.squared_error / self.squared } else { 0.0 }
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

#[cfg(test)]
mod tests;
