//! Shapes of what nodes would write that are not computed, so that the nodes behind them can be judged.
//!
//! Nothing here decides about a file: an extent that is not certain is [`Extent::Unknown`].

mod moved;

use super::call::Call;
use super::{MAX_RANK, Slot};
use crate::import::constant::Number;

/// What is known of one axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    Batch,
    Known(usize),
    Unknown,
}

impl Extent {
    /// As an element of a shape.
    pub(super) fn number(self) -> Number {
        match self {
            Batch => Number::Batch,
            Known(extent) => i64::try_from(extent).map_or(Number::Unknown, Number::Known),
            Unknown => Number::Unknown,
        }
    }
}

use Extent::{Batch, Known, Unknown};

/// A shape with all axes.
pub(super) type Extents = Vec<Extent>;

/// Operators, supported or not, whose first output has the shape of their first operand.
const SAME: [&str; 57] = [
    "Abs",
    "Acos",
    "Asin",
    "Atan",
    "BatchNormalization",
    "BitwiseNot",
    "Cast",
    "Ceil",
    "Celu",
    "Clip",
    "Cos",
    "Cosh",
    "CumSum",
    "DequantizeLinear",
    "Dropout",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "GroupNormalization",
    "HardSigmoid",
    "HardSwish",
    "Hardmax",
    "Identity",
    "InstanceNormalization",
    "IsInf",
    "IsNaN",
    "LRN",
    "LayerNormalization",
    "LeakyRelu",
    "Log",
    "LogSoftmax",
    "LpNormalization",
    "MeanVarianceNormalization",
    "Mish",
    "Neg",
    "Not",
    "QuantizeLinear",
    "RMSNormalization",
    "Reciprocal",
    "Relu",
    "Round",
    "Selu",
    "Shrink",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sinh",
    "Softmax",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Swish",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
];

/// Operators whose output has the shape that their operands broadcast to.
const BROADCAST: [&str; 22] = [
    "Add",
    "And",
    "BitwiseAnd",
    "BitwiseOr",
    "BitwiseXor",
    "Div",
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "Max",
    "Mean",
    "Min",
    "Mod",
    "Mul",
    "Or",
    "PRelu",
    "Pow",
    "Sub",
    "Sum",
    "Where",
];

/// Operators that write something else than floats.
const NOT_FLOAT: [&str; 16] = [
    "And",
    "ArgMax",
    "ArgMin",
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "IsInf",
    "IsNaN",
    "Less",
    "LessOrEqual",
    "NonZero",
    "Not",
    "Or",
    "QuantizeLinear",
    "Shape",
    "Size",
];

/// Whether the operator's first output can be floats.
pub(super) fn writes_floats(op: &str) -> bool {
    !NOT_FLOAT.contains(&op)
}

/// A slot's shape with all axes, as far as it is known.
pub(super) fn extents_of(slot: &Slot<'_>) -> Option<Extents> {
    match slot {
        Slot::View(view) => {
            Some(std::iter::once(Batch).chain(view.shape.iter().copied().map(Known)).collect())
        }
        Slot::Constant(constant) => Some(constant.shape.iter().copied().map(Known).collect()),
        Slot::Beyond(beyond) => beyond.extents.clone(),
    }
}

/// The shapes of a node's outputs, one each; `batch` is the batch size if the file fixes it.
pub(super) fn inferred(call: &Call<'_>, batch: Option<i64>) -> Vec<Option<Extents>> {
    let outputs = call.node.output.len();
    let mut shapes = vec![None; outputs];
    if !call.is_own_domain() {
        return shapes;
    }
    if call.op == "Split" {
        return moved::split(call, outputs).unwrap_or(shapes);
    }
    let bounded = |shape: &Extents| shape.len() <= MAX_RANK;
    let first = of_first_output(call, batch).filter(bounded);
    if let Some(shape) = shapes.first_mut() {
        *shape = first;
    }
    shapes
}

fn of_first_output(call: &Call<'_>, batch: Option<i64>) -> Option<Extents> {
    let operand = |index: usize| call.operand(index).and_then(extents_of);
    match call.op {
        op if SAME.contains(&op) => operand(0),
        op if BROADCAST.contains(&op) => {
            let mut shapes = call.operands.iter().flatten().map(extents_of);
            shapes.try_fold(Vec::new(), |shape, operand| Some(broadcast(&shape, &operand?)))
        }
        "Expand" => Some(broadcast(&operand(0)?, &target(call, 1)?)),
        "Conv" | "MaxPool" | "AveragePool" | "LpPool" => windows(call, &operand(0)?),
        "GlobalAveragePool" | "GlobalMaxPool" | "GlobalLpPool" => {
            let shape = operand(0)?;
            Some(
                shape
                    .iter()
                    .enumerate()
                    .map(|(axis, &extent)| if axis < 2 { extent } else { Known(1) })
                    .collect(),
            )
        }
        "MatMul" => product(&operand(0)?, &operand(1)?),
        "Gemm" => {
            let (a, b) = (operand(0)?, operand(1)?);
            let rows = a.get(usize::from(call.attributes.flag("transA").ok()?))?;
            let columns = b.get(usize::from(!call.attributes.flag("transB").ok()?))?;
            Some(vec![*rows, *columns])
        }
        "Shape" => Some(vec![operand(0).map_or(Unknown, |shape| Known(shape.len()))]),
        _ => moved::of(call, batch),
    }
}

/// A shape that an operand holds; if it was not computed, its rank may still be known.
fn target(call: &Call<'_>, index: usize) -> Option<Extents> {
    match (numbers(call, index), extents_of(call.operand(index)?)?.as_slice()) {
        (Some(numbers), _) => Some(numbers.into_iter().map(extent).collect()),
        (None, &[Known(rank)]) if rank <= MAX_RANK => Some(vec![Unknown; rank]),
        _ => None,
    }
}

/// A constant operand's integers.
fn numbers(call: &Call<'_>, index: usize) -> Option<Vec<Number>> {
    match call.operand(index)? {
        Slot::Constant(constant) => constant.integers().map(<[Number]>::to_vec),
        Slot::View(_) | Slot::Beyond(_) => None,
    }
}

fn extent(number: Number) -> Extent {
    match number {
        Number::Batch => Batch,
        Number::Unknown => Unknown,
        Number::Known(extent) => usize::try_from(extent).map_or(Unknown, Known),
    }
}

fn broadcast(a: &[Extent], b: &[Extent]) -> Extents {
    let rank = a.len().max(b.len());
    let at = |shape: &[Extent], axis: usize| {
        (axis + shape.len()).checked_sub(rank).and_then(|axis| shape.get(axis).copied()).unwrap_or(Known(1))
    };
    (0..rank)
        .map(|axis| match (at(a, axis), at(b, axis)) {
            (Known(1), other) | (other, Known(1)) => other,
            (Batch, _) | (_, Batch) => Batch,
            (Known(extent), _) | (_, Known(extent)) => Known(extent),
            (Unknown, Unknown) => Unknown,
        })
        .collect()
}

fn product(a: &[Extent], b: &[Extent]) -> Option<Extents> {
    match (a, b) {
        ([outer @ .., rows, _], [more @ .., _, columns]) => {
            let mut shape = broadcast(outer, more);
            shape.extend([*rows, *columns]);
            Some(shape)
        }
        _ => None,
    }
}

/// What windows over all axes but the first two leave.
fn windows(call: &Call<'_>, shape: &[Extent]) -> Option<Extents> {
    let (batch, input) = (*shape.first()?, shape.get(2..)?);
    let weights = if call.op == "Conv" { extents_of(call.operand(1)?)? } else { Vec::new() };
    let channels = if call.op == "Conv" { *weights.first()? } else { *shape.get(1)? };
    let list = |name: &str| call.attributes.ints(name).ok().flatten();
    let automatic = call.attributes.text("auto_pad", "NOTSET").ok()?;
    let ceil = call.attributes.flag("ceil_mode").ok()?;
    let mut result = vec![batch, channels];
    for (axis, &extent) in input.iter().enumerate() {
        let number =
            |name: &str, default: i64| list(name).map_or(Some(default), |list| list.get(axis).copied());
        let (stride, dilation) = (number("strides", 1)?, number("dilations", 1)?);
        let kernel = match (list("kernel_shape"), weights.get(axis + 2)) {
            (Some(kernel), _) => *kernel.get(axis)?,
            (None, Some(&Known(kernel))) => i64::try_from(kernel).ok()?,
            _ => return None,
        };
        let padding = match list("pads") {
            Some(pads) => pads.get(axis)?.checked_add(*pads.get(axis + input.len())?)?,
            None => 0,
        };
        let Known(length) = extent else {
            result.push(Unknown);
            continue;
        };
        let length = i64::try_from(length).ok()?;
        if stride < 1 || kernel < 1 || dilation < 1 {
            return None;
        }
        let reach = (kernel - 1).checked_mul(dilation)?.checked_add(1)?;
        let count = match automatic {
            "SAME_UPPER" | "SAME_LOWER" => (length - 1) / stride + 1,
            "VALID" => length.checked_sub(reach)?.checked_div_euclid(stride)? + 1,
            _ if ceil => return None,
            _ => length.checked_add(padding)?.checked_sub(reach)?.checked_div_euclid(stride)? + 1,
        };
        result.push(usize::try_from(count).map_or(Unknown, Known));
    }
    Some(result)
}
