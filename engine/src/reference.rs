//! The executable specification: what every other executor must equal, bit for bit.
//!
//! Textbook loops over unpacked codes. On codes it uses integer add, subtract, shift, compare and clamp only; a
//! product by a level or a multiplier is the sum of shifts by its canonical signed digits ([`Digits`]). Clarity first:
//! nothing here is fast.

use crate::check::ModelError;
use crate::digits::Digits;
use crate::model::{Add, Conv, Epilogue, Model, Node, Op, Requantize, Shape, Tensor, Window};

/// The codes of every tensor of one sample, indexed like [`Model::tensors`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// One list of NHWC codes a tensor.
    pub codes: Vec<Vec<i32>>,
}

/// Why a sample was not run.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RunError {
    /// The model cannot be run at all.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The input has another length than the model's input tensor.
    #[error("the input has {actual} codes, the model takes {expected}")]
    InputLength {
        /// Codes of one sample.
        expected: usize,
        /// Codes that were given.
        actual: usize,
    },
    /// An input code outside the input's format.
    #[error("input code {index} is {code}, outside {min} ..= {max}")]
    InputCode {
        /// Its position.
        index: usize,
        /// The code.
        code: i32,
        /// Lowest code of the format.
        min: i32,
        /// Highest code of the format.
        max: i32,
    },
}

/// Runs one sample of NHWC input codes through a model and keeps every tensor.
pub fn run(model: &Model, input_codes: &[i32]) -> Result<Trace, RunError> {
    model.check()?;
    let input = model.tensor(model.input.tensor);
    if input_codes.len() != input.shape.len() {
        return Err(RunError::InputLength { expected: input.shape.len(), actual: input_codes.len() });
    }
    let (min, max) = input.format.range();
    if let Some(index) = input_codes.iter().position(|code| !(min..=max).contains(code)) {
        return Err(RunError::InputCode { index, code: input_codes[index], min, max });
    }
    let mut codes = vec![Vec::new(); model.tensors.len()];
    codes[model.input.tensor.0 as usize] = input_codes.to_vec();
    for node in &model.nodes {
        codes[node.output.0 as usize] = run_node(model, node, &codes);
    }
    Ok(Trace { codes })
}

/// The real values of the output: `f32(code) · 2^step`, then the softmax if the model has one.
pub fn output_values(model: &Model, codes: &[i32]) -> Vec<f32> {
    let mut values = Vec::with_capacity(codes.len());
    let step = model.tensor(model.output.tensor).step;
    values.extend(codes.iter().map(|&code| code as f32 * step.value()));
    if model.output.softmax {
        softmax(&mut values);
    }
    values
}

/// Softmax in f32, in place, over the whole slice.
pub(crate) fn softmax(values: &mut [f32]) {
    let most = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for value in &mut *values {
        *value = (*value - most).exp();
    }
    let sum: f32 = values.iter().sum();
    for value in values {
        *value /= sum;
    }
}

/// A tensor and its codes.
struct Operand<'a> {
    tensor: &'a Tensor,
    codes: &'a [i32],
}

impl Operand<'_> {
    /// The code at a position that may lie in the padding (`None`).
    fn at(&self, y: Option<u32>, x: Option<u32>, channel: u32) -> Option<i32> {
        let Shape { h, w, c } = self.tensor.shape;
        let (y, x) = (y.filter(|&y| y < h)?, x.filter(|&x| x < w)?);
        Some(self.codes[((y * w + x) * c + channel) as usize])
    }
}

fn run_node(model: &Model, node: &Node, codes: &[Vec<i32>]) -> Vec<i32> {
    let operands: Vec<Operand> = node
        .inputs
        .iter()
        .map(|&id| Operand { tensor: model.tensor(id), codes: &codes[id.0 as usize] })
        .collect();
    let shape = model.tensor(node.output).shape;
    match &node.op {
        Op::Conv(layer) => conv(layer, &operands[0], operands.get(1), shape),
        Op::Add(rule) => add(rule, operands[0].codes, operands[1].codes),
        Op::Affine(rule) => each(shape, |at| requantize(rule, at.c as usize, operands[0].codes[at.index], 0)),
        Op::MaxPool(window) => max_pool(window, &operands[0], shape),
        Op::AvgPool(window, rule) => avg_pool(window, rule, &operands[0], shape),
        Op::Lut(table) => lut(table, &operands[0]),
        Op::Concat => concat(&operands, shape),
    }
}

/// Where an output code stands: row, column, channel, and position in the NHWC list.
#[derive(Clone, Copy)]
struct At {
    y: u32,
    x: u32,
    c: u32,
    index: usize,
}

/// Every output code in NHWC order.
fn each(shape: Shape, code: impl Fn(At) -> i32) -> Vec<i32> {
    let mut out = Vec::with_capacity(shape.len());
    for y in 0..shape.h {
        for x in 0..shape.w {
            for c in 0..shape.c {
                out.push(code(At { y, x, c, index: out.len() }));
            }
        }
    }
    out
}

/// Input position of a window's tap along one axis; `None` before the first row or column.
fn position(window: &Window, axis: usize, out: u32, tap: u32) -> Option<u32> {
    (out * window.stride[axis] + tap * window.dilation[axis]).checked_sub(window.padding[axis])
}

fn conv(layer: &Conv, x: &Operand, residual: Option<&Operand>, shape: Shape) -> Vec<i32> {
    let Conv { window, weights, groups, .. } = layer;
    let (cin, cout) = (x.tensor.shape.c / groups, shape.c / groups);
    let per_filter = (window.kernel[0] * window.kernel[1] * cin) as usize;
    let products: Vec<Digits> = (0..=255u8).map(|byte| Digits::of(byte as i8)).collect();
    each(shape, |at| {
        let filter = at.c as usize;
        let mut acc = 0i32;
        let mut index = 0;
        for tap_y in 0..window.kernel[0] {
            for tap_x in 0..window.kernel[1] {
                for channel in 0..cin {
                    let level = weights.level(filter, index, per_filter);
                    let row = position(window, 0, at.y, tap_y);
                    let column = position(window, 1, at.x, tap_x);
                    let code = x.at(row, column, at.c / cout * cin + channel).unwrap_or(0);
                    acc += products[usize::from(level as u8)].product(code);
                    index += 1;
                }
            }
        }
        match &layer.epilogue {
            Epilogue::Requantize(rule) => {
                requantize(rule, filter, acc, residual.map_or(0, |r| r.codes[at.index]))
            }
            Epilogue::Logits { shift, bias } => (acc << shift[filter]) + bias[filter],
        }
    })
}

/// `clamp((t·m + b + (r << k)) >> s, lo, hi)` with `t = acc >> pre`.
fn requantize(rule: &Requantize, channel: usize, acc: i32, residual: i32) -> i32 {
    let t = acc >> rule.pre[channel];
    let product = Digits::of(rule.multiplier[channel]).product(t);
    let residual = rule.residual_shift.get(channel).map_or(0, |&k| residual << k);
    ((product + rule.bias[channel] + residual) >> rule.shift[channel]).clamp(rule.lo, rule.hi)
}

fn add(rule: &Add, a: &[i32], b: &[i32]) -> Vec<i32> {
    let sum = |(&a, &b): (&i32, &i32)| {
        let sum = (a << rule.operand_shift[0]) + (b << rule.operand_shift[1]) + rule.bias;
        (sum >> rule.shift).clamp(rule.lo, rule.hi)
    };
    a.iter().zip(b).map(sum).collect()
}

/// The codes under a window; positions in the padding are left out.
fn under<'a>(window: &'a Window, x: &'a Operand, at: At) -> impl Iterator<Item = i32> + 'a {
    (0..window.kernel[0]).flat_map(move |tap_y| {
        (0..window.kernel[1]).filter_map(move |tap_x| {
            x.at(position(window, 0, at.y, tap_y), position(window, 1, at.x, tap_x), at.c)
        })
    })
}

fn max_pool(window: &Window, x: &Operand, shape: Shape) -> Vec<i32> {
    let (lowest, _) = x.tensor.format.range();
    each(shape, |at| under(window, x, at).fold(lowest, i32::max))
}

fn avg_pool(window: &Window, rule: &Requantize, x: &Operand, shape: Shape) -> Vec<i32> {
    each(shape, |at| requantize(rule, at.c as usize, under(window, x, at).sum(), 0))
}

fn lut(table: &[i16], x: &Operand) -> Vec<i32> {
    let (lowest, _) = x.tensor.format.range();
    x.codes.iter().map(|&code| i32::from(table[(code - lowest) as usize])).collect()
}

fn concat(operands: &[Operand], shape: Shape) -> Vec<i32> {
    let mut out = Vec::with_capacity(shape.len());
    for pixel in 0..(shape.h * shape.w) as usize {
        for operand in operands {
            let channels = operand.tensor.shape.c as usize;
            out.extend_from_slice(&operand.codes[pixel * channels..(pixel + 1) * channels]);
        }
    }
    out
}
