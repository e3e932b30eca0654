//! A map as flat features: no unit, only another way to read the same codes.

use dyadic_graph::network::Op;

use super::{Act, Chain, Emitter, Operation, Reads};
use crate::refusal::Refusal;
use crate::rules::Defaults;

pub(super) struct Flatten;

impl Operation for Flatten {
    fn takes(&self, op: &Op) -> bool {
        matches!(op, Op::Flatten)
    }

    fn only_reshapes(&self) -> bool {
        true
    }

    fn reads(&self, _: &Op, _: &Defaults) -> Reads {
        Reads::AsWritten
    }

    fn is_signed(&self, _: &Op, _: Act, operands: &[bool]) -> bool {
        operands.contains(&true)
    }

    /// The engine keeps channels last, the file has them first: only a fully connected layer can tell which is which.
    fn emit(&self, chain: &Chain, to: &mut Emitter) -> Result<(), Refusal> {
        let layer = to.layer(chain);
        let map = to.view.chw(to.view.holder(chain.output)).is_some_and(|[_, h, w]| (h, w) != (1, 1));
        let linear = |&reader: &usize| matches!(to.view.layer(reader).op, Op::Linear(_));
        let only_linear =
            chain.output != to.view.output && to.view.consumers(chain.output).iter().all(linear);
        if map && !only_linear {
            let reason = "a flatten of a map is supported before fully connected layers only";
            return Err(Refusal::new(&layer.name, reason));
        }
        Ok(())
    }
}
