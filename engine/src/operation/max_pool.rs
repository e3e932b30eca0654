//! The largest code under a window.

use std::ops::RangeInclusive;

use super::window::Window;
use super::{Document, Op, Operation, Site, Summary};
use crate::artifact::ArtifactError;
use crate::artifact::container::{Reader, Writer};
use crate::check::{Problem, same_codes};
use crate::engine::action::{Action, Operands, Rows};
use crate::kernels::level::Level;
use crate::kernels::part::{Cut, Part, Threads};
use crate::kernels::pool::{self, Geometry};
use crate::kernels::{Kernel, Line, Workspace, WorkspaceSize};
use crate::model::Tensor;
use crate::reference::{Operand, each};

pub(super) struct Operator<'m> {
    pub(super) window: &'m Window,
}

impl Operation for Operator<'_> {
    fn reference(&self, operands: &[Operand], output: &Tensor) -> Vec<i32> {
        let (lowest, _) = output.format.range();
        each(output.shape, |at| self.window.under(&operands[0], at).fold(lowest, i32::max))
    }

    fn operands(&self) -> RangeInclusive<usize> {
        1..=1
    }

    fn check(&self, site: &Site) -> Result<(), Problem> {
        same_codes(site.inputs[0], site.output)?;
        self.window.check_pool(site.inputs[0], site.output)
    }

    fn work(&self, site: &Site) -> u64 {
        self.window.taps().saturating_mul(site.output.shape.len() as u64)
    }

    fn prepare(&self, site: &Site, kernel: &dyn Kernel) -> Box<dyn Action> {
        let (input, output) = (site.inputs[0].shape, site.output.shape);
        let geometry = Geometry { window: *self.window, input, output };
        Box::new(Prepared { geometry, level: kernel.level() })
    }

    fn encode(&self, _: &mut Writer) -> Result<Document, ArtifactError> {
        Ok(Document::MaxPool(*self.window))
    }

    fn summary(&self, _: &Site) -> Summary {
        Summary::plain(format!("max pool {}", self.window.sides()))
    }
}

pub(super) fn decode(window: &Window, _: &Site, _: &mut Reader) -> Result<Op, ArtifactError> {
    Ok(Op::MaxPool(*window))
}

struct Prepared {
    geometry: Geometry,
    level: Level,
}

impl Action for Prepared {
    fn method(&self) -> &'static str {
        "max pool"
    }

    fn workspace(&self) -> WorkspaceSize {
        WorkspaceSize { lines: pool::max_space(&self.geometry).div_ceil(64), ..WorkspaceSize::default() }
    }

    fn cut(&self, rows: Rows, threads: Threads) -> Cut {
        rows.cut(16 * 1024, threads)
    }

    fn run(&self, operands: &Operands, part: Part, workspace: &mut Workspace) {
        let (rows, mut out) = part.rows();
        let space = Line::bytes_mut(&mut workspace.lines);
        pool::max(self.level, &self.geometry, rows.start, operands.get(0), &mut out, space);
    }
}
