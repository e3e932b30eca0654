//! Activations with parameters, and those that newer CNNs have.

use super::arithmetic::per_channel;
use super::{Call, Lowering, Refusal, Slot, unsupported};
use crate::network::Op;

impl<'a> Lowering<'a> {
    pub(super) fn activation(&mut self, call: &Call<'a>) -> Result<Slot<'a>, Refusal> {
        let op = match call.op {
            "Elu" => Op::Elu { alpha: call.attributes.float("alpha", 1.0)? },
            "HardSigmoid" => Op::HardSigmoid {
                alpha: call.attributes.float("alpha", 0.2)?,
                beta: call.attributes.float("beta", 0.5)?,
            },
            "HardSwish" => Op::HardSwish,
            "Swish" => match call.attributes.float("alpha", 1.0)? {
                1.0 => Op::Silu,
                alpha => return unsupported(format!("x·σ(alpha·x) with an alpha of {alpha}, not 1")),
            },
            "Gelu" => match call.attributes.text("approximate", "none")? {
                "none" => Op::Gelu { tanh: false },
                "tanh" => Op::Gelu { tanh: true },
                other => return Err(format!("approximate `{other}`").into()),
            },
            _ => self.slopes(call)?,
        };
        let input = self.settled(call.view(0)?)?;
        self.layer(call, op, vec![input])
    }

    /// A `PRelu`'s operation: its slopes are constants, and one a channel.
    fn slopes(&mut self, call: &Call<'a>) -> Result<Op, Refusal> {
        let view = call.view(0)?;
        let (shape, data) = call.numbers(1)?;
        if let (&[slope], true) = (data, shape.len() <= view.shape.len() + 1) {
            return Ok(Op::LeakyRelu { slope });
        }
        self.charge(4 * view.shape.first().copied().unwrap_or_default() as u64)?;
        Ok(Op::PRelu { slope: per_channel(shape, data, &view.shape)? })
    }
}
