//! The quantization plan: the float network lowered to quantized units, one for each node of the integer network.
//!
//! Training, exact simulation and export all walk the same plan, so that none of them can disagree about what is fused,
//! where a rounding happens or how wide a tensor is.

use dyadic_engine::cost::Cost;
use dyadic_graph::network::BatchNorm;

use crate::codebook::Choice;
use crate::operation::UnitOp;
use crate::rules::{Role, Rules};

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
    /// Whether it is the softmax's logarithm.
    pub log: bool,
    /// Everything that flows between units.
    pub tensors: Vec<TensorPlan>,
    /// In the order they run; each writes one tensor.
    pub units: Vec<Unit>,
    /// The weighted layers, in the order of their units.
    pub weights: Vec<WeightPlan>,
    /// Number of distinct activation steps ([`Coding::Codes`] indexes them).
    pub steps: usize,
    /// What the plan was made by.
    pub rules: Rules,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
    /// What it costs, with the zeros and digits that are expected of its codebook.
    pub cost: Cost,
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
    /// Where the layer stands.
    pub role: Role,
    /// Multiply-accumulates for one image.
    pub macs: u64,
}

impl WeightPlan {
    /// Weights in one filter.
    pub fn per_filter(&self) -> usize {
        self.shape[1] * self.shape[2] * self.shape[3]
    }

    /// Latent weights that training keeps for one filter.
    pub fn latents_per_filter(&self) -> usize {
        self.method.codebook().latents() * self.per_filter()
    }

    /// The latent weights that training begins with, filter by filter.
    pub fn latents(&self) -> Vec<f32> {
        let start = |w| self.method.codebook().start(self.method.objective(), w);
        self.data.chunks_exact(self.per_filter()).flat_map(start).collect()
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
