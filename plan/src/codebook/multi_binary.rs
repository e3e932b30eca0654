//! APQ, multi-binary reading: `ŵ = Σ 2^{pᵢ}·bᵢ`, bᵢ ∈ {−1, 1}, i = 1 … n: n binary subfilters, added up.
//!
//! The exponents of a filter are a multiset; with the least one at 0 it gives a list of at most 2ⁿ levels. Different
//! exponents give 2ⁿ levels without a zero: all odd integers from −(2ⁿ − 1) to 2ⁿ − 1 for 0, 1, …, n − 1. Equal exponents are
//! degenerate: two of them give {−2, 0, 2}, which is ternary, k of them k + 1 evenly spaced levels. Some of these lists hold
//! all levels of another at some power of two and so are never worse; only lists that no other one holds are tried:
//! 7, 25, 54, 74, 62 and 24 at 2 to 7 bits.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::LazyLock;

use super::ladder::{self, Scratch};
use super::scale::{Magnitudes, Steps};
use super::{Codebook, Family, Filter, Fitting, Objective, digits};

/// See the module.
#[derive(Debug)]
pub(super) struct MultiBinary;

impl Codebook for MultiBinary {
    fn name(&self) -> &'static str {
        "multi-binary"
    }

    fn summary(&self) -> &'static str {
        "sums of one signed power of two from each of N binary subfilters"
    }

    fn family(&self) -> Family {
        Family::Apq
    }

    fn widths(&self) -> RangeInclusive<u8> {
        WIDTHS
    }

    fn objectives(&self) -> &'static [Objective] {
        &[Objective::L2, Objective::Angle]
    }

    fn largest(&self, bits: u8, _: Objective) -> u8 {
        lists(bits).iter().map(|list| ladder::largest(list)).max().unwrap_or(0)
    }

    fn terms(&self, bits: u8, _: Objective) -> u8 {
        lists(bits).iter().flatten().map(|&level| digits(level)).max().unwrap_or(0)
    }

    fn is_dear(&self, _: u8, _: Objective) -> bool {
        true
    }

    fn fitting(&self, bits: u8, objective: Objective) -> Box<dyn Fitting> {
        let lists = lists(bits).iter().map(|list| (list.as_slice(), Steps::new(list))).collect();
        Box::new(Lists {
            tried: lists,
            objective,
            magnitudes: Magnitudes::default(),
            scratch: Scratch::default(),
        })
    }
}

const WIDTHS: RangeInclusive<u8> = 2..=7;
/// Largest level.
const LARGEST: u32 = 127;

/// The lists of levels of a width that are tried, those with the most and smallest levels first.
fn lists(bits: u8) -> &'static [Vec<i8>] {
    static ALL: LazyLock<Vec<Vec<Vec<i8>>>> = LazyLock::new(|| WIDTHS.map(make).collect());
    ALL.get(usize::from(bits.clamp(*WIDTHS.start(), *WIDTHS.end()) - WIDTHS.start()))
        .map_or(&[], Vec::as_slice)
}

fn make(bits: u8) -> Vec<Vec<i8>> {
    let sums: BTreeSet<Vec<u32>> = multisets(bits).iter().map(|exponents| magnitudes(exponents)).collect();
    let alone = |list: &&Vec<u32>| sums.iter().all(|other| other == *list || !holds(other, list));
    let mut lists: Vec<Vec<i8>> = sums.iter().filter(alone).map(|list| symmetric(list)).collect();
    lists.sort_by_key(|list| (std::cmp::Reverse(list.len()), ladder::largest(list)));
    lists
}

/// Whether all levels of `other`, times some power of two, are among those of `list`.
fn holds(list: &[u32], other: &[u32]) -> bool {
    (0..7).any(|power| other.iter().all(|level| list.contains(&(level << power))))
}

fn symmetric(upper: &[u32]) -> Vec<i8> {
    let upper = upper.iter().map(|&level| level as i8);
    let lower = upper.clone().rev().filter(|&level| level > 0).map(|level| -level);
    lower.chain(upper).collect()
}

/// All ascending lists of so many exponents, the first one 0, whose powers sum up to at most [`LARGEST`].
fn multisets(bits: u8) -> Vec<Vec<u32>> {
    let mut all = vec![vec![0]];
    for left in (1..bits).rev() {
        let longer = |exponents: &Vec<u32>| {
            let sum: u32 = exponents.iter().map(|e| 1 << e).sum();
            let last = exponents.last().copied().unwrap_or(0);
            // The ones to come are at least as large.
            let fit = (last..7).filter(move |next| sum + (u32::from(left) << next) <= LARGEST);
            fit.map(|next| exponents.iter().copied().chain([next]).collect()).collect::<Vec<_>>()
        };
        all = all.iter().flat_map(longer).collect();
    }
    all
}

/// The distinct magnitudes of all signed sums, ascending, halved until one is odd.
fn magnitudes(exponents: &[u32]) -> Vec<u32> {
    let sums = exponents
        .iter()
        .fold(vec![0i32], |sums, e| sums.iter().flat_map(|sum| [sum - (1 << e), sum + (1 << e)]).collect());
    let sums: BTreeSet<u32> = sums.iter().map(|sum| sum.unsigned_abs()).collect();
    let powers = sums.iter().filter(|&&sum| sum > 0).map(|sum| sum.trailing_zeros()).min().unwrap_or(0);
    sums.iter().map(|sum| sum >> powers).collect()
}

/// Fits by trying every list.
#[derive(Debug)]
struct Lists {
    tried: Vec<(&'static [i8], Steps)>,
    objective: Objective,
    magnitudes: Magnitudes,
    scratch: Scratch,
}

impl Lists {
    fn fit_distance(&self, w: &[f32], out: &mut Filter) {
        let mut least = f64::INFINITY;
        let mut levels: &[i8] = &[];
        for (list, steps) in &self.tried {
            let (low, high) = steps.range(&self.magnitudes);
            for exponent in low.log2().floor() as i32..=high.log2().ceil() as i32 {
                let error = steps.error(&self.magnitudes, f64::from(exponent).exp2());
                if error < least {
                    (least, levels, out.exponent) = (error, list, exponent);
                }
            }
        }
        out.scale = 1.0;
        out.levels.clear();
        out.levels.extend_from_slice(levels);
        ladder::assign_nearest(w, out);
    }

    fn fit_angle(&self, w: &[f32], out: &mut Filter) {
        let mut best = None;
        let mut objective = 0.0;
        for (list, steps) in &self.tried {
            if let Some(found) = steps.best(&self.magnitudes, objective) {
                objective = found.objective;
                best = Some((found.scale, *list));
            }
        }
        if let Some((scale, levels)) = best {
            out.levels.clear();
            out.levels.extend_from_slice(levels);
            ladder::assign_at(w, scale, out);
        }
    }
}

impl Fitting for Lists {
    fn fit(&mut self, w: &[f32], out: &mut Filter) {
        self.magnitudes.take(w);
        match self.objective {
            Objective::L2 => self.fit_distance(w, out),
            Objective::Angle => self.fit_angle(w, out),
        }
        out.set_clip();
    }

    /// Stays with the list that `out` has.
    fn refit(&mut self, w: &[f32], out: &mut Filter) {
        match self.objective {
            Objective::L2 => {
                let levels = std::mem::take(&mut out.levels);
                ladder::fit_near(&levels, w, &mut self.scratch, out);
            }
            Objective::Angle => {
                if !ladder::settle(w, out) {
                    return self.fit(w, out);
                }
                out.set_nearest_exponent();
            }
        }
        out.set_clip();
    }

    fn assign(&mut self, w: &[f32], out: &mut Filter) {
        match self.objective {
            Objective::L2 => ladder::assign_nearest(w, out),
            Objective::Angle => {
                ladder::settle(w, out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_those_of_the_multisets_that_no_other_holds() {
        let counts = WIDTHS.map(|bits| lists(bits).len()).collect::<Vec<_>>();
        assert_eq!(counts, [7, 25, 54, 74, 62, 24]);
        assert_eq!(lists(2)[0], [-3, -1, 1, 3]);
        assert_eq!(lists(7)[0], (-127..=127).step_by(2).collect::<Vec<i8>>());
        // Two equal exponents are ternary; three of them are no more than two different ones.
        assert!(lists(2).contains(&vec![-1, 0, 1]));
        assert_eq!(magnitudes(&[0, 0, 0]), magnitudes(&[0, 1]));
        for bits in WIDTHS {
            for list in lists(bits) {
                assert!(list.len() <= 1 << bits && list.windows(2).all(|pair| pair[0] < pair[1]));
                assert!(list.iter().all(|level| *level != i8::MIN && list.contains(&-level)));
            }
            for exponents in multisets(bits) {
                assert_eq!(exponents.len(), usize::from(bits));
                let upper = magnitudes(&exponents);
                let scaled = |power: u32| symmetric(&upper.iter().map(|l| l << power).collect::<Vec<_>>());
                let powers = 0..=6 - upper.iter().max().map_or(0, |l| l.ilog2());
                let held = |list: &Vec<i8>| {
                    powers.clone().any(|power| scaled(power).iter().all(|level| list.contains(level)))
                };
                assert!(lists(bits).iter().any(held), "{exponents:?}");
            }
        }
    }
}
