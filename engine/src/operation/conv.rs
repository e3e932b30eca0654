//! Convolutions and fully connected layers: sums of levels times codes, and what becomes of them.

pub(crate) mod weights;

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

pub use weights::Weights;

use super::requantize::{Clamp, Requantize};
use super::window::Window;
use super::{Op, Operation, Site, Summary};
use crate::artifact::ArtifactError;
use crate::artifact::container::{Reader, Writer};
use crate::check::{MAX_LAYER_WEIGHTS, Problem, count, in_range, same_shape};
use crate::cost::Layer;
use crate::digits::Digits;
use crate::engine::action::{Action, Operands, Rows};
use crate::kernels::part::{Cut, Part, Threads};
use crate::kernels::{ConvLayer, Kernel, PreparedConv, Workspace, WorkspaceSize};
use crate::model::{Packing, Tensor};
use crate::reference::{Operand, each};

/// `acc = Σ level · code` over the window, 32-bit, no saturation; then the epilogue. Padding is code 0.
#[derive(Debug, Clone, PartialEq)]
pub struct Conv {
    /// Spatial geometry.
    pub window: Window,
    /// Input and output channels split into this many independent groups.
    pub groups: u32,
    /// The quantized filters.
    pub weights: Weights,
    /// Proven bound on `|acc|` for each filter: `max(|lo|, |hi|)` of the input times `Σ|level|`, < 2³¹.
    pub bounds: Vec<u32>,
    /// What becomes of the sum.
    pub epilogue: Epilogue,
}

/// The end of a convolution.
#[derive(Debug, Clone, PartialEq)]
pub enum Epilogue {
    /// To codes of the output's format.
    Requantize(Requantize),
    /// `y = (acc << shift[c]) + bias[c]`, kept in 32 bits (proven not to overflow).
    Logits {
        /// One left shift a filter, aligning the filters' exponents.
        shift: Vec<u8>,
        /// One bias a filter, in units of the output's step.
        bias: Vec<i32>,
    },
}

/// The arguments in JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Document {
    window: Window,
    groups: u32,
    bits: u8,
    terms: u8,
    packing: Packing,
    /// Present unless the layer writes logits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    clamp: Option<Clamp>,
}

pub(super) struct Operator<'m> {
    pub(super) conv: &'m Conv,
}

impl Operation for Operator<'_> {
    fn reference(&self, operands: &[Operand], output: &Tensor) -> Vec<i32> {
        let Conv { window, weights, groups, epilogue, .. } = self.conv;
        let (x, residual) = (&operands[0], operands.get(1));
        let (cin, cout) = (x.tensor.shape.c / groups, output.shape.c / groups);
        let per_filter = (window.kernel[0] * window.kernel[1] * cin) as usize;
        let products: Vec<Digits> = (0..=255u8).map(|byte| Digits::of(byte as i8)).collect();
        each(output.shape, |at| {
            let filter = at.c as usize;
            let mut acc = 0i32;
            let mut index = 0;
            for tap_y in 0..window.kernel[0] {
                for tap_x in 0..window.kernel[1] {
                    for channel in 0..cin {
                        let level = weights.level(filter, index, per_filter);
                        let row = window.position(0, at.y, tap_y);
                        let column = window.position(1, at.x, tap_x);
                        let code = x.at(row, column, at.c / cout * cin + channel).unwrap_or(0);
                        acc += products[usize::from(level as u8)].product(code);
                        index += 1;
                    }
                }
            }
            match epilogue {
                Epilogue::Requantize(rule) => {
                    rule.apply(filter, acc, residual.map_or(0, |r| r.codes[at.index]))
                }
                Epilogue::Logits { shift, bias } => (acc << shift[filter]) + bias[filter],
            }
        })
    }

    fn operands(&self) -> RangeInclusive<usize> {
        1..=2
    }

    fn takes_wide(&self, operand: usize) -> bool {
        operand == 1
    }

    fn writes_sums(&self) -> bool {
        matches!(self.conv.epilogue, Epilogue::Logits { .. })
    }

    fn check(&self, site: &Site) -> Result<(), Problem> {
        let (conv, x, output) = (self.conv, site.inputs[0], site.output);
        let residual = site.inputs.get(1).copied();
        conv.window.check(x, output)?;
        let (cin, filters, groups) = (x.shape.c, output.shape.c, conv.groups);
        if groups == 0 || cin % groups != 0 || filters % groups != 0 {
            return Err(Problem::Rule("groups must divide the input's and the output's channels"));
        }
        let per_filter = conv.window.taps() * u64::from(cin / groups);
        let weights = per_filter * u64::from(filters);
        in_range("weights", weights.min(i64::MAX as u64) as i64, 1, MAX_LAYER_WEIGHTS as i64)?;
        count("weight codes", conv.weights.codes.len(), weights)?;
        count("bounds", conv.bounds.len(), filters.into())?;
        conv.weights.check(&conv.bounds, per_filter as usize, x.format.greatest())?;
        if let Some(residual) = residual {
            same_shape("residual operand", residual.shape, output.shape)?;
        }
        match &conv.epilogue {
            Epilogue::Requantize(requantize) => {
                let bounds: Vec<u64> = conv.bounds.iter().map(|&bound| bound.into()).collect();
                requantize.check(&bounds, residual, output)
            }
            Epilogue::Logits { .. } if residual.is_some() => {
                Err(Problem::Rule("logits take no residual operand"))
            }
            Epilogue::Logits { shift, bias } => check_logits(shift, bias, &conv.bounds),
        }
    }

    fn work(&self, site: &Site) -> u64 {
        let per_filter = (self.conv.weights.codes.len() as u64).checked_div(site.output.shape.c.into());
        per_filter.unwrap_or(0).saturating_mul(site.output.shape.len() as u64)
    }

    fn prepare(&self, site: &Site, kernel: &dyn Kernel) -> Box<dyn Action> {
        let (x, output) = (site.inputs[0], site.output);
        let (lowest, highest) = x.format.range();
        Box::new(Prepared(kernel.prepare(&ConvLayer {
            conv: self.conv,
            input: x.shape,
            signed: lowest < 0,
            largest_byte: if lowest < 0 { u8::MAX } else { highest as u8 },
            codes: output.format,
            output: output.shape,
        })))
    }

    fn weights(&self) -> usize {
        self.conv.weights.codes.len()
    }

    fn encode(&self, lists: &mut Writer) -> Result<super::Document, ArtifactError> {
        let (conv, weights) = (self.conv, &self.conv.weights);
        let packing = weights.encode(lists)?;
        lists.put("weights.bounds", conv.bounds.iter().copied());
        let clamp = match &conv.epilogue {
            Epilogue::Requantize(rule) => Some(rule.encode(lists)),
            Epilogue::Logits { shift, bias } => {
                lists.put("logits.shift", shift.iter().copied());
                lists.put("logits.bias", bias.iter().copied());
                None
            }
        };
        let (window, groups, bits, terms) = (conv.window, conv.groups, weights.bits, weights.terms);
        Ok(super::Document::Conv(Document { window, groups, bits, terms, packing, clamp }))
    }

    fn summary(&self, site: &Site) -> Summary {
        let (conv, output) = (self.conv, site.output.shape);
        let weights = conv.weights.summary(conv.bounds.len());
        let stride = match conv.window.stride {
            [1, 1] => String::new(),
            [down, _] => format!("/{down}"),
        };
        let groups = if conv.groups == 1 { String::new() } else { format!(" g{}", conv.groups) };
        let residual = if site.inputs.len() > 1 { " + residual" } else { "" };
        let name = format!("conv {}{stride}{groups}{residual}", conv.window.sides());
        let macs = Layer::of(conv, site.inputs.len() > 1, output).macs();
        Summary { name, macs, weights: Some(weights) }
    }
}

/// `(acc << shift) + bias` in 32 bits.
fn check_logits(shift: &[u8], bias: &[i32], bounds: &[u32]) -> Result<(), Problem> {
    count("logit shifts", shift.len(), bounds.len() as u64)?;
    count("logit biases", bias.len(), bounds.len() as u64)?;
    for (channel, &sum) in bounds.iter().enumerate() {
        in_range("logit shift", shift[channel].into(), 0, 31)?;
        let value = (u64::from(sum) << shift[channel]) + u64::from(bias[channel].unsigned_abs());
        if value > i32::MAX as u64 {
            return Err(Problem::Bound { channel, what: "the logit", value, limit: i32::MAX as u64 });
        }
    }
    Ok(())
}

pub(super) fn decode(document: &Document, site: &Site, lists: &mut Reader) -> Result<Op, ArtifactError> {
    let Document { window, groups, bits, terms, packing, clamp } = *document;
    let refuse = |problem: &str| ArtifactError::Metadata(problem.to_owned());
    if !(2..=8).contains(&bits) || (packing == Packing::Base3 && bits != 2) {
        return Err(refuse("a convolution's code width is out of range"));
    }
    let filters = u64::from(site.output.shape.c);
    let of_group = site.inputs[0].shape.c.checked_div(groups);
    let of_group = of_group.ok_or_else(|| refuse("a convolution has no groups"))?;
    let count = [window.kernel[0], window.kernel[1], of_group]
        .into_iter()
        .try_fold(filters, |product, factor| product.checked_mul(factor.into()))
        .ok_or_else(|| refuse("a convolution's weight count overflows"))?;
    let weights = Weights::decode((packing, bits, terms), filters, count, lists)?;
    let bounds = lists.take("weights.bounds", filters)?;
    let epilogue = match clamp {
        Some(clamp) => {
            Epilogue::Requantize(Requantize::decode(clamp, filters, site.inputs.len() > 1, lists)?)
        }
        None => Epilogue::Logits {
            shift: lists.take("logits.shift", filters)?,
            bias: lists.take("logits.bias", filters)?,
        },
    };
    Ok(Op::Conv(Conv { window, groups, weights, bounds, epilogue }))
}

struct Prepared(Box<dyn PreparedConv>);

impl Action for Prepared {
    fn method(&self) -> &'static str {
        self.0.method()
    }

    fn weight_bytes(&self) -> usize {
        self.0.weight_bytes()
    }

    fn workspace(&self) -> WorkspaceSize {
        self.0.workspace()
    }

    fn cut(&self, _: Rows, threads: Threads) -> Cut {
        self.0.cut(threads)
    }

    fn run(&self, operands: &Operands, part: Part, workspace: &mut Workspace) {
        let residual = (operands.len() > 1).then(|| operands.get(1));
        self.0.run(operands.get(0), residual, part, workspace);
    }
}
