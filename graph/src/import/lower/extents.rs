//! Shapes of what nodes would write that are not computed, so that the nodes behind them can be judged.
//!
//! Nothing here decides about a file: an extent that is not certain is [`Extent::Unknown`].

use super::call::{Call, axis_of};
use super::constants::Cut;
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
        return split(call, outputs).unwrap_or(shapes);
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
        "Expand" => {
            let target = numbers(call, 1)?.iter().map(|&number| extent(number)).collect::<Vec<_>>();
            Some(broadcast(&operand(0)?, &target))
        }
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
        "Transpose" => {
            let shape = operand(0)?;
            match call.attributes.ints("perm").ok()? {
                Some(perm) => {
                    perm.iter().map(|&axis| shape.get(usize::try_from(axis).ok()?).copied()).collect()
                }
                None => Some(shape.into_iter().rev().collect()),
            }
        }
        "Reshape" => {
            reshaped(&operand(0)?, &numbers(call, 1)?, call.attributes.flag("allowzero").ok()?, batch)
        }
        "Flatten" => {
            let shape = operand(0)?;
            let axis = call.attributes.int("axis", 1).ok()?;
            let axis =
                if axis == shape.len() as i64 { shape.len() } else { axis_of(axis, shape.len()).ok()? };
            Some(vec![all(shape.get(..axis)?), all(shape.get(axis..)?)])
        }
        "Squeeze" | "Unsqueeze" => moved_axes(call, &operand(0)?),
        "Concat" => concatenated(call),
        "Slice" => {
            let mut shape = operand(0)?;
            for cut in Cut::of(call, shape.len()).ok()? {
                let extent = shape.get_mut(cut.axis)?;
                *extent = match *extent {
                    Known(length) => Known(cut.count(length)),
                    other if cut.start == 0 && cut.step == 1 && cut.end >= i64::from(i32::MAX) => other,
                    _ => Unknown,
                };
            }
            Some(shape)
        }
        "Gather" => {
            let (data, indices) = (operand(0)?, operand(1)?);
            let axis = axis_of(call.attributes.int("axis", 0).ok()?, data.len()).ok()?;
            Some([data.get(..axis)?, &indices, data.get(axis + 1..)?].concat())
        }
        op if op.starts_with("Reduce") || op.starts_with("Arg") => reduced(call, &operand(0)?),
        "Pad" | "Tile" | "Resize" | "Upsample" | "ConvTranspose" => Some(
            operand(0)?
                .iter()
                .enumerate()
                .map(|(axis, &extent)| if axis == 0 { extent } else { Unknown })
                .collect(),
        ),
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

/// The product of extents.
fn all(extents: &[Extent]) -> Extent {
    extents.iter().fold(Known(1), |product, &extent| match (product, extent) {
        (Known(a), Known(b)) => a.checked_mul(b).map_or(Unknown, Known),
        (Batch, Known(1)) | (Known(1), Batch) => Batch,
        _ => Unknown,
    })
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

fn reshaped(shape: &[Extent], target: &[Number], allow_zero: bool, batch: Option<i64>) -> Option<Extents> {
    let mut free = None;
    let mut result = Vec::with_capacity(target.len());
    for (index, &number) in target.iter().enumerate() {
        result.push(match number {
            Number::Known(0) if !allow_zero => *shape.get(index)?,
            Number::Known(-1) => {
                free = Some(index);
                Known(1)
            }
            Number::Known(extent) if index == 0 && Some(extent) == batch => Batch,
            other => extent(other),
        });
    }
    if let Some(index) = free {
        *result.get_mut(index)? = match (without_batch(shape), without_batch(&result)) {
            (Some((had, old)), Some((has, new))) if new > 0 && old.is_multiple_of(new) => match (had, has) {
                (true, false) if old == new => Batch,
                (true, true) | (false, false) => Known(old / new),
                _ => Unknown,
            },
            _ => Unknown,
        };
    }
    Some(result)
}

/// Whether the batch is among the extents, and the product of the others; `None` if one is unknown.
fn without_batch(shape: &[Extent]) -> Option<(bool, usize)> {
    shape.iter().try_fold((false, 1usize), |(batch, product), &extent| match extent {
        Known(extent) => Some((batch, product.checked_mul(extent)?)),
        Batch if !batch => Some((true, product)),
        Batch | Unknown => None,
    })
}

fn moved_axes(call: &Call<'_>, shape: &[Extent]) -> Option<Extents> {
    let axes = call.axes(1, "axes").ok()??;
    let rank = if call.op == "Squeeze" { shape.len() } else { shape.len() + axes.len() };
    let axes = axes.iter().map(|&axis| axis_of(axis, rank).ok()).collect::<Option<Vec<_>>>()?;
    if call.op == "Squeeze" {
        let kept = shape.iter().enumerate().filter(|(axis, _)| !axes.contains(axis));
        return Some(kept.map(|(_, &extent)| extent).collect());
    }
    let mut old = shape.iter().copied();
    (0..rank).map(|axis| if axes.contains(&axis) { Some(Known(1)) } else { old.next() }).collect()
}

fn concatenated(call: &Call<'_>) -> Option<Extents> {
    let shapes = call.operands.iter().flatten().map(extents_of).collect::<Option<Vec<_>>>()?;
    let mut result = shapes.first()?.clone();
    let axis = axis_of(call.attributes.int("axis", 0).ok()?, result.len()).ok()?;
    for shape in shapes.get(1..)? {
        for (position, extent) in result.iter_mut().enumerate() {
            let other = *shape.get(position)?;
            *extent = match (*extent, other) {
                (Known(a), Known(b)) if position == axis => Known(a.saturating_add(b)),
                _ if position == axis => Unknown,
                (Unknown | Known(1), other) => other,
                (known, _) => known,
            };
        }
    }
    Some(result)
}

fn split(call: &Call<'_>, outputs: usize) -> Option<Vec<Option<Extents>>> {
    let shape = extents_of(call.operand(0)?)?;
    let axis = axis_of(call.attributes.int("axis", 0).ok()?, shape.len()).ok()?;
    let Known(length) = *shape.get(axis)? else { return None };
    let sizes = match numbers(call, 1) {
        Some(sizes) => sizes.into_iter().map(extent).collect(),
        None => {
            let part = length.div_ceil(outputs.max(1));
            (0..outputs).map(|index| Known(part.min(length.saturating_sub(index * part)))).collect::<Vec<_>>()
        }
    };
    let part = |size: &Extent| {
        let mut part = shape.clone();
        *part.get_mut(axis)? = *size;
        Some(part)
    };
    (sizes.len() == outputs).then(|| sizes.iter().map(part).collect())
}

fn reduced(call: &Call<'_>, shape: &[Extent]) -> Option<Extents> {
    let keep = call.attributes.int("keepdims", 1).ok()? != 0;
    let axes = if call.op.starts_with("Arg") {
        vec![call.attributes.int("axis", 0).ok()?]
    } else {
        call.axes(1, "axes").ok()?.unwrap_or_else(|| (0..shape.len() as i64).collect())
    };
    let axes = axes.iter().map(|&axis| axis_of(axis, shape.len()).ok()).collect::<Option<Vec<_>>>()?;
    let extent = |(axis, &extent): (usize, &Extent)| match (axes.contains(&axis), keep) {
        (false, _) => Some(extent),
        (true, true) => Some(Known(1)),
        (true, false) => None,
    };
    Some(shape.iter().enumerate().filter_map(extent).collect())
}
