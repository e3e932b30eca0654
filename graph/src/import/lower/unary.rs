//! Functions of one value, element by element.

use super::{Call, Lowering, Refusal, Slot, unsupported};
use crate::import::constant::{Constant, Data, Number};
use crate::network::Op;
use crate::onnx::data_type;

/// Why a softmax is refused.
pub(super) const SOFTMAX: &str = "a softmax over anything but the classes of [N, classes]";

/// Why a maximum or minimum is refused.
pub(super) const BOUND: &str = "operands other than one value and one constant";

impl<'a> Lowering<'a> {
    pub(super) fn unary(&mut self, call: &Call<'a>) -> Result<Slot<'a>, Refusal> {
        let (view, op) = match call.op {
            "Max" | "Min" => return self.bound(call),
            "Relu" => (call.view(0)?, Op::Relu),
            "Sigmoid" => (call.view(0)?, Op::Sigmoid),
            "Tanh" => (call.view(0)?, Op::Tanh),
            "LeakyRelu" => (call.view(0)?, Op::LeakyRelu { slope: call.attributes.float("alpha", 0.01)? }),
            "Clip" => {
                let lo = scalar(call, 1)?.unwrap_or(f32::NEG_INFINITY);
                let hi = scalar(call, 2)?.unwrap_or(f32::INFINITY);
                return self.clip(call, 0, lo, hi);
            }
            _ => {
                let view = call.view(0)?;
                let axis = super::axis_of(call.attributes.int("axis", -1)?, view.shape.len() + 1)?;
                if axis != 1 || view.shape.len() != 1 {
                    return unsupported(SOFTMAX);
                }
                (view, if call.op == "Softmax" { Op::Softmax } else { Op::LogSoftmax })
            }
        };
        let input = self.settled(view)?;
        self.layer(call, op, vec![input])
    }

    /// The maximum or minimum with a constant.
    fn bound(&mut self, call: &Call<'a>) -> Result<Slot<'a>, Refusal> {
        let (view, bound) = match (call.operand(0), call.operand(1), call.operands.len()) {
            (Some(Slot::View(_)), Some(Slot::Constant(_)), 2) => (0, 1),
            (Some(Slot::Constant(_)), Some(Slot::View(_)), 2) => (1, 0),
            _ => return unsupported(BOUND),
        };
        let bound = scalar(call, bound)?.unwrap_or_default();
        let (lo, hi) = if call.op == "Max" { (bound, f32::INFINITY) } else { (f32::NEG_INFINITY, bound) };
        self.clip(call, view, lo, hi)
    }

    fn clip(&mut self, call: &Call<'a>, operand: usize, lo: f32, hi: f32) -> Result<Slot<'a>, Refusal> {
        // PyTorch writes the largest float where a bound is left out.
        let lo = if lo <= f32::MIN { f32::NEG_INFINITY } else { lo };
        let hi = if hi >= f32::MAX { f32::INFINITY } else { hi };
        let view = call.view(operand)?;
        if lo > hi {
            return unsupported(format!("the lower bound {lo} is above the upper bound {hi}: a constant"));
        }
        if lo == f32::NEG_INFINITY && hi == f32::INFINITY {
            return Ok(Slot::View(view.clone()));
        }
        let input = self.settled(view)?;
        let op = if lo == 0.0 && hi == f32::INFINITY { Op::Relu } else { Op::Clip { lo, hi } };
        self.layer(call, op, vec![input])
    }

    /// Operators that change nothing at inference.
    pub(super) fn identity(&mut self, call: &Call<'a>) -> Result<Slot<'a>, Refusal> {
        let operand = call.operand(0).ok_or_else(|| "operand 0 is missing".to_owned())?;
        if call.op == "Dropout" && training(call)? {
            return unsupported("dropout in training mode");
        }
        if call.op != "Cast" {
            return Ok(operand.clone());
        }
        let to = call.attributes.int("to", 0)?;
        let to = i32::try_from(to).map_err(|_| format!("a cast to type {to}"))?;
        match (operand, to) {
            (Slot::View(_), data_type::FLOAT) => Ok(operand.clone()),
            (Slot::Constant(constant), _) => match (&constant.data, to) {
                (Data::Floats(_), data_type::FLOAT)
                | (Data::Integers(_), data_type::INT64 | data_type::INT32) => Ok(operand.clone()),
                (Data::Integers(numbers), data_type::FLOAT) => {
                    let floats = numbers.iter().map(|number| match number {
                        Number::Known(number) => Ok(*number as f32),
                        Number::Batch => unsupported("it computes with the batch size"),
                        Number::Unknown => Err(Refusal::Behind),
                    });
                    let data = Data::Floats(floats.collect::<Result<_, _>>()?);
                    self.folded(Constant::new(constant.shape.clone(), data))
                }
                _ => unsupported(format!("a cast of a constant to {}", data_type::name(to))),
            },
            _ => unsupported(format!("a cast to {}", data_type::name(to))),
        }
    }
}

fn training(call: &Call<'_>) -> Result<bool, Refusal> {
    let Some(flag) = call.constant(2)? else { return Ok(false) };
    Ok(flag.integers().is_some_and(|flag| flag.iter().any(|&number| number != Number::Known(0))))
}

/// An optional constant of one element; bounds may be infinite, but are numbers.
fn scalar(call: &Call<'_>, operand: usize) -> Result<Option<f32>, Refusal> {
    let Some(constant) = call.constant(operand)? else { return Ok(None) };
    match constant.floats() {
        Some([value]) if !value.is_nan() => Ok(Some(*value)),
        Some([_]) => unsupported(format!("operand {operand} is NaN")),
        Some(_) if call.op == "Clip" => {
            Err(Refusal::Malformed(format!("operand {operand} is not one number")))
        }
        Some(_) => unsupported(format!("operand {operand} is not one number")),
        None => unsupported(format!("operand {operand} is not a float")),
    }
}
