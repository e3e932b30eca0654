//! Checkpoints: the whole training state as a safetensors file, and back.
//!
//! A checkpoint names what it belongs to (a fingerprint of network, dataset and settings) and the arithmetic it was
//! made with (instruction set, libtorch, threads, precision): resuming is bit-identical only where both agree.

use std::collections::{BTreeMap, HashMap};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use crate::closeness::Closeness;
use crate::error::WorkerError;
use crate::state::{LayerState, Param, State, StepState};
use dyadic_plan::Plan;
use dyadic_plan::codebook::Filter;

/// What a checkpoint was made from and with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// Hash over model, dataset and settings.
    pub fingerprint: String,
    /// Instruction set, libtorch version, threads, precision.
    pub arithmetic: String,
}

#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    origin: Origin,
    step: u64,
    input_step: f32,
    float_accuracy: Option<f64>,
    /// The same, bit for bit: a decimal number may come back from JSON as its neighbour.
    #[serde(default)]
    float_accuracy_bits: Option<u64>,
    /// There is no state yet: the float network is measured and nothing else done.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    measured_only: bool,
    /// There is no state yet: the float network is being measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    measuring: Option<Measuring>,
    /// The state is trained to its end, and the engine is being held against it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    verified: Option<Counts>,
}

/// How far the float network's pass over the evaluation images is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measuring {
    /// Images asked for so far: the first so many.
    pub images: u64,
    /// Those that could be read.
    pub done: u64,
    /// Those whose largest output is at the label.
    pub hits: u64,
}

/// How far the engine's pass over the evaluation images is.
#[derive(Debug, Clone, PartialEq)]
pub struct Verified {
    /// Images asked for, read, right, and of the float network's opinion so far.
    pub counts: Counts,
    /// Sums over the outputs.
    pub closeness: Closeness,
}

/// The numbers of [`Verified`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// SHA-256, hex, of the folded state that the engine computes with: [`State::sha256`].
    pub state_sha256: String,
    /// Images asked for so far: the first so many.
    pub images: u64,
    /// Those that could be read.
    pub done: u64,
    /// Those whose largest output is at the label.
    pub correct: u64,
    /// Those whose largest output is the float network's.
    pub agreeing: u64,
    /// The digest over the outputs, unfinished, hex.
    pub digest: String,
}

impl Header {
    fn new(origin: &Origin) -> Self {
        Header {
            version: VERSION,
            origin: origin.clone(),
            step: 0,
            input_step: 1.0,
            float_accuracy: None,
            float_accuracy_bits: None,
            measured_only: false,
            measuring: None,
            verified: None,
        }
    }

    fn measured(self, accuracy: Option<f64>) -> Self {
        Header { float_accuracy: accuracy, float_accuracy_bits: accuracy.map(f64::to_bits), ..self }
    }

    /// A file of this and the tensors.
    fn with(self, tensors: Vec<(String, TensorView)>) -> Result<Vec<u8>, WorkerError> {
        let header = serde_json::to_string(&self).map_err(|e| WorkerError::Checkpoint(e.to_string()))?;
        let metadata = HashMap::from([(KEY.to_string(), header)]);
        safetensors::serialize(tensors, Some(metadata)).map_err(|e| WorkerError::Checkpoint(e.to_string()))
    }

    fn float_accuracy(&self) -> Option<f64> {
        self.float_accuracy_bits.map(f64::from_bits).or(self.float_accuracy)
    }
}

/// What a run goes on from.
#[derive(Debug, Clone)]
pub enum Resumed {
    /// The float network is being measured.
    Measuring(Measuring),
    /// The float network's accuracy, measured; nothing else was done.
    Measured(f64),
    /// A state.
    State(Box<Checkpoint>),
}

impl Resumed {
    /// Reads any form and checks that it fits `plan` and `origin`.
    ///
    /// # Errors
    /// As [`Checkpoint::from_bytes`].
    pub fn from_bytes(bytes: &[u8], plan: &Plan, origin: &Origin) -> Result<Self, WorkerError> {
        let header = header(bytes, origin)?;
        if let Some(measuring) = header.measuring {
            return Ok(Resumed::Measuring(measuring));
        }
        match header.float_accuracy().filter(|_| header.measured_only) {
            Some(accuracy) => Ok(Resumed::Measured(accuracy)),
            None => Checkpoint::from_bytes(bytes, plan, origin).map(|c| Resumed::State(Box::new(c))),
        }
    }
}

/// The checkpoint of a run that has measured the float network and done nothing else.
///
/// # Errors
/// [`WorkerError::Checkpoint`] if it cannot be serialized.
pub fn measured(origin: &Origin, float_accuracy: f64) -> Result<Vec<u8>, WorkerError> {
    let header = Header { measured_only: true, ..Header::new(origin).measured(Some(float_accuracy)) };
    header.with(Vec::new())
}

/// The checkpoint of a run that is measuring the float network.
///
/// # Errors
/// As [`measured`].
pub fn measuring(origin: &Origin, measuring: Measuring) -> Result<Vec<u8>, WorkerError> {
    Header { measuring: Some(measuring), ..Header::new(origin) }.with(Vec::new())
}

/// A checkpoint's head, if it fits `origin`.
fn header(bytes: &[u8], origin: &Origin) -> Result<Header, WorkerError> {
    let bad = |e: &dyn std::fmt::Display| WorkerError::Checkpoint(e.to_string());
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|e| bad(&e))?;
    let header = metadata.metadata().as_ref().and_then(|m| m.get(KEY));
    let header = header.ok_or_else(|| bad(&"it is not a checkpoint of this program"))?;
    let header: Header = serde_json::from_str(header).map_err(|e| bad(&e))?;
    if header.version != VERSION {
        let found = header.version;
        return Err(bad(&format!("its format version is {found}, this program reads {VERSION}")));
    }
    if header.origin.fingerprint != origin.fingerprint {
        return Err(bad(&"it belongs to another model, dataset or job specification"));
    }
    if header.origin.arithmetic != origin.arithmetic {
        return Err(bad(&format!(
            "it was made with '{}' and this worker has '{}': the result would not be bit-identical",
            header.origin.arithmetic, origin.arithmetic
        )));
    }
    Ok(header)
}

/// A checkpoint's content.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// What it belongs to.
    pub origin: Origin,
    /// The state.
    pub state: State,
    /// The float network's accuracy, measured once.
    pub float_accuracy: Option<f64>,
    /// Where the state is trained to its end: what the engine has been held to so far.
    pub verified: Option<Verified>,
}

const VERSION: u32 = 2;
/// The sums of [`Verified::closeness`].
const CLOSENESS: &str = "verified.closeness";
/// The metadata that holds the header.
const KEY: &str = "dyadic-checkpoint";

impl Checkpoint {
    /// The file's bytes; equal checkpoints give equal bytes.
    ///
    /// # Errors
    /// [`WorkerError::Checkpoint`] if the state cannot be serialized.
    pub fn to_bytes(&self) -> Result<Vec<u8>, WorkerError> {
        let mut tensors: BTreeMap<String, Vec<f32>> = BTreeMap::new();
        for (i, layer) in self.state.layers.iter().enumerate() {
            let mut put = |name: &str, p: &Param| {
                tensors.insert(format!("{i:04}.{name}"), p.value.clone());
                let at_rest = || vec![0.0; p.value.len()];
                let velocity = if p.velocity.is_empty() { at_rest() } else { p.velocity.clone() };
                tensors.insert(format!("{i:04}.{name}.velocity"), velocity);
                tensors.insert(format!("{i:04}.{name}.average"), p.average.clone());
            };
            put("weight", &layer.weight);
            put("gamma", &layer.gamma);
            put("beta", &layer.beta);
            tensors.insert(format!("{i:04}.mean"), layer.mean.clone());
            tensors.insert(format!("{i:04}.variance"), layer.variance.clone());
            tensors.insert(format!("{i:04}.epsilon"), vec![layer.epsilon]);
            // Per filter: exponent, scale, clips, number of levels, levels.
            let filters = layer.filters.iter().flat_map(|f| {
                let head = [f.exponent as f32, f.scale, f.clip.0, f.clip.1, f.levels.len() as f32];
                head.into_iter().chain(f.levels.iter().map(|&l| f32::from(l)))
            });
            tensors.insert(format!("{i:04}.filters"), filters.collect());
        }
        let steps = self.state.steps.iter().flat_map(|s| [s.exponent as f32, s.latent, s.first, s.second]);
        tensors.insert("steps".into(), steps.collect());
        let header = Header {
            step: self.state.step,
            input_step: self.state.input_step,
            verified: self.verified.as_ref().map(|v| v.counts.clone()),
            ..Header::new(&self.origin).measured(self.float_accuracy)
        };
        let mut bytes: BTreeMap<&str, (Dtype, Vec<u8>)> = BTreeMap::new();
        for (name, values) in &tensors {
            bytes.insert(name, (Dtype::F32, values.iter().flat_map(|x| x.to_le_bytes()).collect()));
        }
        if let Some(verified) = &self.verified {
            let sums = verified.closeness.sums().iter().flat_map(|x| x.to_le_bytes()).collect();
            bytes.insert(CLOSENESS, (Dtype::F64, sums));
        }
        let views = bytes.iter().map(|(name, (dtype, bytes))| {
            let view = TensorView::new(*dtype, vec![bytes.len() * 8 / dtype.bitsize()], bytes);
            view.map(|view| ((*name).to_owned(), view))
        });
        let views = views.collect::<Result<Vec<_>, _>>();
        header.with(views.map_err(|e| WorkerError::Checkpoint(e.to_string()))?)
    }

    /// Reads a checkpoint and checks that it fits `plan` and `origin`.
    ///
    /// # Errors
    /// [`WorkerError::Checkpoint`], saying what does not fit.
    pub fn from_bytes(bytes: &[u8], plan: &Plan, origin: &Origin) -> Result<Self, WorkerError> {
        let header = header(bytes, origin)?;
        let file = SafeTensors::deserialize(bytes).map_err(|e| WorkerError::Checkpoint(e.to_string()))?;
        let read = Reader { file };
        let mut state =
            State { layers: Vec::new(), steps: Vec::new(), input_step: header.input_step, step: header.step };
        for (i, weights) in plan.weights.iter().enumerate() {
            let latents = weights.latents_per_filter() * weights.shape[0];
            state.layers.push(read.layer(i, latents, weights.shape[0])?);
        }
        for s in read.tensor("steps", Some(4 * plan.steps))?.chunks_exact(4) {
            state.steps.push(StepState { exponent: s[0] as i32, latent: s[1], first: s[2], second: s[3] });
        }
        let float_accuracy = header.float_accuracy();
        let verified = match header.verified {
            Some(counts) => Some(Verified { closeness: read.closeness(counts.done)?, counts }),
            None => None,
        };
        Ok(Checkpoint { origin: header.origin, state, float_accuracy, verified })
    }
}

struct Reader<'a> {
    file: SafeTensors<'a>,
}

impl Reader<'_> {
    /// The sums over so many images.
    fn closeness(&self, images: u64) -> Result<Closeness, WorkerError> {
        let bad = |e: &dyn std::fmt::Display| WorkerError::Checkpoint(format!("{CLOSENESS}: {e}"));
        let view = self.file.tensor(CLOSENESS).map_err(|e| bad(&e))?;
        if view.dtype() != Dtype::F64 {
            return Err(bad(&"it has the wrong type"));
        }
        let read = |b: &[u8]| f64::from_le_bytes(b.try_into().unwrap_or_default());
        let sums: Vec<f64> = view.data().chunks_exact(8).map(read).collect();
        Closeness::of_sums(images, &sums).ok_or_else(|| bad(&"it has the wrong size"))
    }

    fn tensor(&self, name: &str, len: Option<usize>) -> Result<Vec<f32>, WorkerError> {
        let view = self.file.tensor(name).map_err(|e| WorkerError::Checkpoint(format!("{name}: {e}")))?;
        if view.dtype() != Dtype::F32 || len.is_some_and(|l| view.data().len() != 4 * l) {
            return Err(WorkerError::Checkpoint(format!("tensor '{name}' has the wrong size")));
        }
        let read = |b: &[u8]| f32::from_le_bytes(b.try_into().unwrap_or_default());
        Ok(view.data().chunks_exact(4).map(read).collect())
    }

    fn param(&self, name: &str, len: Option<usize>) -> Result<Param, WorkerError> {
        let value = self.tensor(name, len)?;
        let velocity = self.tensor(&format!("{name}.velocity"), Some(value.len()))?;
        let average = self.tensor(&format!("{name}.average"), None)?;
        if !average.is_empty() && average.len() != value.len() {
            return Err(WorkerError::Checkpoint(format!("tensor '{name}.average' has the wrong size")));
        }
        Ok(Param { value, velocity, average })
    }

    fn layer(&self, i: usize, weights: usize, filters: usize) -> Result<LayerState, WorkerError> {
        let gamma = self.param(&format!("{i:04}.gamma"), None)?;
        if !gamma.value.is_empty() && gamma.value.len() != filters {
            return Err(WorkerError::Checkpoint(format!("tensor '{i:04}.gamma' has the wrong size")));
        }
        let epsilon = self.tensor(&format!("{i:04}.epsilon"), Some(1))?;
        Ok(LayerState {
            weight: self.param(&format!("{i:04}.weight"), Some(weights))?,
            gamma,
            beta: self.param(&format!("{i:04}.beta"), Some(filters))?,
            mean: self.tensor(&format!("{i:04}.mean"), Some(filters))?,
            variance: self.tensor(&format!("{i:04}.variance"), Some(filters))?,
            epsilon: epsilon.first().copied().unwrap_or_default(),
            filters: self.filters(i, filters)?,
        })
    }

    fn filters(&self, i: usize, count: usize) -> Result<Vec<Filter>, WorkerError> {
        let name = format!("{i:04}.filters");
        let data = self.tensor(&name, None)?;
        let mut rest = data.as_slice();
        let mut filters = Vec::with_capacity(count);
        for _ in 0..count {
            let Some((&[exponent, scale, neg, pos, n], tail)) = rest.split_first_chunk::<5>() else {
                return Err(WorkerError::Checkpoint(format!("tensor '{name}' is cut short")));
            };
            let n = n as usize;
            if n > 256 || tail.len() < n {
                return Err(WorkerError::Checkpoint(format!("tensor '{name}' is cut short")));
            }
            let (levels, tail) = tail.split_at(n);
            filters.push(Filter {
                levels: levels.iter().map(|&l| l as i8).collect(),
                exponent: exponent as i32,
                scale,
                codes: Vec::new(),
                clip: (neg, pos),
            });
            rest = tail;
        }
        Ok(filters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_accuracy_comes_back_to_the_bit() {
        for images in [1797u32, 9000, 12_345] {
            for correct in 0..=images {
                let accuracy = f64::from(correct) / f64::from(images);
                let origin = Origin { fingerprint: String::new(), arithmetic: String::new() };
                let header = Header::new(&origin).measured(Some(accuracy));
                let text = serde_json::to_string(&header).expect("plain data");
                let read: Header = serde_json::from_str(&text).expect("its own form");
                assert_eq!(read.float_accuracy(), Some(accuracy), "{correct} of {images}");
            }
        }
    }
}
