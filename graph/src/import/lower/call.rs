//! A node with its operands, and the ways in which operators ask for them.

use std::rc::Rc;

use super::{Refusal, Slot, View, unsupported};
use crate::import::attributes::Attributes;
use crate::import::constant::{Constant, Number};
use crate::import::operator::Operator;
use crate::onnx::NodeProto;

/// A constant's shape and elements.
type Weights<'c> = (&'c [usize], &'c [f32]);

/// One node with its operands.
pub(super) struct Call<'a> {
    pub(super) node: &'a NodeProto,
    pub(super) op: &'a str,
    pub(super) attributes: Attributes<'a>,
    pub(super) operands: Vec<Option<Slot<'a>>>,
}

impl<'a> Call<'a> {
    /// The node's operator, if it is read.
    pub(super) fn operator(&self) -> Option<&'static Operator> {
        Operator::of(self.node)
    }

    /// Whether the operator is ONNX's own, read or not.
    pub(super) fn is_own_domain(&self) -> bool {
        matches!(self.node.domain.as_deref().unwrap_or_default(), "" | "ai.onnx")
    }

    pub(super) fn operand(&self, index: usize) -> Option<&Slot<'a>> {
        self.operands.get(index)?.as_ref()
    }

    /// A required operand that flows through the network.
    pub(super) fn view(&self, index: usize) -> Result<&View<'a>, Refusal> {
        match self.operand(index) {
            Some(Slot::View(view)) => Ok(view),
            Some(_) => unsupported(format!("operand {index} is a constant")),
            None => Err(Refusal::Malformed(format!("operand {index} is missing"))),
        }
    }

    /// A constant operand, if it is given.
    pub(super) fn constant(&self, index: usize) -> Result<Option<&Rc<Constant>>, Refusal> {
        match self.operand(index) {
            Some(Slot::Constant(constant)) => Ok(Some(constant)),
            Some(_) => unsupported(format!("operand {index} is not a constant")),
            None => Ok(None),
        }
    }

    /// Floats that a value is combined with; infinities are valid, but nothing that a network can hold.
    pub(super) fn numbers(&self, index: usize) -> Result<Weights<'_>, Refusal> {
        match self.weights(index) {
            Err(Refusal::Malformed(reason))
                if self.constant(index)?.is_some_and(|c| c.not_finite.is_some()) =>
            {
                unsupported(reason)
            }
            weights => weights,
        }
    }

    /// A required operand of constant, finite floats.
    pub(super) fn weights(&self, index: usize) -> Result<Weights<'_>, Refusal> {
        self.optional_weights(index)?.ok_or_else(|| Refusal::Malformed(format!("operand {index} is missing")))
    }

    pub(super) fn optional_weights(&self, index: usize) -> Result<Option<Weights<'_>>, Refusal> {
        let Some(constant) = self.constant(index)? else { return Ok(None) };
        let Some(data) = constant.floats() else {
            return Err(Refusal::Malformed(format!(
                "operand {index} holds integers where floats are wanted"
            )));
        };
        if let Some(wrong) = constant.not_finite {
            let name = self.node.input.get(index).map_or("", String::as_str);
            return Err(Refusal::Malformed(format!("constant `{name}` holds {wrong}")));
        }
        Ok(Some((&constant.shape, data)))
    }

    /// Operand `index`, or the attribute that held the same before it became an operand.
    pub(super) fn axes(&self, index: usize, attribute: &str) -> Result<Option<Vec<i64>>, Refusal> {
        if let Some(axes) = self.attributes.ints(attribute)? {
            return Ok(Some(axes.to_vec()));
        }
        let Some(constant) = self.constant(index)? else { return Ok(None) };
        known(constant).map(Some)
    }
}

/// Most numbers in an operand that lists axes, extents or positions.
const MAX_NUMBERS: usize = 1 << 12;

/// A constant's integers where the batch size may not be among them.
pub(super) fn known(constant: &Constant) -> Result<Vec<i64>, Refusal> {
    let Some(numbers) = constant.integers() else {
        return Err(Refusal::Malformed("floats where integers are wanted".to_owned()));
    };
    if numbers.len() > MAX_NUMBERS {
        return unsupported(format!("{} numbers where axes, extents or positions are wanted", numbers.len()));
    }
    numbers
        .iter()
        .map(|number| match number {
            Number::Known(number) => Ok(*number),
            Number::Batch => unsupported("it computes with the batch size"),
            Number::Unknown => Err(Refusal::Behind),
        })
        .collect()
}

/// An axis counted from the front.
pub(super) fn axis_of(axis: i64, rank: usize) -> Result<usize, Refusal> {
    let from_front = if axis < 0 { axis.checked_add(rank as i64) } else { Some(axis) };
    from_front
        .and_then(|axis| usize::try_from(axis).ok())
        .filter(|&axis| axis < rank)
        .ok_or_else(|| Refusal::Malformed(format!("axis {axis} of a value of rank {rank}")))
}
