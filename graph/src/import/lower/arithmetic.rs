//! Sums, products and concatenations: of values, of a value and a constant (a normalization), of constants.

use std::rc::Rc;

use super::{Call, Lowering, Refusal, Slot, TWO_VALUES, View, axis_of, unsupported};
use crate::import::constant::{Constant, Data, Number};
use crate::network::{BatchNorm, Op};

/// Why a concatenation of values and constants is refused.
pub(super) const CONSTANT: &str = "a constant operand";

/// Why a concatenation along another axis than the channels' is refused.
pub(super) fn concat_axis(axis: i64) -> String {
    format!("it concatenates along axis {axis}; channels (1) are supported")
}

/// Why arithmetic with a constant is refused.
pub(super) fn within_channel(shape: &[usize]) -> String {
    format!("a constant of shape {shape:?}, which differs within a channel")
}

impl<'a> Lowering<'a> {
    pub(super) fn arithmetic(&mut self, call: &Call<'a>) -> Result<Slot<'a>, Refusal> {
        let (Some(a), Some(b)) = (call.operand(0), call.operand(1)) else {
            return Err("it has fewer than two operands".to_owned().into());
        };
        match (a, b) {
            (Slot::View(a), Slot::View(b)) => self.of_two(call, a, b),
            (Slot::View(view), Slot::Constant(_)) => self.affine(call, view, 1),
            (Slot::Constant(_), Slot::View(view)) => self.affine(call, view, 0),
            (Slot::Constant(a), Slot::Constant(b)) => {
                let (a, b) = (Rc::clone(a), Rc::clone(b));
                self.computed(call.op, &a, &b)
            }
            _ => Err(Refusal::Behind),
        }
    }

    /// A sum or product of two values; in a product, one of them may be a factor a channel.
    fn of_two(&mut self, call: &Call<'a>, a: &View<'a>, b: &View<'a>) -> Result<Slot<'a>, Refusal> {
        let (what, op) = match call.op {
            "Add" => ("sum", Op::Add),
            "Mul" => ("product", Op::Mul),
            _ => return unsupported(TWO_VALUES),
        };
        let factors = |whole: &View<'_>, factor: &View<'_>| match (&whole.shape[..], &factor.shape[..]) {
            (&[channels, _, _], &[factors, 1, 1]) | (&[channels, _], &[factors, 1]) => {
                op == Op::Mul && channels == factors
            }
            _ => false,
        };
        let (first, second) = if a.shape == b.shape || factors(a, b) {
            (a, b)
        } else if factors(b, a) {
            (b, a)
        } else {
            return unsupported(format!("a {what} of shapes {:?} and {:?}", a.shape, b.shape));
        };
        let inputs = vec![self.settled(first)?, self.settled(second)?];
        self.layer(call, op, inputs)
    }

    /// A power with a constant exponent, as products.
    pub(super) fn power(&mut self, call: &Call<'a>) -> Result<Slot<'a>, Refusal> {
        let view = call.view(0)?;
        let Some(exponent) = call.constant(1)? else { return Err("operand 1 is missing".to_owned().into()) };
        let exponent = match &exponent.data {
            Data::Floats(data) if data.len() == 1 && exponent.shape.len() <= view.shape.len() + 1 => data[0],
            Data::Integers(data) if data.len() == 1 && exponent.shape.len() <= view.shape.len() + 1 => {
                match data[0] {
                    Number::Known(number) => number as f32,
                    Number::Batch => return unsupported("it computes with the batch size"),
                    Number::Unknown => return Err(Refusal::Behind),
                }
            }
            _ => return unsupported("an exponent that is not one number"),
        };
        if exponent == 1.0 {
            return Ok(Slot::View(view.clone()));
        }
        if exponent != 2.0 && exponent != 3.0 {
            return unsupported(format!("an exponent of {exponent}; 2 and 3 are supported"));
        }
        let base = self.settled(view)?;
        let square = self.layer(call, Op::Mul, vec![base; 2])?;
        match square {
            Slot::View(square) if exponent == 3.0 => self.layer(call, Op::Mul, vec![base, square.value]),
            square => Ok(square),
        }
    }

    /// A value combined with a constant that is the same for all positions of a channel.
    fn affine(&mut self, call: &Call<'a>, view: &View<'a>, constant: usize) -> Result<Slot<'a>, Refusal> {
        let (shape, data) = call.numbers(constant)?;
        let Some(&channels) = view.shape.first() else { return unsupported("a value without channels") };
        self.charge(16 * channels as u64)?;
        let constants = per_channel(shape, data, &view.shape)?;
        let (scale, shift): (Vec<f32>, Vec<f32>) = match (call.op, constant) {
            ("Add", _) => (vec![1.0; channels], constants),
            ("Sub", 1) => (vec![1.0; channels], constants.iter().map(|c| -c).collect()),
            ("Sub", _) => (vec![-1.0; channels], constants),
            ("Mul", _) => (constants, vec![0.0; channels]),
            (_, 1) if constants.contains(&0.0) => return unsupported("a division by zero"),
            (_, 1) => (constants.iter().map(|c| 1.0 / c).collect(), vec![0.0; channels]),
            _ => return unsupported("a division by a value that flows through the network"),
        };
        if scale.iter().all(|&factor| factor == 1.0) && shift.iter().all(|&offset| offset == 0.0) {
            return Ok(Slot::View(view.clone()));
        }
        if let Some(wrong) = scale.iter().find(|factor| !factor.is_finite()) {
            return unsupported(format!("a factor of {wrong}"));
        }
        let input = self.settled(view)?;
        self.layer(call, Op::BatchNorm(BatchNorm::from_affine(scale, shift)), vec![input])
    }

    pub(super) fn batch_normalization(&mut self, call: &Call<'a>) -> Result<Slot<'a>, Refusal> {
        // Before version 14 it is the further outputs that tell training.
        let further = call.node.output.iter().skip(1).any(|name| !name.is_empty());
        if call.attributes.flag("training_mode")? || further && self.opset < 14 {
            return unsupported("batch normalization in training mode");
        }
        let epsilon = call.attributes.float("epsilon", 1e-5)?;
        let view = call.view(0)?;
        let Some(&channels) = view.shape.first() else { return unsupported("a value without channels") };
        let parameter = |index: usize, name: &str| -> Result<Vec<f32>, Refusal> {
            let (shape, data) = call.weights(index)?;
            if shape.len() != 1 || data.len() != channels {
                return Err(format!("{name} of shape {shape:?} for {channels} channels").into());
            }
            Ok(data.to_vec())
        };
        let scale = parameter(1, "scale")?;
        let shift = parameter(2, "shift")?;
        let mean = parameter(3, "mean")?;
        let variance = parameter(4, "variance")?;
        if let Some(wrong) = variance.iter().find(|&&variance| variance < 0.0 || variance + epsilon <= 0.0) {
            return Err(format!("a variance of {wrong} with epsilon {epsilon}").into());
        }
        self.charge(16 * channels as u64)?;
        let input = self.settled(view)?;
        self.layer(call, Op::BatchNorm(BatchNorm { scale, shift, mean, variance, epsilon }), vec![input])
    }

    pub(super) fn concat(&mut self, call: &Call<'a>) -> Result<Slot<'a>, Refusal> {
        if !call.attributes.has("axis") {
            return Err("it has no axis".to_owned().into());
        }
        let axis = call.attributes.int("axis", 0)?;
        let views: Vec<&View<'a>> = call.operands.iter().flatten().filter_map(Slot::view).collect();
        if views.len() != call.operands.len() {
            return if views.is_empty() { self.concat_constants(call, axis) } else { unsupported(CONSTANT) };
        }
        let rank = views.first().map_or(0, |view| view.shape.len() + 1);
        if axis_of(axis, rank)? != 1 {
            return unsupported(concat_axis(axis));
        }
        if let Some(other) = views.iter().find(|view| view.shape.len() + 1 != rank) {
            return Err(format!("operands of ranks {rank} and {}", other.shape.len() + 1).into());
        }
        let inputs = views.iter().map(|view| self.settled(view)).collect::<Result<Vec<_>, _>>()?;
        match inputs.as_slice() {
            [only] => Ok(Slot::View(View { value: *only, ..views[0].clone() })),
            _ => self.layer(call, Op::Concat, inputs),
        }
    }

    fn concat_constants(&mut self, call: &Call<'a>, axis: i64) -> Result<Slot<'a>, Refusal> {
        let mut numbers = Vec::new();
        for operand in &call.operands {
            let Some(Slot::Constant(constant)) = operand else {
                return Err("an operand is missing".to_owned().into());
            };
            let Some(part) = constant.integers().filter(|_| constant.shape.len() == 1) else {
                return unsupported("a concatenation of constants other than shapes");
            };
            axis_of(axis, 1)?;
            self.charge(size_of_val(part) as u64)?;
            numbers.extend_from_slice(part);
        }
        self.folded(Constant::new(vec![numbers.len()], Data::Integers(numbers)))
    }

    /// Constants, broadcast to one shape.
    fn computed(&mut self, op: &str, a: &Constant, b: &Constant) -> Result<Slot<'a>, Refusal> {
        let shape = broadcast(&a.shape, &b.shape)?;
        let elements = shape.iter().try_fold(1usize, |product, &extent| product.checked_mul(extent));
        let elements = elements.ok_or_else(|| format!("shape {shape:?} overflows"))?;
        self.charge((elements as u64).saturating_mul(size_of::<Number>() as u64))?;
        let pairs = (0..elements).map(|index| (at(index, &shape, &a.shape), at(index, &shape, &b.shape)));
        let data = match (&a.data, &b.data) {
            (Data::Floats(a), Data::Floats(b)) => {
                let apply = |(i, j): (usize, usize)| match op {
                    "Add" => a[i] + b[j],
                    "Sub" => a[i] - b[j],
                    "Mul" => a[i] * b[j],
                    _ => a[i] / b[j],
                };
                Data::Floats(pairs.map(apply).collect())
            }
            (Data::Integers(a), Data::Integers(b)) => {
                Data::Integers(pairs.map(|(i, j)| integer(op, a[i], b[j])).collect::<Result<_, _>>()?)
            }
            _ => return Err("operands of two types".to_owned().into()),
        };
        Ok(Slot::Constant(Rc::new(Constant::new(shape, data))))
    }
}

impl<'a> Slot<'a> {
    fn view(&self) -> Option<&View<'a>> {
        match self {
            Self::View(view) => Some(view),
            Self::Constant(_) | Self::Beyond(_) => None,
        }
    }
}

fn integer(op: &str, a: Number, b: Number) -> Result<Number, Refusal> {
    let (a, b) = match (op, a, b) {
        (_, Number::Known(a), Number::Known(b)) => (a, b),
        ("Mul", Number::Batch, Number::Known(1)) | ("Mul", Number::Known(1), Number::Batch) => {
            return Ok(Number::Batch);
        }
        ("Div", Number::Batch, Number::Known(1)) => return Ok(Number::Batch),
        (_, Number::Unknown, _) | (_, _, Number::Unknown) => return Ok(Number::Unknown),
        _ => return unsupported("it computes with the batch size"),
    };
    let result = match op {
        "Add" => a.checked_add(b),
        "Sub" => a.checked_sub(b),
        "Mul" => a.checked_mul(b),
        _ => a.checked_div(b),
    };
    result.map(Number::Known).ok_or_else(|| Refusal::Malformed(format!("{op} of {a} and {b}")))
}

fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>, Refusal> {
    let rank = a.len().max(b.len());
    let extent =
        |shape: &[usize], axis: usize| (axis + shape.len()).checked_sub(rank).map_or(1, |axis| shape[axis]);
    (0..rank)
        .map(|axis| match (extent(a, axis), extent(b, axis)) {
            (a, b) if a == b => Ok(a),
            (1, other) | (other, 1) => Ok(other),
            _ => Err(Refusal::Malformed(format!("operands of shapes {a:?} and {b:?}"))),
        })
        .collect()
}

/// Where element `index` of `shape` is in an operand that is broadcast to it.
fn at(mut index: usize, shape: &[usize], operand: &[usize]) -> usize {
    let (mut position, mut stride) = (0, 1);
    for (extent, &own) in shape.iter().rev().zip(operand.iter().rev()) {
        if own != 1 {
            position += index % extent * stride;
            stride *= own;
        }
        index /= extent;
    }
    position
}

/// A constant's element for each channel of a value, if it broadcasts along all other axes.
pub(super) fn per_channel(shape: &[usize], data: &[f32], value: &[usize]) -> Result<Vec<f32>, Refusal> {
    let channels = value.first().copied().unwrap_or_default();
    let full_rank = value.len() + 1;
    if shape.len() > full_rank {
        return unsupported(format!("a constant of shape {shape:?} for a value of rank {full_rank}"));
    }
    // Extents by axis of the value, the batch being axis 0.
    for (axis, &extent) in
        shape.iter().enumerate().map(|(axis, extent)| (axis + full_rank - shape.len(), extent))
    {
        let fits = match axis {
            0 => extent == 1,
            axis => extent == 1 || (extent == value[axis - 1]),
        };
        if !fits {
            return unsupported(format!("a constant of shape {shape:?} for a sample of shape {value:?}"));
        }
        if axis != 1 && extent != 1 {
            return unsupported(within_channel(shape));
        }
    }
    match data {
        [number] => Ok(vec![*number; channels]),
        numbers => Ok(numbers.to_vec()),
    }
}
