//! The sum of the codes under a window, requantized. The divisor is in the rule.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::requantize::{Clamp, Requantize};
use super::window::Window;
use super::{Op, Operation, Site, Summary};
use crate::artifact::ArtifactError;
use crate::artifact::container::{Reader, Writer};
use crate::check::Problem;
use crate::engine::action::{Action, Operands, Rows};
use crate::kernels::level::Level;
use crate::kernels::part::{Cut, Part, Threads};
use crate::kernels::pool::{self, Geometry};
use crate::kernels::requantize::Rule;
use crate::kernels::{Kernel, Workspace};
use crate::model::Tensor;
use crate::reference::{Operand, each};

/// The arguments in JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Document {
    window: Window,
    clamp: Clamp,
}

pub(super) struct Operator<'m> {
    pub(super) window: &'m Window,
    pub(super) rule: &'m Requantize,
}

impl Operation for Operator<'_> {
    fn reference(&self, operands: &[Operand], output: &Tensor) -> Vec<i32> {
        let sum = |at| self.window.under(&operands[0], at).sum();
        each(output.shape, |at| self.rule.apply(at.c as usize, sum(at), 0))
    }

    fn operands(&self) -> RangeInclusive<usize> {
        1..=1
    }

    fn check(&self, site: &Site) -> Result<(), Problem> {
        let (x, output) = (site.inputs[0], site.output);
        self.window.check_pool(x, output)?;
        let bound = self.window.taps().saturating_mul(x.format.greatest());
        self.rule.check(&vec![bound; x.shape.c as usize], None, output)
    }

    fn work(&self, site: &Site) -> u64 {
        self.window.taps().saturating_mul(site.output.shape.len() as u64)
    }

    fn prepare(&self, site: &Site, kernel: &dyn Kernel) -> Box<dyn Action> {
        let (input, output) = (site.inputs[0].shape, site.output.shape);
        let geometry = Geometry { window: *self.window, input, output };
        Box::new(Prepared { geometry, rule: Rule::new(self.rule), level: kernel.level() })
    }

    fn encode(&self, lists: &mut Writer) -> Result<super::Document, ArtifactError> {
        let clamp = self.rule.encode(lists);
        Ok(super::Document::AvgPool(Document { window: *self.window, clamp }))
    }

    fn summary(&self, _: &Site) -> Summary {
        Summary::plain(format!("avg pool {}", self.window.sides()))
    }
}

pub(super) fn decode(document: &Document, site: &Site, lists: &mut Reader) -> Result<Op, ArtifactError> {
    let rule = Requantize::decode(document.clamp, site.output.shape.c.into(), false, lists)?;
    Ok(Op::AvgPool(document.window, rule))
}

struct Prepared {
    geometry: Geometry,
    rule: Rule,
    level: Level,
}

impl Action for Prepared {
    fn method(&self) -> &'static str {
        "average pool"
    }

    fn cut(&self, rows: Rows, threads: Threads) -> Cut {
        rows.cut(16 * 1024 / self.geometry.window.taps().max(1) as usize, threads)
    }

    fn run(&self, operands: &Operands, part: Part, _: &mut Workspace) {
        let (rows, mut out) = part.rows();
        pool::average(self.level, &self.geometry, &self.rule, rows.start, operands.get(0), &mut out);
    }
}
