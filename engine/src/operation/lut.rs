//! A table with an entry for each code of the input's format.

use std::ops::RangeInclusive;

use super::{Document, Op, Operation, Site, Summary};
use crate::artifact::ArtifactError;
use crate::artifact::container::{Reader, Writer};
use crate::check::{Problem, count, in_range, same_shape};
use crate::engine::action::{Action, Operands, Rows};
use crate::kernels::level::Level;
use crate::kernels::part::{Cut, Part, Threads};
use crate::kernels::{Kernel, Workspace, elementwise};
use crate::model::Tensor;
use crate::reference::Operand;

pub(super) struct Operator<'m> {
    pub(super) table: &'m Vec<i16>,
}

impl Operation for Operator<'_> {
    fn reference(&self, operands: &[Operand], _: &Tensor) -> Vec<i32> {
        let (lowest, _) = operands[0].tensor.format.range();
        operands[0].codes.iter().map(|&code| i32::from(self.table[(code - lowest) as usize])).collect()
    }

    fn operands(&self) -> RangeInclusive<usize> {
        1..=1
    }

    fn check(&self, site: &Site) -> Result<(), Problem> {
        let (x, output) = (site.inputs[0], site.output);
        same_shape("output", output.shape, x.shape)?;
        let (lo, hi) = x.format.range();
        count("table", self.table.len(), (hi - lo + 1) as u64)?;
        let (least, most) = output.format.range();
        self.table
            .iter()
            .try_for_each(|&entry| in_range("table entry", entry.into(), least.into(), most.into()))
    }

    fn prepare(&self, site: &Site, kernel: &dyn Kernel) -> Box<dyn Action> {
        let (lowest, _) = site.inputs[0].format.range();
        let table = Box::new(elementwise::by_byte(self.table, lowest));
        Box::new(Prepared { table, level: kernel.level() })
    }

    fn encode(&self, lists: &mut Writer) -> Result<Document, ArtifactError> {
        lists.put("lut", self.table.iter().copied());
        Ok(Document::Lut)
    }

    fn summary(&self, _: &Site) -> Summary {
        Summary::plain("table")
    }
}

pub(super) fn decode(site: &Site, lists: &mut Reader) -> Result<Op, ArtifactError> {
    let (lo, hi) = site.inputs[0].format.range();
    Ok(Op::Lut(lists.take("lut", (i64::from(hi) - i64::from(lo) + 1) as u64)?))
}

/// A table by the byte of a code.
pub(super) struct Prepared {
    pub(super) table: Box<[i16; 256]>,
    pub(super) level: Level,
}

impl Action for Prepared {
    fn method(&self) -> &'static str {
        "table"
    }

    fn cut(&self, rows: Rows, threads: Threads) -> Cut {
        rows.cut(128 * 1024, threads)
    }

    fn run(&self, operands: &Operands, part: Part, _: &mut Workspace) {
        let codes = part.codes();
        let x = operands.get(0).slice(codes.start, codes.len());
        elementwise::lut(self.level, &self.table, x, &mut part.rows().1);
    }
}
