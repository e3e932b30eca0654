//! The quantization plan: the float network lowered to quantized units, one for each node of the integer network.
//!
//! Training, exact simulation and export all walk the same plan, so that none of them can disagree about what is fused,
//! where a rounding happens or how wide a tensor is.

use dyadic_graph::network::{BatchNorm, Window};

use crate::codebook::Choice;

/// The lowered network.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The network's name.
    pub name: String,
    /// Name of the network's input; its codes are tensor 0.
    pub input_name: String,
    /// Name of the network's output.
    pub output_name: String,
    /// The tensor that is the output.
    pub output: usize,
    /// Whether a softmax follows the integer graph.
    pub softmax: bool,
    /// Everything that flows between units.
    pub tensors: Vec<TensorPlan>,
    /// In the order they run; each writes one tensor.
    pub units: Vec<Unit>,
    /// The weighted layers, in the order of their units.
    pub weights: Vec<WeightPlan>,
    /// Number of distinct activation steps ([`TensorPlan::step`] indexes them).
    pub steps: usize,
}

/// A tensor of codes.
#[derive(Debug, Clone)]
pub struct TensorPlan {
    /// The source file's value name, made unique.
    pub name: String,
    /// Channels, height, width.
    pub shape: [usize; 3],
    /// What the codes mean.
    pub coding: Coding,
}

/// How a tensor's values are coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// The network's input: 8 bits, signed, step free.
    Input,
    /// Codes with a power-of-two step.
    Codes {
        /// Width.
        bits: u8,
        /// Whether negative codes exist.
        signed: bool,
        /// Index of the step; tensors that must share one have the same.
        step: usize,
    },
    /// 32-bit sums: logits.
    Sums,
}

/// One operation on codes.
#[derive(Debug, Clone)]
pub struct Unit {
    /// The source file's node name.
    pub name: String,
    /// Tensors read.
    pub inputs: Vec<usize>,
    /// Tensor written.
    pub output: usize,
    /// What it does.
    pub op: UnitOp,
}

/// What a unit does.
#[derive(Debug, Clone, PartialEq)]
pub enum UnitOp {
    /// Convolution or fully connected layer, normalization, residual addition (inputs `[x, residual]`), activation.
    Conv {
        /// Index into [`Plan::weights`].
        weights: usize,
        /// Geometry.
        window: Window,
        /// Groups.
        groups: usize,
        /// What follows the sum; ignored for logits.
        act: Act,
        /// Whether the sums are the network's output.
        logits: bool,
    },
    /// The same values in another width or step.
    Cast,
    /// Sum of two tensors, activation.
    Add(Act),
    /// Maximum over windows.
    MaxPool(Window),
    /// Mean over windows.
    AvgPool(Window),
    /// A function of one variable.
    Unary(Unary),
    /// Along channels.
    Concat,
}

/// The clamp at the end of a unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Act {
    /// None but the output's own range.
    None,
    /// Not below 0.
    Relu,
    /// Between 0 and this value.
    Clip(f32),
}

/// Functions realized as tables.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Unary {
    /// `max(x, 0)` where nothing before it can absorb it.
    Relu,
    /// Between 0 and this value.
    Clip(f32),
    /// Slope of the negative side.
    LeakyRelu(f32),
    /// Logistic function.
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
}

impl Unary {
    /// The function's value.
    pub fn apply(self, x: f64) -> f64 {
        match self {
            Unary::Relu => x.max(0.0),
            Unary::Clip(hi) => x.clamp(0.0, f64::from(hi)),
            Unary::LeakyRelu(slope) => {
                if x < 0.0 {
                    x * f64::from(slope)
                } else {
                    x
                }
            }
            Unary::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Unary::Tanh => x.tanh(),
        }
    }

    /// Whether the result can be negative.
    pub fn signed(self) -> bool {
        matches!(self, Unary::LeakyRelu(_) | Unary::Tanh)
    }
}

/// A weighted layer as the float network has it.
#[derive(Debug, Clone)]
pub struct WeightPlan {
    /// The source file's node name.
    pub name: String,
    /// Filters, input channels of a group, kernel height, kernel width.
    pub shape: [usize; 4],
    /// `shape` product weights, row-major.
    pub data: Vec<f32>,
    /// One a filter; zeros where the file has none.
    pub bias: Vec<f32>,
    /// The file's own normalization, where it has one.
    pub norm: Option<BatchNorm>,
    /// How its filters are quantized.
    pub method: Choice,
    /// Multiply-accumulates for one image.
    pub macs: u64,
}

impl WeightPlan {
    /// Weights in one filter.
    pub fn per_filter(&self) -> usize {
        self.shape[1] * self.shape[2] * self.shape[3]
    }
}

impl Plan {
    /// Whether the weighted layer feeds the output directly and so has no normalization.
    pub fn is_logits(&self, weights: usize) -> bool {
        self.units
            .iter()
            .any(|u| matches!(u.op, UnitOp::Conv { weights: w, logits: true, .. } if w == weights))
    }
}

impl Coding {
    /// Lowest and highest code; sums have none.
    pub fn range(self) -> (i32, i32) {
        match self {
            Coding::Input => (-128, 127),
            Coding::Codes { bits, signed: false, .. } => (0, (1 << bits) - 1),
            Coding::Codes { bits, signed: true, .. } => (-(1 << (bits - 1)), (1 << (bits - 1)) - 1),
            Coding::Sums => (i32::MIN, i32::MAX),
        }
    }
}
