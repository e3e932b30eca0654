//! The last evaluation: the engine on every image, its logits against the training graph's, and how close they are to the
//! float network's.

use std::sync::Arc;

use dyadic_engine::model::Model;
use dyadic_engine::{Engine, Scratch, reference};
use dyadic_store::blob::Digest;
use sha2::{Digest as _, Sha256};
use tch::{Device, Kind, Tensor};

use crate::batch;
use crate::closeness::Closeness;
use crate::data::Dataset;
use crate::error::WorkerError;
use crate::images::Coder;
use crate::net::{FloatNet, Place};
use crate::observer::{Control, Observer, Phase, Progress};
use crate::simulate::Simulation;
use dyadic_plan::Plan;

/// Most images in one comparison.
const BATCH: usize = 200;

/// What the last evaluation found.
#[derive(Debug, Clone, PartialEq)]
pub struct Exactness {
    /// Images whose largest logit, in the engine, is at the label.
    pub correct: u64,
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
    pub data: &'a Dataset,
    /// Byte images to codes.
    pub coder: &'a Coder,
}

/// Runs engine, simulated integer graph and float network over the images.
///
/// # Errors
/// [`WorkerError::NotExact`], naming the first node that differs, if any logit of any image differs in any bit.
pub fn evaluate(of: &Evaluation, observer: &mut dyn Observer) -> Result<Exactness, WorkerError> {
    let Evaluation { plan, model, data, coder } = *of;
    let engine = Engine::new(Arc::clone(model)).map_err(|e| WorkerError::Model(e.to_string()))?;
    let mut scratch = engine.scratch();
    let simulation = Simulation::new(model, Device::Cpu);
    let place = Place { device: Device::Cpu, kind: Kind::Float };
    let float = FloatNet::new(plan, place);
    let mut closeness = Closeness::default();
    let (count, batch) = (data.len(), batch::images(plan).min(BATCH));
    let outputs = engine.output_len();
    let mut found = Exactness { correct: 0, images: 0, logits_sha256: String::new(), closeness_db: None };
    let mut hash = Sha256::new();
    for start in (0..count).step_by(batch) {
        let indices: Vec<usize> = (start..(start + batch).min(count)).collect();
        let mut bytes = vec![0u8; indices.len() * data.image_len()];
        data.fill(&indices, None, &mut bytes);
        let mut logits = vec![0f32; indices.len() * outputs];
        engine
            .run_u8(&mut scratch, &bytes, indices.len(), &mut logits)
            .map_err(|e| WorkerError::Model(e.to_string()))?;
        let (codes, _) = coder.batch(data, &indices, None, place);
        let simulated = output_codes(simulation.run(&codes).as_ref())?;
        let same = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(x, y)| x.to_bits() == y.to_bits());
        for (row, &image) in indices.iter().enumerate() {
            let range = row * outputs..(row + 1) * outputs;
            let theirs = reference::output_values(model, simulated.get(range.clone()).unwrap_or_default());
            let ours = &logits[range];
            if theirs.len() != outputs || !same(ours, &theirs) {
                let one = codes.narrow(0, row as i64, 1);
                let input = integers(&one.get(0))?.into_iter().map(|v| v as i32).collect::<Vec<_>>();
                return Err(first_difference(&engine, &mut scratch, &input, &simulation.trace(&one), image));
            }
            let best = (0..outputs).rev().max_by(|&a, &b| ours[a].total_cmp(&ours[b])).unwrap_or(0);
            for value in ours {
                hash.update(value.to_le_bytes());
            }
            found.correct += u64::from(best == data.labels[image] as usize);
            found.images += 1;
        }
        closeness.add(outputs, &float_outputs(plan, &float, coder, data, &indices)?, &logits);
        let progress = Progress { phase: Phase::Evaluate, done: found.images, total: count as u64 };
        if observer.progress(progress) == Control::Stop {
            return Err(WorkerError::Stopped);
        }
    }
    found.logits_sha256 = Digest::from(<[u8; 32]>::from(hash.finalize())).to_string();
    found.closeness_db = closeness.db();
    Ok(found)
}

/// What the float network gives, its softmax included where it ends in one.
fn float_outputs(
    plan: &Plan,
    net: &FloatNet,
    coder: &Coder,
    data: &Dataset,
    indices: &[usize],
) -> Result<Vec<f32>, WorkerError> {
    let place = Place { device: Device::Cpu, kind: Kind::Float };
    let logits = net.logits(plan, &coder.real_batch(data, indices, place).0);
    let outputs = if plan.softmax { logits.softmax(-1, Kind::Float) } else { logits };
    Ok(Vec::<f32>::try_from(outputs.contiguous().view([-1]))?)
}

/// Row-major NHWC integers of a batch (N, C, H, W) or of one row of it.
fn integers(x: &Tensor) -> Result<Vec<i64>, WorkerError> {
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
