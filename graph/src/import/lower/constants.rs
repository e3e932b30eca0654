//! Shape arithmetic and other constants, computed on import.

use super::{Call, Lowering, Refusal, Slot, axis_of, known, unsupported};
use crate::import::constant::{Constant, Data, MAX_RANK, Number};

/// Why a product over elements is refused.
pub(super) const PRODUCT: &str = "a product over a value that flows through the network";

/// Most elements of a constant that is filled or sliced: those are shapes, not weights.
const MAX_FILLED: u64 = 1 << 16;

impl<'a> Lowering<'a> {
    pub(super) fn constant(&mut self, call: &Call<'a>) -> Result<Slot<'a>, Refusal> {
        let constant = match call.op {
            "Constant" => return self.constant_node(call),
            "ConstantOfShape" => return self.filled(call),
            "Shape" => shape_of(call)?,
            "Gather" => match call.operand(0) {
                Some(Slot::View(view)) => return self.gather_view(call, view),
                _ => gather(call)?,
            },
            "Slice" => match call.operand(0) {
                Some(Slot::View(_)) => return self.slice_view(call),
                _ => slice(call)?,
            },
            _ => product(call)?,
        };
        self.folded(constant)
    }

    fn constant_node(&mut self, call: &Call<'a>) -> Result<Slot<'a>, Refusal> {
        let attributes = call.attributes;
        if let Some(tensor) = attributes.tensor("value")? {
            return self.decode(tensor);
        }
        let constant = if let Some(floats) = attributes.floats("value_floats")? {
            Constant::new(vec![floats.len()], Data::Floats(floats.to_vec()))
        } else if let Some(ints) = attributes.ints("value_ints")? {
            integers(vec![ints.len()], ints.iter().map(|&int| Number::Known(int)).collect())
        } else if let Some(float) = attributes.any_float("value_float")? {
            Constant::new(Vec::new(), Data::Floats(vec![float]))
        } else if attributes.has("value_int") {
            integers(Vec::new(), vec![Number::Known(attributes.int("value_int", 0)?)])
        } else {
            return unsupported("a constant of another kind than numbers");
        };
        self.folded(constant)
    }

    fn filled(&mut self, call: &Call<'a>) -> Result<Slot<'a>, Refusal> {
        let Some(shape) = call.constant(0)? else { return Err("operand 0 is missing".to_owned().into()) };
        let shape: Vec<usize> = known(shape)?
            .iter()
            .map(|&extent| usize::try_from(extent).map_err(|_| format!("a shape with extent {extent}")))
            .collect::<Result<_, _>>()?;
        let elements = shape.iter().fold(1u64, |product, &extent| product.saturating_mul(extent as u64));
        if elements > MAX_FILLED || shape.len() > MAX_RANK {
            return unsupported(format!("it fills {elements} elements"));
        }
        let value = match call.attributes.tensor("value")? {
            Some(tensor) => self.decode(tensor)?,
            None => self.folded(Constant::new(vec![1], Data::Floats(vec![0.0])))?,
        };
        let Slot::Constant(value) = value else { return unsupported("its value is not a number") };
        let data = match &value.data {
            Data::Floats(data) if data.len() == 1 => Data::Floats(vec![data[0]; elements as usize]),
            Data::Integers(data) if data.len() == 1 => Data::Integers(vec![data[0]; elements as usize]),
            _ => return Err("its value has not one element".to_owned().into()),
        };
        self.folded(Constant::new(shape, data))
    }
}

fn integers(shape: Vec<usize>, numbers: Vec<Number>) -> Constant {
    Constant::new(shape, Data::Integers(numbers))
}

fn shape_of(call: &Call<'_>) -> Result<Constant, Refusal> {
    let shape: Vec<Number> = match call.operand(0) {
        Some(Slot::View(view)) => std::iter::once(Number::Batch)
            .chain(view.shape.iter().map(|&extent| Number::Known(extent as i64)))
            .collect(),
        Some(Slot::Constant(constant)) => {
            constant.shape.iter().map(|&extent| Number::Known(extent as i64)).collect()
        }
        Some(Slot::Beyond(beyond)) => match &beyond.extents {
            Some(extents) => extents.iter().map(|extent| extent.number()).collect(),
            None => return Err(Refusal::Behind),
        },
        _ => return Err("operand 0 is missing".to_owned().into()),
    };
    let rank = shape.len() as i64;
    let bound =
        |value: i64| (if value < 0 { value.saturating_add(rank) } else { value }).clamp(0, rank) as usize;
    let start = bound(call.attributes.int("start", 0)?);
    let end = bound(call.attributes.int("end", rank)?);
    let part = shape.get(start..end).unwrap_or_default().to_vec();
    Ok(integers(vec![part.len()], part))
}

fn gather(call: &Call<'_>) -> Result<Constant, Refusal> {
    let (Some(Slot::Constant(data)), Some(Slot::Constant(indices))) = (call.operand(0), call.operand(1))
    else {
        return unsupported("it gathers with indices that are not constant");
    };
    let Some(numbers) = data.integers().filter(|_| data.shape.len() == 1) else {
        return unsupported("it gathers from something else than a shape");
    };
    axis_of(call.attributes.int("axis", 0)?, 1)?;
    let picked = known(indices)?
        .iter()
        .map(|&index| axis_of(index, numbers.len()).map(|index| numbers[index]))
        .collect::<Result<_, _>>()?;
    Ok(integers(indices.shape.clone(), picked))
}

fn slice(call: &Call<'_>) -> Result<Constant, Refusal> {
    let Some(Slot::Constant(data)) = call.operand(0) else {
        return Err("operand 0 is missing".to_owned().into());
    };
    if data.integers().is_none() {
        return unsupported("it slices something else than a shape");
    }
    if data.elements() > MAX_FILLED as usize {
        return unsupported(format!("it slices a constant of {} elements", data.elements()));
    }
    let cuts = Cut::of(call, data.shape.len())?;
    let mut sliced = Constant::clone(data);
    for cut in &cuts {
        sliced = cut.apply(&sliced)?;
    }
    Ok(sliced)
}

/// What a `Slice` takes along one axis.
pub(super) struct Cut {
    pub(super) axis: usize,
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) step: i64,
}

impl Cut {
    /// The operands of a `Slice` of a value with `rank` axes: at most one cut an axis.
    pub(super) fn of(call: &Call<'_>, rank: usize) -> Result<Vec<Self>, Refusal> {
        let numbers = |index: usize| -> Result<Option<Vec<i64>>, Refusal> {
            call.constant(index)?.map(|constant| known(constant)).transpose()
        };
        let (Some(starts), Some(ends)) = (numbers(1)?, numbers(2)?) else {
            return Err("starts or ends are missing".to_owned().into());
        };
        let axes = numbers(3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = numbers(4)?.unwrap_or_else(|| vec![1; starts.len()]);
        if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
            return Err("starts, ends, axes and steps of different lengths".to_owned().into());
        }
        let mut seen = vec![false; rank];
        let mut cuts = Vec::with_capacity(starts.len().min(rank));
        for (index, &axis) in axes.iter().enumerate() {
            let axis = axis_of(axis, rank)?;
            if std::mem::replace(&mut seen[axis], true) || steps[index] == 0 {
                return Err("an axis is given twice, or a step is 0".to_owned().into());
            }
            cuts.push(Self { axis, start: starts[index], end: ends[index], step: steps[index] });
        }
        Ok(cuts)
    }

    fn apply(&self, constant: &Constant) -> Result<Constant, Refusal> {
        let Some(numbers) = constant.integers() else {
            return unsupported("it slices something else than a shape");
        };
        let extent = constant.shape[self.axis];
        let inner: usize = constant.shape[self.axis + 1..].iter().product();
        let mut shape = constant.shape.clone();
        let rows = self.rows(extent);
        shape[self.axis] = rows.len();
        let blocks = numbers.chunks_exact((extent * inner).max(1));
        let picked =
            blocks.flat_map(|block| rows.iter().flat_map(move |row| &block[row * inner..(row + 1) * inner]));
        Ok(integers(shape, picked.copied().collect()))
    }

    /// Whether the whole of an axis is taken, as it is.
    pub(super) fn is_whole(&self, extent: usize) -> bool {
        self.step == 1 && self.count(extent) == extent
    }

    /// How many positions are taken of an axis.
    pub(super) fn count(&self, extent: usize) -> usize {
        let (start, end) = self.bounds(extent);
        let span = if self.step > 0 { end.saturating_sub(start) } else { start.saturating_sub(end) };
        let step = usize::try_from(self.step.unsigned_abs()).unwrap_or(usize::MAX);
        usize::try_from(span).unwrap_or_default().div_ceil(step.max(1))
    }

    /// Start and end, both of them positions or one past an end.
    fn bounds(&self, extent: usize) -> (i64, i64) {
        let length = extent as i64;
        let (low, high) = if self.step > 0 { (0, length) } else { (-1, length - 1) };
        let bound = |at: i64| (if at < 0 { at.saturating_add(length) } else { at }).clamp(low, high);
        (bound(self.start), bound(self.end))
    }

    /// Positions that are taken of an axis, in order.
    pub(super) fn rows(&self, extent: usize) -> Vec<usize> {
        let (start, end) = self.bounds(extent);
        let mut rows = Vec::new();
        let mut at = start;
        while at >= 0 && (if self.step > 0 { at < end } else { at > end }) {
            rows.push(at as usize);
            at = at.saturating_add(self.step);
        }
        rows
    }
}

fn product(call: &Call<'_>) -> Result<Constant, Refusal> {
    let Some(Slot::Constant(data)) = call.operand(0) else {
        return unsupported(PRODUCT);
    };
    if call.axes(1, "axes")?.is_some_and(|axes| axes != [0]) || data.shape.len() != 1 {
        return unsupported("a product over something else than a shape");
    }
    let product = known(data)?.iter().try_fold(1i64, |product, &number| product.checked_mul(number));
    let product = product.ok_or_else(|| "the product overflows".to_owned())?;
    let shape = if call.attributes.int("keepdims", 1)? == 1 { vec![1] } else { Vec::new() };
    Ok(integers(shape, vec![Number::Known(product)]))
}
