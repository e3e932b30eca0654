//! The operations of the integer network, one file each.
//!
//! Such a file holds all that an operation is: its parameters, the check that proves its bounds, its meaning, how it is
//! made ready to run, its JSON, and what people are told about it. To add one, write its file and list it below: nothing
//! else in the crate asks which operation a node has. [`requantize`] and [`window`] are what several of them share.
#![allow(
    clippy::unnecessary_wraps,
    clippy::trivially_copy_pass_by_ref,
    reason = "all operations are read from JSON alike"
)]

pub mod add;
pub mod affine;
pub mod avg_pool;
pub mod concat;
pub mod conv;
pub mod lut;
pub mod max_pool;
pub mod requantize;
pub mod scale;
pub mod select;
pub mod window;

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::artifact::ArtifactError;
use crate::artifact::container::{Reader, Writer};
use crate::check::Problem;
use crate::engine::action::Action;
use crate::kernels::Kernel;
use crate::model::{Add, Conv, Requantize, Scale, Tensor, Window};
use crate::reference::Operand;
use crate::summary::WeightSummary;

/// An operation with its parameters. Each file has an `Operator` that is one, and a `decode` that reads one.
pub(crate) trait Operation {
    /// How many operands it takes.
    fn operands(&self) -> RangeInclusive<usize>;

    /// Whether the operand of that number may have 16-bit codes.
    fn takes_wide(&self, _operand: usize) -> bool {
        false
    }

    /// Whether it writes 32-bit sums, and nothing else.
    fn writes_sums(&self) -> bool {
        false
    }

    /// Shapes, formats, lengths of lists, and the proofs that no sum overflows. The number of operands is right.
    fn check(&self, site: &Site) -> Result<(), Problem>;

    /// Multiply-accumulates of one sample, or what takes about as long; saturates.
    fn work(&self, site: &Site) -> u64 {
        site.output.shape.len() as u64
    }

    /// The meaning: the output's codes, NHWC. Everything has been checked.
    fn reference(&self, operands: &[Operand], output: &Tensor) -> Vec<i32>;

    /// Bytes that [`Operation::prepare`] takes at most, where they are not a small multiple of what the artifact has for it.
    fn bytes(&self, _: &Site, _: &dyn Kernel) -> u64 {
        0
    }

    /// Makes it ready to run. Everything has been checked.
    fn prepare(&self, site: &Site, kernel: &dyn Kernel) -> Box<dyn Action>;

    /// Weights that [`Operation::prepare`] repacks.
    fn weights(&self) -> usize {
        0
    }

    /// Its JSON, and its numbers at the ends of the artifact's lists.
    fn encode(&self, lists: &mut Writer) -> Result<Document, ArtifactError>;

    /// What people are told. Everything has been checked.
    fn summary(&self, site: &Site) -> Summary;
}

/// The tensors that a node reads and writes.
pub(crate) struct Site<'m> {
    /// In the operation's order.
    pub(crate) inputs: Vec<&'m Tensor>,
    /// The only one that is written.
    pub(crate) output: &'m Tensor,
}

/// What people are told about a node.
pub(crate) struct Summary {
    /// The operation, with its kernel where it has one.
    pub(crate) name: String,
    /// Multiply-accumulates of one sample that shifts and adds replace.
    pub(crate) macs: u64,
    /// The weights, in operations that have some.
    pub(crate) weights: Option<WeightSummary>,
}

impl Summary {
    /// Of an operation without weights.
    fn plain(name: impl Into<String>) -> Self {
        Summary { name: name.into(), macs: 0, weights: None }
    }
}

/// `operations! { Variant(parameters) = file(JSON of the arguments); … }` makes [`Op`], its JSON, and the way from both to
/// the files.
macro_rules! operations {
    ($(
        $(#[$doc:meta])*
        $variant:ident $(($($field:ident: $type:ty),+))? = $module:ident $(($document:ty))?;
    )+) => {
        /// The operations of the integer graph.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Op {
            $($(#[$doc])* $variant $(($($type),+))?,)+
        }

        /// An operation's JSON: its name, with arguments where it has some. Lists stand elsewhere.
        #[derive(Debug, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub(crate) enum Document {
            $($variant $(($document))?,)+
        }

        impl Op {
            /// The operation itself.
            pub(crate) fn operation(&self) -> Box<dyn Operation + '_> {
                match self {
                    $(Op::$variant $(($($field),+))? => Box::new($module::Operator { $($($field),+)? }),)+
                }
            }
        }

        impl Document {
            /// Reads the operation of a node whose tensors are there but not yet checked.
            pub(crate) fn decode(&self, site: &Site, lists: &mut Reader) -> Result<Op, ArtifactError> {
                match self {
                    $(Document::$variant $((operations!(@ $document, arguments)))? => {
                        $module::decode($(operations!(@ $document, arguments),)? site, lists)
                    })+
                }
            }
        }
    };
    (@ $document:ty, $arguments:ident) => { $arguments };
}

operations! {
    /// Convolution or fully connected layer (whose kernel is the whole input); inputs `[x]` or `[x, residual]`.
    Conv(conv: Conv) = conv(conv::Document);
    /// Inputs `[a, b]` of one shape:
    /// `y = clamp(((a << a_shift) + (b << b_shift) + bias) >> shift, lo, hi)`.
    Add(add: Add) = add(Add);
    /// Per-channel requantize of codes (`acc` is the input code): lone batch normalizations, ReLUs and casts.
    Affine(rule: Requantize) = affine(requantize::Clamp);
    /// Maximum over the window; positions in the padding do not take part. Input and output share format and step.
    MaxPool(window: Window) = max_pool(Window);
    /// Sum over the window (padding counts as code 0), then requantize per channel.
    AvgPool(window: Window, rule: Requantize) = avg_pool(avg_pool::Document);
    /// Table look-up: entry `code − lowest code of the input format`; `2^bits` entries, each in the output's range.
    Lut(table: Vec<i16>) = lut;
    /// Along channels; inputs and output share format and step.
    Concat = concat;
    /// Inputs `[x, gate]`, the gate of x's shape or with one code a channel:
    /// `y = clamp((x·factor(gate) + bias) >> shift, lo, hi)`, where a factor has few signed digits.
    Scale(scale: Scale) = scale(Scale);
    /// Output channel i is the input's channel of the i-th number; input and output share format and step.
    Select(channels: Vec<u32>) = select;
}
