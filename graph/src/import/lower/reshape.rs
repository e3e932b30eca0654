//! Operators that only move extents: views stay views of the same value.

use super::{Call, Lowering, Refusal, Slot, View, axis_of, known, unsupported};
use crate::import::constant::{Constant, Data, MAX_RANK, Number};
use crate::import::structure::label;

/// Why a transposition is refused.
pub(super) const TRANSPOSED: &str = "a transposition of a value that flows through the network";

/// Why one of the batch is refused.
pub(super) const BATCH_MOVED: &str = "it moves the batch axis";

impl<'a> Lowering<'a> {
    pub(super) fn reshape(&mut self, call: &Call<'a>) -> Result<Slot<'a>, Refusal> {
        match call.operand(0) {
            Some(Slot::View(view)) => {
                if view.padding != [0; 4] {
                    return unsupported("it reads padding, which only a convolution or pool can take up");
                }
                if call.op == "Transpose" {
                    return self.transpose(call, view);
                }
                let shape = self.view_shape(call, view)?;
                let output = call.node.output.first().map_or("", String::as_str);
                Ok(Slot::View(View { shape, origin: (label(call.node), output), ..view.clone() }))
            }
            Some(Slot::Constant(constant)) if call.op == "Transpose" => {
                let constant = transposed(constant, call.attributes.ints("perm")?)?;
                self.folded(constant)
            }
            Some(Slot::Constant(constant)) => {
                let shape = constant_shape(call, constant)?;
                self.folded(Constant::new(shape, constant.data.clone()))
            }
            _ => Err("operand 0 is missing".to_owned().into()),
        }
    }

    /// The view's new shape, without the batch axis, which has to stay in front.
    fn view_shape(&self, call: &Call<'a>, view: &View<'a>) -> Result<Vec<usize>, Refusal> {
        let rank = view.shape.len() + 1;
        match call.op {
            "Flatten" => {
                let axis = call.attributes.int("axis", 1)?;
                // An axis of `rank` flattens everything into the batch.
                if axis == 1 || axis == 1 - rank as i64 {
                    Ok(vec![view.shape.iter().product()])
                } else {
                    unsupported(format!("it flattens from axis {axis} on; axis 1 is supported"))
                }
            }
            "Reshape" => self.reshaped(call, view),
            "Squeeze" => {
                let axes = call.axes(1, "axes")?;
                let mut keep = vec![true; rank];
                match axes {
                    Some(axes) => {
                        for axis in axes {
                            let axis = axis_of(axis, rank)?;
                            if axis == 0 {
                                return unsupported("it squeezes the batch axis");
                            }
                            if view.shape[axis - 1] != 1 {
                                return Err(format!("axis {axis} is {}, not 1", view.shape[axis - 1]).into());
                            }
                            keep[axis] = false;
                        }
                    }
                    None => {
                        return unsupported(
                            "it squeezes every axis of extent 1, the batch perhaps among them",
                        );
                    }
                }
                Ok(view
                    .shape
                    .iter()
                    .zip(&keep[1..])
                    .filter(|(_, keep)| **keep)
                    .map(|(&extent, _)| extent)
                    .collect())
            }
            _ => {
                let full: Vec<usize> = std::iter::once(0).chain(view.shape.iter().copied()).collect();
                match unsqueezed(call, &full)?.split_first() {
                    Some((0, sample)) => Ok(sample.to_vec()),
                    _ => unsupported("it puts an axis before the batch"),
                }
            }
        }
    }

    fn reshaped(&self, call: &Call<'a>, view: &View<'a>) -> Result<Vec<usize>, Refusal> {
        let Some(target) = call.constant(1)? else { return Err("operand 1 is missing".to_owned().into()) };
        let Some(numbers) = target.integers() else { return Err("its shape holds floats".to_owned().into()) };
        let [batch, sample @ ..] = numbers else { return unsupported("it makes a scalar") };
        if sample.len() >= MAX_RANK {
            return unsupported(format!(
                "a shape of rank {}, over the limit of {MAX_RANK}",
                sample.len() + 1
            ));
        }
        let allow_zero = call.attributes.flag("allowzero")?;
        let elements: usize = view.shape.iter().product();
        let mut shape = Vec::with_capacity(sample.len());
        let mut free = None;
        for (index, number) in sample.iter().enumerate() {
            shape.push(match *number {
                Number::Batch => return unsupported(BATCH_MOVED),
                Number::Unknown => return Err(Refusal::Behind),
                Number::Known(0) if !allow_zero => *view
                    .shape
                    .get(index)
                    .ok_or_else(|| format!("extent {} copies an axis that is not there", index + 1))?,
                Number::Known(-1) if free.is_none() => {
                    free = Some(index);
                    1
                }
                Number::Known(extent) => usize::try_from(extent).map_err(|_| format!("extent {extent}"))?,
            });
        }
        let stays = match *batch {
            Number::Batch => true,
            Number::Unknown => return Err(Refusal::Behind),
            Number::Known(0) => !allow_zero,
            // Free: the batch if the rest takes one sample.
            Number::Known(-1) if free.is_none() => true,
            Number::Known(extent) => Some(extent) == self.batch,
        };
        if !stays {
            return unsupported("it does not keep the batch axis in front");
        }
        let product = shape.iter().try_fold(1usize, |product, &extent| product.checked_mul(extent));
        let product =
            product.filter(|&product| product > 0).ok_or_else(|| "a shape without elements".to_owned())?;
        if let Some(index) = free.filter(|_| elements.is_multiple_of(product)) {
            shape[index] = elements / product;
        } else if product != elements {
            // With the batch free, the file may still be right: samples would be mixed.
            return if *batch == Number::Known(-1) {
                unsupported(format!("it makes rows of {shape:?} out of samples of {elements} elements"))
            } else {
                Err(format!("{elements} elements a sample do not fill {shape:?}").into())
            };
        }
        Ok(shape)
    }
}

/// The axes that a `Transpose` puts in order.
pub(super) fn permutation(perm: Option<&[i64]>, rank: usize) -> Result<Vec<usize>, Refusal> {
    let Some(perm) = perm else { return Ok((0..rank).rev().collect()) };
    let mut seen = vec![false; rank];
    for &axis in perm {
        match usize::try_from(axis).ok().and_then(|axis| seen.get_mut(axis)) {
            Some(seen) if !*seen => *seen = true,
            _ => return Err(format!("`perm` {perm:?} is not a permutation of {rank} axes").into()),
        }
    }
    if perm.len() != rank {
        return Err(format!("`perm` {perm:?} is not a permutation of {rank} axes").into());
    }
    Ok(perm.iter().map(|&axis| axis as usize).collect())
}

/// A constant with its axes in another order.
pub(super) fn transposed(constant: &Constant, perm: Option<&[i64]>) -> Result<Constant, Refusal> {
    let order = permutation(perm, constant.shape.len())?;
    let mut strides = vec![1; constant.shape.len()];
    for axis in (1..constant.shape.len()).rev() {
        strides[axis - 1] = strides[axis] * constant.shape[axis];
    }
    let shape: Vec<usize> = order.iter().map(|&axis| constant.shape[axis]).collect();
    let steps: Vec<usize> = order.iter().map(|&axis| strides[axis]).collect();
    let source = |mut index: usize| {
        let mut at = 0;
        for (extent, step) in shape.iter().zip(&steps).rev() {
            at += index % extent * step;
            index /= extent;
        }
        at
    };
    let data = match &constant.data {
        Data::Floats(data) => Data::Floats((0..data.len()).map(|index| data[source(index)]).collect()),
        Data::Integers(data) => Data::Integers((0..data.len()).map(|index| data[source(index)]).collect()),
    };
    Ok(Constant::new(shape, data))
}

fn constant_shape(call: &Call<'_>, constant: &Constant) -> Result<Vec<usize>, Refusal> {
    let rank = constant.shape.len();
    match call.op {
        "Unsqueeze" => unsqueezed(call, &constant.shape),
        "Squeeze" => {
            let axes = match call.axes(1, "axes")? {
                Some(axes) => {
                    axes.into_iter().map(|axis| axis_of(axis, rank)).collect::<Result<Vec<_>, _>>()?
                }
                None => (0..rank).filter(|&axis| constant.shape[axis] == 1).collect(),
            };
            if let Some(axis) = axes.iter().find(|&&axis| constant.shape[axis] != 1) {
                return Err(format!("axis {axis} is {}, not 1", constant.shape[*axis]).into());
            }
            Ok((0..rank).filter(|axis| !axes.contains(axis)).map(|axis| constant.shape[axis]).collect())
        }
        "Flatten" => {
            let axis = call.attributes.int("axis", 1)?;
            let axis = if axis == rank as i64 { rank } else { axis_of(axis, rank)? };
            let (rows, columns) = constant.shape.split_at(axis);
            Ok(vec![rows.iter().product(), columns.iter().product()])
        }
        _ => {
            let Some(target) = call.constant(1)? else {
                return Err("operand 1 is missing".to_owned().into());
            };
            let target = known(target)?;
            if target.len() > MAX_RANK {
                return unsupported(format!(
                    "a shape of rank {}, over the limit of {MAX_RANK}",
                    target.len()
                ));
            }
            let allow_zero = call.attributes.flag("allowzero")?;
            resolve(&target, &constant.shape, constant.elements(), allow_zero).map_err(Refusal::Malformed)
        }
    }
}

fn resolve(target: &[i64], old: &[usize], elements: usize, allow_zero: bool) -> Result<Vec<usize>, String> {
    let mut free = None;
    let mut shape = Vec::with_capacity(target.len());
    for (index, &extent) in target.iter().enumerate() {
        shape.push(match extent {
            0 if !allow_zero => *old.get(index).ok_or("it copies an axis that is not there")?,
            -1 if free.is_none() => {
                free = Some(index);
                1
            }
            _ => usize::try_from(extent).map_err(|_| format!("extent {extent}"))?,
        });
    }
    let product = shape.iter().try_fold(1usize, |product, &extent| product.checked_mul(extent));
    let fault = || format!("{elements} elements do not fill {target:?}");
    let product = product.ok_or_else(fault)?;
    if let Some(index) = free.filter(|_| product > 0 && elements.is_multiple_of(product)) {
        shape[index] = elements / product;
    } else if product != elements || free.is_some() {
        return Err(fault());
    }
    Ok(shape)
}

fn unsqueezed(call: &Call<'_>, shape: &[usize]) -> Result<Vec<usize>, Refusal> {
    let axes = call.axes(1, "axes")?.ok_or_else(|| "it has no axes".to_owned())?;
    let rank = shape.len() + axes.len();
    if rank > MAX_RANK + 1 {
        return unsupported(format!("a shape of rank {rank}, over the limit of {MAX_RANK}"));
    }
    let mut new = vec![false; rank];
    for &axis in &axes {
        let axis = axis_of(axis, rank)?;
        if std::mem::replace(&mut new[axis], true) {
            return Err(format!("axis {axis} is given twice").into());
        }
    }
    let mut old = shape.iter().copied();
    Ok(new.iter().map(|&new| if new { 1 } else { old.next().unwrap_or(1) }).collect())
}
