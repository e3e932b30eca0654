//! Channels chosen by their numbers: the codes are handed on, so they share format and step with the output.

use dyadic_engine::cost::Cost;
use dyadic_graph::network::Op;

use super::{Act, Chain, Emitter, Operation, Reads, UnitOp};
use crate::refusal::Refusal;
use crate::rules::Defaults;

pub(super) struct Select;

impl Operation for Select {
    fn takes(&self, op: &Op) -> bool {
        matches!(op, Op::Select { .. })
    }

    fn reads(&self, _: &Op, _: &Defaults) -> Reads {
        Reads::AsWritten
    }

    fn is_signed(&self, _: &Op, _: Act, operands: &[bool]) -> bool {
        operands.contains(&true)
    }

    fn emit(&self, chain: &Chain, to: &mut Emitter) -> Result<(), Refusal> {
        let layer = to.layer(chain);
        let Op::Select { channels } = &layer.op else {
            return Err(Refusal::new(&layer.name, "no choice of channels"));
        };
        let coding = to.output_coding(chain);
        let input = to.read_as(layer.inputs[0], coding, Some(&layer.name))?;
        let cost = Cost { bytes: 4 * channels.len() as u64, ..Cost::default() };
        let channels = channels.iter().map(|&channel| channel as u32).collect();
        to.write(chain, vec![input], UnitOp::Select(channels), coding, cost);
        Ok(())
    }
}
