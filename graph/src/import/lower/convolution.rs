//! Convolutions, and the padding that stands before them.

use super::{Call, Lowering, Refusal, Slot, View, known, unsupported};
use crate::import::attributes::extent;
use crate::network::{Conv, Op, Tensor, ValueId, Window};

/// Most rows or columns in a kernel, stride, dilation or padding.
const MAX_WINDOW: usize = 1 << 12;

impl<'a> Lowering<'a> {
    pub(super) fn convolution(&mut self, call: &Call<'a>) -> Result<Slot<'a>, Refusal> {
        let (shape, data) = call.weights(1)?;
        let &[filters, _, kernel_h, kernel_w] = shape else {
            return unsupported(format!("weights of shape {shape:?}; 2-D convolutions are supported"));
        };
        if shape.contains(&0) {
            return unsupported(format!("weights of shape {shape:?}: no elements"));
        }
        let kernel = call.attributes.pair("kernel_shape", 1, 0)?;
        if kernel != [0, 0] && kernel != [kernel_h, kernel_w] {
            return Err(format!("kernel_shape {kernel:?} against weights of shape {shape:?}").into());
        }
        let groups = extent("group", call.attributes.int("group", 1)?, 1)?;
        let view = call.view(0)?;
        let (input, image, padding) = self.image(view)?;
        let mut window = geometry(call, [kernel_h, kernel_w], image)?;
        fits(&window, image)?;
        add(&mut window.padding, padding)?;
        let bias = match call.optional_weights(2)? {
            Some((shape, data)) if shape == [filters] => Some(data.to_vec()),
            Some((shape, _)) => return Err(format!("a bias of shape {shape:?} for {filters} filters").into()),
            None => None,
        };
        self.charge(4 * (data.len() + filters) as u64)?;
        let weight = Tensor { shape: shape.to_vec(), data: data.to_vec() };
        self.layer(call, Op::Conv(Conv { window, groups, weight, bias }), vec![input])
    }

    /// Zeros around height and width, kept for the convolution or pool that reads them.
    pub(super) fn pad(&mut self, call: &Call<'a>) -> Result<Slot<'a>, Refusal> {
        let mode = call.attributes.text("mode", "constant")?;
        if mode != "constant" {
            return unsupported(format!("padding by {mode}"));
        }
        let value = call.constant(2)?.and_then(|value| value.floats()?.first().copied()).unwrap_or_default();
        let view = call.view(0)?;
        let rank = view.shape.len() + 1;
        let Some(pads) = call.constant(1)? else { return Err("operand 1 is missing".to_owned().into()) };
        let given = known(pads)?;
        let axes = match call.constant(3)? {
            Some(axes) => {
                known(axes)?.iter().map(|&axis| super::axis_of(axis, rank)).collect::<Result<Vec<_>, _>>()?
            }
            None => (0..rank).collect(),
        };
        if given.len() != 2 * axes.len() {
            return Err(format!("{} pads for {} axes", given.len(), axes.len()).into());
        }
        let mut pads = vec![(0, 0); rank];
        for (index, &axis) in axes.iter().enumerate() {
            pads[axis] = (given[index], given[index + axes.len()]);
        }
        if pads.iter().all(|&pad| pad == (0, 0)) {
            return Ok(Slot::View(view.clone()));
        }
        if value != 0.0 {
            return unsupported(format!("padding with {value}"));
        }
        match pads[..] {
            [(0, 0), (0, 0), (top, bottom), (left, right)] => {
                Ok(Slot::View(padded(view, [pad(top)?, pad(left)?, pad(bottom)?, pad(right)?])?))
            }
            [(0, 0), (before, after), (0, 0), (0, 0)] => {
                self.more_channels(call, view, pad(before)?, pad(after)?)
            }
            _ => unsupported("padding of other axes than height and width, or channels"),
        }
    }

    /// Channels of zeros before and after a value's own, as a convolution with weights of 0 and 1: the shortcut of option A.
    fn more_channels(
        &mut self,
        call: &Call<'a>,
        view: &View<'a>,
        before: usize,
        after: usize,
    ) -> Result<Slot<'a>, Refusal> {
        let input = self.settled(view)?;
        let channels = view.shape[0];
        let filters = channels + before + after;
        self.charge(4 * (filters as u64).saturating_mul(channels as u64))?;
        let mut data = vec![0.0; filters * channels];
        for (channel, row) in data.chunks_exact_mut(channels).skip(before).take(channels).enumerate() {
            row[channel] = 1.0;
        }
        let window = Window { kernel: [1, 1], stride: [1, 1], padding: [0; 4], dilation: [1, 1] };
        let weight = Tensor { shape: vec![filters, channels, 1, 1], data };
        self.layer(call, Op::Conv(Conv { window, groups: 1, weight, bias: None }), vec![input])
    }

    /// The value under a view of an image, the view's extents, and the zeros that the extents include.
    pub(super) fn image(&mut self, view: &View<'a>) -> Result<(ValueId, [usize; 2], [usize; 4]), Refusal> {
        let &[_, height, width] = view.shape.as_slice() else {
            return unsupported(format!("an input of rank {}; images are supported", view.shape.len() + 1));
        };
        if view.padding == [0; 4] {
            return Ok((self.settled(view)?, [height, width], [0; 4]));
        }
        Ok((view.value, [height, width], view.padding))
    }
}

fn pad(pad: i64) -> Result<usize, Refusal> {
    match usize::try_from(pad) {
        Ok(pad) if pad <= MAX_WINDOW => Ok(pad),
        Ok(pad) => unsupported(format!("padding of {pad}, over {MAX_WINDOW}")),
        Err(_) => unsupported("negative padding"),
    }
}

/// The view of an image with zeros around it.
fn padded<'a>(view: &View<'a>, zeros: [usize; 4]) -> Result<View<'a>, Refusal> {
    let mut view = view.clone();
    add(&mut view.padding, zeros)?;
    view.shape[1] += zeros[0] + zeros[2];
    view.shape[2] += zeros[1] + zeros[3];
    Ok(view)
}

/// Adds padding to padding.
pub(super) fn add(padding: &mut [usize; 4], more: [usize; 4]) -> Result<(), Refusal> {
    for (sum, more) in padding.iter_mut().zip(more) {
        *sum = sum.saturating_add(more);
        if *sum > MAX_WINDOW {
            return unsupported(format!("padding of {sum}, over {MAX_WINDOW}"));
        }
    }
    Ok(())
}

/// Whether a window fits its input; where none does, ONNX has an output without elements.
pub(super) fn fits(window: &Window, image: [usize; 2]) -> Result<(), Refusal> {
    let ([height, width], [rows, columns]) = (window.kernel, image);
    match window.output_extents(rows, columns) {
        Some(_) => Ok(()),
        None => unsupported(format!("no {height}×{width} window fits an input of {rows}×{columns}")),
    }
}

/// A window's stride, dilation and padding; `auto_pad` is resolved for an input of these extents.
pub(super) fn geometry(call: &Call<'_>, kernel: [usize; 2], image: [usize; 2]) -> Result<Window, Refusal> {
    let stride = call.attributes.pair("strides", 1, 1)?;
    let dilation = call.attributes.pair("dilations", 1, 1)?;
    let auto = call.attributes.text("auto_pad", "NOTSET")?;
    let padding = match auto {
        "NOTSET" => match call.attributes.ints("pads")? {
            None => [0; 4],
            Some(&[top, left, bottom, right]) => {
                let pad = |pad| extent("pads", pad, 0);
                [pad(top)?, pad(left)?, pad(bottom)?, pad(right)?]
            }
            Some(other) => return Err(format!("attribute `pads` has {} numbers, not 4", other.len()).into()),
        },
        "VALID" => [0; 4],
        "SAME_UPPER" | "SAME_LOWER" => {
            let mut padding = [0; 4];
            for axis in 0..2 {
                let reach = (kernel[axis] - 1).saturating_mul(dilation[axis]).saturating_add(1);
                let windows = image[axis].div_ceil(stride[axis]);
                let covered = (windows.saturating_sub(1)).saturating_mul(stride[axis]).saturating_add(reach);
                let total = covered.saturating_sub(image[axis]);
                let (less, more) = (total / 2, total - total / 2);
                (padding[axis], padding[axis + 2]) =
                    if auto == "SAME_UPPER" { (less, more) } else { (more, less) };
            }
            padding
        }
        other => return Err(format!("auto_pad `{other}`").into()),
    };
    let numbers = [kernel, stride, dilation, [padding[0], padding[1]], [padding[2], padding[3]]];
    if let Some(large) = numbers.iter().flatten().find(|&&number| number > MAX_WINDOW) {
        return unsupported(format!("a window, stride, dilation or padding of {large}, over {MAX_WINDOW}"));
    }
    Ok(Window { kernel, stride, padding, dilation })
}
