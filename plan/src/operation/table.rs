//! Functions of one variable that nothing before them takes in: a table over the operand's codes.

use dyadic_engine::cost::Cost;
use dyadic_graph::network::Op;

use super::{Act, Chain, Emitter, Operation, UnitOp};
use crate::refusal::Refusal;

/// Functions realized as tables.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Unary {
    /// `max(x, 0)` where nothing before it can absorb it.
    Relu,
    /// Between 0 and this value.
    Clip(f32),
    /// Slope of the negative side.
    LeakyRelu(f32),
    /// Logistic function.
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
}

pub(super) struct Table;

impl Operation for Table {
    fn takes(&self, op: &Op) -> bool {
        matches!(op, Op::Relu | Op::Clip { .. } | Op::LeakyRelu { .. } | Op::Sigmoid | Op::Tanh)
    }

    fn is_signed(&self, op: &Op, _: Act, _: &[bool]) -> bool {
        matches!(op, Op::LeakyRelu { .. } | Op::Tanh)
    }

    fn emit(&self, chain: &Chain, to: &mut Emitter) -> Result<(), Refusal> {
        let layer = to.layer(chain);
        let refuse = |reason: String| Err(Refusal::new(&layer.name, reason));
        let function = match layer.op {
            Op::Relu => Unary::Relu,
            Op::Clip { lo, hi } if lo == 0.0 && hi > 0.0 => Unary::Clip(hi),
            Op::Clip { lo, hi } => {
                return refuse(format!("a clip to {lo} … {hi}; its bounds must be 0 and more than 0"));
            }
            Op::LeakyRelu { slope } if slope.is_finite() => Unary::LeakyRelu(slope),
            Op::LeakyRelu { slope } => return refuse(format!("a leaky ReLU of slope {slope}")),
            Op::Sigmoid => Unary::Sigmoid,
            _ => Unary::Tanh,
        };
        let input = to.read(layer.inputs[0], to.wanted(chain))?;
        let (lo, hi) = to.tensor(input).coding.range();
        let coding = to.output_coding(chain);
        let cost = Cost::table((i64::from(hi) - i64::from(lo) + 1) as u64);
        to.write(chain, vec![input], UnitOp::Unary(function), coding, cost);
        Ok(())
    }
}

impl Unary {
    /// The function's value.
    pub fn apply(self, x: f64) -> f64 {
        match self {
            Unary::Relu => x.max(0.0),
            Unary::Clip(hi) => x.clamp(0.0, f64::from(hi)),
            Unary::LeakyRelu(slope) => {
                if x < 0.0 {
                    x * f64::from(slope)
                } else {
                    x
                }
            }
            Unary::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Unary::Tanh => x.tanh(),
        }
    }

    /// Whether the result can be negative.
    pub fn signed(self) -> bool {
        matches!(self, Unary::LeakyRelu(_) | Unary::Tanh)
    }
}
