//! Behind what is not supported: values that nothing computes, and nodes that are refused whatever their operands turn out to be.

use super::call::{Call, axis_of};
use super::constants::Cut;
use super::extents::{Extent, Extents, extents_of, inferred, writes_floats};
use super::{Lowering, MAX_RANK, Refusal, Slot, TWO_VALUES, View, check_size};
use crate::onnx::{TypeProto, data_type};

/// A value that nothing computes, because a node that is not supported stands before it.
#[derive(Clone)]
pub(super) struct Beyond {
    /// Its shape with all axes, as far as it is known.
    pub(super) extents: Option<Extents>,
    /// Whether it depends on the network's input; a constant that was not read does not.
    pub(super) flows: bool,
}

impl<'a> Lowering<'a> {
    /// What stands for the results of a node that was not lowered. Where the shape is known and the batch is in front, it
    /// is a value of the network that no layer writes: the nodes behind it are judged like any other.
    pub(super) fn results_beyond(&mut self, call: &Call<'a>) -> Vec<Slot<'a>> {
        // A shape does not flow: it is a constant but for the batch.
        let flows = call.op != "Shape" && call.op != "Size" && call.operands.iter().flatten().any(flows);
        let inferred = inferred(call, self.batch);
        let shapes = call.node.output.iter().zip(inferred);
        let shapes: Vec<_> =
            shapes.map(|(name, shape)| (name, shape.or_else(|| self.declared(name)))).collect();
        let results = shapes.into_iter().enumerate();
        results
            .map(|(index, (name, extents))| {
                let floats = flows
                    && (index == 0 || call.op == "Split")
                    && writes_floats(call.op)
                    && self.is_float(name);
                self.beyond(name, Beyond { extents, flows }, floats)
            })
            .collect()
    }

    /// A value that nothing computes; of floats, or perhaps of something else.
    pub(super) fn beyond(&mut self, name: &'a str, beyond: Beyond, floats: bool) -> Slot<'a> {
        let Some([Extent::Batch, sample @ ..]) = beyond.extents.as_deref().filter(|_| floats) else {
            return Slot::Beyond(beyond);
        };
        let known = |extent: &Extent| match extent {
            Extent::Known(extent) => Some(*extent),
            Extent::Batch | Extent::Unknown => None,
        };
        match sample.iter().map(known).collect::<Option<Vec<usize>>>() {
            Some(shape) if check_size(name, &shape).is_ok() => {
                let value = self.value(name, shape.clone());
                Slot::View(View { value, shape, padding: [0; 4], origin: (name, name) })
            }
            _ => Slot::Beyond(beyond),
        }
    }

    /// A constant that is not read, by the shape that it has in the file.
    pub(super) fn unread(&self, name: &str) -> Beyond {
        let dims = self.structure.initializers.get(name).map(|tensor| tensor.dims.as_slice());
        let extent = |&extent: &i64| usize::try_from(extent).map_or(Extent::Unknown, Extent::Known);
        let extents =
            dims.filter(|dims| dims.len() <= MAX_RANK).map(|dims| dims.iter().map(extent).collect());
        Beyond { extents, flows: dims.is_none() }
    }

    fn kind(&self, name: &str) -> Option<&'a TypeProto> {
        self.structure.declared.get(name)?.r#type.as_ref()
    }

    /// Whether the file does not declare another type.
    fn is_float(&self, name: &str) -> bool {
        let declared = self.kind(name).and_then(|kind| kind.tensor_type.as_ref()?.elem_type);
        declared.is_none_or(|kind| kind == data_type::FLOAT)
    }

    /// The shape that the file declares: the batch is in front, unless its name stands elsewhere.
    fn declared(&self, name: &str) -> Option<Extents> {
        let dims = &self.kind(name)?.tensor_type.as_ref()?.shape.as_ref()?.dim;
        let extent = |dim: &crate::onnx::DimensionProto| match (dim.dim_value, dim.dim_param.as_deref()) {
            (Some(extent), _) => usize::try_from(extent).map_or(Extent::Unknown, Extent::Known),
            (None, Some(name)) if Some(name) == self.batch_name => Extent::Batch,
            _ => Extent::Unknown,
        };
        let mut extents: Extents = dims.iter().map(extent).collect();
        let elsewhere = extents.iter().skip(1).any(|&extent| extent == Extent::Batch);
        match (extents.first_mut(), dims.first()) {
            (Some(first @ Extent::Unknown), _) if !elsewhere && self.batch_name.is_none() => {
                *first = Extent::Batch;
            }
            (Some(first), Some(dim)) if dim.dim_value.is_some() && dim.dim_value == self.batch => {
                *first = Extent::Batch;
            }
            _ => {}
        }
        Some(extents)
    }
}

/// Whether a value depends on the network's input.
pub(super) fn flows(slot: &Slot<'_>) -> bool {
    match slot {
        Slot::View(_) => true,
        Slot::Constant(_) => false,
        Slot::Beyond(beyond) => beyond.flows,
    }
}

/// Why a supported operator is refused that reads a value which nothing computes: only what holds for every shape that the value
/// may have. `series`: whether the network's input has no height.
pub(super) fn judged(call: &Call<'_>, series: bool) -> Refusal {
    match reason(call, series) {
        Ok(Some(reason)) => Refusal::Unsupported(reason),
        Ok(None) | Err(Refusal::Behind | Refusal::Malformed(_)) => Refusal::Behind,
        Err(refusal) => refusal,
    }
}

fn reason(call: &Call<'_>, series: bool) -> Result<Option<String>, Refusal> {
    let flows = |index: usize| call.operand(index).is_some_and(flows);
    let shape = |index: usize| call.operand(index).and_then(extents_of);
    Ok(match call.op {
        "Conv" | "Gemm" | "MatMul" | "BatchNormalization" | "PRelu" => weighted(call)?,
        "Softmax" | "LogSoftmax" if shape(0).is_some_and(|shape| shape.len() != 2) => {
            Some(super::unary::SOFTMAX.to_owned())
        }
        "Add" | "Mul" => match (flows(0) && flows(1), shape(0), shape(1)) {
            (true, Some(a), Some(b)) if a.len() != b.len() => {
                let what = if call.op == "Add" { "sum" } else { "product" };
                Some(format!("a {what} of values of two shapes"))
            }
            _ => by_position(call),
        },
        "Erf" => Some(super::ERF.to_owned()),
        "Pow" | "Gather" if flows(1) => Some("operand 1 is not a constant".to_owned()),
        "Sub" | "Div" if flows(0) && flows(1) => Some(TWO_VALUES.to_owned()),
        "Sub" | "Div" => by_position(call),
        "Max" | "Min" if flows(0) && flows(1) => Some(super::unary::BOUND.to_owned()),
        "Concat" => concat(call)?,
        "MaxPool" | "AveragePool" | "GlobalMaxPool" | "GlobalAveragePool" => image(call),
        "ReduceMean" | "ReduceMax" => match (shape(0), call.axes(1, "axes")?) {
            (Some(shape), Some(axes)) => reduced(call.op, &axes, &shape)?,
            _ => None,
        },
        "Pad" => match call.attributes.text("mode", "constant")? {
            "constant" => None,
            mode => Some(format!("padding by {mode}")),
        },
        "Resize" => match super::resize::bilinear(call) {
            Err(Refusal::Unsupported(reason)) => Some(reason),
            _ => None,
        },
        "Slice" if flows(0) => slice(call, shape(0))?,
        "Gather" | "Split" if flows(0) => other_axis(call, shape(0))?,
        "ReduceProd" if flows(0) => Some(super::constants::PRODUCT.to_owned()),
        "Transpose" if flows(0) => shape(0).and_then(|shape| transpose(call, &shape, series)),
        _ => None,
    })
}

/// Arithmetic with a constant that is not one number a channel.
fn by_position(call: &Call<'_>) -> Option<String> {
    let ((Slot::Constant(constant), value) | (value, Slot::Constant(constant))) =
        (call.operand(0)?, call.operand(1)?)
    else {
        return None;
    };
    let rank = extents_of(value).filter(|_| flows(value))?.len();
    let front = rank.checked_sub(constant.shape.len())?;
    let varies = |(axis, &extent): (usize, &usize)| axis + front != 1 && extent != 1;
    let shape = &constant.shape;
    shape.iter().enumerate().any(varies).then(|| super::arithmetic::within_channel(shape))
}

/// Operators with weights, which have to be constants.
fn weighted(call: &Call<'_>) -> Result<Option<String>, Refusal> {
    let flowing = (1..5).find(|&index| call.operand(index).is_some_and(flows));
    if let Some(index) = flowing {
        return Ok(Some(format!("operand {index} is not a constant")));
    }
    let rank = |index: usize| call.operand(index).and_then(extents_of).map(|shape| shape.len());
    Ok(match (call.op, rank(0), rank(1)) {
        ("Conv", _, Some(rank)) if !matches!(rank, 3 | 4) => {
            Some(format!("weights of rank {rank}; {}", super::convolution::CONVOLUTIONS))
        }
        ("Conv", ..) => image(call),
        ("Gemm", ..) if call.attributes.flag("transA")? => Some(super::linear::TRANSPOSED.to_owned()),
        ("MatMul", Some(rank), _) if rank != 2 => Some(format!("a product with a value of rank {rank}")),
        _ => None,
    })
}

fn image(call: &Call<'_>) -> Option<String> {
    let rank = call.operand(0).and_then(extents_of)?.len();
    (!matches!(rank, 3 | 4)).then(|| super::convolution::not_image(rank))
}

fn reduced(op: &str, axes: &[i64], shape: &[Extent]) -> Result<Option<String>, Refusal> {
    let axes = axes.iter().map(|&axis| axis_of(axis, shape.len())).collect::<Result<Vec<_>, _>>()?;
    let whole = |(axis, extent): (usize, &Extent)| match extent {
        Extent::Known(1) | Extent::Unknown => true,
        _ => axis < 2 || axes.contains(&axis),
    };
    let positions = axes.iter().all(|&axis| axis > 1) && shape.iter().enumerate().all(whole);
    Ok((!positions).then(|| super::pool::not_positions(op)))
}

fn concat(call: &Call<'_>) -> Result<Option<String>, Refusal> {
    let operands = || call.operands.iter().flatten();
    if !operands().any(flows) {
        return Ok(None);
    }
    if !operands().all(flows) {
        return Ok(Some(super::arithmetic::CONSTANT.to_owned()));
    }
    let axis = call.attributes.int("axis", 0)?;
    let Some(rank) = operands().find_map(extents_of).map(|shape| shape.len()) else { return Ok(None) };
    let channels = axis_of(axis, rank)? == 1;
    Ok((!channels).then(|| super::arithmetic::concat_axis(axis)))
}

fn slice(call: &Call<'_>, shape: Option<Extents>) -> Result<Option<String>, Refusal> {
    let Some(shape) = shape else { return Ok(None) };
    for cut in Cut::of(call, shape.len())?.into_iter().filter(|cut| cut.axis != 1) {
        let whole = cut.start == 0
            && match shape.get(cut.axis) {
                Some(&Extent::Known(length)) => i64::try_from(length).is_ok_and(|length| cut.end >= length),
                _ => cut.end >= i64::from(i32::MAX),
            };
        let unclear = matches!(shape.get(cut.axis), Some(Extent::Unknown)) && cut.start == 0;
        if !whole && !unclear || cut.step != 1 && (cut.axis < 2 || !matches!(shape.len(), 3 | 4)) {
            return Ok(Some(super::channels::PART.to_owned()));
        }
    }
    Ok(None)
}

/// Channels that are taken along another axis.
fn other_axis(call: &Call<'_>, shape: Option<Extents>) -> Result<Option<String>, Refusal> {
    let axis = call.attributes.int("axis", 0)?;
    let other = match shape {
        Some(shape) => axis_of(axis, shape.len())? != 1,
        None => axis == 0 || axis > 1,
    };
    Ok(other.then(|| super::channels::other_axis(call.op, axis)))
}

fn transpose(call: &Call<'_>, shape: &[Extent], series: bool) -> Option<String> {
    let perm = call.attributes.ints("perm").ok()?;
    let order: Vec<usize> = match perm {
        Some(perm) => perm.iter().map(|&axis| usize::try_from(axis).ok()).collect::<Option<_>>()?,
        None => (0..shape.len()).rev().collect(),
    };
    let long = |axis: &usize| match shape.get(*axis) {
        Some(Extent::Known(extent)) => *extent != 1,
        _ => true,
    };
    let moved = !order.iter().copied().filter(long).collect::<Vec<_>>().is_sorted();
    if let [0, sample @ ..] = order.as_slice() {
        let sample: Vec<usize> = sample.iter().map(|axis| axis.saturating_sub(1)).collect();
        if super::channels::may_shuffle(&sample, series) {
            return None;
        }
    }
    let unclear = shape.contains(&Extent::Unknown);
    let batch = shape.iter().position(|&extent| extent == Extent::Batch);
    if !moved || (unclear && batch.is_none()) {
        return None;
    }
    let new = order.iter().position(|&axis| Some(axis) == batch);
    Some(if new == batch { super::reshape::TRANSPOSED } else { super::reshape::BATCH_MOVED }.to_owned())
}
