//! Convolutions, and the padding that stands before them.

use super::{Call, Lowering, Refusal, Slot, View, known, unsupported};
use crate::import::attributes::extent;
use crate::network::{Conv, Op, Tensor, ValueId, Window, image};

/// Most rows or columns in a kernel, stride, dilation or padding.
const MAX_WINDOW: usize = 1 << 12;

impl<'a> Lowering<'a> {
    pub(super) fn convolution(&mut self, call: &Call<'a>) -> Result<Slot<'a>, Refusal> {
        let (shape, data) = call.weights(1)?;
        let (series, weight_shape) = match *shape {
            [filters, inputs, columns] => (true, [filters, inputs, 1, columns]),
            [filters, inputs, rows, columns] => (false, [filters, inputs, rows, columns]),
            _ => return unsupported(format!("weights of shape {shape:?}; {CONVOLUTIONS}")),
        };
        let [filters, _, kernel_h, kernel_w] = weight_shape;
        if shape.contains(&0) {
            return unsupported(format!("weights of shape {shape:?}: no elements"));
        }
        let given = call.attributes.has("kernel_shape");
        if given && call.attributes.pair("kernel_shape", series, 1)? != [kernel_h, kernel_w] {
            let kernel = call.attributes.ints("kernel_shape")?.unwrap_or_default();
            return Err(format!("kernel_shape {kernel:?} against weights of shape {shape:?}").into());
        }
        let groups = extent("group", call.attributes.int("group", 1)?, 1)?;
        let view = call.view(0)?;
        let image = self.image(view)?;
        if image.series != series {
            let (rank, weights) = (view.shape.len() + 1, shape.len());
            return Err(format!("weights of rank {weights} for an input of rank {rank}").into());
        }
        let mut window = geometry(call, [kernel_h, kernel_w], &image)?;
        fits(&window, &image)?;
        add(&mut window.padding, image.zeros)?;
        let bias = match call.optional_weights(2)? {
            Some((shape, data)) if shape == [filters] => Some(data.to_vec()),
            Some((shape, _)) => return Err(format!("a bias of shape {shape:?} for {filters} filters").into()),
            None => None,
        };
        self.charge(4 * (data.len() + filters) as u64)?;
        let weight = Tensor { shape: weight_shape.to_vec(), data: data.to_vec() };
        self.layer(call, Op::Conv(Conv { window, groups, weight, bias }), vec![image.input])
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
            [(0, 0), (0, 0), (left, right)] => Ok(Slot::View(padded(view, [0, pad(left)?, 0, pad(right)?])?)),
            [(0, 0), (before, after), (0, 0), (0, 0)] | [(0, 0), (before, after), (0, 0)] => {
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

    /// A view that windows may run over.
    pub(super) fn image(&mut self, view: &View<'a>) -> Result<Image, Refusal> {
        let Some([_, height, width]) = image(&view.shape) else {
            return unsupported(not_image(view.shape.len() + 1));
        };
        let [top, left, bottom, right] = view.padding;
        let mut inner = View { padding: [0; 4], ..view.clone() };
        if let [_, rows @ .., columns] = inner.shape.as_mut_slice() {
            for rows in rows {
                *rows = rows.saturating_sub(top + bottom);
            }
            *columns = columns.saturating_sub(left + right);
        }
        Ok(Image {
            input: self.settled(&inner)?,
            extents: [height, width],
            zeros: view.padding,
            series: view.shape.len() == 2,
        })
    }
}

/// An image, or a series as one of height 1.
pub(super) struct Image {
    /// The value that holds it, without the zeros around it.
    pub(super) input: ValueId,
    /// Height and width, with the zeros.
    pub(super) extents: [usize; 2],
    /// Zeros around it: top, left, bottom, right.
    pub(super) zeros: [usize; 4],
    /// Whether the file gives it, and windows over it, no height.
    pub(super) series: bool,
}

/// What convolutions there are.
pub(super) const CONVOLUTIONS: &str = "1-D and 2-D convolutions are supported";

/// Why windows do not run over an input.
pub(super) fn not_image(rank: usize) -> String {
    format!("an input of rank {rank}; images and series are supported")
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
    if let [_, rows @ .., columns] = view.shape.as_mut_slice() {
        for rows in rows {
            *rows += zeros[0] + zeros[2];
        }
        *columns += zeros[1] + zeros[3];
    }
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
pub(super) fn fits(window: &Window, image: &Image) -> Result<(), Refusal> {
    let ([height, width], [rows, columns]) = (window.kernel, image.extents);
    match window.output_extents(rows, columns) {
        Some(_) => Ok(()),
        None => unsupported(format!("no {height}×{width} window fits an input of {rows}×{columns}")),
    }
}

/// A window's stride, dilation and padding; `auto_pad` is resolved for an input of these extents.
pub(super) fn geometry(call: &Call<'_>, kernel: [usize; 2], image: &Image) -> Result<Window, Refusal> {
    let stride = call.attributes.pair("strides", image.series, 1)?;
    let dilation = call.attributes.pair("dilations", image.series, 1)?;
    let auto = call.attributes.text("auto_pad", "NOTSET")?;
    let padding = match auto {
        "NOTSET" => {
            let pad = |pad| extent("pads", pad, 0);
            match (call.attributes.ints("pads")?, image.series) {
                (None, _) => [0; 4],
                (Some(&[top, left, bottom, right]), false) => {
                    [pad(top)?, pad(left)?, pad(bottom)?, pad(right)?]
                }
                (Some(&[left, right]), true) => [0, pad(left)?, 0, pad(right)?],
                (Some(other), series) => {
                    let wanted = if series { 2 } else { 4 };
                    let count = other.len();
                    return Err(format!("attribute `pads` has {count} numbers, not {wanted}").into());
                }
            }
        }
        "VALID" => [0; 4],
        "SAME_UPPER" | "SAME_LOWER" => {
            let mut padding = [0; 4];
            for axis in 0..2 {
                let reach = (kernel[axis] - 1).saturating_mul(dilation[axis]).saturating_add(1);
                let windows = image.extents[axis].div_ceil(stride[axis]);
                let covered = (windows.saturating_sub(1)).saturating_mul(stride[axis]).saturating_add(reach);
                let total = covered.saturating_sub(image.extents[axis]);
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
