//! Maximum over windows: codes go on as they are, so that output and operand share format and step.

use dyadic_engine::cost::Cost;
use dyadic_graph::network::Op;

use super::{Act, Chain, Emitter, Operation, Reads, UnitOp};
use crate::limits;
use crate::refusal::Refusal;
use crate::rules::Defaults;

pub(super) struct MaxPool;

impl Operation for MaxPool {
    fn takes(&self, op: &Op) -> bool {
        matches!(op, Op::MaxPool(_))
    }

    fn reads(&self, _: &Op, _: &Defaults) -> Reads {
        Reads::AsWritten
    }

    fn is_signed(&self, _: &Op, _: Act, operands: &[bool]) -> bool {
        operands.contains(&true)
    }

    fn emit(&self, chain: &Chain, to: &mut Emitter) -> Result<(), Refusal> {
        let layer = to.layer(chain);
        let (Op::MaxPool(window), [value]) = (&layer.op, &layer.inputs[..]) else { return Ok(()) };
        let coding = to.output_coding(chain);
        // Named after its width, as for any other reader; the network's input gets a power-of-two step here.
        let input = to.read_as(*value, coding, None)?;
        limits::pool(&layer.name, window, to.tensor(input).shape)?;
        to.write(chain, vec![input], UnitOp::MaxPool(*window), coding, Cost::default());
        Ok(())
    }
}
