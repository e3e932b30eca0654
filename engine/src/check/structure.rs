//! Names, ids, order, formats of tensors, and the two ends.

use std::collections::HashSet;

use super::{MAX_DIM, MAX_TENSOR_CODES, MAX_TENSORS, ModelError, Place, Problem, count, in_range};
use crate::model::{Format, Model, Node, Normalization, Step, Tensor, TensorId};

pub(super) fn check(model: &Model) -> Result<(), ModelError> {
    let at_model = |problem| ModelError { place: Place::Model, problem };
    in_range("tensors", model.tensors.len() as i64, 1, MAX_TENSORS as i64).map_err(at_model)?;
    in_range("nodes", model.nodes.len() as i64, 1, MAX_TENSORS as i64).map_err(at_model)?;
    lookup(model, model.input.tensor).map_err(|problem| ModelError { place: Place::Input, problem })?;
    let mut names = HashSet::new();
    for (index, tensor) in model.tensors.iter().enumerate() {
        let is_input = index == model.input.tensor.0 as usize;
        check_tensor(tensor, is_input, &mut names)
            .map_err(|problem| ModelError { place: Place::Tensor(tensor.name.clone()), problem })?;
    }
    check_input(model).map_err(|problem| ModelError { place: Place::Input, problem })?;
    check_order(model)?;
    check_output(model).map_err(|problem| ModelError { place: Place::Output, problem })
}

fn check_tensor<'m>(tensor: &'m Tensor, is_input: bool, names: &mut HashSet<&'m str>) -> Result<(), Problem> {
    if !names.insert(&tensor.name) {
        return Err(Problem::DuplicateName);
    }
    let shape = tensor.shape;
    for (what, dim) in [("height", shape.h), ("width", shape.w), ("channels", shape.c)] {
        in_range(what, dim.into(), 1, MAX_DIM.into())?;
    }
    let codes = u64::from(shape.h) * u64::from(shape.w) * u64::from(shape.c);
    in_range("codes in a sample", codes as i64, 1, MAX_TENSOR_CODES as i64)?;
    match tensor.format {
        Format::Unsigned { bits } => in_range("unsigned bits", bits.into(), 1, 8)?,
        Format::Signed { bits: 16 } if !is_input => {}
        Format::Signed { bits } => in_range("signed bits", bits.into(), 2, 8)?,
        Format::Accumulator if is_input => return Err(Problem::Rule("the input cannot be an accumulator")),
        Format::Accumulator => {}
    }
    match tensor.step {
        Step::PowerOfTwo(exponent) => in_range("step exponent", exponent.into(), -126, 127),
        Step::Free(_) if !is_input => Err(Problem::Rule("only the input's step may be free")),
        Step::Free(step) if step.is_finite() && step > 0.0 => Ok(()),
        Step::Free(_) => Err(Problem::Rule("the step must be positive and finite")),
    }
}

fn check_input(model: &Model) -> Result<(), Problem> {
    let id = model.input.tensor;
    let tensor = model.tensors.get(id.0 as usize).ok_or(Problem::UnknownTensor(id.0))?;
    match &model.input.normalization {
        Some(normalization) => check_normalization(normalization, tensor.shape.c),
        None => Ok(()),
    }
}

fn check_normalization(normalization: &Normalization, channels: u32) -> Result<(), Problem> {
    count("normalization means", normalization.mean.len(), channels.into())?;
    count("normalization standard deviations", normalization.std.len(), channels.into())?;
    for channel in 0..channels as usize {
        let [least, most] = [0, 255].map(|v| normalization.value(v, channel));
        if normalization.std[channel] <= 0.0 || !least.is_finite() || !most.is_finite() {
            return Err(Problem::Rule("normalization: every deviation positive, every value finite"));
        }
    }
    Ok(())
}

/// Every tensor is written once, before it is read; 16-bit tensors go into additions alone, accumulators nowhere.
fn check_order(model: &Model) -> Result<(), ModelError> {
    let mut written = vec![false; model.tensors.len()];
    if let Some(input) = written.get_mut(model.input.tensor.0 as usize) {
        *input = true;
    }
    let mut names = HashSet::new();
    for node in &model.nodes {
        check_node_order(model, node, &mut written, &mut names)
            .map_err(|problem| ModelError { place: Place::Node(node.name.clone()), problem })?;
    }
    match written.iter().position(|&done| !done) {
        None => Ok(()),
        Some(index) => {
            let name = model.tensors[index].name.clone();
            Err(ModelError { place: Place::Model, problem: Problem::NotWritten(name) })
        }
    }
}

fn check_node_order<'m>(
    model: &'m Model,
    node: &'m Node,
    written: &mut [bool],
    names: &mut HashSet<&'m str>,
) -> Result<(), Problem> {
    if !names.insert(&node.name) {
        return Err(Problem::DuplicateName);
    }
    let operation = node.op.operation();
    for (operand, &id) in node.inputs.iter().enumerate() {
        let tensor = lookup(model, id)?;
        if !written[id.0 as usize] {
            return Err(Problem::NotWritten(tensor.name.clone()));
        }
        match tensor.format {
            Format::Accumulator => return Err(Problem::Rule("an accumulator is read by the output only")),
            Format::Signed { bits: 16 } if !operation.takes_wide(operand) => {
                return Err(Problem::Rule("16-bit codes are operands of an addition only"));
            }
            _ => {}
        }
    }
    let output = lookup(model, node.output)?;
    if operation.writes_sums() != (output.format == Format::Accumulator) {
        return Err(Problem::Rule("logits, and they alone, are written as an accumulator"));
    }
    let slot = &mut written[node.output.0 as usize];
    if std::mem::replace(slot, true) {
        return Err(Problem::WrittenTwice(output.name.clone()));
    }
    Ok(())
}

fn check_output(model: &Model) -> Result<(), Problem> {
    let tensor = lookup(model, model.output.tensor)?;
    if model.output.tensor == model.input.tensor {
        return Err(Problem::Rule("the output cannot be the input"));
    }
    if model.output.log && !model.output.softmax {
        return Err(Problem::Rule("a logarithm is that of a softmax"));
    }
    let labels = model.output.labels.len();
    if labels > 0 {
        count("labels", labels, tensor.shape.len() as u64)?;
    }
    Ok(())
}

fn lookup(model: &Model, id: TensorId) -> Result<&Tensor, Problem> {
    model.tensors.get(id.0 as usize).ok_or(Problem::UnknownTensor(id.0))
}
