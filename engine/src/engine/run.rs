//! Running samples: input edge, steps, output edge.

use super::action::Operands;
use super::arena::{Arenas, Scratch};
use super::pool::{self, Pool};
use super::{Engine, RunError};
use crate::certificate::{self, GoldenInput, See};
use crate::kernels::codes::{Codes, CodesMut};
use crate::kernels::hands::Hands;
use crate::kernels::part::{Cut, Threads};
use crate::model::TensorId;
use crate::quantize::check_finite;
use crate::reference::{Trace, finish};

/// Input values that take some microseconds to become codes.
const INPUT: usize = 16 * 1024;

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
        self.floats(None, scratch, input_nchw, batch, out)
    }

    /// As [`Engine::run_f32`], each sample on several threads.
    pub fn run_f32_on(
        &self,
        pool: &dyn Pool,
        scratch: &mut Scratch,
        input_nchw: &[f32],
        batch: usize,
        out: &mut [f32],
    ) -> Result<(), RunError> {
        self.floats(Some(pool), scratch, input_nchw, batch, out)
    }

    fn floats(
        &self,
        pool: Option<&dyn Pool>,
        scratch: &mut Scratch,
        input_nchw: &[f32],
        batch: usize,
        out: &mut [f32],
    ) -> Result<(), RunError> {
        self.check_lengths(input_nchw.len(), batch, out.len())?;
        check_finite(input_nchw)?;
        let (samples, outputs) = self.samples(input_nchw, out);
        self.lead(pool, scratch, |arenas, hands| {
            let threads = self.threads(hands);
            for (sample, values) in samples.zip(outputs) {
                let (height, width) = (self.input_shape().h as usize, self.input_shape().w as usize);
                match arenas.codes_mut(self.input_place()) {
                    codes @ CodesMut::Byte(_) => {
                        let cut = Cut::by_rows(height, threads, threads.most(codes.len(), INPUT));
                        hands.share(codes, height, cut, |part, _| {
                            let (rows, CodesMut::Byte(codes)) = part.rows() else {
                                unreachable!("parts are of the width of the whole");
                            };
                            let first = rows.start * width;
                            self.input.floats_to_bytes(self.plan.level, sample, first, codes);
                        });
                    }
                    mut codes => {
                        self.input.floats(sample, |position, code| codes.narrow(position, &[code]))?;
                    }
                }
                self.steps(arenas, hands, |_, _| {});
                self.values(arenas, values);
            }
            Ok(())
        })
    }

    /// Runs `batch` 8-bit images in HWC order through the model's normalization.
    pub fn run_u8(
        &self,
        scratch: &mut Scratch,
        input_hwc: &[u8],
        batch: usize,
        out: &mut [f32],
    ) -> Result<(), RunError> {
        self.images(None, scratch, input_hwc, batch, out)
    }

    /// As [`Engine::run_u8`], each image on several threads.
    pub fn run_u8_on(
        &self,
        pool: &dyn Pool,
        scratch: &mut Scratch,
        input_hwc: &[u8],
        batch: usize,
        out: &mut [f32],
    ) -> Result<(), RunError> {
        self.images(Some(pool), scratch, input_hwc, batch, out)
    }

    fn images(
        &self,
        pool: Option<&dyn Pool>,
        scratch: &mut Scratch,
        input_hwc: &[u8],
        batch: usize,
        out: &mut [f32],
    ) -> Result<(), RunError> {
        if !self.accepts_bytes() {
            return Err(RunError::NoNormalization);
        }
        self.check_lengths(input_hwc.len(), batch, out.len())?;
        let (samples, outputs) = self.samples(input_hwc, out);
        self.lead(pool, scratch, |arenas, hands| {
            let threads = self.threads(hands);
            for (sample, values) in samples.zip(outputs) {
                let codes = arenas.codes_mut(self.input_place());
                let (height, row) =
                    (self.input_shape().h as usize, codes.len() / self.input_shape().h as usize);
                let cut = Cut::by_rows(height, threads, threads.most(codes.len(), INPUT));
                hands.share(codes, height, cut, |part, _| {
                    let (rows, codes) = part.rows();
                    let sample = &sample[rows.start * row..rows.end * row];
                    match codes {
                        CodesMut::Byte(codes) => {
                            self.input.bytes(sample, |position, code| codes[position] = code as u8);
                        }
                        mut codes => {
                            self.input.bytes(sample, |position, code| codes.narrow(position, &[code]));
                        }
                    }
                });
                self.steps(arenas, hands, |_, _| {});
                self.values(arenas, values);
            }
        });
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
        self.codes(None, scratch, input_codes, batch, out)
    }

    /// As [`Engine::run_codes`], each sample on several threads.
    pub fn run_codes_on(
        &self,
        pool: &dyn Pool,
        scratch: &mut Scratch,
        input_codes: &[i32],
        batch: usize,
        out: &mut [i32],
    ) -> Result<(), RunError> {
        self.codes(Some(pool), scratch, input_codes, batch, out)
    }

    fn codes(
        &self,
        pool: Option<&dyn Pool>,
        scratch: &mut Scratch,
        input_codes: &[i32],
        batch: usize,
        out: &mut [i32],
    ) -> Result<(), RunError> {
        self.check_lengths(input_codes.len(), batch, out.len())?;
        self.check_codes(input_codes)?;
        let (samples, outputs) = self.samples(input_codes, out);
        self.lead(pool, scratch, |arenas, hands| {
            for (sample, codes) in samples.zip(outputs) {
                arenas.codes_mut(self.input_place()).narrow(0, sample);
                self.steps(arenas, hands, |_, _| {});
                arenas.codes(self.plan.places[self.model.output.tensor.0 as usize]).widen(codes);
            }
        });
        Ok(())
    }

    fn threads(&self, hands: &Hands) -> Threads {
        Threads { count: hands.threads(), finest: self.finest }
    }

    /// Calls `work` with the scratch's memory and the pool's threads, or the calling one alone.
    pub(super) fn lead<R: Send>(
        &self,
        pool: Option<&dyn Pool>,
        scratch: &mut Scratch,
        work: impl FnOnce(&mut Arenas, &mut Hands) -> R + Send,
    ) -> R {
        let threads = pool.map_or(1, |pool| pool.threads().max(1));
        scratch.fit(&self.plan.size, threads);
        let Scratch { arenas, workspaces } = scratch;
        match pool {
            Some(pool) if threads > 1 => {
                pool::lead(pool, &workspaces[..threads], |hands| work(arenas, hands))
            }
            _ => work(arenas, &mut Hands::alone(&workspaces[0])),
        }
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
    pub(super) fn steps(
        &self,
        arenas: &mut Arenas,
        hands: &mut Hands,
        mut seen: impl FnMut(TensorId, Codes),
    ) {
        let threads = self.threads(hands);
        for (step, node) in self.plan.steps.iter().zip(&self.model.nodes) {
            let (out, rest) = arenas.borrow(step.output);
            hands.share(out, step.height, step.cut(threads), |part, workspace| {
                step.action.run(&Operands::new(rest, &step.inputs), part, workspace);
            });
            seen(node.output, arenas.codes(step.output));
        }
    }

    fn values(&self, arenas: &Arenas, values: &mut [f32]) {
        let output = &self.model.output;
        let step = self.model.tensor(output.tensor).step.value();
        let convert = |code: i32| code as f32 * step;
        match arenas.codes(self.plan.places[output.tensor.0 as usize]) {
            Codes::Unsigned(codes) => values.iter_mut().zip(codes).for_each(|(v, &c)| *v = convert(c.into())),
            Codes::Signed(codes) => {
                values.iter_mut().zip(codes).for_each(|(v, &c)| *v = convert((c as i8).into()));
            }
            Codes::Wide(codes) => values.iter_mut().zip(codes).for_each(|(v, &c)| *v = convert(c.into())),
            Codes::Sum(codes) => values.iter_mut().zip(codes).for_each(|(v, &c)| *v = convert(c)),
        }
        finish(output, values);
    }
}

/// One sample with every tensor kept.
pub(super) fn trace(
    engine: &Engine,
    pool: Option<&dyn Pool>,
    scratch: &mut Scratch,
    input: &[i32],
) -> Result<Trace, RunError> {
    engine.check_lengths(input.len(), 1, engine.output_len())?;
    engine.check_codes(input)?;
    let mut codes = vec![Vec::new(); engine.model.tensors.len()];
    codes[engine.model.input.tensor.0 as usize] = input.to_vec();
    engine.lead(pool, scratch, |arenas, hands| {
        arenas.codes_mut(engine.input_place()).narrow(0, input);
        engine.steps(arenas, hands, |id, tensor| {
            let mut list = vec![0; tensor.len()];
            tensor.widen(&mut list);
            codes[id.0 as usize] = list;
        });
    });
    Ok(Trace { codes })
}

/// Codes that are shown at a time.
const PIECE: usize = 4096;

/// One sample, whose tensors are shown one after the other.
pub(super) fn replay(
    engine: &Engine,
    scratch: &mut Scratch,
    input: &GoldenInput,
    see: &mut See,
) -> Result<(), RunError> {
    if let GoldenInput::Codes(codes) = input {
        engine.check_lengths(codes.len(), 1, engine.output_len())?;
        engine.check_codes(codes)?;
    }
    let (id, len) = (engine.model.input.tensor, engine.input_shape().len());
    let mut seeded = match input {
        GoldenInput::Seed(seed) => Some(certificate::seeded(*seed, engine.model.tensor(id).format)),
        GoldenInput::Codes(_) => None,
    };
    engine.lead(None, scratch, |arenas, hands| {
        let mut piece = [0; PIECE];
        for start in (0..len).step_by(PIECE) {
            let piece = &mut piece[..PIECE.min(len - start)];
            match (input, &mut seeded) {
                (GoldenInput::Codes(codes), _) => piece.copy_from_slice(&codes[start..start + piece.len()]),
                (_, seeded) => {
                    piece.iter_mut().zip(seeded.iter_mut().flatten()).for_each(|(to, code)| *to = code);
                }
            }
            arenas.codes_mut(engine.input_place()).narrow(start, piece);
            see(id, piece);
        }
        engine.steps(arenas, hands, |id, tensor| {
            for start in (0..tensor.len()).step_by(PIECE) {
                let piece = &mut piece[..PIECE.min(tensor.len() - start)];
                tensor.slice(start, piece.len()).widen(piece);
                see(id, piece);
            }
        });
    });
    Ok(())
}
