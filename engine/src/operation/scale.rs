//! The product of two tensors of codes: gates of squeeze-and-excitation, and products of one shape.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::requantize::{check_bias, check_clamp};
use super::{Document, Op, Operation, Site, Summary};
use crate::artifact::ArtifactError;
use crate::artifact::container::{Reader, Writer};
use crate::check::{Problem, SUM_LIMIT, in_range, same_shape};
use crate::digits::nearest;
use crate::engine::action::{Action, Operands, Rows};
use crate::kernels::level::Level;
use crate::kernels::part::{Cut, Part, Threads};
use crate::kernels::{Kernel, Workspace, elementwise};
use crate::model::{Format, Shape, Tensor};
use crate::reference::Operand;

/// Parameters of [`Op::Scale`]; |bias| < 2²³, the sum under 2²⁴.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// Signed powers of two that a gate's code is held to, 1 ..= [`Scale::EXACT_DIGITS`]: shift-adds of a product.
    pub digits: u8,
    /// Rounding.
    pub bias: i32,
    /// Right shift.
    pub shift: u8,
    /// Lowest output code.
    pub lo: i32,
    /// Highest output code.
    pub hi: i32,
}

impl Scale {
    /// So many digits make every code of 8 bits: the product is exact.
    pub const EXACT_DIGITS: u8 = 5;

    /// What a gate's code multiplies with: the nearest number of so many signed powers of two; of two, the smaller one.
    pub fn factor(&self, gate: i32) -> i32 {
        nearest(gate, usize::from(self.digits))
    }

    /// The output's code, from one of the operand and one of the gate.
    pub fn apply(&self, code: i32, gate: i32) -> i32 {
        ((code * self.factor(gate) + self.bias) >> self.shift).clamp(self.lo, self.hi)
    }
}

/// The largest absolute factor that a gate of this format can be.
fn greatest_factor(scale: &Scale, gate: Format) -> u64 {
    let (lo, hi) = gate.range();
    u64::from(scale.factor(lo).unsigned_abs().max(scale.factor(hi).unsigned_abs()))
}

pub(super) struct Operator<'m> {
    pub(super) scale: &'m Scale,
}

impl Operation for Operator<'_> {
    fn reference(&self, operands: &[Operand], _: &Tensor) -> Vec<i32> {
        let (x, gates) = (operands[0].codes, operands[1].codes);
        // A gate a channel is met again at every position.
        x.iter().zip(gates.iter().cycle()).map(|(&code, &gate)| self.scale.apply(code, gate)).collect()
    }

    fn operands(&self) -> RangeInclusive<usize> {
        2..=2
    }

    fn check(&self, site: &Site) -> Result<(), Problem> {
        let (scale, x, gate, output) = (self.scale, site.inputs[0], site.inputs[1], site.output);
        same_shape("output", output.shape, x.shape)?;
        if gate.shape != x.shape {
            same_shape("gate", gate.shape, Shape { h: 1, w: 1, c: x.shape.c })?;
        }
        in_range("digits", scale.digits.into(), 1, Scale::EXACT_DIGITS.into())?;
        in_range("shift", scale.shift.into(), 0, 31)?;
        check_bias(scale.bias)?;
        check_clamp(scale.lo, scale.hi, output)?;
        let total =
            x.format.greatest() * greatest_factor(scale, gate.format) + u64::from(scale.bias.unsigned_abs());
        if total >= SUM_LIMIT {
            let what = "the product";
            return Err(Problem::Bound { channel: 0, what, value: total, limit: SUM_LIMIT - 1 });
        }
        Ok(())
    }

    fn prepare(&self, site: &Site, kernel: &dyn Kernel) -> Box<dyn Action> {
        let (lo, hi) = site.inputs[1].format.range();
        let mut factors = Box::new([0; 256]);
        for gate in lo..=hi {
            factors[usize::from(gate as u8)] = self.scale.factor(gate);
        }
        let gates = site.inputs[1].shape;
        let broadcast = (gates != site.inputs[0].shape).then_some(gates.c as usize);
        Box::new(Prepared { rule: *self.scale, factors, broadcast, level: kernel.level() })
    }

    fn encode(&self, _: &mut Writer) -> Result<Document, ArtifactError> {
        Ok(Document::Scale(*self.scale))
    }

    fn summary(&self, _: &Site) -> Summary {
        Summary::plain(if self.scale.digits < Scale::EXACT_DIGITS { "scale" } else { "scale, exact product" })
    }
}

pub(super) fn decode(scale: &Scale, _: &Site, _: &mut Reader) -> Result<Op, ArtifactError> {
    Ok(Op::Scale(*scale))
}

struct Prepared {
    rule: Scale,
    /// By the byte of a gate's code.
    factors: Box<[i32; 256]>,
    /// Channels, where there is one gate a channel.
    broadcast: Option<usize>,
    level: Level,
}

impl Action for Prepared {
    fn method(&self) -> &'static str {
        "scale"
    }

    fn cut(&self, rows: Rows, threads: Threads) -> Cut {
        rows.cut(8 * 1024, threads)
    }

    fn run(&self, operands: &Operands, part: Part, _: &mut Workspace) {
        let codes = part.codes();
        let x = operands.get(0).slice(codes.start, codes.len());
        let out = &mut part.rows().1;
        if let Some(channels) = self.broadcast {
            let gates = operands.get(1).slice(0, channels);
            elementwise::scale_channels(self.level, &self.rule, &self.factors, x, gates, out);
        } else {
            let gates = operands.get(1).slice(codes.start, codes.len());
            elementwise::scale(self.level, &self.rule, &self.factors, x, gates, out);
        }
    }
}
