//! The integer network in libtorch, exactly: every integer is held in a float wide enough for it.
//!
//! Sums whose proven bound is below 2^24 run in f32, others in f64; with every partial sum an exact integer, the order
//! of additions (and with it the convolution algorithm and the thread count) cannot matter. This is the training
//! graph's last form, and must equal the engine bit for bit.

use dyadic_engine::model::{Conv, Epilogue, Model, Node, Op, Requantize, Window};
use tch::{Device, Kind, Tensor};

use crate::net::{convolve, max_pool};

/// A model's constants on a device.
pub struct Simulation<'a> {
    model: &'a Model,
    device: Device,
    nodes: Vec<Constants>,
}

/// Tensors of one node, shaped to broadcast over (N, C, H, W).
pub(crate) enum Constants {
    None,
    Conv {
        weight: Tensor,
        epilogue: End,
    },
    Requantize(Rule),
    /// The table and the index of code 0.
    Table(Tensor, i64),
}

pub(crate) enum End {
    Requantize(Rule),
    Logits { shift: Tensor, bias: Tensor },
}

pub(crate) struct Rule {
    pre: Tensor,
    multiplier: Tensor,
    bias: Tensor,
    residual: Option<Tensor>,
    shift: Tensor,
    lo: f64,
    hi: f64,
}

/// Sums below this are exact in f32.
const F32_EXACT: u32 = 1 << 24;

impl<'a> Simulation<'a> {
    /// Uploads the model's constants.
    pub fn new(model: &'a Model, device: Device) -> Self {
        let nodes = model.nodes.iter().map(|n| constants(model, n, device)).collect();
        Simulation { model, device, nodes }
    }

    /// Runs input codes (N, C, H, W), any float kind, and returns every tensor's codes (or sums), by tensor id.
    pub fn run(&self, codes: &Tensor) -> Vec<Option<Tensor>> {
        let _guard = tch::no_grad_guard();
        let mut values: Vec<Option<Tensor>> = self.model.tensors.iter().map(|_| None).collect();
        values[self.model.input.tensor.0 as usize] = Some(codes.to_device(self.device).to_kind(Kind::Float));
        for (node, constants) in self.model.nodes.iter().zip(&self.nodes) {
            let y = {
                let inputs: Vec<&Tensor> =
                    node.inputs.iter().filter_map(|i| values[i.0 as usize].as_ref()).collect();
                apply(node, constants, &inputs)
            };
            values[node.output.0 as usize] = Some(y);
        }
        values
    }
}

fn plane<T: Into<f64> + Copy>(v: &[T], device: Device) -> Tensor {
    let v: Vec<f64> = v.iter().map(|&x| x.into()).collect();
    Tensor::from_slice(&v).to_kind(Kind::Float).view([1, -1, 1, 1]).to_device(device)
}

/// `2^±v` per channel.
fn power<T: Into<f64> + Copy>(v: &[T], sign: f64, device: Device) -> Tensor {
    let v: Vec<f64> = v.iter().map(|&x| (sign * x.into()).exp2()).collect();
    plane(&v, device)
}

fn rule(r: &Requantize, device: Device) -> Rule {
    Rule {
        pre: power(&r.pre, -1.0, device),
        multiplier: plane(&r.multiplier, device),
        bias: plane(&r.bias, device),
        residual: (!r.residual_shift.is_empty()).then(|| power(&r.residual_shift, 1.0, device)),
        shift: power(&r.shift, -1.0, device),
        lo: f64::from(r.lo),
        hi: f64::from(r.hi),
    }
}

pub(crate) fn constants(model: &Model, node: &Node, device: Device) -> Constants {
    match &node.op {
        Op::Conv(conv) => {
            let c = model.tensor(node.inputs[0]).shape.c / conv.groups;
            let [kh, kw] = conv.window.kernel;
            let filters = conv.bounds.len();
            let per_filter = (kh * kw * c) as usize;
            let levels: Vec<f32> = (0..filters * per_filter)
                .map(|i| conv.weights.level(i / per_filter, i % per_filter, per_filter) as f32)
                .collect();
            let shape = [filters as i64, i64::from(kh), i64::from(kw), i64::from(c)];
            let weight = Tensor::from_slice(&levels).view(shape).permute([0, 3, 1, 2]).contiguous();
            let weight = weight.to_device(device).to_kind(kind_of(conv));
            let epilogue = match &conv.epilogue {
                Epilogue::Requantize(r) => End::Requantize(rule(r, device)),
                Epilogue::Logits { shift, bias } => End::Logits {
                    shift: power(shift, 1.0, device).to_kind(Kind::Double),
                    // A bias may need more than 24 bits.
                    bias: Tensor::from_slice(bias)
                        .to_kind(Kind::Double)
                        .view([1, -1, 1, 1])
                        .to_device(device),
                },
            };
            Constants::Conv { weight, epilogue }
        }
        Op::Affine(r) | Op::AvgPool(_, r) => Constants::Requantize(rule(r, device)),
        Op::Lut(table) => {
            let (lowest, _) = model.tensor(node.inputs[0]).format.range();
            Constants::Table(
                Tensor::from_slice(table).to_kind(Kind::Float).to_device(device),
                -i64::from(lowest),
            )
        }
        Op::Add(_) | Op::MaxPool(_) | Op::Concat => Constants::None,
    }
}

fn kind_of(conv: &Conv) -> Kind {
    if conv.bounds.iter().all(|&b| b < F32_EXACT) { Kind::Float } else { Kind::Double }
}

fn window(w: &Window) -> dyadic_graph::network::Window {
    dyadic_graph::network::Window {
        kernel: w.kernel.map(|v| v as usize),
        stride: w.stride.map(|v| v as usize),
        padding: w.padding.map(|v| v as usize),
        dilation: w.dilation.map(|v| v as usize),
    }
}

/// The requantize rule on exact sums; the sum of all terms stays below 2^24, so f32 holds it.
fn requantize(acc: &Tensor, residual: Option<&Tensor>, rule: &Rule) -> Tensor {
    let t = (acc * &rule.pre).floor().to_kind(Kind::Float);
    let mut sum = t * &rule.multiplier + &rule.bias;
    if let (Some(r), Some(scale)) = (residual, &rule.residual) {
        sum += r * scale;
    }
    (sum * &rule.shift).floor().clamp(rule.lo, rule.hi)
}

/// One node on exact integers.
pub(crate) fn apply(node: &Node, constants: &Constants, inputs: &[&Tensor]) -> Tensor {
    match (&node.op, constants) {
        (Op::Conv(conv), Constants::Conv { weight, epilogue }) => {
            let x = inputs[0].to_kind(weight.kind());
            let acc = convolve(&x, weight, &window(&conv.window), conv.groups as usize);
            match epilogue {
                End::Requantize(rule) => requantize(&acc, inputs.get(1).copied(), rule),
                End::Logits { shift, bias } => acc.to_kind(Kind::Double) * shift + bias,
            }
        }
        (Op::Affine(_), Constants::Requantize(rule)) => requantize(inputs[0], None, rule),
        (Op::AvgPool(w, _), Constants::Requantize(rule)) => {
            let [top, left, bottom, right] = w.padding.map(i64::from);
            let x = inputs[0].zero_pad2d(left, right, top, bottom);
            // With a divisor of 1 the pool is the sum, exact while it stays below 2^24 (checked by the engine's bounds).
            let kernel = w.kernel.map(i64::from);
            let sum = x.avg_pool2d(kernel, w.stride.map(i64::from), [0, 0], false, true, 1);
            requantize(&sum, None, rule)
        }
        (Op::Add(a), _) => {
            let scaled = |i: usize| inputs[i] * f64::from(a.operand_shift[i]).exp2();
            let sum = scaled(0) + scaled(1) + f64::from(a.bias);
            (sum * (-f64::from(a.shift)).exp2()).floor().clamp(f64::from(a.lo), f64::from(a.hi))
        }
        (Op::MaxPool(w), _) => max_pool(inputs[0], &window(w)),
        (Op::Lut(_), Constants::Table(values, zero)) => {
            values.take(&(inputs[0].to_kind(Kind::Int64) + *zero))
        }
        (Op::Concat, _) => Tensor::cat(inputs, 1),
        _ => unreachable!("constants are made from the same node"),
    }
}
