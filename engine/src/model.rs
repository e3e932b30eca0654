//! The integer network: what an artifact holds and every executor runs.
//!
//! A [`Model`] is plain data, already in the form the arithmetic needs: integer codes, level tables, shifts
//! and biases. Tensors are NHWC without the batch axis. Nothing here executes; `reference` gives the meaning.

mod codes;

use serde::{Deserialize, Serialize};

use crate::operation::Site;

pub use crate::operation::Op;
pub use crate::operation::add::Add;
pub use crate::operation::conv::{Conv, Epilogue, Weights};
pub use crate::operation::requantize::Requantize;
pub use crate::operation::scale::Scale;
pub use crate::operation::window::Window;
pub use codes::{Codes, Packing};

/// Index into [`Model::tensors`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TensorId(pub u32);

/// A whole integer network.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// The network's name, as the user gave it.
    pub name: String,
    /// How float or byte input becomes codes.
    pub input: Input,
    /// Every tensor that flows between nodes; [`TensorId`] indexes this.
    pub tensors: Vec<Tensor>,
    /// Topologically ordered; each node writes one tensor that no other node writes.
    pub nodes: Vec<Node>,
    /// What the caller gets back.
    pub output: Output,
}

/// The network's only input: NCHW floats, or HWC bytes where `normalization` is there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The tensor's name in the source file.
    pub name: String,
    /// The tensor that receives the codes; its step is [`Step::Free`].
    pub tensor: TensorId,
    /// With it, 8-bit images are accepted: the value of byte `v` in channel `c` is `(v/255 − mean[c]) / std[c]`
    /// in f32, in that order of operations.
    pub normalization: Option<Normalization>,
}

/// Per-channel normalization of 8-bit images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalization {
    /// One mean a channel, in units of v/255.
    pub mean: Vec<f32>,
    /// One standard deviation a channel, > 0, in units of v/255.
    pub std: Vec<f32>,
}

/// The network's only output: `value = f32(code) · 2^step`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// The tensor's name in the source file.
    pub name: String,
    /// The tensor that is read.
    pub tensor: TensorId,
    /// A softmax in float after the integer graph, where the source file ended in one.
    pub softmax: bool,
    /// The softmax's logarithm in its place.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub log: bool,
    /// Class names, in the order of the logits; empty if unknown.
    pub labels: Vec<String>,
}

/// One tensor of integer codes, NHWC.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tensor {
    /// Unique in the model; derived from the source file's value names.
    pub name: String,
    /// Height, width, channels; features after a flatten are 1 × 1 × n.
    pub shape: Shape,
    /// The codes' range.
    pub format: Format,
    /// The value of one code unit.
    pub step: Step,
}

/// Height, width, channels of one sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Rows.
    pub h: u32,
    /// Columns.
    pub w: u32,
    /// Channels.
    pub c: u32,
}

/// Range of a tensor's codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Format {
    /// `0 ..= 2^bits − 1`, 1 ≤ bits ≤ 8.
    Unsigned {
        /// Width of a code.
        bits: u8,
    },
    /// `−2^(bits−1) ..= 2^(bits−1) − 1`, 2 ≤ bits ≤ 8, or 16 where every reader is an add.
    Signed {
        /// Width of a code.
        bits: u8,
    },
    /// 32-bit sums, written by [`Epilogue::Logits`] and read by [`Output`] only.
    Accumulator,
}

/// The value of one code unit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// `2^e`.
    PowerOfTwo(i32),
    /// Any positive finite f32; the network's input only.
    Free(f32),
}

/// One operation.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Unique in the model; the source file's node name where it has one.
    pub name: String,
    /// What is read, in the operation's order.
    pub inputs: Vec<TensorId>,
    /// What is written.
    pub output: TensorId,
    /// The operation.
    pub op: Op,
}

impl Format {
    /// Lowest and highest code.
    pub fn range(self) -> (i32, i32) {
        match self {
            Format::Unsigned { bits } => (0, (1i32 << bits) - 1),
            Format::Signed { bits } => (-(1i32 << (bits - 1)), (1i32 << (bits - 1)) - 1),
            Format::Accumulator => (i32::MIN, i32::MAX),
        }
    }

    /// Largest absolute value of a code.
    pub(crate) fn greatest(self) -> u64 {
        let (lo, hi) = self.range();
        u64::from(lo.unsigned_abs().max(hi.unsigned_abs()))
    }

    /// Bytes of a code in memory.
    pub fn bytes(self) -> usize {
        match self {
            Format::Unsigned { .. } => 1,
            Format::Signed { bits } if bits <= 8 => 1,
            Format::Signed { .. } => 2,
            Format::Accumulator => 4,
        }
    }
}

impl Shape {
    /// Codes in one sample.
    pub fn len(self) -> usize {
        self.h as usize * self.w as usize * self.c as usize
    }

    /// Whether the shape holds nothing.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

impl Step {
    /// The value of one code unit in f32; powers beyond f32's normal range are clamped to it.
    pub fn value(self) -> f32 {
        match self {
            Step::PowerOfTwo(exponent) => f32::from_bits(((exponent.clamp(-126, 127) + 127) as u32) << 23),
            Step::Free(step) => step,
        }
    }
}

impl Model {
    /// The tensor behind an id. Panics on an id that [`Model::check`] would refuse.
    pub fn tensor(&self, id: TensorId) -> &Tensor {
        &self.tensors[id.0 as usize]
    }

    /// The tensors of a node whose ids exist.
    pub(crate) fn site(&self, node: &Node) -> Site<'_> {
        let inputs = node.inputs.iter().map(|&id| self.tensor(id)).collect();
        Site { inputs, output: self.tensor(node.output) }
    }

    /// Shape of one input sample.
    pub fn input_shape(&self) -> Shape {
        self.tensor(self.input.tensor).shape
    }

    /// Shape of one output sample.
    pub fn output_shape(&self) -> Shape {
        self.tensor(self.output.tensor).shape
    }
}
