//! Shapes behind operators that move, join, cut or drop axes.

use super::Extent::{self, Batch, Known, Unknown};
use super::{Extents, extent, extents_of, numbers, target};
use crate::import::constant::Number;
use crate::import::lower::call::{Call, axis_of};
use crate::import::lower::constants::Cut;

/// The shape of the first output; `None` where nothing is known of it.
pub(super) fn of(call: &Call<'_>, batch: Option<i64>) -> Option<Extents> {
    let operand = |index: usize| call.operand(index).and_then(extents_of);
    match call.op {
        "Transpose" => {
            let shape = operand(0)?;
            match call.attributes.ints("perm").ok()? {
                Some(perm) => {
                    perm.iter().map(|&axis| shape.get(usize::try_from(axis).ok()?).copied()).collect()
                }
                None => Some(shape.into_iter().rev().collect()),
            }
        }
        "Reshape" => match numbers(call, 1) {
            Some(numbers) => reshaped(&operand(0)?, &numbers, call.attributes.flag("allowzero").ok()?, batch),
            None => target(call, 1),
        },
        "Flatten" => flattened(call, &operand(0)?),
        "Squeeze" | "Unsqueeze" => moved_axes(call, &operand(0)?),
        "Concat" => concatenated(call),
        "Slice" => sliced(call, operand(0)?),
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

/// The product of extents.
fn all(extents: &[Extent]) -> Extent {
    extents.iter().fold(Known(1), |product, &extent| match (product, extent) {
        (Known(a), Known(b)) => a.checked_mul(b).map_or(Unknown, Known),
        (Batch, Known(1)) | (Known(1), Batch) => Batch,
        _ => Unknown,
    })
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

fn flattened(call: &Call<'_>, shape: &[Extent]) -> Option<Extents> {
    let axis = call.attributes.int("axis", 1).ok()?;
    let axis = if axis == shape.len() as i64 { shape.len() } else { axis_of(axis, shape.len()).ok()? };
    Some(vec![all(shape.get(..axis)?), all(shape.get(axis..)?)])
}

fn sliced(call: &Call<'_>, mut shape: Extents) -> Option<Extents> {
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

pub(super) fn split(call: &Call<'_>, outputs: usize) -> Option<Vec<Option<Extents>>> {
    let shape = extents_of(call.operand(0)?)?;
    let axis = axis_of(call.attributes.int("axis", 0).ok()?, shape.len()).ok()?;
    let Known(length) = *shape.get(axis)? else { return None };
    let sizes: Extents = if let Some(sizes) = numbers(call, 1) {
        sizes.into_iter().map(extent).collect()
    } else {
        let part = length.div_ceil(outputs.max(1));
        (0..outputs).map(|index| Known(part.min(length.saturating_sub(index * part)))).collect()
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
