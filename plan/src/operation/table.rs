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
    /// What the negative side of an ELU tends to, negated.
    Elu(f32),
    /// Logistic function.
    Sigmoid,
    /// `alpha·x + beta`, held to 0 … 1.
    HardSigmoid(f32, f32),
    /// `x·σ(x)`.
    Silu,
    /// `x·min(max(x + 3, 0), 6)/6`.
    HardSwish,
    /// `x·Φ(x)`; whether by the hyperbolic tangent.
    Gelu(bool),
    /// Hyperbolic tangent.
    Tanh,
}

pub(super) struct Table;

impl Operation for Table {
    fn takes(&self, op: &Op) -> bool {
        matches!(op, Op::Relu | Op::Clip { .. } | Op::PRelu { .. }) || of(op).is_some()
    }

    fn is_signed(&self, op: &Op, _: Act, _: &[bool]) -> bool {
        of(op).is_some_and(Unary::signed) || matches!(op, Op::PRelu { .. })
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
            Op::PRelu { .. } => return refuse("a slope for each channel (PReLU)".to_owned()),
            ref op => match of(op) {
                Some(function) if function.is_finite() => function,
                Some(function) => return refuse(format!("{} that is not finite: {function:?}", op.name())),
                None => return refuse(format!("{} is no function of one variable", op.name())),
            },
        };
        let input = to.read(layer.inputs[0], to.wanted(chain))?;
        let (lo, hi) = to.tensor(input).coding.range();
        let coding = to.output_coding(chain);
        let cost = Cost::table((i64::from(hi) - i64::from(lo) + 1) as u64);
        to.write(chain, vec![input], UnitOp::Unary(function), coding, cost);
        Ok(())
    }
}

/// The function that a layer is, where it is one that only a table makes.
fn of(op: &Op) -> Option<Unary> {
    Some(match *op {
        Op::LeakyRelu { slope } => Unary::LeakyRelu(slope),
        Op::Elu { alpha } => Unary::Elu(alpha),
        Op::Sigmoid => Unary::Sigmoid,
        Op::HardSigmoid { alpha, beta } => Unary::HardSigmoid(alpha, beta),
        Op::Silu => Unary::Silu,
        Op::HardSwish => Unary::HardSwish,
        Op::Gelu { tanh } => Unary::Gelu(tanh),
        Op::Tanh => Unary::Tanh,
        _ => return None,
    })
}

/// Φ, the distribution of the normal numbers, to 10⁻⁷: erf by formula 7.1.26 of Abramowitz and Stegun, whose error of
/// 1.5·10⁻⁷ is far below a code.
fn normal(x: f64) -> f64 {
    let z = x.abs() / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let terms = [1.061_405_429, -1.453_152_027, 1.421_413_741, -0.284_496_736, 0.254_829_592];
    let rest = terms.into_iter().fold(0.0, |sum, term| (sum + term) * t) * (-z * z).exp();
    if x < 0.0 { 0.5 * rest } else { 1.0 - 0.5 * rest }
}

impl Unary {
    fn is_finite(self) -> bool {
        match self {
            Unary::LeakyRelu(a) | Unary::Elu(a) | Unary::Clip(a) => a.is_finite(),
            Unary::HardSigmoid(a, b) => a.is_finite() && b.is_finite(),
            _ => true,
        }
    }

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
            Unary::Elu(alpha) => {
                if x < 0.0 {
                    f64::from(alpha) * x.exp_m1()
                } else {
                    x
                }
            }
            Unary::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Unary::HardSigmoid(alpha, beta) => (f64::from(alpha) * x + f64::from(beta)).clamp(0.0, 1.0),
            Unary::Silu => x / (1.0 + (-x).exp()),
            Unary::HardSwish => x * (x + 3.0).clamp(0.0, 6.0) / 6.0,
            Unary::Gelu(false) => x * normal(x),
            Unary::Gelu(true) => {
                let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
                0.5 * x * (1.0 + inner.tanh())
            }
            Unary::Tanh => x.tanh(),
        }
    }

    /// Whether the result can be negative.
    pub fn signed(self) -> bool {
        match self {
            Unary::Relu | Unary::Clip(_) | Unary::Sigmoid | Unary::HardSigmoid(..) => false,
            Unary::LeakyRelu(_)
            | Unary::Elu(_)
            | Unary::Silu
            | Unary::HardSwish
            | Unary::Gelu(_)
            | Unary::Tanh => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_have_their_known_values() {
        // By SciPy 1.17: x·norm.cdf(x), x/(1 + exp(−x)), …
        for (function, x, wanted) in [
            (Unary::Gelu(false), 1.0, 0.841_344_746),
            (Unary::Gelu(false), -2.0, -0.045_500_264),
            (Unary::Gelu(false), -0.5, -0.154_268_770),
            (Unary::Gelu(true), 1.0, 0.841_191_991),
            (Unary::Silu, 1.0, 0.731_058_579),
            (Unary::Silu, -3.0, -0.142_277_620),
            (Unary::HardSwish, -1.5, -0.375),
            (Unary::HardSwish, 4.0, 4.0),
            (Unary::HardSigmoid(0.2, 0.5), 1.0, 0.7),
            (Unary::HardSigmoid(0.2, 0.5), 9.0, 1.0),
            (Unary::Elu(1.0), -1.0, -0.632_120_559),
            (Unary::Elu(2.0), 3.0, 3.0),
        ] {
            assert!((function.apply(x) - wanted).abs() < 2e-7, "{function:?} at {x}: {}", function.apply(x));
        }
    }
}
