//! APTQ, additive reading: two latent subfilters U and V of full shape, each binarized, `T = 2^p·(sgn U + sgn V)`, levels
//! {−2^{p+1}, 0, 2^{p+1}}.
//!
//! Each weight has a threshold of its own, since U and V move apart. They begin as `U = (w + t)/2` and `V = (w − t)/2`, so that
//! their sum is w: that is `w ± t` up to a factor of 2, which moves p by one. p makes the Euclidean distance between the
//! subfilters and `2^p·sgn` least: `p = ⌊log₂(4α/3)⌋`, `α = (‖U‖₁ + ‖V‖₁)/2n`. The sign of 0 is positive.
//!
//! Straight through, U and V would get the same gradient and stay as far apart as they began. So each gets it through a
//! window, `K(u/c) = max(0, 1 − |u/c|)` with `c = 2^{p+1}`, under which the stand-in for `2^p·sgn u` rises as much as that does.

use std::ops::RangeInclusive;

use super::angle::Angle;
use super::{Codebook, Family, Filter, Fitting, Objective, ladder};

/// See the module.
#[derive(Debug)]
pub(super) struct Additive;

impl Codebook for Additive {
    fn name(&self) -> &'static str {
        "additive"
    }

    fn summary(&self) -> &'static str {
        "−2^p, 0 and 2^p, from two latent subfilters"
    }

    fn family(&self) -> Family {
        Family::Aptq
    }

    fn widths(&self) -> RangeInclusive<u8> {
        2..=2
    }

    /// They say where the thresholds begin.
    fn objectives(&self) -> &'static [Objective] {
        &[Objective::Angle, Objective::L2]
    }

    fn largest(&self, _: u8, _: Objective) -> u8 {
        1
    }

    fn terms(&self, _: u8, _: Objective) -> u8 {
        1
    }

    fn is_dear(&self, _: u8, _: Objective) -> bool {
        false
    }

    fn fitting(&self, _: u8, _: Objective) -> Box<dyn Fitting> {
        Box::new(Signs)
    }

    fn latents(&self) -> usize {
        2
    }

    fn start(&self, objective: Objective, w: &[f32]) -> Vec<f32> {
        let t = match objective {
            Objective::Angle => Angle::default().even_threshold(w),
            Objective::L2 => threshold_by_distance(w),
        };
        let half = |sign: f32| w.iter().map(move |x| (x + sign * t) / 2.0);
        half(1.0).chain(half(-1.0)).collect()
    }

    fn sum(&self, latent: &[f32]) -> Vec<f32> {
        let (u, v) = halves(latent);
        u.iter().zip(v).map(|(u, v)| u + v).collect()
    }

    fn pass_back(&self, latent: &[f32], filter: &Filter, gradient: &[f32]) -> Vec<f32> {
        let c = if filter.is_fitted() { (filter.exponent as f32).exp2() } else { f32::INFINITY };
        let window = |u: f32| (1.0 - (u / c).abs()).max(0.0);
        latent.iter().zip(gradient.iter().cycle()).map(|(&u, g)| g * window(u)).collect()
    }
}

/// Half of the power of two that is the best level by distance.
fn threshold_by_distance(w: &[f32]) -> f32 {
    if w.iter().all(|&x| x == 0.0) {
        return 0.0;
    }
    let mut filter = Filter::default();
    ladder::fitting(&[-1, 0, 1], Objective::L2).fit(w, &mut filter);
    (filter.exponent as f32 - 1.0).exp2()
}

fn halves(latent: &[f32]) -> (&[f32], &[f32]) {
    latent.split_at(latent.len() / 2)
}

/// Both subfilters' signs, and the exponent from their means.
#[derive(Debug)]
struct Signs;

impl Fitting for Signs {
    fn fit(&mut self, w: &[f32], out: &mut Filter) {
        let alpha = w.iter().map(|&u| f64::from(u.abs())).sum::<f64>() / w.len() as f64;
        out.levels.clear();
        out.levels.extend([-1, 0, 1]);
        (out.exponent, out.scale) = ((4.0 * alpha / 3.0).log2().floor() as i32 + 1, 1.0);
        self.assign(w, out);
        out.set_clip();
    }

    fn assign(&mut self, w: &[f32], out: &mut Filter) {
        let (u, v) = halves(w);
        out.codes.clear();
        out.codes.extend(u.iter().zip(v).map(|(&u, &v)| u8::from(u >= 0.0) + u8::from(v >= 0.0)));
    }
}
