//! Pools and means over positions; ceil mode and padding that stands before them are resolved.

use super::convolution::{add, fits, geometry};
use super::{Call, Lowering, Refusal, Slot, View, axis_of, unsupported};
use crate::network::{Op, ValueId, Window};

/// Why a mean is refused.
pub(super) const MEAN: &str = "a mean over anything but all positions of a channel";

/// How many layers back the sign of a value is looked for.
const MAX_WALK: usize = 8;

impl<'a> Lowering<'a> {
    pub(super) fn pool(&mut self, call: &Call<'a>) -> Result<Slot<'a>, Refusal> {
        let average = call.op == "AveragePool";
        let view = call.view(0)?;
        let (input, image, zeros) = self.image(view)?;
        if !call.attributes.has("kernel_shape") {
            return Err("it has no kernel_shape".to_owned().into());
        }
        let kernel = call.attributes.pair("kernel_shape", 1, 1)?;
        let mut window = geometry(call, kernel, image)?;
        fits(&window, image)?;
        let own = window.padding;
        for axis in 0..2 {
            if own[axis] > reach(&window, axis) - 1 || own[axis + 2] > reach(&window, axis) - 1 {
                return unsupported("padding as large as the window: a window may lie wholly in it");
            }
        }
        let mut beyond = [0; 2];
        if call.attributes.flag("ceil_mode")? {
            for axis in 0..2 {
                beyond[axis] = ceil_padding(&window, axis, image[axis])?;
                window.padding[axis + 2] += beyond[axis];
            }
        }
        add(&mut window.padding, zeros)?;
        if window.padding == [0; 4] && window.kernel == [1, 1] && window.stride == [1, 1] {
            return Ok(Slot::View(view.clone()));
        }
        let op = if average {
            let counted = call.attributes.flag("count_include_pad")?;
            let count_include_pad = counting(own, zeros, beyond, counted)?;
            if window.covers(image[0], image[1]) && zeros == [0; 4] {
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
        if view.shape.len() != 3 {
            return unsupported(format!("an input of rank {}; images are supported", view.shape.len() + 1));
        }
        let input = self.settled(view)?;
        self.layer(call, Op::GlobalAvgPool, vec![input])
    }

    pub(super) fn global_max_pool(&mut self, call: &Call<'a>) -> Result<Slot<'a>, Refusal> {
        let view = call.view(0)?;
        let &[_, height, width] = view.shape.as_slice() else {
            return unsupported(format!("an input of rank {}; images are supported", view.shape.len() + 1));
        };
        let input = self.settled(view)?;
        let window = Window { kernel: [height, width], stride: [1, 1], padding: [0; 4], dilation: [1, 1] };
        self.layer(call, Op::MaxPool(window), vec![input])
    }

    /// A mean over all positions of each channel.
    pub(super) fn reduce_mean(&mut self, call: &Call<'a>) -> Result<Slot<'a>, Refusal> {
        let view = call.view(0)?;
        let rank = view.shape.len() + 1;
        let axes = call.axes(1, "axes")?.unwrap_or_default();
        if axes.is_empty() {
            return if call.attributes.flag("noop_with_empty_axes")? {
                Ok(Slot::View(view.clone()))
            } else {
                unsupported("a mean over everything, the batch included")
            };
        }
        let mut axes = axes.iter().map(|&axis| axis_of(axis, rank)).collect::<Result<Vec<_>, _>>()?;
        axes.sort_unstable();
        let keep = call.attributes.int("keepdims", 1)? != 0;
        if view.padding != [0; 4] || axes != (2..rank).collect::<Vec<_>>() || view.shape.len() < 2 {
            return unsupported(MEAN);
        }
        // Positions may have been flattened already: the mean is the same.
        let under = self.network.shape(view.value);
        if under.len() != 3 || under.first() != view.shape.first() {
            return unsupported(format!("it reads a value of shape {under:?} as {:?}", view.shape));
        }
        let channels = view.shape[0];
        let Slot::View(mean) = self.layer(call, Op::GlobalAvgPool, vec![view.value])? else {
            return Err(Refusal::Behind);
        };
        let mut shape = vec![channels];
        if keep {
            shape.resize(view.shape.len(), 1);
        }
        Ok(Slot::View(View { shape, ..mean }))
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
                    Op::MaxPool(_) | Op::AvgPool { .. } | Op::GlobalAvgPool | Op::Flatten | Op::Select { .. },
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
