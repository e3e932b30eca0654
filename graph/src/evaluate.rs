//! A naive float evaluator: textbook loops, sums in f64, so that an import can be checked without libtorch.

mod activation;
mod convolution;
mod pool;
mod upsample;

use crate::network::{BatchNorm, Network, Op, Tensor, ValueId, image};

/// Why a network could not be evaluated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvaluateError {
    /// The input's shape is not the network's, or its data not its shape's.
    #[error("an input of shape {actual:?} with {elements} elements for a network that takes {expected:?}")]
    Input {
        /// The network's.
        expected: Vec<usize>,
        /// The given one.
        actual: Vec<usize>,
        /// How many numbers there are.
        elements: usize,
    },
    /// The network fails [`Network::check`].
    #[error("inconsistent network: {0}")]
    Network(String),
}

/// The network's output for one sample, both without the batch axis.
pub fn evaluate(network: &Network, input: &Tensor) -> Result<Tensor, EvaluateError> {
    let mut values = run(network, input, false)?;
    take(&mut values, network.output)
}

/// Every value of the network for one sample, indexed by [`ValueId`]. Values that no layer writes are empty.
pub fn evaluate_all(network: &Network, input: &Tensor) -> Result<Vec<Tensor>, EvaluateError> {
    let empty = || Tensor { shape: vec![0], data: Vec::new() };
    Ok(run(network, input, true)?.into_iter().map(|value| value.unwrap_or_else(empty)).collect())
}

fn run(network: &Network, input: &Tensor, keep: bool) -> Result<Vec<Option<Tensor>>, EvaluateError> {
    network.check().map_err(EvaluateError::Network)?;
    let expected = network.shape(network.input);
    if input.shape != expected || input.data.len() != expected.iter().product::<usize>() {
        return Err(EvaluateError::Input {
            expected: expected.to_vec(),
            actual: input.shape.clone(),
            elements: input.data.len(),
        });
    }
    let mut last_reader = vec![0; network.values.len()];
    for (index, layer) in network.layers.iter().enumerate() {
        for value in &layer.inputs {
            last_reader[value.0] = index;
        }
    }
    let mut values: Vec<Option<Tensor>> = vec![None; network.values.len()];
    values[network.input.0] = Some(input.clone());
    for (index, layer) in network.layers.iter().enumerate() {
        let inputs = layer
            .inputs
            .iter()
            .map(|value| values[value.0].as_ref())
            .collect::<Option<Vec<&Tensor>>>()
            .ok_or_else(|| {
                EvaluateError::Network(format!("layer `{}` reads what is not there", layer.name))
            })?;
        let data = apply(&layer.op, &inputs, network.shape(layer.output));
        values[layer.output.0] = Some(Tensor { shape: network.shape(layer.output).to_vec(), data });
        if !keep {
            for value in
                layer.inputs.iter().filter(|value| last_reader[value.0] == index && **value != network.output)
            {
                values[value.0] = None;
            }
        }
    }
    Ok(values)
}

fn take(values: &mut [Option<Tensor>], id: ValueId) -> Result<Tensor, EvaluateError> {
    values
        .get_mut(id.0)
        .and_then(Option::take)
        .ok_or_else(|| EvaluateError::Network("the output is not written".to_owned()))
}

/// One operation on inputs whose shapes [`Network::check`] has seen.
fn apply(op: &Op, inputs: &[&Tensor], output_shape: &[usize]) -> Vec<f32> {
    let x = inputs[0];
    match op {
        Op::Conv(conv) => convolution::convolve(conv, x, output_shape),
        Op::Linear(linear) => linear
            .weight
            .data
            .chunks_exact(x.data.len().max(1))
            .enumerate()
            .map(|(index, row)| {
                let bias = linear.bias.as_ref().map_or(0.0, |bias| f64::from(bias[index]));
                row.iter().zip(&x.data).fold(bias, |sum, (&w, &x)| sum + f64::from(w) * f64::from(x)) as f32
            })
            .collect(),
        Op::BatchNorm(norm) => normalize(norm, x),
        Op::PRelu { slope } => activation::channelwise(slope, x),
        Op::Add => x.data.iter().zip(&inputs[1].data).map(|(a, b)| a + b).collect(),
        Op::Mul => multiply(x, inputs[1]),
        Op::Concat => inputs.iter().flat_map(|input| input.data.iter().copied()).collect(),
        Op::Select { channels } => {
            let plane = x.data.len() / x.shape[0].max(1);
            channels.iter().flat_map(|channel| &x.data[channel * plane..][..plane]).copied().collect()
        }
        Op::MaxPool(window) => pool::max(*window, x, output_shape),
        Op::AvgPool { window, count_include_pad } => {
            pool::average(*window, *count_include_pad, x, output_shape)
        }
        Op::GlobalAvgPool => x
            .data
            .chunks_exact((x.data.len() / x.shape[0].max(1)).max(1))
            .map(|plane| (plane.iter().map(|&x| f64::from(x)).sum::<f64>() / plane.len() as f64) as f32)
            .collect(),
        Op::Upsample { factor, bilinear } => upsample::enlarge(*factor, *bilinear, x, output_shape),
        Op::Flatten => x.data.clone(),
        Op::Softmax => softmax(x).map(|(share, _)| share as f32).collect(),
        Op::LogSoftmax => softmax(x).map(|(_, logarithm)| logarithm as f32).collect(),
        function => {
            let of = activation::of(function);
            x.data.iter().map(|&x| of(x)).collect()
        }
    }
}

/// Channels, height and width of a value that has positions, as [`Network::check`] has seen.
fn extents(shape: &[usize]) -> [usize; 3] {
    image(shape).unwrap_or_default()
}

/// Products of elements, or of planes and their channels' factors.
fn multiply(x: &Tensor, factors: &Tensor) -> Vec<f32> {
    let plane = (x.data.len() / factors.data.len().max(1)).max(1);
    x.data
        .chunks_exact(plane)
        .zip(&factors.data)
        .flat_map(|(plane, factor)| plane.iter().map(move |x| x * factor))
        .collect()
}

fn normalize(norm: &BatchNorm, x: &Tensor) -> Vec<f32> {
    let plane = (x.data.len() / norm.scale.len().max(1)).max(1);
    x.data
        .chunks_exact(plane)
        .enumerate()
        .flat_map(|(channel, plane)| {
            let (factor, offset) = norm.affine(channel);
            plane.iter().map(move |&x| (f64::from(x) * factor + offset) as f32)
        })
        .collect()
}

/// Each class's share and its logarithm.
fn softmax(x: &Tensor) -> impl Iterator<Item = (f64, f64)> {
    let top = x.data.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers = x.data.iter().map(move |&x| (f64::from(x - top).exp(), f64::from(x - top)));
    let sum: f64 = powers.clone().map(|(power, _)| power).sum();
    powers.map(move |(power, exponent)| (power / sum, exponent - sum.ln()))
}
