//! A naive float evaluator: textbook loops, sums in f64, so that an import can be checked without libtorch.

mod convolution;
mod pool;

use crate::network::{BatchNorm, Network, Op, Tensor, ValueId};

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
        Op::Relu => map(x, |x| x.max(0.0)),
        Op::Clip { lo, hi } => map(x, |x| x.max(*lo).min(*hi)),
        Op::LeakyRelu { slope } => map(x, |x| if x > 0.0 { x } else { slope * x }),
        Op::Sigmoid => map(x, |x| (1.0 / (1.0 + (-f64::from(x)).exp())) as f32),
        Op::Tanh => map(x, |x| f64::from(x).tanh() as f32),
        Op::Add => x.data.iter().zip(&inputs[1].data).map(|(a, b)| a + b).collect(),
        Op::Concat => inputs.iter().flat_map(|input| input.data.iter().copied()).collect(),
        Op::MaxPool(window) => pool::max(*window, x, output_shape),
        Op::AvgPool { window, count_include_pad } => {
            pool::average(*window, *count_include_pad, x, output_shape)
        }
        Op::GlobalAvgPool => x
            .data
            .chunks_exact((x.shape[1] * x.shape[2]).max(1))
            .map(|plane| (plane.iter().map(|&x| f64::from(x)).sum::<f64>() / plane.len() as f64) as f32)
            .collect(),
        Op::Flatten => x.data.clone(),
        Op::Softmax => softmax(x),
    }
}

fn map(x: &Tensor, f: impl Fn(f32) -> f32) -> Vec<f32> {
    x.data.iter().map(|&x| f(x)).collect()
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

fn softmax(x: &Tensor) -> Vec<f32> {
    let top = x.data.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = x.data.iter().map(|&x| f64::from(x - top).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|power| (power / sum) as f32).collect()
}
