//! Codebooks: how the weights of one filter become integer levels times a power of two.
//!
//! A fitted [`Filter`] stands for `level · 2^exponent`, level by level from a short ascending list. The readings of
//! APTQ and APQ differ in which lists they allow and in what "best" means; every fit here is exact for its criterion.
//! A reading is a [`Codebook`] in a file of its own, named once, in [`all`].

mod additive;
mod angle;
mod choice;
mod filter;
mod fitter;
mod histogram;
mod ladder;
mod linear8;
mod multi_binary;
mod scale;
mod sign_split;
mod single_shift;
mod statistics;
mod two_term;

use std::fmt::Debug;
use std::ops::RangeInclusive;

pub use choice::{Choice, NoSuchCodebook};
pub use filter::{Filter, NotFinite};
pub use fitter::Fitter;
pub use statistics::{Statistics, digits};

/// Every codebook. Of those of a family, the first one that has a width is that width's default.
pub fn all() -> &'static [&'static dyn Codebook] {
    &[
        &sign_split::SignSplit,
        &additive::Additive,
        &two_term::TwoTerm,
        &single_shift::SingleShift,
        &multi_binary::MultiBinary,
        &linear8::Linear8,
    ]
}

/// The codebook of this name.
pub fn find(name: &str) -> Option<&'static dyn Codebook> {
    all().iter().copied().find(|codebook| codebook.name() == name)
}

/// Which algorithm a codebook is a reading of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Ternary: two subfilters.
    Aptq,
    /// Several subfilters, any width.
    Apq,
}

/// What "best" means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Objective {
    /// Euclidean distance between filter and codebook.
    L2,
    /// Angle between them: right where a normalization follows and absorbs any scale.
    Angle,
}

/// One reading: which levels a filter may have, and how they are found.
pub trait Codebook: Sync {
    /// What users call it: stable, lower case, words joined by hyphens.
    fn name(&self) -> &'static str;

    /// One line for people: the levels it has.
    fn summary(&self) -> &'static str;

    /// The algorithm that it reads.
    fn family(&self) -> Family;

    /// Bits of a code that it can have.
    fn widths(&self) -> RangeInclusive<u8>;

    /// What it can optimize, its default first.
    fn objectives(&self) -> &'static [Objective];

    /// Largest |level| that a filter can get, ≤ 127.
    fn largest(&self, bits: u8, objective: Objective) -> u8;

    /// Most signed powers of two that a level can need.
    fn terms(&self, bits: u8, objective: Objective) -> u8;

    /// Whether a fit from scratch at every step would take a training's time.
    fn is_dear(&self, bits: u8, objective: Objective) -> bool;

    /// A fitter of filters, with its scratch space.
    fn fitting(&self, bits: u8, objective: Objective) -> Box<dyn Fitting>;

    /// Latent weights that training keeps for each weight.
    fn latents(&self) -> usize {
        1
    }

    /// The latent weights that a filter of float weights begins with: [`Codebook::latents`] filters, one after the other.
    fn start(&self, _objective: Objective, w: &[f32]) -> Vec<f32> {
        w.to_vec()
    }

    /// The float filter that latent weights stand for.
    fn sum(&self, latent: &[f32]) -> Vec<f32> {
        latent.to_vec()
    }

    /// The gradient of the latent weights from that of the fitted filter's values: straight through, except where a latent
    /// weight has left its filter's range.
    fn pass_back(&self, latent: &[f32], filter: &Filter, gradient: &[f32]) -> Vec<f32> {
        let inside = |w: f32| w >= -filter.clip.0 && w <= filter.clip.1;
        latent.iter().zip(gradient).map(|(&w, &g)| if inside(w) { g } else { 0.0 }).collect()
    }
}

/// Fits filters of one codebook, width and objective. Every `w` holds a filter's latent weights, all finite and, where it
/// is not said otherwise, not all 0.
pub trait Fitting: Debug + Send {
    /// The best levels, exponent and codes.
    fn fit(&mut self, w: &[f32], out: &mut Filter);

    /// The best ones near those that `out` has.
    fn refit(&mut self, w: &[f32], out: &mut Filter) {
        self.fit(w, out);
    }

    /// The best codes for the levels and the exponent that `out` has. All weights may be 0.
    fn assign(&mut self, w: &[f32], out: &mut Filter);
}

#[cfg(test)]
mod tests;
