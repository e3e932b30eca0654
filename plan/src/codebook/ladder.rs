//! Fixed lists of levels under a free power-of-two scale: APQ single-shift and two-term, and 8-bit integers.

use std::ops::RangeInclusive;
use std::sync::LazyLock;

use super::histogram::Histogram;
use super::{Filter, Method};

static LINEAR8: LazyLock<Vec<i8>> = LazyLock::new(|| (-127..=127).collect());

/// The levels of a method, symmetric; widths that it does not have take the nearest it has.
pub(super) fn levels(method: Method) -> &'static [i8] {
    match method {
        Method::SignSplit(_) | Method::SingleShift { bits: 0..=2 } => &[-1, 0, 1],
        Method::SingleShift { bits: 3 } => &[-4, -2, -1, 0, 1, 2, 4],
        Method::SingleShift { .. } => &[-64, -32, -16, -8, -4, -2, -1, 0, 1, 2, 4, 8, 16, 32, 64],
        // |level| ≤ 12: the Winograd transform of such a filter fits 8 bits.
        Method::TwoTerm { bits: 0..=4 } => &[-12, -8, -6, -4, -3, -2, -1, 0, 1, 2, 3, 4, 6, 8, 12],
        Method::TwoTerm { .. } => &[
            -24, -20, -18, -16, -12, -10, -9, -8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9,
            10, 12, 16, 18, 20, 24,
        ],
        Method::Linear8 => &LINEAR8,
    }
}

/// The exponent and codes with the least squared error.
///
/// Where the largest level `T·2^e` is below ⅔ of the mean magnitude, doubling the unit wins: a magnitude v above
/// 1.5·T·2^e gains, those below lose at most a squared unit each, and the mean's place decides the sum. Where it has
/// reached the largest magnitude, one exponent more can only help by a level that is not twice another (14 of 7, at
/// five bits), two more cannot. So the range searched holds an optimum.
pub(super) fn fit(levels: &'static [i8], w: &[f32], scratch: &mut Scratch, out: &mut Filter) {
    let counts = &mut scratch.counts;
    counts.count(w, f32::abs);
    let top = f64::from(levels.last().copied().unwrap_or(1));
    let covering = (f64::from(counts.largest) / top).log2().ceil() as i32;
    let least = (2.0 * counts.mean() / (3.0 * top)).log2().floor() as i32;
    search(levels, w, least..=covering + 1, scratch, out);
}

/// As [`fit`], over the given exponents.
pub(super) fn fit_within(
    levels: &'static [i8],
    w: &[f32],
    exponents: RangeInclusive<i32>,
    scratch: &mut Scratch,
    out: &mut Filter,
) {
    scratch.counts.count(w, f32::abs);
    search(levels, w, exponents, scratch, out);
}

/// Scratch space of a fit.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    counts: Histogram,
    trial: Vec<u8>,
}

/// Needs the counts of `w`.
fn search(
    levels: &'static [i8],
    w: &[f32],
    exponents: RangeInclusive<i32>,
    scratch: &mut Scratch,
    out: &mut Filter,
) {
    out.levels.clear();
    out.levels.extend_from_slice(levels);
    let ladder = Ladder::new(levels);
    if let Some(exponent) = best_by_counts(levels, &scratch.counts, exponents.clone()) {
        out.exponent = exponent;
        ladder.round(w, exponent, &mut out.codes);
        return;
    }
    let mut least = f64::INFINITY;
    for exponent in exponents {
        let error = ladder.round(w, exponent, &mut scratch.trial);
        if error < least {
            least = error;
            out.exponent = exponent;
            std::mem::swap(&mut scratch.trial, &mut out.codes);
        }
    }
}

/// The exponent of least error, from the counts alone; `None` if a boundary falls between two buckets.
///
/// With unit u, magnitudes of the cell of level l add `Σ (v − l·u)²`; against all-zero that is a gain of
/// `Σ (2·l·u·v − l²·u²)`, here summed over the boundaries that a magnitude has above or below it.
fn best_by_counts(levels: &[i8], counts: &Histogram, exponents: RangeInclusive<i32>) -> Option<i32> {
    let zero = levels.iter().position(|&l| l == 0)?;
    let mut best: Option<(f64, i32)> = None;
    for exponent in exponents {
        let unit = f64::from(exponent).exp2();
        let mut gain = 0.0;
        for pair in levels[zero..].windows(2) {
            let (low, high) = (f64::from(pair[0]), f64::from(pair[1]));
            let above = counts.above(0.5 * (low + high) * unit)?;
            gain += unit * (high - low) * (2.0 * above.sum - unit * (high + low) * above.count);
        }
        if best.is_none_or(|(g, _)| gain > g) {
            best = Some((gain, exponent));
        }
    }
    best.map(|(_, exponent)| exponent)
}

/// Each weight to the nearest of the levels that `out` has; halfway goes to the lower level.
pub(super) fn assign_nearest(w: &[f32], out: &mut Filter) {
    let levels = std::mem::take(&mut out.levels);
    Ladder::new(&levels).round(w, out.exponent, &mut out.codes);
    out.levels = levels;
}

/// Rounds to a list of levels by a table over doubled values: boundaries are halves of integers.
struct Ladder<'a> {
    levels: &'a [i8],
    /// Code of doubled value `i − 256`.
    table: [u8; 513],
}

impl<'a> Ladder<'a> {
    fn new(levels: &'a [i8]) -> Self {
        let mut table = [0; 513];
        let mut code = 0;
        for (index, entry) in table.iter_mut().enumerate() {
            // Twice the value lies in (doubled − 1, doubled]: the next level is nearer only beyond the middle.
            let doubled = index as i32 - 256;
            while code + 1 < levels.len() && i32::from(levels[code]) + i32::from(levels[code + 1]) < doubled {
                code += 1;
            }
            *entry = code as u8;
        }
        Ladder { levels, table }
    }

    /// Writes the codes and returns the squared error.
    fn round(&self, w: &[f32], exponent: i32, codes: &mut Vec<u8>) -> f64 {
        let unit = f64::from(exponent).exp2();
        let doubled = 2.0 / unit;
        codes.clear();
        let mut error = 0.0;
        for &x in w {
            let x = f64::from(x);
            let index = (x * doubled).ceil().clamp(-256.0, 256.0) as i32 + 256;
            let code = self.table[index as usize];
            codes.push(code);
            let e = x - f64::from(self.levels[usize::from(code)]) * unit;
            error += e * e;
        }
        error
    }
}
