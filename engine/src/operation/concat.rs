//! Operands' channels, one operand after the other.

use std::ops::RangeInclusive;

use super::{Document, Op, Operation, Site, Summary};
use crate::artifact::ArtifactError;
use crate::artifact::container::{Reader, Writer};
use crate::check::{Problem, in_range, same_codes, same_shape};
use crate::engine::action::{Action, Operands, Rows};
use crate::kernels::part::{Cut, Part, Threads};
use crate::kernels::{Kernel, Workspace, elementwise};
use crate::model::{Shape, Tensor};
use crate::reference::Operand;

pub(super) struct Operator {}

impl Operation for Operator {
    fn reference(&self, operands: &[Operand], output: &Tensor) -> Vec<i32> {
        let mut out = Vec::with_capacity(output.shape.len());
        for pixel in 0..(output.shape.h * output.shape.w) as usize {
            for operand in operands {
                let channels = operand.tensor.shape.c as usize;
                out.extend_from_slice(&operand.codes[pixel * channels..(pixel + 1) * channels]);
            }
        }
        out
    }

    fn operands(&self) -> RangeInclusive<usize> {
        1..=usize::MAX
    }

    fn check(&self, site: &Site) -> Result<(), Problem> {
        let output = site.output;
        let mut channels = 0u64;
        for part in &site.inputs {
            same_codes(part, output)?;
            same_shape("operand", part.shape, Shape { c: part.shape.c, ..output.shape })?;
            channels += u64::from(part.shape.c);
        }
        in_range("channels of the operands", channels as i64, output.shape.c.into(), output.shape.c.into())
    }

    fn prepare(&self, site: &Site, _: &dyn Kernel) -> Box<dyn Action> {
        let channels = site.output.shape.c as usize;
        Box::new(Prepared { parts: site.inputs.iter().map(|x| x.shape.c as usize).collect(), channels })
    }

    fn encode(&self, _: &mut Writer) -> Result<Document, ArtifactError> {
        Ok(Document::Concat)
    }

    fn summary(&self, _: &Site) -> Summary {
        Summary::plain("concat")
    }
}

pub(super) fn decode(_: &Site, _: &mut Reader) -> Result<Op, ArtifactError> {
    Ok(Op::Concat)
}

struct Prepared {
    /// Channels of each operand.
    parts: Vec<usize>,
    /// Channels of the output.
    channels: usize,
}

impl Action for Prepared {
    fn method(&self) -> &'static str {
        "concat"
    }

    fn cut(&self, rows: Rows, threads: Threads) -> Cut {
        rows.cut(128 * 1024, threads)
    }

    fn run(&self, operands: &Operands, part: Part, _: &mut Workspace) {
        let codes = part.codes();
        let pixels = codes.start / self.channels..codes.end / self.channels;
        let (_, mut out) = part.rows();
        let mut first = 0;
        for (index, &channels) in self.parts.iter().enumerate() {
            let codes = operands.get(index).slice(pixels.start * channels, pixels.len() * channels);
            elementwise::place(codes, channels, first, self.channels, &mut out);
            first += channels;
        }
    }
}
