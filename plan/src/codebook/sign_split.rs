//! APTQ, sign-split reading: `ŵ = 2^p·[w > t⁺] − 2^q·[−w > t⁻]`, levels {−2^q, 0, 2^p}.

use std::ops::RangeInclusive;

use super::angle::{self, Angle};
use super::histogram::Histogram;
use super::{Codebook, Family, Filter, Fitting, Objective};

/// See the module.
#[derive(Debug)]
pub(super) struct SignSplit;

impl Codebook for SignSplit {
    fn name(&self) -> &'static str {
        "sign-split"
    }

    fn summary(&self) -> &'static str {
        "−2^q, 0 and 2^p"
    }

    fn family(&self) -> Family {
        Family::Aptq
    }

    fn widths(&self) -> RangeInclusive<u8> {
        2..=2
    }

    fn objectives(&self) -> &'static [Objective] {
        &[Objective::Angle, Objective::L2]
    }

    fn largest(&self, _: u8, objective: Objective) -> u8 {
        match objective {
            Objective::Angle => 2,
            Objective::L2 => 1 << FARTHEST,
        }
    }

    fn terms(&self, _: u8, _: Objective) -> u8 {
        1
    }

    fn is_dear(&self, _: u8, _: Objective) -> bool {
        false
    }

    fn fitting(&self, _: u8, objective: Objective) -> Box<dyn Fitting> {
        match objective {
            Objective::Angle => Box::<ByAngle>::default(),
            Objective::L2 => Box::<ByDistance>::default(),
        }
    }
}

#[derive(Debug, Default)]
struct ByAngle(Angle);

impl Fitting for ByAngle {
    fn fit(&mut self, w: &[f32], out: &mut Filter) {
        angle::fit(&mut self.0, w, out);
        out.set_clip();
    }

    /// The thresholds stay free: with the ratio of the two levels given, the best prefix of the weights in order of
    /// their key is found as in the full fit.
    fn assign(&mut self, w: &[f32], out: &mut Filter) {
        angle::assign(&mut self.0, w, out);
    }
}

#[derive(Debug, Default)]
struct ByDistance(Histogram);

impl Fitting for ByDistance {
    fn fit(&mut self, w: &[f32], out: &mut Filter) {
        fit_l2(&mut self.0, w, out);
        out.set_clip();
    }

    fn assign(&mut self, w: &[f32], out: &mut Filter) {
        super::ladder::assign_nearest(w, out);
    }
}

/// Octaves that the two sides may lie apart: levels have 7 bits.
const FARTHEST: i32 = 6;

/// Exact L2 fit; the two signs separate. With p fixed, the best boundary is `2^(p−1)`, and
/// `G(p) = Σ_{v > 2^(p−1)} (2^(p+1)·v − 4^p)` is to be maximized.
fn fit_l2(counts: &mut Histogram, w: &[f32], out: &mut Filter) {
    let positive = best_exponent(counts, w, 1.0);
    let negative = best_exponent(counts, w, -1.0);
    set_levels(negative, positive, out);
    super::ladder::assign_nearest(w, out);
}

/// The exponent of one side, `None` if no weight has that sign; ties go to the smaller.
fn best_exponent(counts: &mut Histogram, w: &[f32], sign: f32) -> Option<i32> {
    counts.count(w, |x| (sign * x).max(0.0));
    if counts.largest == 0.0 {
        return None;
    }
    // Exact bounds on the best exponent, from the mean and the largest of the side.
    let low = (4.0 * counts.mean() / 3.0).log2().floor() as i32;
    let high = (4.0 * f64::from(counts.largest) / 3.0).log2().floor() as i32;
    let gain = |p: i32| {
        let level = f64::from(p).exp2();
        match counts.above(level / 2.0) {
            // A magnitude right at the boundary counts nothing.
            Some(above) => level * (2.0 * above.sum - level * above.count),
            None => gain_of_each(w, sign, level),
        }
    };
    let mut best = (f64::NEG_INFINITY, low);
    for p in low..=high {
        let g = gain(p);
        if g > best.0 {
            best = (g, p);
        }
    }
    Some(best.1)
}

/// `G` for boundaries below the counted range.
fn gain_of_each(w: &[f32], sign: f32, level: f64) -> f64 {
    let side = w.iter().map(|&x| f64::from(sign * x)).filter(|&v| v > level / 2.0);
    side.map(|v| level * (2.0 * v - level)).sum()
}

/// Integer levels and a common exponent for −2^q and 2^p. Where the sides lie more than 2^[`FARTHEST`] apart, the
/// weaker one is raised to that distance.
fn set_levels(q: Option<i32>, p: Option<i32>, out: &mut Filter) {
    let top = q.into_iter().chain(p).max().unwrap_or(0);
    let base = q.into_iter().chain(p).min().unwrap_or(0).max(top - FARTHEST);
    let level = |e: i32| 1i8 << (e.max(base) - base);
    out.levels.clear();
    out.levels.extend(q.map(|q| -level(q)));
    out.levels.push(0);
    out.levels.extend(p.map(level));
    (out.exponent, out.scale) = (base, 1.0);
}
