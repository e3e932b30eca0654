//! Enlarging images and series by a whole factor.

use super::convolution::not_image;
use super::{Call, Lowering, Refusal, Slot, View, axis_of, reads_as, unsupported};
use crate::import::constant::{Constant, Number};
use crate::network::{Op, image};

/// The factor that is supported.
const FACTOR: usize = 2;

/// How the positions between an image's are filled, as far as the attributes say: bilinearly or by the nearest one. The error
/// is why not.
pub(super) fn bilinear(call: &Call<'_>) -> Result<bool, Refusal> {
    let attributes = call.attributes;
    let mode = attributes.text("mode", "nearest")?;
    let transformation = attributes.text("coordinate_transformation_mode", "half_pixel")?;
    let rounding = attributes.text("nearest_mode", "round_prefer_floor")?;
    let policy = attributes.text("keep_aspect_ratio_policy", "stretch")?;
    if policy != "stretch" {
        return unsupported(format!("keep_aspect_ratio_policy `{policy}`"));
    }
    if attributes.flag("antialias")? || attributes.flag("exclude_outside")? {
        return unsupported("antialias or exclude_outside");
    }
    // For whole outputs of more than one position these are one.
    let half_pixel = matches!(transformation, "half_pixel" | "half_pixel_symmetric" | "pytorch_half_pixel");
    match mode {
        "linear" if half_pixel => Ok(true),
        // Position i lies at i/2, or at i/2 − 1/4: at a quarter from the nearest one.
        "nearest" if transformation == "asymmetric" && matches!(rounding, "floor" | "round_prefer_floor") => {
            Ok(false)
        }
        "nearest" if half_pixel && matches!(rounding, "round_prefer_floor" | "round_prefer_ceil") => {
            Ok(false)
        }
        "nearest" => unsupported(format!("the nearest position by `{transformation}` and `{rounding}`")),
        mode => unsupported(format!("mode `{mode}` with `{transformation}`")),
    }
}

impl<'a> Lowering<'a> {
    pub(super) fn resize(&mut self, call: &Call<'a>) -> Result<Slot<'a>, Refusal> {
        let bilinear = bilinear(call)?;
        let view = call.view(0)?;
        if image(&view.shape).is_none() {
            return unsupported(not_image(view.shape.len() + 1));
        }
        let factors = self.factors(call, view)?;
        if factors.iter().all(|&factor| factor == 1.0) {
            return Ok(Slot::View(view.clone()));
        }
        let [1.0, 1.0, positions @ ..] = factors.as_slice() else {
            return unsupported(format!("factors {factors:?} of other axes than positions"));
        };
        if positions.iter().any(|&factor| factor != FACTOR as f64) {
            return unsupported(format!("factors {positions:?}; {FACTOR} for every position is supported"));
        }
        let input = self.settled(view)?;
        let actual = self.network.shape(input);
        if actual.len() != view.shape.len() {
            // The height of 1 would be enlarged, too, or a height that the value has would not.
            return unsupported(reads_as(actual, &view.shape));
        }
        self.layer(call, Op::Upsample { factor: FACTOR, bilinear }, vec![input])
    }

    /// How many times as large each axis becomes, the batch's in front.
    fn factors(&self, call: &Call<'a>, view: &View<'a>) -> Result<Vec<f64>, Refusal> {
        let rank = view.shape.len() + 1;
        let given = |index: usize| -> Result<Option<&Constant>, Refusal> {
            Ok(call.constant(index)?.map(|constant| &**constant).filter(|constant| constant.elements() > 0))
        };
        let axes = match call.attributes.ints("axes")? {
            Some(axes) if axes.len() > rank => return Err(format!("{} axes of {rank}", axes.len()).into()),
            Some(axes) => axes.iter().map(|&axis| axis_of(axis, rank)).collect::<Result<Vec<_>, _>>()?,
            None => (0..rank).collect(),
        };
        if (1..axes.len()).any(|index| axes[..index].contains(&axes[index])) {
            return Err("an axis is given twice".to_owned().into());
        }
        let mut factors = vec![1.0; rank];
        match (given(2)?, given(3)?) {
            (Some(scales), None) => {
                let Some(scales) = scales.floats() else {
                    return Err("its scales are integers".to_owned().into());
                };
                count(scales.len(), &axes)?;
                for (&axis, &scale) in axes.iter().zip(scales) {
                    factors[axis] = f64::from(scale);
                }
            }
            (None, Some(sizes)) => {
                let Some(sizes) = sizes.integers() else {
                    return Err("its sizes are floats".to_owned().into());
                };
                count(sizes.len(), &axes)?;
                for (&axis, size) in axes.iter().zip(sizes) {
                    factors[axis] = match (axis.checked_sub(1), size) {
                        (_, Number::Unknown) => return Err(Refusal::Behind),
                        (None, Number::Batch) => 1.0,
                        (None, Number::Known(size)) if Some(*size) == self.batch => 1.0,
                        (Some(axis), Number::Known(size)) => *size as f64 / view.shape[axis] as f64,
                        _ => return unsupported("it computes with the batch size"),
                    };
                }
            }
            _ => return Err("it has not either scales or sizes".to_owned().into()),
        }
        Ok(factors)
    }
}

fn count(numbers: usize, axes: &[usize]) -> Result<(), Refusal> {
    if numbers == axes.len() {
        Ok(())
    } else {
        Err(format!("{numbers} scales or sizes for {} axes", axes.len()).into())
    }
}
