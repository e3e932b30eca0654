//! What becomes of sums, sixteen filters at a time: constants in the order in which vectors take them.

use crate::kernels::codes::Codes;
pub(super) use crate::kernels::part::Target;
use crate::model::Epilogue;

use super::panels::FILTERS;

/// The numbers of sixteen filters. Where the layer writes logits, `pre` is the left shift and `bias` the bias.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, align(64))]
pub(super) struct Constants {
    /// Added to a sum first: takes back the 128 that was added to signed codes.
    pub(super) offset: [i32; FILTERS],
    pub(super) pre: [i32; FILTERS],
    /// In the lower half; the upper is 0, for multiply-adds of 16-bit pairs.
    pub(super) multiplier: [i32; FILTERS],
    pub(super) bias: [i32; FILTERS],
    pub(super) residual_shift: [i32; FILTERS],
    pub(super) shift: [i32; FILTERS],
    /// Whether no offset and no `pre` does anything.
    pub(super) plain: bool,
    /// Whether no `pre` does anything.
    pub(super) unshifted: bool,
}

/// The end of a layer.
#[derive(Debug)]
pub(super) struct Finish {
    /// By panel.
    pub(super) constants: Vec<Constants>,
    /// Lowest code.
    pub(super) lo: i32,
    /// Highest code.
    pub(super) hi: i32,
    /// Filters of the layer.
    pub(super) filters: usize,
    /// Filters of a group.
    pub(super) of_group: usize,
}

/// A residual operand.
#[derive(Debug, Clone, Copy)]
pub(super) enum Residual {
    None,
    Unsigned(*const u8),
    Signed(*const i8),
    Wide(*const i16),
}

impl Finish {
    /// Lays an epilogue out; `offsets` has one number a filter, or none.
    pub(super) fn new(epilogue: &Epilogue, groups: usize, filters: usize, offsets: &[i32]) -> Self {
        let of_group = filters / groups;
        let blocks = of_group.div_ceil(FILTERS);
        let mut constants = vec![Constants::default(); groups * blocks];
        let (lo, hi) = match epilogue {
            Epilogue::Requantize(rule) => (rule.lo, rule.hi),
            Epilogue::Logits { .. } => (i32::MIN, i32::MAX),
        };
        for filter in 0..filters {
            let (group, within) = (filter / of_group, filter % of_group);
            let (of, lane) = (&mut constants[group * blocks + within / FILTERS], within % FILTERS);
            of.offset[lane] = offsets.get(filter).copied().unwrap_or(0);
            match epilogue {
                Epilogue::Logits { shift, bias } => {
                    of.pre[lane] = shift[filter].into();
                    of.bias[lane] = bias[filter];
                }
                Epilogue::Requantize(rule) => {
                    of.pre[lane] = rule.pre[filter].into();
                    of.multiplier[lane] = i32::from(rule.multiplier[filter]) & 0xFFFF;
                    of.bias[lane] = rule.bias[filter];
                    of.residual_shift[lane] = rule.residual_shift.get(filter).copied().unwrap_or(0).into();
                    of.shift[lane] = rule.shift[filter].into();
                }
            }
        }
        for of in &mut constants {
            of.unshifted = of.pre == [0; FILTERS];
            of.plain = of.unshifted && of.offset == [0; FILTERS];
        }
        Finish { constants, lo, hi, filters, of_group }
    }

    /// First filter of a panel, counted over all groups, and how many it has.
    pub(super) fn filters_of(&self, panel: usize) -> (usize, usize) {
        let blocks = self.of_group.div_ceil(FILTERS);
        let (group, block) = (panel / blocks, panel % blocks);
        (group * self.of_group + block * FILTERS, FILTERS.min(self.of_group - block * FILTERS))
    }
}

impl Residual {
    /// Of the operand, if there is one.
    pub(super) fn new(codes: Option<Codes>) -> Self {
        match codes {
            None => Residual::None,
            Some(Codes::Unsigned(codes)) => Residual::Unsigned(codes.as_ptr()),
            Some(Codes::Signed(codes)) => Residual::Signed(codes.as_ptr().cast()),
            Some(Codes::Wide(codes)) => Residual::Wide(codes.as_ptr()),
            Some(Codes::Sum(_)) => unreachable!("the check lets no operation read sums"),
        }
    }
}
