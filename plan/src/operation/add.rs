//! Additions that no weighted layer takes in.
//!
//! Their operands need no shared step: the integer addition shifts each into place. How far their steps lie apart is known
//! after calibration only; more than 2^15 is refused then.

use dyadic_engine::cost::Cost;
use dyadic_graph::network::Op;

use super::{Absorbs, Act, Chain, Emitter, Operation, UnitOp};
use crate::refusal::Refusal;

pub(super) struct Add;

impl Operation for Add {
    fn takes(&self, op: &Op) -> bool {
        matches!(op, Op::Add)
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
        let inputs = layer.inputs.iter().map(read).collect::<Result<_, _>>()?;
        let coding = to.output_coding(chain);
        to.write(chain, inputs, UnitOp::Add(chain.act), coding, Cost::default());
        Ok(())
    }
}
