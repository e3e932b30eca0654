//! What to expect of a codebook before there are trained weights: how many zeros, how many digits, how large.
//!
//! Weights of trained networks are close to normally distributed within a filter, so one filter of normal quantiles is
//! fitted and counted. That depends on the codebook alone: the same plan comes of the same network everywhere.

use dyadic_engine::cost::Density;
use dyadic_engine::model::Packing;

use crate::codebook::{Choice, Filter, Fitter};

/// Weights of the filter that is fitted.
const SAMPLES: u32 = 1024;

/// Expectations of one codebook at one width.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Expected {
    /// Zeros, and digits of the other weights.
    pub(crate) density: Density,
    /// How an artifact packs the codes.
    pub(crate) packing: Packing,
    /// Largest |level| that a filter can get.
    pub(crate) largest: u64,
    /// Smallest |level| that it must give every weight: 0 where there is a zero.
    pub(crate) least: u64,
}

/// Expectations of every codebook that was asked for.
#[derive(Debug, Default)]
pub(crate) struct Expectations {
    fitter: Fitter,
    known: Vec<(Choice, Expected)>,
}

impl Expectations {
    pub(crate) fn of(&mut self, choice: Choice) -> Expected {
        if let Some((_, expected)) = self.known.iter().find(|(known, _)| *known == choice) {
            return *expected;
        }
        let expected = self.fit(choice);
        self.known.push((choice, expected));
        expected
    }

    fn fit(&mut self, choice: Choice) -> Expected {
        let samples: Vec<f32> =
            (0..SAMPLES).map(|i| normal((f64::from(i) + 0.5) / f64::from(SAMPLES))).collect();
        let mut filter = Filter::default();
        // The samples are finite.
        let latent = choice.codebook().start(choice.objective(), &samples);
        let fitted = self.fitter.fit(choice, &latent, &mut filter);
        let levels = || filter.levels.iter().copied();
        let of_weights = filter.codes.iter().filter_map(|&code| levels().nth(usize::from(code)));
        let least = levels().map(|level| u64::from(level.unsigned_abs())).min();
        let three = choice.bits() == 2 && filter.levels.len() <= 3;
        Expected {
            density: Density::count(of_weights),
            packing: if three { Packing::Base3 } else { Packing::Bits },
            largest: choice.codebook().largest(choice.bits(), choice.objective()).into(),
            least: least.filter(|_| fitted.is_ok()).unwrap_or(0),
        }
    }
}

/// The value below which a standard normal variable lies with this probability: Hastings' rational approximation
/// (Abramowitz and Stegun, 26.2.23), off by less than 4.5e-4.
fn normal(probability: f64) -> f32 {
    let tail = probability.min(1.0 - probability);
    let t = (-2.0 * tail.ln()).sqrt();
    let numerator = 2.515_517 + t * (0.802_853 + t * 0.010_328);
    let denominator = 1.0 + t * (1.432_788 + t * (0.189_269 + t * 0.001_308));
    let value = t - numerator / denominator;
    (if probability < 0.5 { -value } else { value }) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codebook::Family;

    #[test]
    fn a_third_to_a_half_of_ternary_weights_are_zero() {
        let mut expectations = Expectations::default();
        let ternary = Choice::new(Family::Aptq, None, 2, None).expect("the default");
        let expected = expectations.of(ternary);
        assert!((0.3..0.55).contains(&expected.density.zeros), "{expected:?}");
        assert_eq!((expected.density.digits, expected.packing, expected.least), (1.0, Packing::Base3, 0));
    }

    #[test]
    fn wider_codes_leave_fewer_zeros_and_need_more_digits() {
        let mut expectations = Expectations::default();
        let mut of = |bits| {
            expectations.of(Choice::new(Family::Apq, Some("two-term"), bits, None).expect("it has them"))
        };
        let (four, five) = (of(4), of(5));
        assert!(five.density.zeros < four.density.zeros, "{four:?} {five:?}");
        assert!(five.density.digits > 1.0 && five.density.digits <= 2.0);
        let eight = expectations.of(Choice::linear8());
        assert!(eight.density.digits > five.density.digits && eight.largest == 127);
    }

    #[test]
    fn quantiles_are_those_of_the_normal_distribution() {
        for (probability, value) in [(0.5, 0.0), (0.841_344_7, 1.0), (0.022_750_1, -2.0), (0.001_349_9, -3.0)]
        {
            assert!((normal(probability) - value).abs() < 1e-3, "{probability}");
        }
    }
}
