//! The last evaluation: the engine on every image, its logits against the training graph's, and how close they are to the
//! float network's. Each image passes once through each network.

use std::sync::Arc;

use dyadic_engine::engine::Samples;
use dyadic_engine::model::Model;
use dyadic_engine::{Engine, Scratch, reference};
use dyadic_store::blob::Digest;
use sha2::digest::common::hazmat::SerializableState as _;
use sha2::{Digest as _, Sha256};
use tch::{Device, Kind, Tensor};

use crate::batch;
use crate::checkpoint::{Counts, Verified};
use crate::closeness::Closeness;
use crate::data::{Batch, Loader};
use crate::error::WorkerError;
use crate::float::{self, FloatOutputs, best};
use crate::images::{Coder, ahead};
use crate::net::{FloatNet, Place};
use crate::observer::{Control, Observer, Phase};
use crate::simulate::Simulation;
use crate::stage::report;
use dyadic_plan::Plan;

/// Where libtorch runs exact integers.
const PLACE: Place = Place { device: Device::Cpu, kind: Kind::Float };

/// What the last evaluation found.
#[derive(Debug, Clone, PartialEq)]
pub struct Exactness {
    /// Images whose largest logit, in the engine, is at the label.
    pub correct: u64,
    /// Images whose largest logit, in the engine, is where the float network has its largest.
    pub agreeing: u64,
    /// Images evaluated; on each of them all logits were identical.
    pub images: u64,
    /// SHA-256, hex, over the output values of all these images: f32, little endian, image after image.
    pub logits_sha256: String,
    /// Signal-to-noise of the engine's outputs against the float network's ([`crate::closeness`]).
    pub closeness_db: Option<f64>,
}

/// What is compared, and on what.
pub struct Evaluation<'a> {
    /// The lowered network, for the float outputs.
    pub plan: &'a Plan,
    /// The integer network.
    pub model: &'a Arc<Model>,
    /// Evaluation images.
    pub data: &'a Loader,
    /// Byte images to codes.
    pub coder: &'a Coder,
    /// What is known of the float network's answers; the rest is computed.
    pub float: &'a FloatOutputs,
    /// Bytes of memory that may be used; they decide over speed, never over the result.
    pub memory: usize,
    /// Digest of the state that the integer network was folded to.
    pub state_sha256: String,
    /// Optimizer steps done.
    pub step: u64,
    /// A checkpoint that goes on from there.
    pub snapshot: &'a dyn Fn(Verified) -> Result<Vec<u8>, WorkerError>,
}

/// Runs engine, simulated integer graph and, as far as its answers are not known, float network over the images, or over what
/// an interrupted run of the same state has left of them.
///
/// # Errors
/// [`WorkerError::NotExact`], naming the first node that differs, if any logit of any image differs in any bit;
/// [`WorkerError::Stopped`] if the observer says so.
pub fn evaluate(
    of: &Evaluation,
    begun: Option<Verified>,
    observer: &mut dyn Observer,
) -> Result<Exactness, WorkerError> {
    let begun = begun.filter(|begun| begun.counts.state_sha256 == of.state_sha256);
    let mut judge = Judge::new(of)?;
    let mut asked = 0;
    if let Some(begun) = begun {
        asked = judge.resume(begun)?.min(of.data.len());
        observer.log(&format!("resuming the last evaluation after {asked} images"));
    }
    let size = batch::exact_images(of.plan, of.memory);
    let left: Vec<usize> = (asked..of.data.len()).collect();
    for batch in ahead(of.data, &left, size, None) {
        let batch = batch?;
        if !batch.indices.is_empty() {
            judge.take(&batch)?;
        }
        asked = (asked + size).min(of.data.len());
        report(observer, Phase::Verify, asked, of.data.len())?;
        if observer.wants_checkpoint_within(Phase::Verify)
            && observer.checkpoint((of.snapshot)(judge.so_far(asked))?, of.step) == Control::Stop
        {
            return Err(WorkerError::Stopped);
        }
    }
    Ok(judge.finish())
}

/// Both forms of the network, and what was found so far.
struct Judge<'a> {
    of: &'a Evaluation<'a>,
    engine: Engine,
    scratches: Vec<Scratch>,
    simulation: Simulation<'a>,
    /// Made when it is first needed.
    net: Option<FloatNet>,
    hash: Sha256,
    closeness: Closeness,
    found: Exactness,
}

impl<'a> Judge<'a> {
    fn new(of: &'a Evaluation<'a>) -> Result<Self, WorkerError> {
        let engine = Engine::new(Arc::clone(of.model)).map_err(|e| WorkerError::Model(e.to_string()))?;
        let threads = usize::try_from(tch::get_num_threads()).unwrap_or(1).max(1);
        Ok(Judge {
            of,
            scratches: (0..threads).map(|_| engine.scratch()).collect(),
            engine,
            simulation: Simulation::new(of.model, Device::Cpu),
            net: None,
            hash: Sha256::new(),
            closeness: Closeness::default(),
            found: Exactness {
                correct: 0,
                agreeing: 0,
                images: 0,
                logits_sha256: String::new(),
                closeness_db: None,
            },
        })
    }

    /// Goes on from there; the number of images asked for.
    fn resume(&mut self, begun: Verified) -> Result<usize, WorkerError> {
        let Verified { counts, closeness } = begun;
        self.hash = hash_of(&counts.digest)
            .ok_or_else(|| WorkerError::Checkpoint("its unfinished digest cannot be read".into()))?;
        self.closeness = closeness;
        self.found.images = counts.done;
        self.found.correct = counts.correct;
        self.found.agreeing = counts.agreeing;
        Ok(usize::try_from(counts.images).unwrap_or(usize::MAX))
    }

    /// Everything that [`Judge::resume`] needs.
    fn so_far(&self, asked: usize) -> Verified {
        let counts = Counts {
            state_sha256: self.of.state_sha256.clone(),
            images: asked as u64,
            done: self.found.images,
            correct: self.found.correct,
            agreeing: self.found.agreeing,
            digest: self
                .hash
                .serialize()
                .iter()
                .fold(String::new(), |hex, byte| hex + &format!("{byte:02x}")),
        };
        Verified { counts, closeness: self.closeness.clone() }
    }

    fn take(&mut self, batch: &Batch) -> Result<(), WorkerError> {
        let outputs = self.engine.output_len();
        let images = batch.indices.len();
        let mut logits = vec![0f32; images * outputs];
        self.engine
            .run_batch(&mut self.scratches, Samples::Bytes(&batch.pixels), images, &mut logits)
            .map_err(|e| WorkerError::Model(e.to_string()))?;
        self.check(batch, &logits)?;
        let float = if let Some(known) = self.of.float.of(&batch.indices) {
            known
        } else {
            let net = self.net.get_or_insert_with(|| FloatNet::new(self.of.plan, PLACE));
            let y = net.logits(self.of.plan, &self.of.coder.real(batch, PLACE));
            float::values(self.of.plan, &y)?
        };
        let rows = logits.chunks_exact(outputs).zip(float.chunks_exact(outputs));
        for ((ours, float), label) in rows.zip(&batch.labels) {
            for value in ours {
                self.hash.update(value.to_le_bytes());
            }
            let best_of_ours = best(ours);
            self.found.correct += u64::from(label.is_some_and(|label| best_of_ours == label as usize));
            self.found.agreeing += u64::from(best_of_ours == best(float));
            self.found.images += 1;
        }
        self.closeness.add(outputs, &float, &logits);
        Ok(())
    }

    /// Holds the engine's logits against the training graph's.
    fn check(&mut self, batch: &Batch, logits: &[f32]) -> Result<(), WorkerError> {
        let outputs = self.engine.output_len();
        let codes = self.of.coder.codes(batch, PLACE);
        let simulated = output_codes(self.simulation.run(&codes).as_ref())?;
        let same = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(x, y)| x.to_bits() == y.to_bits());
        for (row, (ours, &image)) in logits.chunks_exact(outputs).zip(&batch.indices).enumerate() {
            let theirs = simulated.get(row * outputs..(row + 1) * outputs).unwrap_or_default();
            let theirs = reference::output_values(self.of.model, theirs);
            if theirs.len() != outputs || !same(ours, &theirs) {
                let one = codes.narrow(0, row as i64, 1);
                let input = integers(&one.get(0))?.into_iter().map(|v| v as i32).collect::<Vec<_>>();
                let trace = self.simulation.trace(&one);
                let mut scratch = self.engine.scratch();
                return Err(first_difference(&self.engine, &mut scratch, &input, &trace, image));
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Exactness {
        self.found.logits_sha256 = Digest::from(<[u8; 32]>::from(self.hash.finalize())).to_string();
        self.found.closeness_db = self.closeness.db();
        self.found
    }
}

/// An unfinished digest from its hexadecimal form.
fn hash_of(hex: &str) -> Option<Sha256> {
    let digits = hex.as_bytes().chunks(2);
    let bytes = digits.map(|d| u8::from_str_radix(std::str::from_utf8(d).ok()?, 16).ok());
    let bytes: Vec<u8> = bytes.collect::<Option<_>>()?;
    Sha256::deserialize(bytes.as_slice().try_into().ok()?).ok()
}

/// Row-major NHWC integers of a batch (N, C, H, W) or of one row of it.
pub(crate) fn integers(x: &Tensor) -> Result<Vec<i64>, WorkerError> {
    let nhwc = if x.dim() == 4 { x.permute([0, 2, 3, 1]) } else { x.permute([1, 2, 0]) };
    Ok(Vec::<i64>::try_from(nhwc.to_kind(Kind::Int64).contiguous().view([-1]))?)
}

/// The output tensor's codes of the whole batch, as the engine counts them.
fn output_codes(output: Option<&Tensor>) -> Result<Vec<i32>, WorkerError> {
    let Some(output) = output else { return Ok(Vec::new()) };
    Ok(integers(output)?.into_iter().map(|v| v as i32).collect())
}

/// Finds the first node whose codes differ on one image.
fn first_difference(
    engine: &Engine,
    scratch: &mut Scratch,
    input: &[i32],
    values: &[Option<Tensor>],
    image: usize,
) -> WorkerError {
    let model = engine.model();
    let trace = match engine.trace(scratch, input) {
        Ok(trace) => trace.codes,
        Err(e) => return WorkerError::Model(e.to_string()),
    };
    for node in &model.nodes {
        let id = node.output.0 as usize;
        let Some(value) = &values[id] else { continue };
        let Ok(theirs) = integers(&value.get(0)) else { continue };
        let differing = trace[id].iter().zip(&theirs).position(|(a, b)| i64::from(*a) != *b);
        if let Some(at) = differing {
            let detail =
                format!("position {at}: the engine has {}, the training graph {}", trace[id][at], theirs[at]);
            return WorkerError::NotExact { node: node.name.clone(), image, detail };
        }
    }
    WorkerError::NotExact {
        node: model.output.name.clone(),
        image,
        detail: "only the conversion to float differs".into(),
    }
}
