//! The proof of exactness that an artifact carries: golden inputs, the hash of every tensor's codes for them, and the
//! output codes. Made by the reference, or by what was compared with it; whoever executes the artifact can replay it.

use sha2::{Digest, Sha256};

use crate::check::MAX_MACS;
use crate::model::{Format, Model, TensorId};
use crate::reference::{self, RunError};

/// Most codes that a certificate may cover, of all tensors and over all golden inputs: hashing them is what replaying costs
/// beside the runs, and whoever serves an artifact replays it first.
pub const MAX_CODES: u64 = 1 << 30;

/// Is shown a tensor's codes, whole or piece by piece in order.
pub type See<'a> = dyn FnMut(TensorId, &[i32]) + Send + 'a;

/// Golden inputs and what a right execution computes for them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Certificate {
    /// The inputs, in order.
    pub inputs: Vec<GoldenInput>,
    /// For each tensor of the model the SHA-256 of its codes over all inputs, in order, as little-endian i32.
    pub hashes: Vec<[u8; 32]>,
    /// The output tensor's codes for each input.
    pub outputs: Vec<Vec<i32>>,
}

/// One input sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GoldenInput {
    /// Codes that [`seeded_codes`] derives from a seed.
    Seed(u64),
    /// NHWC codes, stored as they are.
    Codes(Vec<i32>),
}

/// What was replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Golden inputs.
    pub inputs: usize,
    /// Tensors whose hashes were compared.
    pub tensors: usize,
    /// Codes that went into the hashes, over all inputs.
    pub codes: u64,
}

/// The first difference between an execution and the certificate.
#[derive(Debug, thiserror::Error)]
pub enum Mismatch<E: std::error::Error + 'static> {
    /// The artifact has no golden inputs, so nothing can be proven.
    #[error("the artifact carries no golden inputs")]
    NoInputs,
    /// A golden input has other codes than its hash says.
    #[error("the golden inputs themselves do not match their hash")]
    Input,
    /// The first node, in execution order, whose output differs.
    #[error("node {node:?} computes other codes than the certificate says")]
    Node {
        /// The node's name.
        node: String,
    },
    /// The hashes agree and the recorded output codes do not: the certificate contradicts itself.
    #[error("the recorded outputs of golden input {input} do not match")]
    Output {
        /// Index of the input.
        input: usize,
    },
    /// The execution itself failed.
    #[error("golden input {input} cannot be run")]
    Run {
        /// Index of the input.
        input: usize,
        /// Why.
        #[source]
        source: E,
    },
}

impl Certificate {
    /// Runs the inputs through the reference.
    pub fn make(model: &Model, inputs: Vec<GoldenInput>) -> Result<Self, RunError> {
        Self::made_by(model, inputs, |input, see| reference::walk(model, input.codes(model), see))
    }

    /// Runs the inputs through `run`, which shows what it is given every tensor of `model`, the input's included, whole or in
    /// pieces that follow one another. What `run` computes is taken for right: whoever makes a certificate by anything but the
    /// reference lets another executor verify it.
    pub fn made_by<E>(
        model: &Model,
        inputs: Vec<GoldenInput>,
        mut run: impl FnMut(&GoldenInput, &mut See) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut hashers = Hashers::new(model);
        let mut outputs = Vec::with_capacity(inputs.len());
        for input in &inputs {
            let mut output = Vec::new();
            run(input, &mut |tensor, codes| {
                hashers.see(tensor, codes);
                if tensor == model.output.tensor {
                    output.extend_from_slice(codes);
                }
            })?;
            outputs.push(output);
        }
        let hashes = if inputs.is_empty() { Vec::new() } else { hashers.finish() };
        Ok(Certificate { inputs, hashes, outputs })
    }

    /// Runs the inputs through `run` and compares; the error names the first node that differs. `model` is the
    /// checked model that this certificate belongs to. `run` shows what it is given every tensor that it computes, and the
    /// input's, whole or in pieces that follow one another, and need keep none of them.
    pub fn verify<E: std::error::Error>(
        &self,
        model: &Model,
        mut run: impl FnMut(&GoldenInput, &mut See) -> Result<(), E>,
    ) -> Result<Report, Mismatch<E>> {
        if self.inputs.is_empty() {
            return Err(Mismatch::NoInputs);
        }
        let mut hashers = Hashers::new(model);
        let mut differing = None;
        for (index, input) in self.inputs.iter().enumerate() {
            let mut expected = self.outputs.get(index).map_or(&[][..], Vec::as_slice);
            let mut same = true;
            let mut see = |tensor: TensorId, codes: &[i32]| {
                hashers.see(tensor, codes);
                if tensor == model.output.tensor {
                    let of_piece = expected.split_off(..codes.len().min(expected.len()));
                    same &= of_piece == Some(codes);
                }
            };
            run(input, &mut see).map_err(|source| Mismatch::Run { input: index, source })?;
            if differing.is_none() && !(same && expected.is_empty()) {
                differing = Some(index);
            }
        }
        let codes = hashers.codes;
        let hashes = hashers.finish();
        let differs = |id: TensorId| hashes.get(id.0 as usize) != self.hashes.get(id.0 as usize);
        if differs(model.input.tensor) {
            return Err(Mismatch::Input);
        }
        if let Some(node) = model.nodes.iter().find(|node| differs(node.output)) {
            return Err(Mismatch::Node { node: node.name.clone() });
        }
        match differing {
            Some(input) => Err(Mismatch::Output { input }),
            None => Ok(Report { inputs: self.inputs.len(), tensors: hashes.len(), codes }),
        }
    }

    /// Whether lengths and codes fit a checked model, and whether replaying stays within [`MAX_CODES`] and
    /// [`MAX_MACS`]; the reason why not.
    pub fn check(&self, model: &Model) -> Result<(), String> {
        let inputs = self.inputs.len() as u64;
        let codes = model.tensors.iter().map(|tensor| tensor.shape.len() as u64).sum::<u64>();
        for (what, each, most) in
            [("codes", codes, MAX_CODES), ("multiply-accumulates", model.work(), MAX_MACS)]
        {
            let all = inputs.saturating_mul(each);
            if all > most {
                return Err(format!("{inputs} golden inputs come to {all} {what}, the limit is {most}"));
            }
        }
        let input = model.tensor(model.input.tensor);
        let (lo, hi) = input.format.range();
        for golden in &self.inputs {
            let GoldenInput::Codes(codes) = golden else { continue };
            if codes.len() != input.shape.len() {
                return Err(format!("a golden input has {} codes of {}", codes.len(), input.shape.len()));
            }
            if let Some(code) = codes.iter().find(|code| !(lo..=hi).contains(*code)) {
                return Err(format!("golden input code {code} is outside {lo} ..= {hi}"));
            }
        }
        let hashes = if self.inputs.is_empty() { 0 } else { model.tensors.len() };
        if self.hashes.len() != hashes {
            return Err(format!("{} hashes for {hashes} tensors", self.hashes.len()));
        }
        let codes = model.output_shape().len();
        if self.outputs.len() != self.inputs.len() || self.outputs.iter().any(|output| output.len() != codes)
        {
            return Err("the recorded outputs do not fit inputs and output shape".to_owned());
        }
        Ok(())
    }
}

impl GoldenInput {
    /// The NHWC codes of this input for a checked model.
    pub fn codes(&self, model: &Model) -> Vec<i32> {
        let tensor = model.tensor(model.input.tensor);
        match self {
            GoldenInput::Seed(seed) => seeded_codes(*seed, tensor.format, tensor.shape.len()),
            GoldenInput::Codes(codes) => codes.clone(),
        }
    }
}

/// `len` codes of a format: code i is `lo + ⌊(z >> 32) · (hi − lo + 1) / 2³²⌋` with z the (i+1)-th output of the
/// SplitMix64 generator that starts at `seed`.
pub fn seeded_codes(seed: u64, format: Format, len: usize) -> Vec<i32> {
    seeded(seed, format).take(len).collect()
}

/// The same, one after the other, without an end.
pub(crate) fn seeded(seed: u64, format: Format) -> impl Iterator<Item = i32> {
    let (lo, hi) = format.range();
    let width = (i64::from(hi) - i64::from(lo) + 1) as u64;
    let mut state = seed;
    let mut next = move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    };
    std::iter::repeat_with(move || (i64::from(lo) + (((next() >> 32) * width) >> 32) as i64) as i32)
}

/// One running hash a tensor.
struct Hashers {
    running: Vec<Sha256>,
    codes: u64,
}

impl Hashers {
    fn new(model: &Model) -> Self {
        Hashers { running: vec![Sha256::new(); model.tensors.len()], codes: 0 }
    }

    /// The next codes of a tensor.
    fn see(&mut self, tensor: TensorId, codes: &[i32]) {
        const PIECE: usize = 1024;
        let Some(hasher) = self.running.get_mut(tensor.0 as usize) else { return };
        let mut bytes = [0; 4 * PIECE];
        for piece in codes.chunks(PIECE) {
            for (bytes, code) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(piece) {
                *bytes = code.to_le_bytes();
            }
            hasher.update(&bytes[..4 * piece.len()]);
        }
        self.codes += codes.len() as u64;
    }

    fn finish(self) -> Vec<[u8; 32]> {
        self.running.into_iter().map(|hasher| hasher.finalize().into()).collect()
    }
}
