//! Products of two values: gates of squeeze-and-excitation, a code a channel, and products of one shape.
//!
//! The second operand, the gate, is held to few signed digits, so that a product is shifts by data. Operands need no shared
//! step: the product of their steps is a power of two.

use dyadic_engine::cost::Cost;
use dyadic_graph::network::Op;

use super::{Absorbs, Act, Chain, Emitter, Operation, UnitOp};
use crate::refusal::Refusal;

/// Signed digits of a gate: with two, closeness at 8 bits falls by up to 8 dB; with three it is that of exact products.
const GATE_DIGITS: u8 = 3;
/// Signed digits of a factor at every position, which is no gate: its own code.
const EXACT_DIGITS: u8 = dyadic_engine::model::Scale::EXACT_DIGITS;

pub(super) struct Scale;

impl Operation for Scale {
    fn takes(&self, op: &Op) -> bool {
        matches!(op, Op::Mul)
    }

    fn absorbs(&self, _: &Op) -> Absorbs {
        Absorbs { act: true, ..Absorbs::default() }
    }

    fn is_signed(&self, _: &Op, act: Act, operands: &[bool]) -> bool {
        act == Act::None && operands.contains(&true)
    }

    fn emit(&self, chain: &Chain, to: &mut Emitter) -> Result<(), Refusal> {
        let (layer, bits) = (to.layer(chain), to.wanted(chain));
        let read = |&value| to.read_codes(value, bits);
        let inputs: Vec<usize> = layer.inputs.iter().map(read).collect::<Result<_, _>>()?;
        let &[x, gate] = inputs.as_slice() else {
            return Err(Refusal::new(&layer.name, "a product of other than two operands"));
        };
        let [x, gate] = [x, gate].map(|tensor| to.tensor(tensor).shape);
        let digits = if x == gate && x != [x[0], 1, 1] { EXACT_DIGITS } else { GATE_DIGITS };
        if gate != x && gate != [x[0], 1, 1] {
            let reason = format!("a product of {x:?} and {gate:?} (channels, height, width)");
            return Err(Refusal::new(&layer.name, reason));
        }
        let coding = to.output_coding(chain);
        let products = x.iter().map(|&extent| extent as u64).product::<u64>();
        let cost = Cost { shift_adds: products.saturating_mul(digits.into()), macs: products, bytes: 0 };
        to.write(chain, inputs, UnitOp::Scale { act: chain.act, digits }, coding, cost);
        Ok(())
    }
}
