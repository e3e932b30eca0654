//! What a model costs, node by node: for people, reports and tables.

use serde::Serialize;

use crate::digits::Digits;
use crate::model::{Conv, Format, Model, Node, Op, Shape};

/// One node's figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeSummary {
    /// The node's name.
    pub name: String,
    /// The operation, with its kernel where it has one.
    pub op: String,
    /// Shape of the output.
    pub output: Shape,
    /// Codes of the output, as `u6`, `s8` or `i32`.
    pub codes: String,
    /// Multiply-accumulates of one sample that the node replaces by shifts and adds.
    pub macs: u64,
    /// The weights; none in operations without.
    pub weights: Option<WeightSummary>,
}

/// The weights of a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct WeightSummary {
    /// Width of a code.
    pub bits: u8,
    /// Most distinct levels that a filter uses.
    pub levels: usize,
    /// Number of weights.
    pub count: u64,
    /// How many are zero.
    pub zeros: u64,
    /// Shift-adds that one use of every weight costs.
    pub shift_adds: u64,
    /// Bytes of the packed codes.
    pub packed_bytes: u64,
}

impl WeightSummary {
    /// Mean number of shift-adds a weight.
    pub fn shift_adds_per_weight(&self) -> f64 {
        self.shift_adds as f64 / self.count.max(1) as f64
    }

    /// Share of weights that are zero.
    pub fn sparsity(&self) -> f64 {
        self.zeros as f64 / self.count.max(1) as f64
    }
}

impl Format {
    /// Short name: `u6`, `s8`, `i32`.
    pub fn short_name(self) -> String {
        match self {
            Format::Unsigned { bits } => format!("u{bits}"),
            Format::Signed { bits } => format!("s{bits}"),
            Format::Accumulator => "i32".to_owned(),
        }
    }
}

impl Model {
    /// Every node's figures, in execution order; for a model that passed its checks.
    pub fn summary(&self) -> Vec<NodeSummary> {
        self.nodes.iter().map(|node| summarize(self, node)).collect()
    }
}

fn summarize(model: &Model, node: &Node) -> NodeSummary {
    let output = model.tensor(node.output);
    let side = |kernel: [u32; 2]| format!("{}×{}", kernel[0], kernel[1]);
    let (op, macs, weights) = match &node.op {
        Op::Conv(conv) => {
            let weights = summarize_weights(conv);
            let per_filter = weights.count / u64::from(output.shape.c).max(1);
            let stride = if conv.window.stride == [1; 2] {
                String::new()
            } else {
                format!("/{}", conv.window.stride[0])
            };
            let groups = if conv.groups == 1 { String::new() } else { format!(" g{}", conv.groups) };
            let residual = if node.inputs.len() > 1 { " + residual" } else { "" };
            let op = format!("conv {}{stride}{groups}{residual}", side(conv.window.kernel));
            (op, per_filter * output.shape.len() as u64, Some(weights))
        }
        Op::Add(_) => ("add".to_owned(), 0, None),
        Op::Affine(_) => ("affine".to_owned(), 0, None),
        Op::MaxPool(window) => (format!("max pool {}", side(window.kernel)), 0, None),
        Op::AvgPool(window, _) => (format!("avg pool {}", side(window.kernel)), 0, None),
        Op::Lut(_) => ("table".to_owned(), 0, None),
        Op::Concat => ("concat".to_owned(), 0, None),
    };
    let (name, codes) = (node.name.clone(), output.format.short_name());
    NodeSummary { name, op, output: output.shape, codes, macs, weights }
}

fn summarize_weights(conv: &Conv) -> WeightSummary {
    let weights = &conv.weights;
    let count = weights.codes.len();
    let per_filter = count / conv.bounds.len().max(1);
    let costs: Vec<u64> = (0..=255u8).map(|level| Digits::of(level as i8).len() as u64).collect();
    let (mut zeros, mut shift_adds, mut most) = (0, 0, 0);
    for filter in 0..conv.bounds.len() {
        let mut seen = [false; 256];
        for index in 0..per_filter {
            let level = weights.level(filter, index, per_filter) as u8;
            seen[usize::from(level)] = true;
            zeros += u64::from(level == 0);
            shift_adds += costs[usize::from(level)];
        }
        most = most.max(seen.iter().filter(|&&seen| seen).count());
    }
    let count = count as u64;
    let packed_bytes = weights.packing().bytes(weights.bits, count);
    WeightSummary { bits: weights.bits, levels: most, count, zeros, shift_adds, packed_bytes }
}
