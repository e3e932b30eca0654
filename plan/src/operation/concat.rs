//! Concatenation along channels: the operands' codes side by side, so they share format and step with the output.

use dyadic_engine::cost::Cost;
use dyadic_graph::network::Op;

use super::{Act, Chain, Emitter, Operation, Reads, UnitOp};
use crate::refusal::Refusal;
use crate::rules::Defaults;

pub(super) struct Concat;

impl Operation for Concat {
    fn takes(&self, op: &Op) -> bool {
        matches!(op, Op::Concat)
    }

    fn reads(&self, _: &Op, _: &Defaults) -> Reads {
        Reads::AsWritten
    }

    fn is_signed(&self, _: &Op, _: Act, operands: &[bool]) -> bool {
        operands.contains(&true)
    }

    fn emit(&self, chain: &Chain, to: &mut Emitter) -> Result<(), Refusal> {
        let layer = to.layer(chain);
        let coding = to.output_coding(chain);
        let read = |&value| to.read_as(value, coding, Some(&layer.name));
        let inputs: Vec<usize> = layer.inputs.iter().map(read).collect::<Result<_, _>>()?;
        if inputs.len() < 2 {
            return Err(Refusal::new(&layer.name, "a concatenation of a single operand"));
        }
        to.write(chain, inputs, UnitOp::Concat, coding, Cost::default());
        Ok(())
    }
}
