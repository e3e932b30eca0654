//! The integer network: what an artifact holds and every executor runs.
//!
//! A [`Model`] is plain data, already in the form the arithmetic needs: integer codes, level tables, shifts
//! and biases. Tensors are NHWC without the batch axis. Nothing here executes; `reference` gives the meaning.

mod codes;

use serde::{Deserialize, Serialize};

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

/// The operations of the integer graph.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// Convolution or fully connected layer (whose kernel is the whole input); inputs `[x]` or `[x, residual]`.
    Conv(Conv),
    /// Inputs `[a, b]` of one shape:
    /// `y = clamp(((a << a_shift) + (b << b_shift) + bias) >> shift, lo, hi)`.
    Add(Add),
    /// Per-channel requantize of codes (`acc` is the input code): lone batch normalizations, ReLUs and casts.
    Affine(Requantize),
    /// Maximum over the window; positions in the padding do not take part. Input and output share format and step.
    MaxPool(Window),
    /// Sum over the window (padding counts as code 0), then requantize per channel.
    AvgPool(Window, Requantize),
    /// Table look-up: entry `code − lowest code of the input format`; `2^bits` entries, each in the output's range.
    Lut(Vec<i16>),
    /// Along channels; inputs and output share format and step.
    Concat,
}

/// Window of a convolution or pool. Output size is in the output tensor's shape and must equal
/// `floor((in + pad_begin + pad_end − dilation·(kernel−1) − 1) / stride) + 1` (ceil mode is expressed by padding).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Height and width, ≥ 1.
    pub kernel: [u32; 2],
    /// Rows and columns, ≥ 1.
    pub stride: [u32; 2],
    /// Top, left, bottom, right.
    pub padding: [u32; 4],
    /// Rows and columns, ≥ 1.
    pub dilation: [u32; 2],
}

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

/// Quantized filters. The real weight is `level · 2^exponent[filter]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights {
    /// Code width, 2 ..= 8.
    pub bits: u8,
    /// Most signed powers of two that any level needs (the shift-adds of a weight).
    pub terms: u8,
    /// One code a weight, order `[filter][kernel row][kernel column][input channel of the group]`. With 8 bits the
    /// code is the level itself in two's complement; below, an index into the filter's table.
    pub codes: Codes,
    /// `filters × 2^bits` levels, each −127 ..= 127, unused entries 0; empty with 8 bits.
    pub tables: Vec<i8>,
    /// One exponent a filter; already absorbed in the epilogue, kept for hardware and people.
    pub exponents: Vec<i32>,
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

/// Per output channel c: `t = acc >> pre[c]` (arithmetic, |t| < 2¹⁵), then
/// `y = clamp((t·multiplier[c] + bias[c] + (r << residual_shift[c])) >> shift[c], lo, hi)`, where r is the residual
/// operand's code. Ranges: |multiplier| ≤ 127, |bias| < 2²³, shift ≤ 31, and the sum's absolute value, by the
/// recorded bounds, stays under 2²⁴.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requantize {
    /// First right shift.
    pub pre: Vec<u8>,
    /// Integer multiplier, at most four canonical signed digits.
    pub multiplier: Vec<i8>,
    /// Bias in units of `output step / 2^shift`, rounding included.
    pub bias: Vec<i32>,
    /// Left shift of the residual operand; empty if there is none.
    pub residual_shift: Vec<u8>,
    /// Last right shift.
    pub shift: Vec<u8>,
    /// Lowest output code (a ReLU makes it 0).
    pub lo: i32,
    /// Highest output code.
    pub hi: i32,
}

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

impl Format {
    /// Lowest and highest code.
    pub fn range(self) -> (i32, i32) {
        match self {
            Format::Unsigned { bits } => (0, (1i32 << bits) - 1),
            Format::Signed { bits } => (-(1i32 << (bits - 1)), (1i32 << (bits - 1)) - 1),
            Format::Accumulator => (i32::MIN, i32::MAX),
        }
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

impl Weights {
    /// The packing that is written for these weights: base 3 where no code and no table uses the fourth level.
    pub fn packing(&self) -> Packing {
        let three = self.bits == 2
            && self.tables.chunks_exact(4).all(|table| table[3] == 0)
            && (self.codes.limit() < 3 || self.codes.iter().all(|code| code < 3));
        if three { Packing::Base3 } else { Packing::Bits }
    }

    /// The level of weight `index` of `filter`, where each filter has `per_filter` weights.
    pub fn level(&self, filter: usize, index: usize, per_filter: usize) -> i32 {
        let code = self.codes.get(filter * per_filter + index);
        if self.bits == 8 {
            i32::from(code as i8)
        } else {
            i32::from(self.tables[(filter << self.bits) + usize::from(code)])
        }
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

impl Window {
    /// Rows and columns that the dilated kernel spans.
    pub fn span(&self) -> [u64; 2] {
        [0, 1].map(|axis| u64::from(self.dilation[axis]) * u64::from(self.kernel[axis]).saturating_sub(1) + 1)
    }

    /// Height and width of the output for an input of this height and width; `None` where the padded input is smaller
    /// than the window, or the stride is 0.
    pub fn output(&self, input: [u32; 2]) -> Option<[u64; 2]> {
        let span = self.span();
        let along = |axis: usize| {
            let padded =
                u64::from(input[axis]) + u64::from(self.padding[axis]) + u64::from(self.padding[axis + 2]);
            Some(padded.checked_sub(span[axis])?.checked_div(u64::from(self.stride[axis]))? + 1)
        };
        Some([along(0)?, along(1)?])
    }
}

impl Model {
    /// The tensor behind an id. Panics on an id that [`Model::check`] would refuse.
    pub fn tensor(&self, id: TensorId) -> &Tensor {
        &self.tensors[id.0 as usize]
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
