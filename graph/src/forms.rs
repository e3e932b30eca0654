//! Functions that exporters spell out: layers that sum, bound and multiply one value become one layer with
//! the function's name.
//!
//! A layer that something else reads, too, stays as it is, and so do those that read it: the product of two
//! values is an operation of its own. Coefficients may be a few last bits off.

use crate::network::{Layer, Network, Op, ValueId};

/// What a spelled-out function is called, and what it reads.
type Found = Option<(Op, ValueId)>;

impl Network {
    /// Names hard sigmoids, hard swishes, SiLUs and GELUs in their approximate form. Returns how many were
    /// found.
    pub(crate) fn name_functions(&mut self) -> usize {
        let mut found = 0;
        let rules: [fn(&View<'_>, &Layer) -> Found; 2] =
            [|view, layer| view.hard_sigmoid(layer), |view, layer| view.product(layer)];
        for rule in rules {
            let view = View::of(self);
            let functions: Vec<(usize, Op, ValueId)> = (0..self.layers.len())
                .filter_map(|index| rule(&view, &self.layers[index]).map(|(op, x)| (index, op, x)))
                .collect();
            found += functions.len();
            for (index, op, x) in functions {
                self.layers[index].op = op;
                self.layers[index].inputs = vec![x];
            }
            self.prune();
        }
        found
    }
}

/// Who writes each value, and how often it is read.
pub(crate) struct View<'a> {
    network: &'a Network,
    writers: Vec<Option<usize>>,
    readers: Vec<usize>,
}

impl<'a> View<'a> {
    pub(crate) fn of(network: &'a Network) -> Self {
        let mut writers = vec![None; network.values.len()];
        let mut readers = vec![0; network.values.len()];
        for (index, layer) in network.layers.iter().enumerate() {
            writers[layer.output.0] = Some(index);
            for input in &layer.inputs {
                readers[input.0] += 1;
            }
        }
        readers[network.output.0] += 1;
        Self { network, writers, readers }
    }

    pub(crate) fn layer(&self, index: usize) -> Option<&'a Layer> {
        self.network.layers.get(index)
    }

    /// The index of the layer that writes a value.
    pub(crate) fn writer(&self, value: ValueId) -> Option<usize> {
        self.writers[value.0]
    }

    /// The layer that writes a value which is read once.
    pub(crate) fn inner(&self, value: ValueId) -> Option<&'a Layer> {
        self.layer(self.writer(value).filter(|_| self.readers[value.0] == 1)?)
    }

    /// The one operand of the layer behind a value, if that layer's operation is `wanted`.
    fn through(&self, value: ValueId, wanted: impl Fn(&Op) -> bool) -> Option<ValueId> {
        let layer = self.inner(value).filter(|layer| wanted(&layer.op))?;
        operand(layer)
    }

    /// `Clip(x + 3, 0, 6)/6`.
    fn hard_sigmoid(&self, layer: &Layer) -> Found {
        let clipped = operand(layer).filter(|_| is_affine(&layer.op, 1.0 / 6.0, 0.0))?;
        let x = self.relu6_of_3_more(clipped)?;
        Some((Op::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 }, x))
    }

    /// `Clip(x + 3, 0, 6)`.
    fn relu6_of_3_more(&self, value: ValueId) -> Option<ValueId> {
        let sum = self.through(value, |op| *op == Op::Clip { lo: 0.0, hi: 6.0 })?;
        self.through(sum, |op| is_affine(op, 1.0, 3.0))
    }

    /// Products of a value with a function of it.
    fn product(&self, layer: &Layer) -> Found {
        if let Op::BatchNorm(_) = layer.op {
            let (a, b) = factors(self.inner(operand(layer)?)?)?;
            let either = |f: &dyn Fn(ValueId, ValueId) -> bool| match (f(a, b), f(b, a)) {
                (true, _) => Some(a),
                (_, true) => Some(b),
                _ => None,
            };
            return if is_affine(&layer.op, 1.0 / 6.0, 0.0) {
                either(&|x, y| self.relu6_of_3_more(y) == Some(x)).map(|x| (Op::HardSwish, x))
            } else if is_affine(&layer.op, 0.5, 0.0) {
                either(&|x, y| self.gelu_bracket(y) == Some(x)).map(|x| (Op::Gelu { tanh: true }, x))
            } else {
                None
            };
        }
        let (a, b) = factors(layer)?;
        [(a, b), (b, a)].into_iter().find_map(|(x, y)| self.scaled_by(x, y))
    }

    /// `x·y`, `y` being a function of `x`.
    fn scaled_by(&self, x: ValueId, y: ValueId) -> Found {
        let hard = |op: &Op| match op {
            Op::HardSigmoid { alpha, beta } => near(*alpha, 1.0 / 6.0) && near(*beta, 0.5),
            _ => false,
        };
        let half = |value| self.through(value, |op| is_affine(op, 0.5, 0.0));
        if self.through(y, |op| *op == Op::Sigmoid) == Some(x) {
            Some((Op::Silu, x))
        } else if self.through(y, hard) == Some(x) {
            Some((Op::HardSwish, x))
        } else if half(y).and_then(|bracket| self.gelu_bracket(bracket)) == Some(x) {
            Some((Op::Gelu { tanh: true }, x))
        } else {
            let whole = half(x)?;
            (self.gelu_bracket(y) == Some(whole)).then_some((Op::Gelu { tanh: true }, whole))
        }
    }

    /// The x of `1 + tanh(√(2/π)·(x + 0.044715·x³))`.
    fn gelu_bracket(&self, value: ValueId) -> Option<ValueId> {
        let tanh = self.through(value, |op| is_affine(op, 1.0, 1.0))?;
        let scaled = self.through(tanh, |op| *op == Op::Tanh)?;
        let root = (2.0 / std::f64::consts::PI).sqrt() as f32;
        let sum = self.through(scaled, |op| is_affine(op, root, 0.0))?;
        let sum = self.inner(sum).filter(|layer| layer.op == Op::Add)?;
        let &[a, b] = sum.inputs.as_slice() else { return None };
        let cubed = |value| self.cubed(self.through(value, |op| is_affine(op, 0.044_715, 0.0))?);
        [(a, b), (b, a)].into_iter().find_map(|(x, y)| (cubed(y) == Some(x)).then_some(x))
    }

    /// The x of `x·x·x`.
    fn cubed(&self, value: ValueId) -> Option<ValueId> {
        let (a, b) = factors(self.inner(value)?)?;
        let squared = |value| factors(self.inner(value)?).and_then(|(a, b)| (a == b).then_some(a));
        [(a, b), (b, a)].into_iter().find_map(|(x, y)| (squared(y) == Some(x)).then_some(x))
    }
}

fn operand(layer: &Layer) -> Option<ValueId> {
    match layer.inputs[..] {
        [input] => Some(input),
        _ => None,
    }
}

fn factors(layer: &Layer) -> Option<(ValueId, ValueId)> {
    match (&layer.op, &layer.inputs[..]) {
        (Op::Mul, &[a, b]) => Some((a, b)),
        _ => None,
    }
}

/// Whether an operation is `scale·x + shift` in every channel.
fn is_affine(op: &Op, scale: f32, shift: f32) -> bool {
    let Op::BatchNorm(norm) = op else { return false };
    norm.is_plain()
        && norm.scale.iter().all(|&number| near(number, scale))
        && norm.shift.iter().all(|&number| near(number, shift))
}

/// Whether two numbers are the same but for a few last bits.
pub(crate) fn near(a: f32, b: f32) -> bool {
    (a - b).abs() <= 4.0 * f32::EPSILON * b.abs()
}
