//! Running samples: input edge, steps, output edge.

use super::arena::{Rest, Scratch};
use super::plan::{Action, Step};
use super::{Engine, RunError};
use crate::kernels::codes::{Codes, CodesMut};
use crate::kernels::level::Level;
use crate::kernels::{Line, Workspace, elementwise, pool};
use crate::model::TensorId;
use crate::quantize::check_finite;
use crate::reference::{Trace, softmax};

impl Engine {
    /// Runs `batch` samples of NCHW floats. `out` gets one sample's output values after the other:
    /// `f32(code) · 2^step`, then the softmax if the model has one.
    pub fn run_f32(
        &self,
        scratch: &mut Scratch,
        input_nchw: &[f32],
        batch: usize,
        out: &mut [f32],
    ) -> Result<(), RunError> {
        self.check_lengths(input_nchw.len(), batch, out.len())?;
        check_finite(input_nchw)?;
        scratch.fit(&self.plan.size);
        let (samples, outputs) = self.samples(input_nchw, out);
        for (sample, values) in samples.zip(outputs) {
            match scratch.codes_mut(self.input_place()) {
                CodesMut::Byte(codes) => self.input.floats_to_bytes(self.plan.level, sample, codes),
                mut codes => self.input.floats(sample, |position, code| codes.narrow(position, &[code]))?,
            }
            self.steps(scratch, |_, _| {});
            self.values(scratch, values);
        }
        Ok(())
    }

    /// Runs `batch` 8-bit images in HWC order through the model's normalization.
    pub fn run_u8(
        &self,
        scratch: &mut Scratch,
        input_hwc: &[u8],
        batch: usize,
        out: &mut [f32],
    ) -> Result<(), RunError> {
        if !self.accepts_bytes() {
            return Err(RunError::NoNormalization);
        }
        self.check_lengths(input_hwc.len(), batch, out.len())?;
        scratch.fit(&self.plan.size);
        let (samples, outputs) = self.samples(input_hwc, out);
        for (sample, values) in samples.zip(outputs) {
            match scratch.codes_mut(self.input_place()) {
                CodesMut::Byte(codes) => {
                    self.input.bytes(sample, |position, code| codes[position] = code as u8);
                }
                mut codes => self.input.bytes(sample, |position, code| codes.narrow(position, &[code])),
            }
            self.steps(scratch, |_, _| {});
            self.values(scratch, values);
        }
        Ok(())
    }

    /// Runs `batch` samples of NHWC input codes; `out` gets the output tensor's codes.
    pub fn run_codes(
        &self,
        scratch: &mut Scratch,
        input_codes: &[i32],
        batch: usize,
        out: &mut [i32],
    ) -> Result<(), RunError> {
        self.check_lengths(input_codes.len(), batch, out.len())?;
        self.check_codes(input_codes)?;
        scratch.fit(&self.plan.size);
        let (samples, outputs) = self.samples(input_codes, out);
        for (sample, codes) in samples.zip(outputs) {
            scratch.codes_mut(self.input_place()).narrow(0, sample);
            self.steps(scratch, |_, _| {});
            scratch.codes(self.plan.places[self.model.output.tensor.0 as usize]).widen(codes);
        }
        Ok(())
    }

    fn samples<'a, T, U>(
        &self,
        input: &'a [T],
        out: &'a mut [U],
    ) -> (std::slice::ChunksExact<'a, T>, std::slice::ChunksExactMut<'a, U>) {
        (input.chunks_exact(self.input_shape().len()), out.chunks_exact_mut(self.output_len()))
    }

    pub(super) fn input_place(&self) -> super::arena::Place {
        self.plan.places[self.model.input.tensor.0 as usize]
    }

    pub(super) fn check_lengths(&self, input: usize, batch: usize, out: usize) -> Result<(), RunError> {
        let expected = self.input_shape().len().saturating_mul(batch);
        if input != expected {
            return Err(RunError::InputLength { expected, actual: input });
        }
        let expected = self.output_len().saturating_mul(batch);
        if out != expected {
            return Err(RunError::OutputLength { expected, actual: out });
        }
        Ok(())
    }

    fn check_codes(&self, codes: &[i32]) -> Result<(), RunError> {
        let (min, max) = self.model.tensor(self.model.input.tensor).format.range();
        match codes.iter().position(|code| !(min..=max).contains(code)) {
            None => Ok(()),
            Some(index) => Err(RunError::InputCode { index, code: codes[index], min, max }),
        }
    }

    /// Runs the nodes; `seen` gets every tensor that a node has written.
    pub(super) fn steps(&self, scratch: &mut Scratch, mut seen: impl FnMut(TensorId, Codes)) {
        for (step, node) in self.plan.steps.iter().zip(&self.model.nodes) {
            let (out, rest, workspace) = scratch.borrow(step.output);
            perform(self.plan.level, step, rest, out, workspace);
            seen(node.output, scratch.codes(step.output));
        }
    }

    fn values(&self, scratch: &Scratch, values: &mut [f32]) {
        let output = &self.model.output;
        let step = self.model.tensor(output.tensor).step.value();
        let convert = |code: i32| code as f32 * step;
        match scratch.codes(self.plan.places[output.tensor.0 as usize]) {
            Codes::Unsigned(codes) => values.iter_mut().zip(codes).for_each(|(v, &c)| *v = convert(c.into())),
            Codes::Signed(codes) => {
                values.iter_mut().zip(codes).for_each(|(v, &c)| *v = convert((c as i8).into()));
            }
            Codes::Wide(codes) => values.iter_mut().zip(codes).for_each(|(v, &c)| *v = convert(c.into())),
            Codes::Sum(codes) => values.iter_mut().zip(codes).for_each(|(v, &c)| *v = convert(c)),
        }
        if output.softmax {
            softmax(values);
        }
    }
}

fn perform(level: Level, step: &Step, rest: Rest, mut out: CodesMut, workspace: &mut Workspace) {
    let operand = |index: usize| rest.codes(step.inputs[index]);
    match &step.action {
        Action::Conv(conv) => {
            let residual = step.inputs.get(1).map(|&place| rest.codes(place));
            conv.run(operand(0), residual, out, workspace);
        }
        Action::Add(rule) => elementwise::add(level, rule, operand(0), operand(1), &mut out),
        Action::Affine(rule) => elementwise::affine(level, rule, operand(0), &mut out),
        Action::MaxPool(geometry) => {
            let space = Line::bytes_mut(&mut workspace.lines);
            pool::max(level, geometry, operand(0), &mut out, space);
        }
        Action::AvgPool(geometry, rule) => pool::average(level, geometry, rule, operand(0), &mut out),
        Action::Lut(table) => elementwise::lut(level, table, operand(0), &mut out),
        Action::Concat(parts) => {
            let channels = parts.iter().sum();
            let mut first = 0;
            for (index, &part) in parts.iter().enumerate() {
                elementwise::place(operand(index), part, first, channels, &mut out);
                first += part;
            }
        }
    }
}

/// One sample with every tensor kept.
pub(super) fn trace(engine: &Engine, scratch: &mut Scratch, input: &[i32]) -> Result<Trace, RunError> {
    engine.check_lengths(input.len(), 1, engine.output_len())?;
    engine.check_codes(input)?;
    scratch.fit(&engine.plan.size);
    scratch.codes_mut(engine.input_place()).narrow(0, input);
    let mut codes = vec![Vec::new(); engine.model.tensors.len()];
    codes[engine.model.input.tensor.0 as usize] = input.to_vec();
    engine.steps(scratch, |id, tensor| {
        let mut list = vec![0; tensor.len()];
        tensor.widen(&mut list);
        codes[id.0 as usize] = list;
    });
    Ok(Trace { codes })
}
