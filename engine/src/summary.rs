//! What a model costs, node by node: for people, reports and tables.

use serde::Serialize;

use crate::model::{Format, Model, Node, Shape};
use crate::operation::Summary;

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
        let of_node = |node: &Node| {
            let output = self.tensor(node.output);
            let Summary { name: op, macs, weights } = node.op.operation().summary(&self.site(node));
            let (name, codes) = (node.name.clone(), output.format.short_name());
            NodeSummary { name, op, output: output.shape, codes, macs, weights }
        };
        self.nodes.iter().map(of_node).collect()
    }
}
