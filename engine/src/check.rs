//! Whether a [`Model`] is one that every executor can run without a further look: ids, shapes, formats, window
//! arithmetic, table sizes, and the proofs that no sum overflows.
//!
//! A model that passes computes the same integers everywhere; no executor panics on it or reads out of bounds.

mod structure;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::ops::Deref;
use std::sync::Arc;

use crate::model::{Model, Node, Shape, Tensor};

/// Most tensors, and most nodes, in a model.
pub const MAX_TENSORS: usize = 16_384;
/// Largest height, width and channel count: a minute of sound at 16 kHz is 960,000 wide.
pub const MAX_DIM: u32 = 1 << 20;
/// Largest kernel side, stride, dilation and padding.
pub const MAX_WINDOW: u32 = 65_536;
/// Most codes in one tensor's sample, and in a convolution's padded input.
pub const MAX_TENSOR_CODES: u64 = 1 << 26;
/// Most multiply-accumulates of one sample over the whole model.
pub const MAX_MACS: u64 = 1 << 42;
/// Most weights of one layer.
pub const MAX_LAYER_WEIGHTS: u64 = 1 << 31;
/// The requantize sum stays below this in absolute value.
pub const SUM_LIMIT: u64 = 1 << 24;
/// A requantize bias stays below this in absolute value.
pub const BIAS_LIMIT: u64 = 1 << 23;

/// Why a model cannot be run, and where.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct ModelError {
    /// The part of the model that is wrong.
    pub place: Place,
    /// What is wrong with it.
    pub problem: Problem,
}

/// A part of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The model as a whole.
    Model,
    /// The input's description.
    Input,
    /// The output's description.
    Output,
    /// The tensor of this name.
    Tensor(String),
    /// The node of this name.
    Node(String),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Model => f.write_str("model"),
            Place::Input => f.write_str("input"),
            Place::Output => f.write_str("output"),
            Place::Tensor(name) => write!(f, "tensor {name:?}"),
            Place::Node(name) => write!(f, "node {name:?}"),
        }
    }
}

/// What is wrong with a part of a model.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Problem {
    /// A list has the wrong length.
    #[error("{what}: {actual} entries where {expected} are needed")]
    Count {
        /// The list.
        what: &'static str,
        /// Its length by the rest of the model.
        expected: u64,
        /// Its length.
        actual: u64,
    },
    /// A number is out of its range.
    #[error("{what} is {value}, outside {min} ..= {max}")]
    Range {
        /// The number.
        what: &'static str,
        /// Its value.
        value: i64,
        /// Lowest that is allowed.
        min: i64,
        /// Highest that is allowed.
        max: i64,
    },
    /// A sum of one channel could leave its proven range.
    #[error("channel {channel}: {what} can reach {value}, the limit is {limit}")]
    Bound {
        /// Output channel.
        channel: usize,
        /// The sum.
        what: &'static str,
        /// Its largest absolute value.
        value: u64,
        /// The largest that is allowed.
        limit: u64,
    },
    /// A recorded bound is not what its filter and input range give.
    #[error(
        "filter {filter}: the recorded bound is {recorded}, Σ|level| and the input's range give {proven}"
    )]
    RecordedBound {
        /// The filter.
        filter: usize,
        /// The bound in the model.
        recorded: u64,
        /// The bound by the definition.
        proven: u64,
    },
    /// A name stands twice.
    #[error("the name stands twice")]
    DuplicateName,
    /// An id beyond the tensors.
    #[error("tensor id {0} does not exist")]
    UnknownTensor(u32),
    /// A tensor that is read before any node has written it, or never written.
    #[error("tensor {0:?} has not been written when it is needed")]
    NotWritten(String),
    /// A tensor with two writers.
    #[error("tensor {0:?} is written twice")]
    WrittenTwice(String),
    /// A shape differs from what the operation needs.
    #[error("{what}: shape {actual} where {expected} is needed")]
    ShapeMismatch {
        /// The tensor's role.
        what: &'static str,
        /// Needed shape.
        expected: Shape,
        /// Actual shape.
        actual: Shape,
    },
    /// Any other rule of the format.
    #[error("{0}")]
    Rule(&'static str),
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} × {} × {}", self.h, self.w, self.c)
    }
}

/// A model that has passed its checks, and that nothing can change any more: the only kind that executors take. Clones
/// share it.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckedModel(Arc<Model>);

impl CheckedModel {
    /// Checks a model.
    pub fn new(model: impl Into<Arc<Model>>) -> Result<Self, ModelError> {
        let model = model.into();
        model.check()?;
        Ok(CheckedModel(model))
    }

    /// The model, shared.
    pub fn as_arc(&self) -> &Arc<Model> {
        &self.0
    }

    /// The model, to be changed, and checked again.
    pub fn into_model(self) -> Model {
        Arc::unwrap_or_clone(self.0)
    }
}

impl Deref for CheckedModel {
    type Target = Model;

    fn deref(&self) -> &Model {
        &self.0
    }
}

impl TryFrom<Model> for CheckedModel {
    type Error = ModelError;

    fn try_from(model: Model) -> Result<Self, ModelError> {
        CheckedModel::new(model)
    }
}

impl TryFrom<Arc<Model>> for CheckedModel {
    type Error = ModelError;

    fn try_from(model: Arc<Model>) -> Result<Self, ModelError> {
        CheckedModel::new(model)
    }
}

impl From<Infallible> for ModelError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl Model {
    /// Checks everything that the executors rely on. Never panics, whatever the model holds.
    pub fn check(&self) -> Result<(), ModelError> {
        structure::check(self)?;
        for node in &self.nodes {
            check_node(self, node)
                .map_err(|problem| ModelError { place: Place::Node(node.name.clone()), problem })?;
        }
        let macs = self.work();
        if macs > MAX_MACS {
            let problem = Problem::Range {
                what: "multiply-accumulates a sample",
                value: macs.min(i64::MAX as u64) as i64,
                min: 0,
                max: MAX_MACS as i64,
            };
            return Err(ModelError { place: Place::Model, problem });
        }
        Ok(())
    }

    /// Multiply-accumulates of one sample, or what takes about as long, of a model whose nodes have been checked.
    pub fn work(&self) -> u64 {
        let of_node = |node: &Node| node.op.operation().work(&self.site(node));
        self.nodes.iter().map(of_node).fold(0, u64::saturating_add)
    }
}

/// Checks one node, whose ids exist.
fn check_node(model: &Model, node: &Node) -> Result<(), Problem> {
    let (operation, site) = (node.op.operation(), model.site(node));
    if !operation.operands().contains(&site.inputs.len()) {
        return Err(Problem::Rule("the wrong number of inputs for this operation"));
    }
    operation.check(&site)
}

/// `Ok` where `value` lies in `min ..= max`.
pub(crate) fn in_range(what: &'static str, value: i64, min: i64, max: i64) -> Result<(), Problem> {
    if (min..=max).contains(&value) { Ok(()) } else { Err(Problem::Range { what, value, min, max }) }
}

/// `Ok` where a list has the needed length.
pub(crate) fn count(what: &'static str, actual: usize, expected: u64) -> Result<(), Problem> {
    if actual as u64 == expected {
        Ok(())
    } else {
        Err(Problem::Count { what, expected, actual: actual as u64 })
    }
}

/// `Ok` where a shape is the needed one.
pub(crate) fn same_shape(what: &'static str, actual: Shape, expected: Shape) -> Result<(), Problem> {
    if actual == expected { Ok(()) } else { Err(Problem::ShapeMismatch { what, expected, actual }) }
}

/// `Ok` where two tensors share format and step.
pub(crate) fn same_codes(x: &Tensor, output: &Tensor) -> Result<(), Problem> {
    if x.format == output.format && x.step == output.step {
        Ok(())
    } else {
        Err(Problem::Rule("input and output must share format and step"))
    }
}
