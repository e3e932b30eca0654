//! APQ, single-shift reading: zero, or a sign and one of several neighbouring exponents: one shift a weight.

use std::ops::RangeInclusive;

use super::{Codebook, Family, Fitting, Objective, ladder};

/// See the module.
#[derive(Debug)]
pub(super) struct SingleShift;

impl Codebook for SingleShift {
    fn name(&self) -> &'static str {
        "single-shift"
    }

    fn summary(&self) -> &'static str {
        "0 and ±2^j: one shift a weight"
    }

    fn family(&self) -> Family {
        Family::Apq
    }

    fn widths(&self) -> RangeInclusive<u8> {
        2..=4
    }

    fn objectives(&self) -> &'static [Objective] {
        &[Objective::L2, Objective::Angle]
    }

    fn largest(&self, bits: u8, _: Objective) -> u8 {
        ladder::largest(levels(bits))
    }

    fn terms(&self, _: u8, _: Objective) -> u8 {
        1
    }

    fn is_dear(&self, _: u8, objective: Objective) -> bool {
        objective == Objective::Angle
    }

    fn fitting(&self, bits: u8, objective: Objective) -> Box<dyn Fitting> {
        ladder::fitting(levels(bits), objective)
    }
}

fn levels(bits: u8) -> &'static [i8] {
    match bits {
        0..=2 => &[-1, 0, 1],
        3 => &[-4, -2, -1, 0, 1, 2, 4],
        _ => &[-64, -32, -16, -8, -4, -2, -1, 0, 1, 2, 4, 8, 16, 32, 64],
    }
}
