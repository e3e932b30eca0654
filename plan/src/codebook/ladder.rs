//! Fixed lists of levels under a free scale.

use std::ops::RangeInclusive;

use super::histogram::Histogram;
use super::scale::{Magnitudes, Steps};
use super::{Filter, Fitting, Objective};

/// Fits one list of symmetric levels.
pub(super) fn fitting(levels: &'static [i8], objective: Objective) -> Box<dyn Fitting> {
    match objective {
        Objective::L2 => Box::new(ByDistance { levels, scratch: Scratch::default() }),
        Objective::Angle => {
            let (steps, magnitudes) = (Steps::new(levels), Magnitudes::default());
            Box::new(ByAngle { levels, steps, magnitudes })
        }
    }
}

#[derive(Debug)]
struct ByDistance {
    levels: &'static [i8],
    scratch: Scratch,
}

impl Fitting for ByDistance {
    fn fit(&mut self, w: &[f32], out: &mut Filter) {
        fit(self.levels, w, &mut self.scratch, out);
        out.set_clip();
    }

    fn refit(&mut self, w: &[f32], out: &mut Filter) {
        fit_near(self.levels, w, &mut self.scratch, out);
        out.set_clip();
    }

    fn assign(&mut self, w: &[f32], out: &mut Filter) {
        assign_nearest(w, out);
    }
}

#[derive(Debug)]
struct ByAngle {
    levels: &'static [i8],
    steps: Steps,
    magnitudes: Magnitudes,
}

impl Fitting for ByAngle {
    fn fit(&mut self, w: &[f32], out: &mut Filter) {
        self.magnitudes.take(w);
        if let Some(best) = self.steps.best(&self.magnitudes, 0.0) {
            out.levels.clear();
            out.levels.extend_from_slice(self.levels);
            assign_at(w, best.scale, out);
        }
        out.set_clip();
    }

    fn refit(&mut self, w: &[f32], out: &mut Filter) {
        if !settle(w, out) {
            return self.fit(w, out);
        }
        out.set_nearest_exponent();
        out.set_clip();
    }

    /// The scale goes on: the exponent says what it was when that was fixed.
    fn assign(&mut self, w: &[f32], out: &mut Filter) {
        settle(w, out);
    }
}

/// Rounds of codes and scale between two steps of a training.
const ROUNDS: usize = 3;

/// From the scale that `out` has, in turn the nearest levels and the best scale for them; the levels stay. `false` if all
/// weights come to lie at level 0, which has no scale.
pub(super) fn settle(w: &[f32], out: &mut Filter) -> bool {
    let levels = std::mem::take(&mut out.levels);
    let (ladder, unit) = (Ladder::new(&levels), f64::from(out.exponent).exp2());
    let mut found = true;
    for _ in 0..ROUNDS {
        ladder.round(w, unit * f64::from(out.scale), &mut out.codes);
        let (mut a, mut d) = (0.0, 0.0);
        for (&x, &code) in w.iter().zip(&out.codes) {
            let level = f64::from(levels[usize::from(code)]);
            a += f64::from(x) * level;
            d += level * level;
        }
        let next = (a / d / unit) as f32;
        found = d > 0.0 && next > 0.0;
        if !found || next == out.scale {
            break;
        }
        out.scale = next;
    }
    out.levels = levels;
    found
}

/// Each weight to the nearest of the levels that `out` has, at a real scale; kept is the power of two nearest to it.
pub(super) fn assign_at(w: &[f32], scale: f64, out: &mut Filter) {
    out.exponent = nearest_exponent(scale);
    out.scale = (scale / f64::from(out.exponent).exp2()) as f32;
    assign_nearest(w, out);
}

/// That of the power of two with which the error of a filter is least whose best scale is this one.
fn nearest_exponent(scale: f64) -> i32 {
    (4.0 * scale / 3.0).log2().floor() as i32
}

impl Filter {
    /// Moves what is a power of two in the scale to the exponent.
    pub(super) fn set_nearest_exponent(&mut self) {
        let shift = nearest_exponent(f64::from(self.scale));
        self.exponent += shift;
        self.scale *= (-shift as f32).exp2();
    }
}

/// Largest of symmetric levels.
pub(super) fn largest(levels: &[i8]) -> u8 {
    levels.last().map_or(0, |level| level.unsigned_abs())
}

/// The exponent and codes with the least squared error.
///
/// Where the largest level `T·2^e` is below ⅔ of the mean magnitude, doubling the unit wins: a magnitude v above
/// 1.5·T·2^e gains, those below lose at most a squared unit each, and the mean's place decides the sum. Where it has
/// reached the largest magnitude, one exponent more can only help by a level that is not twice another (14 of 7, at
/// five bits), two more cannot. So the range searched holds an optimum.
fn fit(levels: &[i8], w: &[f32], scratch: &mut Scratch, out: &mut Filter) {
    let counts = &mut scratch.counts;
    counts.count(w, f32::abs);
    let top = f64::from(levels.last().copied().unwrap_or(1));
    let covering = (f64::from(counts.largest) / top).log2().ceil() as i32;
    let least = (2.0 * counts.mean() / (3.0 * top)).log2().floor() as i32;
    search(levels, w, least..=covering + 1, scratch, out);
}

/// As [`fit`], over the exponents next to the one that `out` has.
pub(super) fn fit_near(levels: &[i8], w: &[f32], scratch: &mut Scratch, out: &mut Filter) {
    scratch.counts.count(w, f32::abs);
    search(levels, w, out.exponent - 1..=out.exponent + 1, scratch, out);
}

/// Scratch space of a fit.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    counts: Histogram,
    trial: Vec<u8>,
}

/// Needs the counts of `w`.
fn search(levels: &[i8], w: &[f32], exponents: RangeInclusive<i32>, scratch: &mut Scratch, out: &mut Filter) {
    out.levels.clear();
    out.levels.extend_from_slice(levels);
    out.scale = 1.0;
    let ladder = Ladder::new(levels);
    if let Some(exponent) = best_by_counts(levels, &scratch.counts, exponents.clone()) {
        out.exponent = exponent;
        ladder.round(w, f64::from(exponent).exp2(), &mut out.codes);
        return;
    }
    let mut least = f64::INFINITY;
    for exponent in exponents {
        let error = ladder.round(w, f64::from(exponent).exp2(), &mut scratch.trial);
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

/// Each weight to the nearest of the levels that `out` has, at its scale; halfway goes to the lower level.
pub(super) fn assign_nearest(w: &[f32], out: &mut Filter) {
    let levels = std::mem::take(&mut out.levels);
    let unit = f64::from(out.exponent).exp2() * f64::from(out.scale);
    Ladder::new(&levels).round(w, unit, &mut out.codes);
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

    /// Writes the codes of `w / unit` and returns the squared error.
    fn round(&self, w: &[f32], unit: f64, codes: &mut Vec<u8>) -> f64 {
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
