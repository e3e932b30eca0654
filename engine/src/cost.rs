//! What a layer costs, from its shape and the width of its codes: known before there are weights, and exact for weights
//! that are there.
//!
//! Plans, summaries and budgets all ask here, so that none of them can count otherwise. Counts are of one sample; they
//! saturate rather than overflow, since shapes may come from outside.

use std::iter::Sum;
use std::ops::Add;

use serde::{Deserialize, Serialize};

use crate::digits::Digits;
use crate::model::{Conv, Epilogue, Packing, Shape, Weights};

/// The shape of a convolution or a fully connected layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Filters, which are the output's channels.
    pub filters: u64,
    /// Weights of a filter: kernel rows · kernel columns · input channels of a group.
    pub per_filter: u64,
    /// Output positions at which each filter is used: height · width.
    pub positions: u64,
    /// Width of a weight's code, 2 ..= 8.
    pub bits: u8,
    /// How the codes are packed: base 3 where a filter has at most three levels, else bits.
    pub packing: Packing,
    /// What follows the sum.
    pub end: End,
}

/// What follows the sum of a layer, as far as its parameters go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// The requantize rule.
    Requantize,
    /// The requantize rule with a residual operand.
    Residual,
    /// Logits.
    Logits,
}

/// How many of a layer's weights do nothing, and how much the others do.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Density {
    /// Share of weights that are zero, 0 ..= 1.
    pub zeros: f64,
    /// Mean number of canonical signed digits of a weight that is not zero: 1 for powers of two.
    pub digits: f64,
}

/// What a layer, or several, cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cost {
    /// Bytes of the artifact's lists: codes, levels, exponents, bounds, and the parameters of the end.
    pub bytes: u64,
    /// Multiply-accumulates of one sample that shifts and adds replace.
    pub macs: u64,
    /// Shift-adds of one sample: a multiply-accumulate costs one for each canonical signed digit of its weight. Those of
    /// the end, at most four a code, are not counted.
    pub shift_adds: u64,
}

impl Layer {
    /// The layer of a convolution that writes an output of this shape.
    pub fn of(conv: &Conv, residual: bool, output: Shape) -> Self {
        let filters = u64::from(output.c);
        Layer {
            filters,
            per_filter: (conv.weights.codes.len() as u64).checked_div(filters).unwrap_or(0),
            positions: u64::from(output.h) * u64::from(output.w),
            bits: conv.weights.bits,
            packing: conv.weights.packing(),
            end: match (&conv.epilogue, residual) {
                (Epilogue::Logits { .. }, _) => End::Logits,
                (Epilogue::Requantize(_), true) => End::Residual,
                (Epilogue::Requantize(_), false) => End::Requantize,
            },
        }
    }

    /// Number of weights.
    pub fn weights(&self) -> u64 {
        self.filters.saturating_mul(self.per_filter)
    }

    /// Multiply-accumulates of one sample.
    pub fn macs(&self) -> u64 {
        self.weights().saturating_mul(self.positions)
    }

    /// Bytes of the packed codes.
    pub fn code_bytes(&self) -> u64 {
        self.packing.bytes(self.bits, self.weights())
    }

    /// Bytes that all of the layer's numbers take in an artifact; its node in the JSON graph comes on top.
    pub fn bytes(&self) -> u64 {
        // Exponent (2) and bound (4); then pre-shift, multiplier, bias (4) and shift, or shift and bias (4).
        let of_end = match self.end {
            End::Requantize => 7,
            End::Residual => 8,
            End::Logits => 5,
        };
        let of_filter = self.packing.levels(self.bits) as u64 + 6 + of_end;
        self.code_bytes().saturating_add(self.filters.saturating_mul(of_filter))
    }

    /// All of it, for weights of this density, expected or counted.
    pub fn cost(&self, density: Density) -> Cost {
        let shift_adds = (self.macs() as f64 * density.digits_per_weight()).round() as u64;
        Cost { bytes: self.bytes(), macs: self.macs(), shift_adds }
    }
}

impl Density {
    /// Counts levels: those of all weights of a layer, or of a codebook whose levels are expected equally often.
    pub fn count(levels: impl IntoIterator<Item = i8>) -> Self {
        let digits: [u64; 256] = std::array::from_fn(|level| Digits::of(level as u8 as i8).len() as u64);
        let (mut count, mut zeros, mut all) = (0u64, 0u64, 0u64);
        for level in levels {
            count += 1;
            zeros += u64::from(level == 0);
            all += digits[usize::from(level as u8)];
        }
        Density {
            zeros: zeros as f64 / count.max(1) as f64,
            digits: all as f64 / (count - zeros).max(1) as f64,
        }
    }

    /// Counts the weights of so many filters of a checked layer.
    pub fn of(weights: &Weights, filters: usize) -> Self {
        let per_filter = weights.codes.len() / filters.max(1);
        let of_filter = |filter| (0..per_filter).map(move |index| weights.level(filter, index, per_filter));
        Self::count((0..filters).flat_map(of_filter).map(|level| level as i8))
    }

    /// Mean number of shift-adds that one product costs, zeros included.
    pub fn digits_per_weight(&self) -> f64 {
        (1.0 - self.zeros) * self.digits
    }
}

impl Cost {
    /// What the requantize rule of so many channels takes where no weights come with it: casts, lone normalizations,
    /// average pools.
    pub fn requantize(channels: u64) -> Self {
        Cost { bytes: channels.saturating_mul(7), ..Cost::default() }
    }

    /// What a table over so many codes takes.
    pub fn table(codes: u64) -> Self {
        Cost { bytes: codes.saturating_mul(2), ..Cost::default() }
    }
}

impl Add for Cost {
    type Output = Cost;

    fn add(self, other: Cost) -> Cost {
        Cost {
            bytes: self.bytes.saturating_add(other.bytes),
            macs: self.macs.saturating_add(other.macs),
            shift_adds: self.shift_adds.saturating_add(other.shift_adds),
        }
    }
}

impl Sum for Cost {
    fn sum<I: Iterator<Item = Cost>>(costs: I) -> Cost {
        costs.fold(Cost::default(), Cost::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::Provenance;
    use crate::model::Op;
    use crate::testing::{random_model, resnet20};
    use crate::{Artifact, Certificate, CheckedModel};

    /// Of every convolution of a model.
    fn costs(model: &CheckedModel) -> Cost {
        let convolutions = model.nodes.iter().filter_map(|node| match &node.op {
            Op::Conv(conv) => {
                let output = model.tensor(node.output).shape;
                let density = Density::of(&conv.weights, output.c as usize);
                Some(Layer::of(conv, node.inputs.len() > 1, output).cost(density))
            }
            _ => None,
        });
        convolutions.sum()
    }

    /// Bytes that affines, average pools and tables have in the lists: what the convolutions leave.
    fn others(model: &CheckedModel) -> u64 {
        let bytes = model.nodes.iter().map(|node| match &node.op {
            Op::Affine(rule) | Op::AvgPool(_, rule) => 7 * rule.pre.len(),
            Op::Lut(table) => 2 * table.len(),
            Op::Select(channels) => 4 * channels.len(),
            _ => 0,
        });
        bytes.sum::<usize>() as u64
    }

    #[test]
    fn bytes_are_those_of_the_artifacts_lists() {
        for model in (0..60).map(random_model).chain((2..=8).map(|bits| resnet20(1, bits))) {
            let model = CheckedModel::new(model).expect("valid");
            let expected = costs(&model).bytes + others(&model);
            let (provenance, certificate) = (Provenance::default(), Certificate::default());
            let bytes = Artifact { model, provenance, certificate }.to_bytes().expect("valid");
            let header = u64::from_le_bytes(*bytes.first_chunk().expect("a header"));
            assert_eq!(bytes.len() as u64 - 8 - header, expected);
        }
    }

    #[test]
    fn a_layer_of_powers_of_two_costs_one_shift_add_for_each_weight_that_is_not_zero() {
        let layer = Layer {
            filters: 64,
            per_filter: 576,
            positions: 256,
            bits: 2,
            packing: Packing::Base3,
            end: End::Requantize,
        };
        let cost = layer.cost(Density { zeros: 0.25, digits: 1.0 });
        assert_eq!(cost.macs, 64 * 576 * 256);
        assert_eq!(cost.shift_adds, cost.macs * 3 / 4);
        assert_eq!(cost.bytes, (64u64 * 576).div_ceil(5) + 64 * (3 + 6 + 7));
    }

    #[test]
    fn digits_are_counted_over_what_is_not_zero() {
        let density = Density::count([0, 0, 1, -2, 3, 7, -127, 85]);
        // 1, −2; 3 = 4 − 1, 7 = 8 − 1, −127 = −128 + 1; 85 = 64 + 16 + 4 + 1.
        assert_eq!(density, Density { zeros: 0.25, digits: (1 + 1 + 2 + 2 + 2 + 4) as f64 / 6.0 });
        assert_eq!(density.digits_per_weight(), 12.0 / 8.0);
        assert_eq!(Density::count([]).digits_per_weight(), 0.0);
    }

    #[test]
    fn shift_adds_of_real_weights_are_exact() {
        let model = CheckedModel::new(resnet20(1, 4)).expect("valid");
        let summary = model.summary();
        let of_nodes = summary.iter().filter_map(|node| {
            let weights = node.weights?;
            Some(node.macs / weights.count * weights.shift_adds)
        });
        assert_eq!(costs(&model).shift_adds, of_nodes.sum::<u64>());
        assert_eq!(costs(&model).macs, summary.iter().map(|node| node.macs).sum::<u64>());
    }

    #[test]
    fn shapes_beyond_all_bounds_saturate() {
        let layer = Layer {
            filters: u64::MAX,
            per_filter: 3,
            positions: u64::MAX,
            bits: 8,
            packing: Packing::Bits,
            end: End::Logits,
        };
        let cost = layer.cost(Density { zeros: 0.0, digits: 4.0 });
        assert_eq!((cost + cost).macs, u64::MAX);
        assert_eq!(cost.shift_adds, u64::MAX);
    }
}
