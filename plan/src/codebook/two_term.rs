//! APQ, two-term reading: levels with at most two signed powers of two.

use std::ops::RangeInclusive;

use super::{Codebook, Family, Fitting, Objective, ladder};

/// See the module.
#[derive(Debug)]
pub(super) struct TwoTerm;

impl Codebook for TwoTerm {
    fn name(&self) -> &'static str {
        "two-term"
    }

    fn summary(&self) -> &'static str {
        "sums of at most two signed powers of two"
    }

    fn family(&self) -> Family {
        Family::Apq
    }

    fn widths(&self) -> RangeInclusive<u8> {
        4..=5
    }

    fn objectives(&self) -> &'static [Objective] {
        &[Objective::L2, Objective::Angle]
    }

    fn largest(&self, bits: u8, _: Objective) -> u8 {
        ladder::largest(levels(bits))
    }

    fn terms(&self, _: u8, _: Objective) -> u8 {
        2
    }

    fn is_dear(&self, _: u8, _: Objective) -> bool {
        true
    }

    fn fitting(&self, bits: u8, objective: Objective) -> Box<dyn Fitting> {
        ladder::fitting(levels(bits), objective)
    }
}

fn levels(bits: u8) -> &'static [i8] {
    match bits {
        // |level| ≤ 12: the Winograd transform of such a filter fits 8 bits.
        0..=4 => &[-12, -8, -6, -4, -3, -2, -1, 0, 1, 2, 3, 4, 6, 8, 12],
        _ => &[
            -24, -20, -18, -16, -12, -10, -9, -8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9,
            10, 12, 16, 18, 20, 24,
        ],
    }
}
