//! Pools and means over positions; ceil mode and padding that stands before them are resolved.

use super::convolution::{add, fits, geometry, not_image};
use super::{Call, Lowering, Refusal, Slot, View, axis_of, reads_as, unsupported};
use crate::network::{Op, ValueId, Window, image};

/// Why a mean or maximum is refused.
pub(super) fn not_positions(op: &str) -> String {
    let what = if op == "ReduceMax" { "maximum" } else { "mean" };
    format!("a {what} over anything but all positions of a channel")
}

/// How many layers back the sign of a value is looked for.
const MAX_WALK: usize = 8;

impl<'a> Lowering<'a> {
    pub(super) fn pool(&mut self, call: &Call<'a>) -> Result<Slot<'a>, Refusal> {
        let average = call.op == "AveragePool";
        let view = call.view(0)?;
        let image = self.image(view)?;
        if !call.attributes.has("kernel_shape") {
            return Err("it has no kernel_shape".to_owned().into());
        }
        let kernel = call.attributes.pair("kernel_shape", image.series, 1)?;
        let mut window = geometry(call, kernel, &image)?;
        fits(&window, &image)?;
        let (input, zeros, [height, width]) = (image.input, image.zeros, image.extents);
        let own = window.padding;
        for axis in 0..2 {
            if own[axis] > reach(&window, axis) - 1 || own[axis + 2] > reach(&window, axis) - 1 {
                return unsupported("padding as large as the window: a window may lie wholly in it");
            }
        }
        let mut beyond = [0; 2];
        if call.attributes.flag("ceil_mode")? {
            for (axis, beyond) in beyond.iter_mut().enumerate() {
                *beyond = ceil_padding(&window, axis, image.extents[axis])?;
                window.padding[axis + 2] += *beyond;
            }
        }
        add(&mut window.padding, zeros)?;
        if window.padding == [0; 4] && window.kernel == [1, 1] && window.stride == [1, 1] {
            return Ok(Slot::View(view.clone()));
        }
        let op = if average {
            let counted = call.attributes.flag("count_include_pad")?;
            let count_include_pad = counting(own, zeros, beyond, counted)?;
            if window.covers(height, width) && zeros == [0; 4] {
                Op::GlobalAvgPool
            } else {
                Op::AvgPool { window, count_include_pad }
            }
        } else {
            if zeros != [0; 4] && !self.is_non_negative(input) {
                return unsupported("a maximum over zeros around a value that may be negative");
            }
            for axis in 0..2 {
                if zeros[axis].max(zeros[axis + 2]) + own[axis].max(own[axis + 2]) >= reach(&window, axis) {
                    return unsupported("padding as large as the window: a window may lie wholly in it");
                }
            }
            Op::MaxPool(window)
        };
        self.layer(call, op, vec![input])
    }

    pub(super) fn global_average_pool(&mut self, call: &Call<'a>) -> Result<Slot<'a>, Refusal> {
        let view = call.view(0)?;
        if image(&view.shape).is_none() {
            return unsupported(not_image(view.shape.len() + 1));
        }
        let input = self.settled(view)?;
        self.layer(call, Op::GlobalAvgPool, vec![input])
    }

    pub(super) fn global_max_pool(&mut self, call: &Call<'a>) -> Result<Slot<'a>, Refusal> {
        let view = call.view(0)?;
        let Some([_, height, width]) = image(&view.shape) else {
            return unsupported(not_image(view.shape.len() + 1));
        };
        let input = self.settled(view)?;
        self.layer(call, whole_maximum(height, width), vec![input])
    }

    /// A mean or a maximum over all positions of each channel.
    pub(super) fn reduce(&mut self, call: &Call<'a>) -> Result<Slot<'a>, Refusal> {
        let view = call.view(0)?;
        let rank = view.shape.len() + 1;
        let axes = call.axes(1, "axes")?.unwrap_or_default();
        if axes.is_empty() {
            return if call.attributes.flag("noop_with_empty_axes")? {
                Ok(Slot::View(view.clone()))
            } else {
                unsupported("a mean or maximum over everything, the batch included")
            };
        }
        let mut axes = axes.iter().map(|&axis| axis_of(axis, rank)).collect::<Result<Vec<_>, _>>()?;
        axes.sort_unstable();
        let keep = call.attributes.int("keepdims", 1)? != 0;
        // Axes of one position may be left out.
        let all = (2..rank).all(|axis| axes.contains(&axis) || view.shape[axis - 1] == 1);
        let ascending = axes.windows(2).all(|pair| pair[0] < pair[1]);
        if view.padding != [0; 4] || !all || !ascending || axes.iter().any(|&axis| axis < 2) {
            return unsupported(not_positions(call.op));
        }
        // Positions may have been flattened already: the result is the same.
        let under = self.network.shape(view.value);
        let Some([_, height, width]) = image(under).filter(|_| under.first() == view.shape.first()) else {
            return unsupported(reads_as(under, &view.shape));
        };
        let op = if call.op == "ReduceMax" { whole_maximum(height, width) } else { Op::GlobalAvgPool };
        let Slot::View(reduced) = self.layer(call, op, vec![view.value])? else {
            return Err(Refusal::Behind);
        };
        let kept = view.shape.iter().enumerate().filter(|(axis, _)| keep || !axes.contains(&(axis + 1)));
        let shape = kept.map(|(axis, &extent)| if axes.contains(&(axis + 1)) { 1 } else { extent }).collect();
        Ok(Slot::View(View { shape, ..reduced }))
    }

    /// Whether no element of a value can be negative.
    fn is_non_negative(&self, value: ValueId) -> bool {
        let mut value = value;
        for _ in 0..MAX_WALK {
            let Some(layer) = self.writers.get(&value).and_then(|&index| self.network.layers.get(index))
            else {
                return false;
            };
            match (&layer.op, layer.inputs.as_slice()) {
                (Op::Relu | Op::Sigmoid | Op::HardSigmoid { .. } | Op::Softmax, _) => return true,
                (Op::Clip { lo, .. }, _) => return *lo >= 0.0,
                (
                    Op::MaxPool(_)
                    | Op::AvgPool { .. }
                    | Op::GlobalAvgPool
                    | Op::Flatten
                    | Op::Select { .. }
                    | Op::Upsample { .. },
                    [input],
                ) => {
                    value = *input;
                }
                _ => return false,
            }
        }
        false
    }
}

/// A maximum over a whole image.
fn whole_maximum(height: usize, width: usize) -> Op {
    Op::MaxPool(Window { kernel: [height, width], stride: [1, 1], padding: [0; 4], dilation: [1, 1] })
}

/// How far a window reaches.
fn reach(window: &Window, axis: usize) -> usize {
    (window.kernel[axis] - 1).saturating_mul(window.dilation[axis]).saturating_add(1)
}

/// What has to be added behind the input so that the last, partial window counts; one that would start behind the input
/// does not.
fn ceil_padding(window: &Window, axis: usize, image: usize) -> Result<usize, Refusal> {
    let (before, after, stride) = (window.padding[axis], window.padding[axis + 2], window.stride[axis]);
    let reach = reach(window, axis);
    let padded = image.saturating_add(before).saturating_add(after);
    let span = padded.checked_sub(reach).ok_or_else(|| "no window fits the input".to_owned())?;
    let mut windows = span.div_ceil(stride) + 1;
    if (windows - 1).saturating_mul(stride) >= image + before {
        windows -= 1;
    }
    Ok((windows - 1).saturating_mul(stride).saturating_add(reach).saturating_sub(padded))
}

/// Whether padded positions count in a mean, given the pool's own padding, zeros before it and what ceil mode added.
fn counting(own: [usize; 4], zeros: [usize; 4], beyond: [usize; 2], counted: bool) -> Result<bool, Refusal> {
    let (has_own, has_zeros, has_beyond) = (own != [0; 4], zeros != [0; 4], beyond != [0; 2]);
    let counts = has_zeros || (has_own && counted);
    if (has_zeros && has_own && !counted) || (counts && has_beyond) {
        return unsupported("a mean in which only a part of the padding counts");
    }
    // Without padding all windows have one size.
    Ok(counts || !(has_own || has_beyond))
}
