//! The executable specification: what every other executor must equal, bit for bit.
//!
//! Textbook loops over unpacked codes. On codes it uses integer add, subtract, shift, compare and clamp only; a
//! product by a level or a multiplier is the sum of shifts by its canonical signed digits
//! ([`Digits`](crate::digits::Digits)). Clarity first: nothing here is fast.
//!
//! This file walks the graph. What an operation computes is the function `reference`, the first in its file under
//! `operation/`; they share the requantize rule (`Requantize::apply`) and the positions under a window
//! (`Window::position`, `Window::under`).

use crate::check::ModelError;
use crate::model::{Model, Output, Shape, Tensor, TensorId};

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
    let mut codes = vec![Vec::new(); model.tensors.len()];
    walk(model, input_codes.to_vec(), &mut |id, tensor| codes[id.0 as usize] = tensor.to_vec())?;
    Ok(Trace { codes })
}

/// Runs one sample of NHWC input codes through a model, and shows every tensor once, the input first; none is kept beyond
/// the last node that reads it.
pub fn walk(
    model: &Model,
    input_codes: Vec<i32>,
    see: &mut dyn FnMut(TensorId, &[i32]),
) -> Result<(), RunError> {
    model.check()?;
    let input = model.tensor(model.input.tensor);
    if input_codes.len() != input.shape.len() {
        return Err(RunError::InputLength { expected: input.shape.len(), actual: input_codes.len() });
    }
    let (min, max) = input.format.range();
    if let Some(index) = input_codes.iter().position(|code| !(min..=max).contains(code)) {
        return Err(RunError::InputCode { index, code: input_codes[index], min, max });
    }
    see(model.input.tensor, &input_codes);
    let mut readers = vec![0; model.tensors.len()];
    model.nodes.iter().flat_map(|node| &node.inputs).for_each(|id| readers[id.0 as usize] += 1);
    let mut codes = vec![Vec::new(); model.tensors.len()];
    codes[model.input.tensor.0 as usize] = input_codes;
    for node in &model.nodes {
        let operand = |&id: &TensorId| Operand { tensor: model.tensor(id), codes: &codes[id.0 as usize] };
        let operands: Vec<Operand> = node.inputs.iter().map(operand).collect();
        let output = node.op.operation().reference(&operands, model.tensor(node.output));
        see(node.output, &output);
        for id in &node.inputs {
            readers[id.0 as usize] -= 1;
            if readers[id.0 as usize] == 0 {
                codes[id.0 as usize] = Vec::new();
            }
        }
        if readers[node.output.0 as usize] > 0 {
            codes[node.output.0 as usize] = output;
        }
    }
    Ok(())
}

/// The real values of the output: `f32(code) · 2^step`, then the softmax if the model has one.
pub fn output_values(model: &Model, codes: &[i32]) -> Vec<f32> {
    let mut values = Vec::with_capacity(codes.len());
    let step = model.tensor(model.output.tensor).step;
    values.extend(codes.iter().map(|&code| code as f32 * step.value()));
    finish(&model.output, &mut values);
    values
}

/// What follows the integer network in floats: nothing, a softmax, or its logarithm.
pub(crate) fn finish(output: &Output, values: &mut [f32]) {
    match (output.softmax, output.log) {
        (true, false) => softmax(values),
        (true, true) => log_softmax(values),
        (false, _) => {}
    }
}

/// The softmax's logarithm in f32, in place, over the whole slice.
fn log_softmax(values: &mut [f32]) {
    let most = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = values.iter().map(|value| (value - most).exp()).sum();
    let log = sum.ln();
    for value in values {
        *value = *value - most - log;
    }
}

/// Softmax in f32, in place, over the whole slice.
fn softmax(values: &mut [f32]) {
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
pub(crate) struct Operand<'a> {
    pub(crate) tensor: &'a Tensor,
    pub(crate) codes: &'a [i32],
}

impl Operand<'_> {
    /// The code at a position that may lie in the padding (`None`).
    pub(crate) fn at(&self, y: Option<u32>, x: Option<u32>, channel: u32) -> Option<i32> {
        let Shape { h, w, c } = self.tensor.shape;
        let (y, x) = (y.filter(|&y| y < h)?, x.filter(|&x| x < w)?);
        Some(self.codes[((y * w + x) * c + channel) as usize])
    }
}

/// Where an output code stands: row, column, channel, and position in the NHWC list.
#[derive(Clone, Copy)]
pub(crate) struct At {
    pub(crate) y: u32,
    pub(crate) x: u32,
    pub(crate) c: u32,
    pub(crate) index: usize,
}

/// Every output code in NHWC order.
pub(crate) fn each(shape: Shape, code: impl Fn(At) -> i32) -> Vec<i32> {
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
