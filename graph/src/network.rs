//! The float network: a walkable list of layers with their weights, in the order they run.
//!
//! Shapes leave the batch axis out and are channel-first (C, H, W); features are (N). All constants are folded, and
//! identities (dropout, cast to the same type, a flatten of what is flat) are gone.

mod report;
mod shape;

/// Index into [`Network::values`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub usize);

/// A float network with one input and one output.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    /// The ONNX graph's name.
    pub name: String,
    /// Everything that flows between layers.
    pub values: Vec<Value>,
    /// Topologically ordered; each writes one value.
    pub layers: Vec<Layer>,
    /// The value the caller gives.
    pub input: ValueId,
    /// The value the caller gets.
    pub output: ValueId,
}

/// A value's name and shape.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    /// As in the file.
    pub name: String,
    /// Without the batch axis.
    pub shape: Vec<usize>,
}

/// One layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// The ONNX node's name, made unique.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// What it reads.
    pub inputs: Vec<ValueId>,
    /// What it writes.
    pub output: ValueId,
}

/// A dense float tensor, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Extents.
    pub shape: Vec<usize>,
    /// `shape` product elements.
    pub data: Vec<f32>,
}

/// What a layer computes.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// 2-D convolution (1-D ones have height 1).
    Conv(Conv),
    /// `y = W·x + b`, over flat features.
    Linear(Linear),
    /// Inference form, per channel: `scale·(x − mean)/√(variance + epsilon) + shift`.
    BatchNorm(BatchNorm),
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, lo), hi)`; ReLU6 is `Clip{0, 6}`.
    Clip {
        /// Lower bound, may be −∞.
        lo: f32,
        /// Upper bound, may be +∞.
        hi: f32,
    },
    /// `x` where positive, else `slope·x`.
    LeakyRelu {
        /// Slope of the negative side.
        slope: f32,
    },
    /// Logistic function.
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// Elementwise sum of two values of one shape.
    Add,
    /// Along channels.
    Concat,
    /// Maximum over windows; padding does not take part.
    MaxPool(Window),
    /// Mean over windows.
    AvgPool {
        /// Geometry.
        window: Window,
        /// Whether padded positions count in the divisor.
        count_include_pad: bool,
    },
    /// Mean over height and width; (C, H, W) → (C, 1, 1).
    GlobalAvgPool,
    /// (C, H, W) → (C·H·W), channel-first order.
    Flatten,
    /// Over the class axis.
    Softmax,
}

/// Geometry of a convolution or pool. Output extent is
/// `floor((in + pads − dilation·(kernel−1) − 1)/stride) + 1`; ceil mode is resolved into padding on import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Height, width.
    pub kernel: [usize; 2],
    /// Rows, columns.
    pub stride: [usize; 2],
    /// Top, left, bottom, right.
    pub padding: [usize; 4],
    /// Rows, columns.
    pub dilation: [usize; 2],
}

/// A convolution's parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Conv {
    /// Geometry.
    pub window: Window,
    /// Independent groups.
    pub groups: usize,
    /// `[filters, input channels / groups, kernel height, kernel width]`.
    pub weight: Tensor,
    /// One a filter.
    pub bias: Option<Vec<f32>>,
}

/// A fully connected layer's parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    /// `[outputs, inputs]`.
    pub weight: Tensor,
    /// One an output.
    pub bias: Option<Vec<f32>>,
}

/// A batch normalization's parameters, one element a channel.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchNorm {
    /// γ.
    pub scale: Vec<f32>,
    /// β.
    pub shift: Vec<f32>,
    /// Running mean.
    pub mean: Vec<f32>,
    /// Running variance, ≥ 0.
    pub variance: Vec<f32>,
    /// Added to the variance.
    pub epsilon: f32,
}
