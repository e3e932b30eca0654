//! Output shapes from input shapes, for every operation: the one place that knows them.

use super::{Network, Op, Tensor, Window};

/// Channels, height and width of an image (C, H, W) or of a series (C, W), whose height is 1; `None` for other shapes.
pub fn image(shape: &[usize]) -> Option<[usize; 3]> {
    match *shape {
        [channels, width] => Some([channels, 1, width]),
        [channels, height, width] => Some([channels, height, width]),
        _ => None,
    }
}

impl Window {
    /// Output extents for an input of `height` × `width`; `None` if no window fits, a stride or kernel is 0, or a number
    /// overflows.
    pub fn output_extents(&self, height: usize, width: usize) -> Option<[usize; 2]> {
        let [top, left, bottom, right] = self.padding;
        Some([self.extent(0, height, top, bottom)?, self.extent(1, width, left, right)?])
    }

    /// Whether each window is the whole of an input of `height` × `width`, without padding.
    pub fn covers(&self, height: usize, width: usize) -> bool {
        self.kernel == [height, width] && self.padding == [0; 4] && self.dilation == [1, 1]
    }

    fn extent(&self, axis: usize, input: usize, before: usize, after: usize) -> Option<usize> {
        let (kernel, stride, dilation) = (self.kernel[axis], self.stride[axis], self.dilation[axis]);
        let reach = kernel.checked_sub(1)?.checked_mul(dilation)?.checked_add(1)?;
        let padded = input.checked_add(before)?.checked_add(after)?;
        if stride == 0 || dilation == 0 {
            return None;
        }
        Some(padded.checked_sub(reach)? / stride + 1)
    }
}

impl Op {
    /// The output's shape for inputs of these shapes (without the batch axis), or why there is none. Weights are
    /// checked against the shapes, too.
    pub fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>, String> {
        match self {
            Self::Conv(conv) => {
                let input = one(inputs)?;
                let [channels, height, width] = positions(input)?;
                let [filters, per_group, kernel_h, kernel_w] = conv.weight.shape[..] else {
                    return Err(format!("weights of rank {}, not 4", conv.weight.shape.len()));
                };
                if [kernel_h, kernel_w] != conv.window.kernel {
                    return Err("kernel extents that differ from the weights'".to_owned());
                }
                if conv.groups == 0
                    || filters % conv.groups != 0
                    || per_group.checked_mul(conv.groups) != Some(channels)
                {
                    return Err(format!(
                        "{channels} input channels in {} groups against weights of shape {:?}",
                        conv.groups, conv.weight.shape
                    ));
                }
                full(&conv.weight)?;
                bias_length(conv.bias.as_deref(), filters)?;
                let [height, width] = windows(conv.window, height, width)?;
                as_input(input, [filters, height, width])
            }
            Self::Linear(linear) => {
                let [features] = one(inputs)? else {
                    return Err(format!("an input of shape {:?}, not flat", one(inputs)?));
                };
                let [outputs, weight_inputs] = linear.weight.shape[..] else {
                    return Err(format!("weights of rank {}, not 2", linear.weight.shape.len()));
                };
                if *features != weight_inputs {
                    return Err(format!(
                        "{features} features against weights of shape {:?}",
                        linear.weight.shape
                    ));
                }
                full(&linear.weight)?;
                bias_length(linear.bias.as_deref(), outputs)?;
                Ok(vec![outputs])
            }
            Self::BatchNorm(norm) => {
                let shape = one(inputs)?;
                let channels = shape.first().copied();
                for (name, length) in [
                    ("scale", norm.scale.len()),
                    ("shift", norm.shift.len()),
                    ("mean", norm.mean.len()),
                    ("variance", norm.variance.len()),
                ] {
                    if Some(length) != channels {
                        return Err(format!(
                            "{name} of {length} elements against an input of shape {shape:?}"
                        ));
                    }
                }
                Ok(shape.to_vec())
            }
            Self::Relu
            | Self::Clip { .. }
            | Self::LeakyRelu { .. }
            | Self::Elu { .. }
            | Self::Sigmoid
            | Self::HardSigmoid { .. }
            | Self::Silu
            | Self::HardSwish
            | Self::Gelu { .. }
            | Self::Tanh => Ok(one(inputs)?.to_vec()),
            Self::PRelu { slope } => match one(inputs)? {
                shape @ [channels, ..] if *channels == slope.len() => Ok(shape.to_vec()),
                shape => Err(format!("{} slopes against an input of shape {shape:?}", slope.len())),
            },
            Self::Softmax | Self::LogSoftmax => match one(inputs)? {
                shape @ [_] => Ok(shape.to_vec()),
                shape => Err(format!("an input of shape {shape:?}, not flat")),
            },
            Self::Add => match inputs {
                [a, b] if a == b => Ok(a.to_vec()),
                [a, b] => Err(format!("operands of shapes {a:?} and {b:?}")),
                _ => Err(format!("{} operands, not 2", inputs.len())),
            },
            Self::Mul => match inputs {
                [a, b] if a == b => Ok(a.to_vec()),
                [a @ [channels, _, _], [factors, 1, 1]] | [a @ [channels, _], [factors, 1]]
                    if channels == factors =>
                {
                    Ok(a.to_vec())
                }
                [a, b] => Err(format!("factors of shapes {a:?} and {b:?}")),
                _ => Err(format!("{} operands, not 2", inputs.len())),
            },
            Self::Concat => concat_shape(inputs),
            Self::Select { channels } => select_shape(channels, one(inputs)?),
            Self::MaxPool(window) | Self::AvgPool { window, .. } => {
                let input = one(inputs)?;
                let [channels, height, width] = positions(input)?;
                let [height, width] = windows(*window, height, width)?;
                as_input(input, [channels, height, width])
            }
            Self::GlobalAvgPool => {
                let input = one(inputs)?;
                let [channels, ..] = positions(input)?;
                as_input(input, [channels, 1, 1])
            }
            Self::Upsample { factor, .. } => {
                let input = one(inputs)?;
                let [channels, height, width] = positions(input)?;
                let rows = if input.len() == 2 { 1 } else { *factor };
                match (height.checked_mul(rows), width.checked_mul(*factor)) {
                    (Some(height), Some(width)) if *factor > 0 => as_input(input, [channels, height, width]),
                    _ => Err(format!("no {factor} times {height}×{width}")),
                }
            }
            Self::Flatten => Ok(vec![one(inputs)?.iter().product()]),
        }
    }
}

impl Op {
    /// Whether every weight, bias, statistic and coefficient is a finite number. A clip's bounds may be
    /// infinite.
    pub fn is_finite(&self) -> bool {
        let finite = |numbers: &[f32]| numbers.iter().all(|number| number.is_finite());
        let biased = |weight: &Tensor, bias: &Option<Vec<f32>>| {
            finite(&weight.data) && bias.as_deref().is_none_or(finite)
        };
        match self {
            Self::Conv(conv) => biased(&conv.weight, &conv.bias),
            Self::Linear(linear) => biased(&linear.weight, &linear.bias),
            Self::BatchNorm(norm) => [&norm.scale, &norm.shift, &norm.mean, &norm.variance]
                .into_iter()
                .all(|numbers| finite(numbers)),
            Self::LeakyRelu { slope } => slope.is_finite(),
            Self::PRelu { slope } => finite(slope),
            Self::Elu { alpha } => alpha.is_finite(),
            Self::HardSigmoid { alpha, beta } => alpha.is_finite() && beta.is_finite(),
            _ => true,
        }
    }
}

impl Network {
    /// The shape of a value, without the batch axis; empty for an id that is not in the network.
    pub fn shape(&self, value: super::ValueId) -> &[usize] {
        self.values.get(value.0).map_or(&[], |value| &value.shape)
    }

    /// Checks what [`import`](crate::import::import) guarantees: ids in range, layers in an order in which every value is
    /// written once and before it is read, every recorded shape the inferred one, the output written.
    pub fn check(&self) -> Result<(), String> {
        let mut written = vec![false; self.values.len()];
        *written.get_mut(self.input.0).ok_or("the input is not among the values")? = true;
        for layer in &self.layers {
            let fault = |reason: String| format!("layer `{}`: {reason}", layer.name);
            for input in &layer.inputs {
                if !written.get(input.0).copied().unwrap_or(false) {
                    return Err(fault(format!("reads value {} before it is written", input.0)));
                }
            }
            let shapes: Vec<&[usize]> = layer.inputs.iter().map(|input| self.shape(*input)).collect();
            let shape = layer.op.output_shape(&shapes).map_err(fault)?;
            if shape != self.shape(layer.output) {
                return Err(fault(format!(
                    "writes shape {shape:?}, recorded as {:?}",
                    self.shape(layer.output)
                )));
            }
            match written.get_mut(layer.output.0) {
                Some(done) if !*done => *done = true,
                _ => return Err(fault(format!("writes value {} again", layer.output.0))),
            }
        }
        if written.get(self.output.0).copied().unwrap_or(false) {
            Ok(())
        } else {
            Err("the output is not written".to_owned())
        }
    }
}

fn one<'a>(inputs: &[&'a [usize]]) -> Result<&'a [usize], String> {
    match inputs {
        [input] => Ok(input),
        _ => Err(format!("{} operands, not 1", inputs.len())),
    }
}

fn positions(shape: &[usize]) -> Result<[usize; 3], String> {
    image(shape).ok_or_else(|| format!("an input of shape {shape:?} where channels and positions are wanted"))
}

/// An output's shape: that of a series if the input is one.
fn as_input(input: &[usize], output: [usize; 3]) -> Result<Vec<usize>, String> {
    match (input, output) {
        ([_, _], [channels, 1, width]) => Ok(vec![channels, width]),
        ([_, _], [_, height, _]) => Err(format!("an output of height {height} of a series, which has none")),
        _ => Ok(output.to_vec()),
    }
}

fn windows(window: Window, height: usize, width: usize) -> Result<[usize; 2], String> {
    window.output_extents(height, width).ok_or_else(|| {
        format!("no {}×{} window fits an input of {height}×{width}", window.kernel[0], window.kernel[1])
    })
}

fn full(weight: &Tensor) -> Result<(), String> {
    let elements = weight.shape.iter().try_fold(1usize, |product, &extent| product.checked_mul(extent));
    if elements == Some(weight.data.len()) {
        Ok(())
    } else {
        Err(format!("{} weights for shape {:?}", weight.data.len(), weight.shape))
    }
}

fn bias_length(bias: Option<&[f32]>, outputs: usize) -> Result<(), String> {
    match bias {
        Some(bias) if bias.len() != outputs => {
            Err(format!("a bias of {} elements for {outputs} outputs", bias.len()))
        }
        _ => Ok(()),
    }
}

fn concat_shape(inputs: &[&[usize]]) -> Result<Vec<usize>, String> {
    let first = inputs.first().ok_or("no operands")?;
    let mut shape = first.to_vec();
    let mut channels = 0usize;
    for input in inputs {
        if input.is_empty() || input.len() != first.len() || input[1..] != first[1..] {
            return Err(format!("operands of shapes {first:?} and {input:?}"));
        }
        channels = channels.checked_add(input[0]).ok_or("too many channels")?;
    }
    *shape.first_mut().ok_or("operands without channels")? = channels;
    Ok(shape)
}

fn select_shape(channels: &[usize], input: &[usize]) -> Result<Vec<usize>, String> {
    let Some((&extent, inner)) = input.split_first() else {
        return Err("an input without channels".to_owned());
    };
    match channels.iter().find(|&&channel| channel >= extent) {
        Some(channel) => Err(format!("channel {channel} of {extent}")),
        None if channels.is_empty() => Err("no channels".to_owned()),
        None => Ok(std::iter::once(channels.len()).chain(inner.iter().copied()).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_takes_one_shape_or_a_factor_a_channel() {
        let shape = |a: &[usize], b: &[usize]| Op::Mul.output_shape(&[a, b]);
        assert_eq!(shape(&[2, 3, 4], &[2, 3, 4]), Ok(vec![2, 3, 4]));
        assert_eq!(shape(&[2, 3, 4], &[2, 1, 1]), Ok(vec![2, 3, 4]));
        assert_eq!(shape(&[5], &[5]), Ok(vec![5]));
        for (a, b) in
            [(&[2, 1, 1][..], &[2, 3, 4][..]), (&[2, 3, 4], &[1, 1, 1]), (&[2, 3, 4], &[2]), (&[5], &[1])]
        {
            assert!(shape(a, b).is_err(), "{a:?} and {b:?}");
        }
        assert!(Op::Mul.output_shape(&[&[2]]).is_err());
    }

    #[test]
    fn a_series_is_an_image_of_height_1() {
        let window = |kernel, padding| Window { kernel, stride: [1, 2], padding, dilation: [1, 1] };
        let pool =
            |kernel, padding: [usize; 4]| Op::MaxPool(window(kernel, padding)).output_shape(&[&[3, 9]]);
        assert_eq!(image(&[3, 9]), Some([3, 1, 9]));
        assert_eq!([image(&[9]), image(&[1, 3, 1, 9])], [None; 2]);
        assert_eq!(pool([1, 3], [0, 1, 0, 0]), Ok(vec![3, 4]));
        assert_eq!(pool([3, 3], [1, 0, 1, 0]), Ok(vec![3, 4]));
        assert!(pool([1, 3], [1, 0, 0, 0]).unwrap_err().contains("height 2"));
        assert!(pool([2, 3], [0; 4]).is_err());
        assert_eq!(Op::GlobalAvgPool.output_shape(&[&[3, 9]]), Ok(vec![3, 1]));
        assert_eq!(Op::Mul.output_shape(&[&[3, 9], &[3, 1]]), Ok(vec![3, 9]));
        assert!(Op::Mul.output_shape(&[&[3, 9], &[3, 1, 1]]).is_err());
        assert_eq!(Op::Select { channels: vec![2] }.output_shape(&[&[3, 9]]), Ok(vec![1, 9]));
        assert_eq!(Op::Concat.output_shape(&[&[3, 9], &[1, 9]]), Ok(vec![4, 9]));
    }

    #[test]
    fn what_is_enlarged_has_all_its_positions_or_its_length_so_many_times() {
        let shape = |factor, input: &[usize]| Op::Upsample { factor, bilinear: true }.output_shape(&[input]);
        assert_eq!(shape(2, &[5, 3, 4]), Ok(vec![5, 6, 8]));
        assert_eq!(shape(3, &[5, 4]), Ok(vec![5, 12]));
        for (factor, input) in [(0, &[5, 3, 4][..]), (usize::MAX, &[5, 3, 4]), (2, &[5]), (2, &[1, 5, 3, 4])]
        {
            assert!(shape(factor, input).is_err(), "{factor} times {input:?}");
        }
    }

    #[test]
    fn a_selection_names_channels_that_are_there() {
        let select = |channels: &[usize]| Op::Select { channels: channels.to_vec() };
        assert_eq!(select(&[1, 1, 0]).output_shape(&[&[2, 3, 4]]), Ok(vec![3, 3, 4]));
        assert_eq!(select(&[6]).output_shape(&[&[7]]), Ok(vec![1]));
        assert!(select(&[2]).output_shape(&[&[2, 3, 4]]).is_err());
        assert!(select(&[]).output_shape(&[&[2]]).is_err());
        assert!(select(&[0]).output_shape(&[&[]]).is_err());
    }

    #[test]
    fn slopes_are_one_a_channel() {
        let op = Op::PRelu { slope: vec![0.5; 3] };
        assert_eq!(op.output_shape(&[&[3, 2, 2]]), Ok(vec![3, 2, 2]));
        assert!(op.output_shape(&[&[2, 3, 3]]).is_err());
    }
}
