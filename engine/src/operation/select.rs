//! Channels chosen by their numbers: splits, slices, shuffles.

use std::ops::RangeInclusive;

use super::{Document, Op, Operation, Site, Summary};
use crate::artifact::ArtifactError;
use crate::artifact::container::{Reader, Writer};
use crate::check::{Problem, count, in_range, same_codes, same_shape};
use crate::engine::action::{Action, Operands, Rows};
use crate::kernels::part::{Cut, Part, Threads};
use crate::kernels::{Kernel, Workspace, elementwise};
use crate::model::{Shape, Tensor};
use crate::reference::Operand;

/// Channels that follow each other on average, from which on they are copied together.
const LONG_RUN: usize = 8;

pub(super) struct Operator<'m> {
    pub(super) channels: &'m Vec<u32>,
}

impl Operation for Operator<'_> {
    fn reference(&self, operands: &[Operand], _: &Tensor) -> Vec<i32> {
        let channels = operands[0].tensor.shape.c as usize;
        let of_pixel = |pixel| {
            self.channels.iter().map(move |&channel: &u32| -> i32 {
                let pixel: &[i32] = pixel;
                pixel[channel as usize]
            })
        };
        operands[0].codes.chunks_exact(channels).flat_map(of_pixel).collect()
    }

    fn operands(&self) -> RangeInclusive<usize> {
        1..=1
    }

    fn check(&self, site: &Site) -> Result<(), Problem> {
        let (x, output) = (site.inputs[0], site.output);
        same_codes(x, output)?;
        same_shape("output", output.shape, Shape { c: output.shape.c, ..x.shape })?;
        count("channels", self.channels.len(), output.shape.c.into())?;
        let highest = i64::from(x.shape.c) - 1;
        self.channels.iter().try_for_each(|&channel| in_range("channel", channel.into(), 0, highest))
    }

    fn prepare(&self, site: &Site, _: &dyn Kernel) -> Box<dyn Action> {
        let mut runs: Vec<(u32, u32)> = Vec::new();
        for &channel in self.channels {
            match runs.last_mut() {
                Some((first, length)) if *first + *length == channel => *length += 1,
                _ => runs.push((channel, 1)),
            }
        }
        let choice = if self.channels.len() >= LONG_RUN * runs.len() {
            Choice::Runs(runs.iter().map(|&(first, length)| (first as usize, length as usize)).collect())
        } else {
            Choice::Single(self.channels.clone())
        };
        Box::new(Prepared { choice, from: site.inputs[0].shape.c as usize, to: self.channels.len() })
    }

    fn encode(&self, lists: &mut Writer) -> Result<Document, ArtifactError> {
        lists.put("select", self.channels.iter().copied());
        Ok(Document::Select)
    }

    fn summary(&self, _: &Site) -> Summary {
        Summary::plain("select")
    }
}

pub(super) fn decode(site: &Site, lists: &mut Reader) -> Result<Op, ArtifactError> {
    Ok(Op::Select(lists.take("select", site.output.shape.c.into())?))
}

enum Choice {
    /// First channel and length of each run.
    Runs(Vec<(usize, usize)>),
    /// One after the other.
    Single(Vec<u32>),
}

struct Prepared {
    choice: Choice,
    /// Channels of the operand.
    from: usize,
    /// Channels of the output.
    to: usize,
}

impl Action for Prepared {
    fn method(&self) -> &'static str {
        "select"
    }

    fn cut(&self, rows: Rows, threads: Threads) -> Cut {
        rows.cut(64 * 1024, threads)
    }

    fn run(&self, operands: &Operands, part: Part, _: &mut Workspace) {
        let codes = part.codes();
        let pixels = codes.start / self.to..codes.end / self.to;
        let x = operands.get(0).slice(pixels.start * self.from, pixels.len() * self.from);
        let out = &mut part.rows().1;
        match &self.choice {
            Choice::Runs(runs) => {
                let mut to = 0;
                for &(first, length) in runs {
                    elementwise::copy_channels(x, self.from, first, length, self.to, to, out);
                    to += length;
                }
            }
            Choice::Single(channels) => elementwise::select(x, self.from, channels, out),
        }
    }
}
