//! All integers up to ±127: what the first and the last layer have, and the finest that an artifact holds.

use std::ops::RangeInclusive;
use std::sync::LazyLock;

use super::{Codebook, Family, Fitting, Objective, ladder};

/// See the module.
#[derive(Debug)]
pub(super) struct Linear8;

impl Codebook for Linear8 {
    fn name(&self) -> &'static str {
        "linear8"
    }

    fn summary(&self) -> &'static str {
        "all integers up to ±127"
    }

    fn family(&self) -> Family {
        Family::Apq
    }

    fn widths(&self) -> RangeInclusive<u8> {
        8..=8
    }

    fn objectives(&self) -> &'static [Objective] {
        &[Objective::L2, Objective::Angle]
    }

    fn largest(&self, _: u8, _: Objective) -> u8 {
        ladder::largest(&LEVELS)
    }

    fn terms(&self, _: u8, _: Objective) -> u8 {
        4
    }

    fn is_dear(&self, _: u8, objective: Objective) -> bool {
        objective == Objective::Angle
    }

    fn fitting(&self, _: u8, objective: Objective) -> Box<dyn Fitting> {
        ladder::fitting(&LEVELS, objective)
    }
}

static LEVELS: LazyLock<Vec<i8>> = LazyLock::new(|| (-127..=127).collect());
