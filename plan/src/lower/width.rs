//! How wide each value's codes are: as wide as its most demanding reader wants them.
//!
//! A narrower reader gets a cast. Layers that hand codes on unchanged want of their operands what is wanted of them.

use super::chain::Chain;
use super::view::View;
use crate::operation::{self, Reads};
use crate::rules::Rules;

/// Bits of each value's codes, by value; those that are written have at least 2.
pub(crate) fn widths(view: &View, chains: &[Chain], rules: &Rules) -> Vec<u8> {
    let mut width = vec![0u8; view.network.values.len()];
    let other = rules.defaults.other_bits;
    width[view.holder(view.output).0] = other;
    for chain in chains.iter().rev() {
        let layer = view.layer(chain.first);
        if let Some(residual) = chain.residual {
            let value = view.holder(residual).0;
            width[value] = width[value].max(other);
        }
        let Reads::Bits(bits) = reads(view, chain, rules) else { continue };
        for &input in &layer.inputs {
            let value = view.holder(input).0;
            width[value] = width[value].max(bits);
        }
    }
    // From the last to the first, so that rows of those that hand on settle.
    for chain in chains.iter().rev() {
        if reads(view, chain, rules) == Reads::AsWritten {
            let through = width[view.holder(chain.output).0];
            for &input in &view.layer(chain.first).inputs {
                let value = view.holder(input).0;
                width[value] = width[value].max(through);
            }
        }
    }
    for chain in chains {
        let value = view.holder(chain.output).0;
        width[value] = width[value].max(2);
    }
    width
}

/// What a chain's first layer wants of its operands.
pub(crate) fn reads(view: &View, chain: &Chain, rules: &Rules) -> Reads {
    let layer = view.layer(chain.first);
    let Some(operation) = operation::of(&layer.op) else { return Reads::Bits(rules.defaults.other_bits) };
    match operation.reads(&layer.op, &rules.defaults) {
        Reads::Bits(bits) => Reads::Bits(rules.input_bits(&layer.name).unwrap_or(bits)),
        Reads::AsWritten => Reads::AsWritten,
    }
}
