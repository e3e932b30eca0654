//! The float network: a walkable list of layers with their weights, in the order they run.
//!
//! Shapes leave the batch axis out and are channel-first: images (C, H, W), series (C, W), features (N). A series is an
//! image of height 1 that says no height: [`image`] gives both, windows on it are those of the image, and what a layer
//! makes of it is a series again. Input and output have the shapes that the file gives them. All constants are folded, and
//! identities (dropout, cast to the same type, a flatten of what is flat) are gone.

mod report;
mod shape;

pub use shape::image;

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
    /// 2-D convolution; a 1-D one has height 1 in its window and its weights.
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
    /// `x` where positive, else the channel's slope times `x`.
    PRelu {
        /// Slopes of the negative side, one a channel.
        slope: Vec<f32>,
    },
    /// `x` where positive, else `alpha·(eˣ − 1)`.
    Elu {
        /// What the negative side tends to, negated.
        alpha: f32,
    },
    /// Logistic function, `σ(x) = 1/(1 + e⁻ˣ)`.
    Sigmoid,
    /// `min(max(alpha·x + beta, 0), 1)`.
    HardSigmoid {
        /// Slope between the bounds.
        alpha: f32,
        /// Value at 0.
        beta: f32,
    },
    /// `x·σ(x)`, also called Swish.
    Silu,
    /// `x·min(max(x + 3, 0), 6)/6`.
    HardSwish,
    /// `x·Φ(x)`, Φ being the normal distribution: `x/2·(1 + erf(x/√2))`.
    Gelu {
        /// Whether Φ is approximated: `x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³)))`.
        tanh: bool,
    },
    /// Hyperbolic tangent.
    Tanh,
    /// Elementwise sum of two values of one shape.
    Add,
    /// Elementwise product of two values of one shape, or of one of shape (C, H, W) and a second one of shape
    /// (C, 1, 1), or (C, W) and (C, 1): a factor a channel, as of squeeze-and-excitation.
    Mul,
    /// Along channels.
    Concat,
    /// Output channel (of a flat value: element) `i` is input channel `channels[i]`.
    Select {
        /// Input channels, in the order of the output's; some may be there twice or not at all.
        channels: Vec<usize>,
    },
    /// Maximum over windows; padding does not take part.
    MaxPool(Window),
    /// Mean over windows.
    AvgPool {
        /// Geometry.
        window: Window,
        /// Whether padded positions count in the divisor.
        count_include_pad: bool,
    },
    /// Mean over height and width; (C, H, W) → (C, 1, 1), (C, W) → (C, 1).
    GlobalAvgPool,
    /// Enlarges height and width, (C, H, W) → (C, factor·H, factor·W), or a length, (C, W) → (C, factor·W). Position i of an
    /// axis is position ⌊i/factor⌋ of the input's; or, bilinearly, lies at (i + ½)/factor − ½, between two of them, and beyond
    /// the first and last one is that one.
    Upsample {
        /// How many positions there are for each, at least 1.
        factor: usize,
        /// Whether positions are interpolated, axis by axis, and not repeated.
        bilinear: bool,
    },
    /// (C, H, W) → (C·H·W) and (C, W) → (C·W), channel-first order.
    Flatten,
    /// Over the class axis.
    Softmax,
    /// The softmax's logarithm, over the class axis.
    LogSoftmax,
}

/// Geometry of a convolution or pool. Output extent is
/// `floor((in + pads − dilation·(kernel−1) − 1)/stride) + 1`; ceil mode is resolved into padding on import. On a series
/// the rows are those of an image of height 1, of which one has to remain.
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
