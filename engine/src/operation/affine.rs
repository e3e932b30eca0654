//! The requantize rule on codes: lone batch normalizations, ReLUs and casts.

use std::ops::RangeInclusive;

use super::requantize::{Clamp, Requantize};
use super::{Document, Op, Operation, Site, Summary, lut};
use crate::artifact::ArtifactError;
use crate::artifact::container::{Reader, Writer};
use crate::check::{Problem, same_shape};
use crate::engine::action::{Action, Operands, Rows};
use crate::kernels::level::Level;
use crate::kernels::part::{Cut, Part, Threads};
use crate::kernels::requantize::Rule;
use crate::kernels::{Kernel, Workspace, elementwise};
use crate::model::Tensor;
use crate::reference::{Operand, each};

pub(super) struct Operator<'m> {
    pub(super) rule: &'m Requantize,
}

impl Operation for Operator<'_> {
    fn reference(&self, operands: &[Operand], output: &Tensor) -> Vec<i32> {
        let x = operands[0].codes;
        each(output.shape, |at| self.rule.apply(at.c as usize, x[at.index], 0))
    }

    fn operands(&self) -> RangeInclusive<usize> {
        1..=1
    }

    fn check(&self, site: &Site) -> Result<(), Problem> {
        let (x, output) = (site.inputs[0], site.output);
        same_shape("output", output.shape, x.shape)?;
        let bounds = vec![x.format.greatest(); x.shape.c as usize];
        self.rule.check(&bounds, None, output)
    }

    fn prepare(&self, site: &Site, kernel: &dyn Kernel) -> Box<dyn Action> {
        let (rule, level) = (Rule::new(self.rule), kernel.level());
        match elementwise::affine_table(level, &rule, site.inputs[0].format, site.output.format) {
            Some(table) => Box::new(lut::Prepared { table, level }),
            None => Box::new(Prepared { rule, level }),
        }
    }

    fn encode(&self, lists: &mut Writer) -> Result<Document, ArtifactError> {
        Ok(Document::Affine(self.rule.encode(lists)))
    }

    fn summary(&self, _: &Site) -> Summary {
        Summary::plain("affine")
    }
}

pub(super) fn decode(clamp: &Clamp, site: &Site, lists: &mut Reader) -> Result<Op, ArtifactError> {
    Ok(Op::Affine(Requantize::decode(*clamp, site.output.shape.c.into(), false, lists)?))
}

struct Prepared {
    rule: Rule,
    level: Level,
}

impl Action for Prepared {
    fn method(&self) -> &'static str {
        "affine"
    }

    fn cut(&self, rows: Rows, threads: Threads) -> Cut {
        rows.cut(8 * 1024, threads)
    }

    fn run(&self, operands: &Operands, part: Part, _: &mut Workspace) {
        let codes = part.codes();
        let x = operands.get(0).slice(codes.start, codes.len());
        elementwise::affine(self.level, &self.rule, x, &mut part.rows().1);
    }
}
