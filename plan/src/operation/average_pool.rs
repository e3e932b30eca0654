//! Mean over windows, or over the whole map: a sum of codes, then the requantize rule.

use dyadic_engine::cost::Cost;
use dyadic_graph::network::{Op, Window};

use super::{Act, Chain, Emitter, Operation, UnitOp};
use crate::limits;
use crate::plan::Coding;
use crate::refusal::Refusal;

pub(super) struct AveragePool;

impl Operation for AveragePool {
    fn takes(&self, op: &Op) -> bool {
        matches!(op, Op::AvgPool { .. } | Op::GlobalAvgPool)
    }

    fn is_signed(&self, _: &Op, _: Act, operands: &[bool]) -> bool {
        operands.contains(&true)
    }

    fn emit(&self, chain: &Chain, to: &mut Emitter) -> Result<(), Refusal> {
        let layer = to.layer(chain);
        let refuse = |reason: &str| Err(Refusal::new(&layer.name, reason));
        let input = to.read(layer.inputs[0], to.wanted(chain))?;
        let shape @ [_, h, w] = to.tensor(input).shape;
        let window = match layer.op {
            Op::AvgPool { window, .. } if window.dilation != [1, 1] => {
                return refuse("an average pool with a dilation");
            }
            Op::AvgPool { window, count_include_pad: false } if window.padding != [0; 4] => {
                return refuse("an average pool whose padding does not count in the divisor");
            }
            Op::AvgPool { window, .. } => window,
            _ => Window { kernel: [h, w], stride: [1, 1], padding: [0; 4], dilation: [1, 1] },
        };
        limits::pool(&layer.name, &window, shape)?;
        let reach = limits::reach(to.tensor(input).coding);
        limits::sum(&layer.name, (window.kernel[0] as u64).saturating_mul(window.kernel[1] as u64), reach)?;
        let coding = match to.output_coding(chain) {
            // What the network gives is read by nobody: with 16 bits, logits that are means do not tie.
            Coding::Codes { step, .. } if to.is_output(chain) => {
                Coding::Codes { bits: 16, signed: true, step }
            }
            coding => coding,
        };
        let cost = Cost::requantize(shape[0] as u64);
        to.write(chain, vec![input], UnitOp::AvgPool(window), coding, cost);
        Ok(())
    }
}
