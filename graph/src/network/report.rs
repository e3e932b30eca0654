//! Costs of layers, and the summary table.

use std::fmt;

use super::{Layer, Network, Op};

impl Op {
    /// The operation's ONNX-like name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Conv(_) => "Conv",
            Self::Linear(_) => "Linear",
            Self::BatchNorm(_) => "BatchNorm",
            Self::Relu => "Relu",
            Self::Clip { .. } => "Clip",
            Self::LeakyRelu { .. } => "LeakyRelu",
            Self::PRelu { .. } => "PRelu",
            Self::Elu { .. } => "Elu",
            Self::Sigmoid => "Sigmoid",
            Self::HardSigmoid { .. } => "HardSigmoid",
            Self::Silu => "Silu",
            Self::HardSwish => "HardSwish",
            Self::Gelu { .. } => "Gelu",
            Self::Tanh => "Tanh",
            Self::Add => "Add",
            Self::Mul => "Mul",
            Self::Concat => "Concat",
            Self::Select { .. } => "Select",
            Self::MaxPool(_) => "MaxPool",
            Self::AvgPool { .. } => "AvgPool",
            Self::GlobalAvgPool => "GlobalAvgPool",
            Self::Upsample { .. } => "Upsample",
            Self::Flatten => "Flatten",
            Self::Softmax => "Softmax",
            Self::LogSoftmax => "LogSoftmax",
        }
    }
}

impl Layer {
    /// Multiply-accumulates for one sample, of convolutions and fully connected layers; 0 for the rest. Products with
    /// padding count, as is usual.
    pub fn macs(&self, network: &Network) -> u64 {
        let product = |shape: &[usize]| shape.iter().map(|&extent| extent as u64).product::<u64>();
        match &self.op {
            Op::Conv(conv) => {
                let per_output: u64 = conv.weight.shape.iter().skip(1).map(|&extent| extent as u64).product();
                product(network.shape(self.output)) * per_output
            }
            Op::Linear(linear) => product(&linear.weight.shape),
            _ => 0,
        }
    }

    /// Numbers that training may change: weights, biases, scales, shifts and slopes (not running statistics).
    pub fn parameters(&self) -> u64 {
        let bias = |bias: &Option<Vec<f32>>| bias.as_ref().map_or(0, Vec::len);
        let count = match &self.op {
            Op::Conv(conv) => conv.weight.data.len() + bias(&conv.bias),
            Op::Linear(linear) => linear.weight.data.len() + bias(&linear.bias),
            Op::BatchNorm(norm) => norm.scale.len() + norm.shift.len(),
            Op::PRelu { slope } => slope.len(),
            _ => 0,
        };
        count as u64
    }
}

impl Network {
    /// [`Layer::macs`] of all layers.
    pub fn macs(&self) -> u64 {
        self.layers.iter().map(|layer| layer.macs(self)).sum()
    }

    /// [`Layer::parameters`] of all layers.
    pub fn parameters(&self) -> u64 {
        self.layers.iter().map(Layer::parameters).sum()
    }
}

/// A table: one line a layer, with its output's shape, parameters and multiply-accumulates, and the totals.
impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: Vec<[String; 5]> = self
            .layers
            .iter()
            .map(|layer| {
                [
                    layer.name.clone(),
                    layer.op.name().to_owned(),
                    shape_text(self.shape(layer.output)),
                    layer.parameters().to_string(),
                    layer.macs(self).to_string(),
                ]
            })
            .collect();
        let header = ["layer", "op", "output", "parameters", "MACs"].map(str::to_owned);
        let total = [
            "total".to_owned(),
            format!("{} layers", self.layers.len()),
            shape_text(self.shape(self.output)),
            self.parameters().to_string(),
            self.macs().to_string(),
        ];
        let all = || std::iter::once(&header).chain(&rows).chain(std::iter::once(&total));
        let mut widths = [0; 5];
        for row in all() {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let [name, op, shape, parameters, macs] = widths;
        writeln!(
            f,
            "{} {} → {}",
            self.name,
            shape_text(self.shape(self.input)),
            shape_text(self.shape(self.output))
        )?;
        for row in all() {
            writeln!(
                f,
                "{:name$}  {:op$}  {:shape$}  {:>parameters$}  {:>macs$}",
                row[0], row[1], row[2], row[3], row[4]
            )?;
        }
        Ok(())
    }
}

fn shape_text(shape: &[usize]) -> String {
    shape.iter().map(ToString::to_string).collect::<Vec<_>>().join("×")
}
