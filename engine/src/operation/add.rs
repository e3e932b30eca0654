//! The sum of two tensors, whose codes may have 16 bits.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::requantize::{check_bias, check_clamp};
use super::{Document, Op, Operation, Site, Summary};
use crate::artifact::ArtifactError;
use crate::artifact::container::{Reader, Writer};
use crate::check::{Problem, SUM_LIMIT, in_range, same_shape};
use crate::engine::action::{Action, Operands, Rows};
use crate::kernels::level::Level;
use crate::kernels::part::{Cut, Part, Threads};
use crate::kernels::{Kernel, Workspace, elementwise};
use crate::model::Tensor;
use crate::reference::Operand;

/// Parameters of [`Op::Add`]; all shifts ≤ 15, |bias| < 2²³, the sum under 2²⁴.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Add {
    /// Left shift of each operand.
    pub operand_shift: [u8; 2],
    /// Rounding and offset.
    pub bias: i32,
    /// Right shift.
    pub shift: u8,
    /// Lowest output code.
    pub lo: i32,
    /// Highest output code.
    pub hi: i32,
}

pub(super) struct Operator<'m> {
    pub(super) add: &'m Add,
}

impl Operation for Operator<'_> {
    fn reference(&self, operands: &[Operand], _: &Tensor) -> Vec<i32> {
        let rule = self.add;
        let sum = |(&a, &b): (&i32, &i32)| {
            let sum = (a << rule.operand_shift[0]) + (b << rule.operand_shift[1]) + rule.bias;
            (sum >> rule.shift).clamp(rule.lo, rule.hi)
        };
        operands[0].codes.iter().zip(operands[1].codes).map(sum).collect()
    }

    fn operands(&self) -> RangeInclusive<usize> {
        2..=2
    }

    fn takes_wide(&self, _: usize) -> bool {
        true
    }

    fn check(&self, site: &Site) -> Result<(), Problem> {
        let (add, a, b, output) = (self.add, site.inputs[0], site.inputs[1], site.output);
        same_shape("first operand", a.shape, output.shape)?;
        same_shape("second operand", b.shape, output.shape)?;
        in_range("first operand's shift", add.operand_shift[0].into(), 0, 15)?;
        in_range("second operand's shift", add.operand_shift[1].into(), 0, 15)?;
        in_range("shift", add.shift.into(), 0, 31)?;
        check_bias(add.bias)?;
        check_clamp(add.lo, add.hi, output)?;
        let total = (a.format.greatest() << add.operand_shift[0])
            + (b.format.greatest() << add.operand_shift[1])
            + u64::from(add.bias.unsigned_abs());
        if total >= SUM_LIMIT {
            let what = "the addition";
            return Err(Problem::Bound { channel: 0, what, value: total, limit: SUM_LIMIT - 1 });
        }
        Ok(())
    }

    fn prepare(&self, _: &Site, kernel: &dyn Kernel) -> Box<dyn Action> {
        Box::new(Prepared { rule: *self.add, level: kernel.level() })
    }

    fn encode(&self, _: &mut Writer) -> Result<Document, ArtifactError> {
        Ok(Document::Add(*self.add))
    }

    fn summary(&self, _: &Site) -> Summary {
        Summary::plain("add")
    }
}

pub(super) fn decode(add: &Add, _: &Site, _: &mut Reader) -> Result<Op, ArtifactError> {
    Ok(Op::Add(*add))
}

struct Prepared {
    rule: Add,
    level: Level,
}

impl Action for Prepared {
    fn method(&self) -> &'static str {
        "add"
    }

    fn cut(&self, rows: Rows, threads: Threads) -> Cut {
        rows.cut(8 * 1024, threads)
    }

    fn run(&self, operands: &Operands, part: Part, _: &mut Workspace) {
        let codes = part.codes();
        let [a, b] = [0, 1].map(|index| operands.get(index).slice(codes.start, codes.len()));
        elementwise::add(self.level, &self.rule, a, b, &mut part.rows().1);
    }
}
