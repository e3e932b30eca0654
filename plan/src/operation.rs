//! What each operation of a float network becomes: one file an operation, and the only list of all of them.
//!
//! Whoever adds one writes its file, lists it in [`ALL`], and, where it becomes a unit of a new kind, in [`UnitOp`].

mod add;
mod average_pool;
mod concat;
mod flatten;
mod max_pool;
mod scale;
mod select;
mod table;
mod weighted;

use dyadic_graph::network::{Op, Window};

pub(crate) use crate::lower::chain::{Absorbs, Chain};
pub(crate) use crate::lower::emitter::Emitter;
use crate::refusal::Refusal;
use crate::rules::Defaults;
pub use table::Unary;

/// All operations.
const ALL: [&dyn Operation; 9] = [
    &weighted::Weighted,
    &add::Add,
    &scale::Scale,
    &concat::Concat,
    &select::Select,
    &max_pool::MaxPool,
    &average_pool::AveragePool,
    &table::Table,
    &flatten::Flatten,
];

/// What a unit does.
#[derive(Debug, Clone, PartialEq)]
pub enum UnitOp {
    /// Convolution or fully connected layer, normalization, residual addition (inputs `[x, residual]`), activation.
    Conv {
        /// Index into [`Plan::weights`](crate::Plan::weights).
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
    /// Product of two tensors, the second of which may have one code a channel; activation.
    Scale {
        /// What follows the product.
        act: Act,
        /// Signed digits that the second operand's codes are held to.
        digits: u8,
    },
    /// Channels by their numbers.
    Select(Vec<u32>),
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

/// What a layer wants of the codes of its operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reads {
    /// At most so wide.
    Bits(u8),
    /// Format and step of its output: it hands codes on.
    AsWritten,
}

/// One operation.
pub(crate) trait Operation: Sync {
    /// Whether a layer is this operation.
    fn takes(&self, op: &Op) -> bool;

    /// What it takes in of the layers behind it.
    fn absorbs(&self, _op: &Op) -> Absorbs {
        Absorbs::default()
    }

    /// Whether its output is its operand in another shape, the codes and their order unchanged.
    fn only_reshapes(&self) -> bool {
        false
    }

    /// What it wants of its operands' codes.
    fn reads(&self, _op: &Op, defaults: &Defaults) -> Reads {
        Reads::Bits(defaults.other_bits)
    }

    /// Whether its output, after the activation, can be negative, from whether its operands can.
    fn is_signed(&self, op: &Op, act: Act, operands: &[bool]) -> bool;

    /// Writes the unit of a chain that begins with it.
    ///
    /// # Errors
    /// Why there is none.
    fn emit(&self, chain: &Chain, to: &mut Emitter) -> Result<(), Refusal>;
}

/// The operation that a layer is; `None` where it has no integer form.
pub(crate) fn of(op: &Op) -> Option<&'static dyn Operation> {
    ALL.into_iter().find(|operation| operation.takes(op))
}

impl UnitOp {
    /// The unit's kind, as a plan's text and tables call it.
    pub fn name(&self) -> &'static str {
        match self {
            UnitOp::Conv { .. } => "conv",
            UnitOp::Cast => "cast",
            UnitOp::Add(_) => "add",
            UnitOp::MaxPool(_) => "max-pool",
            UnitOp::AvgPool(_) => "average-pool",
            UnitOp::Unary(_) => "table",
            UnitOp::Concat => "concat",
            UnitOp::Scale { .. } => "scale",
            UnitOp::Select(_) => "select",
        }
    }
}
