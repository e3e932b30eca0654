//! One quantization from beginning to end: lower, calibrate, fine-tune, fold, export, and prove it against the engine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use dyadic_engine::CheckedModel;
use dyadic_engine::artifact::{Accuracy, Artifact, Provenance};
use dyadic_engine::certificate::{Certificate, GoldenInput};
use dyadic_engine::model::{Model, Normalization};
use dyadic_graph::network::Network;
use dyadic_store::blob::Digest;
use dyadic_store::spec::{self, JobSpec};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tch::{Cuda, Device, Kind};

use crate::checkpoint::{Checkpoint, Origin};
use crate::data::{Augment, Dataset, EVALUATION_SEED, Epoch};
use crate::error::WorkerError;
use crate::evaluate::evaluate;
use crate::export::Naming;
use crate::images::Coder;
use crate::net::{FloatNet, Place, correct};
use crate::observer::{Control, Observer, Phase, Progress};
use crate::recalibrate;
use crate::report::{LayerReport, layer_reports};
use crate::state::State;
use crate::train::Trainer;
use dyadic_plan::codebook::{Choice, Family, Objective};
use dyadic_plan::{Plan, Rules, Settings, lower};

/// Images in a batch that only runs forward.
const EVAL_BATCH: usize = 250;
/// Calibration sees this many training images.
const CALIBRATION_IMAGES: usize = 10_000;
/// Real images go into an artifact's certificate up to this size; larger ones would outweigh the weights.
const GOLDEN_IMAGE_CODES: usize = 4096;

/// What is to be quantized.
pub struct Request<'a> {
    /// The float network.
    pub network: &'a Network,
    /// SHA-256 of the model bundle, hex.
    pub model_sha256: String,
    /// Images for calibration and training.
    pub train: &'a Dataset,
    /// Images for the accuracy figures.
    pub test: &'a Dataset,
    /// SHA-256 of the dataset, hex.
    pub dataset_sha256: String,
    /// The settings.
    pub spec: &'a JobSpec,
    /// A checkpoint to go on from.
    pub resume: Option<&'a [u8]>,
}

/// What came out.
pub struct Outcome {
    /// The artifact file.
    pub artifact: Vec<u8>,
    /// The figures.
    pub report: Report,
}

/// The figures of a finished quantization.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Top-1 of the float network on the evaluation images.
    pub float_accuracy: f64,
    /// Top-1 of the engine on the same images, last epoch.
    pub accuracy: f64,
    /// Images both were measured on, and on which training graph and engine gave identical logits.
    pub images: u64,
    /// SHA-256, hex, over the engine's output values of these images (f32, little endian, image after image): whoever
    /// serves the artifact must come to the same.
    pub logits_sha256: String,
    /// Size of the artifact.
    pub artifact_bytes: u64,
    /// Hash over the final latent weights and normalizations.
    pub weights_sha256: String,
    /// Optimizer steps done in all.
    pub steps: u64,
    /// Training images a second over the steps that this run did; 0 if none.
    pub images_per_second: f64,
    /// One a weighted layer.
    pub layers: Vec<LayerReport>,
}

/// Where and how precisely this machine trains under `spec`.
pub fn place(spec: &JobSpec) -> Place {
    let device = if Cuda::is_available() { Device::Cuda(0) } else { Device::Cpu };
    let fast = device != Device::Cpu || has_bf16();
    let kind = match spec.precision {
        spec::Precision::F32 => Kind::Float,
        spec::Precision::Bf16 => Kind::BFloat16,
        spec::Precision::Auto => {
            if fast {
                Kind::BFloat16
            } else {
                Kind::Float
            }
        }
    };
    Place { device, kind }
}

#[cfg(target_arch = "x86_64")]
fn has_bf16() -> bool {
    std::arch::is_x86_feature_detected!("avx512bf16")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_bf16() -> bool {
    false
}

/// The codebook that `spec` asks for.
///
/// # Errors
/// [`WorkerError::Invalid`] for one that does not exist, and for widths and objectives that it does not have.
pub fn choose(spec: &JobSpec) -> Result<Choice, WorkerError> {
    let family = match spec.method {
        spec::Method::Aptq => Family::Aptq,
        spec::Method::Apq => Family::Apq,
    };
    let objective = spec.objective.map(|objective| match objective {
        spec::Objective::L2 => Objective::L2,
        spec::Objective::Angle => Objective::Angle,
    });
    Choice::new(family, spec.codebook.as_deref(), spec.bits, objective)
        .map_err(|e| WorkerError::Invalid(e.to_string()))
}

/// The rules that `spec` asks for.
///
/// # Errors
/// As [`choose`], and [`WorkerError::Invalid`] for widths that activations do not have.
pub fn rules(spec: &JobSpec) -> Result<Rules, WorkerError> {
    let spec::ActivationBits { conv3x3, other } = spec.activation_bits;
    let weights = choose(spec)?;
    let settings = Settings { weights, strict: spec.strict, conv3x3_bits: conv3x3, other_bits: other };
    Rules::of(&settings).map_err(|e| WorkerError::Invalid(e.to_string()))
}

/// SHA-256, hex, over an ONNX file and its side files in the order given.
pub fn bundle_sha256<'a>(model: &[u8], side_files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> String {
    let mut hash = Sha256::new();
    hash.update(model);
    for (_, bytes) in side_files {
        hash.update(bytes);
    }
    hex(hash)
}

/// Runs the whole quantization.
///
/// # Errors
/// See [`WorkerError`]; nothing is left behind but what the observer was given.
pub fn quantize(request: &Request, observer: &mut dyn Observer) -> Result<Outcome, WorkerError> {
    let limit = |limit: Option<u32>| limit.map(|limit| limit as usize);
    let spec = request.spec;
    let request = Request {
        train: &request.train.sample(limit(spec.train_limit), spec.seed),
        test: &request.test.sample(limit(spec.eval_limit), EVALUATION_SEED),
        model_sha256: request.model_sha256.clone(),
        dataset_sha256: request.dataset_sha256.clone(),
        ..*request
    };
    let run = Run::new(&request, observer)?;
    run.finish(observer)
}

struct Run<'a> {
    request: &'a Request<'a>,
    plan: Plan,
    coder: Coder,
    place: Place,
    origin: Origin,
    float_accuracy: f64,
    state: State,
}

impl<'a> Run<'a> {
    fn new(request: &'a Request<'a>, observer: &mut dyn Observer) -> Result<Self, WorkerError> {
        let spec = request.spec;
        let plan = lower(request.network, &rules(spec)?).map_err(WorkerError::Refused)?;
        check_fit(&plan, request)?;
        if let Some(threads) = spec.threads {
            tch::set_num_threads(threads as i32);
        }
        let normalization =
            Normalization { mean: spec.normalization.mean.clone(), std: spec.normalization.std.clone() };
        let coder = Coder::new(normalization, request.train.channels)?;
        let place = place(spec);
        let origin = Origin { fingerprint: fingerprint(request)?, arithmetic: arithmetic(place) };
        let mut run = Run { request, plan, coder, place, origin, float_accuracy: 0.0, state: empty() };
        run.start(observer)?;
        Ok(run)
    }

    /// Takes the state from the checkpoint, or makes the first one.
    fn start(&mut self, observer: &mut dyn Observer) -> Result<(), WorkerError> {
        let resumed = match self.request.resume {
            Some(bytes) => Some(Checkpoint::from_bytes(bytes, &self.plan, &self.origin)?),
            None => None,
        };
        if let Some(Checkpoint { state, float_accuracy: Some(accuracy), .. }) = resumed {
            observer.log(&format!("resuming at step {}", state.step));
            (self.state, self.float_accuracy) = (state, accuracy);
            return Ok(());
        }
        self.float_accuracy = self.measure_float(observer)?;
        observer.metric("float/accuracy", 0, self.float_accuracy);
        observer.log(&format!("float network: {:.2} %", 100.0 * self.float_accuracy));
        self.state = self.calibrate(observer)?;
        // Calibration may have taken as long as many steps.
        if observer.wants_checkpoint(0)
            && observer.checkpoint(self.snapshot(&self.state)?, 0) == Control::Stop
        {
            return Err(WorkerError::Stopped);
        }
        Ok(())
    }

    fn snapshot(&self, state: &State) -> Result<Vec<u8>, WorkerError> {
        let (origin, float_accuracy) = (self.origin.clone(), Some(self.float_accuracy));
        Checkpoint { origin, state: state.clone(), float_accuracy }.to_bytes()
    }

    fn eval_count(&self) -> usize {
        let all = self.request.test.len();
        self.request.spec.eval_limit.map_or(all, |l| all.min(l as usize))
    }

    fn measure_float(&self, observer: &mut dyn Observer) -> Result<f64, WorkerError> {
        let place = Place { kind: Kind::Float, ..self.place };
        let net = FloatNet::new(&self.plan, place);
        let (count, mut hits) = (self.eval_count(), 0);
        for start in (0..count).step_by(EVAL_BATCH) {
            let indices: Vec<usize> = (start..(start + EVAL_BATCH).min(count)).collect();
            let (codes, labels) = self.coder.real_batch(self.request.test, &indices, place);
            hits += correct(&tch::no_grad(|| net.logits(&self.plan, &codes)), &labels);
            report(observer, Phase::Calibrate, start + indices.len(), count)?;
        }
        Ok(hits as f64 / count.max(1) as f64)
    }

    fn calibrate(&self, observer: &mut dyn Observer) -> Result<State, WorkerError> {
        let place = Place { kind: Kind::Float, ..self.place };
        let mut calibration = crate::calibrate::Calibration::new(&self.plan, place);
        let train = self.request.train;
        let count = train.len().min(CALIBRATION_IMAGES);
        let order = Epoch::new(train.len(), self.request.spec.seed, u64::MAX);
        for start in (0..count).step_by(EVAL_BATCH) {
            let indices: Vec<usize> =
                (start..(start + EVAL_BATCH).min(count)).map(|i| order.index(i)).collect();
            calibration.add(&self.coder.real_batch(train, &indices, place).0);
            report(observer, Phase::Calibrate, start + indices.len(), count)?;
        }
        calibration.finish(self.coder.step, self.request.spec.ema.is_some())
    }

    fn finish(self, observer: &mut dyn Observer) -> Result<Outcome, WorkerError> {
        let Run { request, plan, coder, place, origin, float_accuracy, state } = self;
        let spec = request.spec;
        let eval_count = spec.eval_limit.map_or(request.test.len(), |l| request.test.len().min(l as usize));
        let first_step = state.step;
        let mut trainer = Trainer::new(&plan, spec, request.train, &coder, place, state);
        let snapshot = |state: &State| {
            Checkpoint { origin: origin.clone(), state: state.clone(), float_accuracy: Some(float_accuracy) }
                .to_bytes()
        };
        let started = Instant::now();
        let mut other_work = 0.0;
        trainer.run(observer, &snapshot, &mut |trainer, observer, epoch| {
            let began = Instant::now();
            let accuracy = trainer.accuracy(request.test, eval_count, observer)?;
            observer.metric("epoch/accuracy", epoch as i64 + 1, accuracy);
            observer.log(&format!(
                "epoch {} of {}: {:.2} % (training graph)",
                epoch + 1,
                spec.epochs,
                100.0 * accuracy
            ));
            other_work += began.elapsed().as_secs_f64();
            Ok(())
        })?;
        let trained = (trainer.state.step - first_step) * u64::from(spec.batch_size);
        let images_per_second =
            if trained == 0 { 0.0 } else { trained as f64 / (started.elapsed().as_secs_f64() - other_work) };

        let (mut state, _) = trainer.exported()?;
        let naming = Naming {
            normalization: Some(coder.normalization.clone()),
            labels: class_names(&request.test.classes, plan.tensors[plan.output].shape.iter().product()),
            shift_only: spec.requant == spec::Requant::Shift,
        };
        let order = Epoch::new(request.train.len(), spec.seed, u64::MAX);
        // As training saw them: its statistics are what the weights were adapted to.
        let augment = spec.augment.then_some(Augment { seed: spec.seed, epoch: u64::MAX });
        let count = recalibrate::images(&plan).min(request.train.len());
        let codes: Vec<_> = (0..count)
            .step_by(EVAL_BATCH)
            .map(|start| {
                let indices: Vec<usize> =
                    (start..(start + EVAL_BATCH).min(count)).map(|i| order.index(i)).collect();
                coder
                    .batch(request.train, &indices, augment, Place { device: Device::Cpu, kind: Kind::Float })
                    .0
            })
            .collect();
        let model = Arc::new(recalibrate::build(&plan, &mut state, &naming, &codes, observer)?);
        let exact = evaluate(&model, request.test, &coder, eval_count, observer)?;
        let accuracy = exact.correct as f64 / exact.images.max(1) as f64;
        observer.metric("accuracy", state.step as i64, accuracy);
        let layers = layer_reports(&plan, &state, &model, observer);
        let weights_sha256 = weights_hash(&state);
        let figures =
            Accuracy { float: Some(float_accuracy), quantized: Some(accuracy), images: Some(exact.images) };
        let artifact = seal(request, &coder, model, figures)?;
        report(observer, Phase::Export, 2, 2)?;
        observer.log(&format!(
            "engine: {:.2} % on {} images, logits identical to the training graph's on every one; {} bytes",
            100.0 * accuracy,
            exact.images,
            artifact.len()
        ));
        let report = Report {
            float_accuracy,
            accuracy,
            images: exact.images,
            logits_sha256: exact.logits_sha256,
            artifact_bytes: artifact.len() as u64,
            weights_sha256,
            steps: state.step,
            images_per_second,
            layers,
        };
        Ok(Outcome { artifact, report })
    }
}

fn empty() -> State {
    State { layers: Vec::new(), steps: Vec::new(), input_step: 1.0, step: 0 }
}

fn report(observer: &mut dyn Observer, phase: Phase, done: usize, total: usize) -> Result<(), WorkerError> {
    match observer.progress(Progress { phase, done: done as u64, total: total as u64 }) {
        Control::Continue => Ok(()),
        Control::Stop => Err(WorkerError::Stopped),
    }
}

/// Checks that images and labels fit the network.
fn check_fit(plan: &Plan, request: &Request) -> Result<(), WorkerError> {
    let shape = plan.tensors[0].shape;
    for data in [request.train, request.test] {
        let have = [data.channels, data.height, data.width];
        if have != shape {
            return Err(WorkerError::Invalid(format!(
                "the network reads {shape:?} (channels, height, width) and the dataset has {have:?}"
            )));
        }
        if data.is_empty() {
            return Err(WorkerError::Invalid("the dataset has no image".into()));
        }
    }
    let outputs: usize = plan.tensors[plan.output].shape.iter().product();
    let highest =
        request.train.labels.iter().chain(&request.test.labels).max().copied().unwrap_or(0) as usize;
    if highest >= outputs {
        return Err(WorkerError::Invalid(format!(
            "label {highest} occurs, but the network has {outputs} outputs"
        )));
    }
    let used = request.spec.train_limit.map_or(request.train.len(), |l| request.train.len().min(l as usize));
    if request.spec.epochs > 0 && used < request.spec.batch_size as usize {
        return Err(WorkerError::Invalid(format!(
            "{used} training images do not fill one batch of {}; choose a smaller batch",
            request.spec.batch_size
        )));
    }
    Ok(())
}

fn hex(hash: Sha256) -> String {
    Digest::from(<[u8; 32]>::from(hash.finalize())).to_string()
}

/// What a checkpoint must agree on to be resumed.
fn fingerprint(request: &Request) -> Result<String, WorkerError> {
    let spec = serde_json::to_string(request.spec).map_err(|e| WorkerError::Invalid(e.to_string()))?;
    let mut hash = Sha256::new();
    for part in [request.model_sha256.as_str(), &request.dataset_sha256, &spec] {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    Ok(hex(hash))
}

/// What bit-identical floating-point results depend on.
fn arithmetic(place: Place) -> String {
    let isa = instruction_set();
    format!("{isa}, libtorch 2.13, {} threads, {:?}, {:?}", tch::get_num_threads(), place.device, place.kind)
}

#[cfg(target_arch = "x86_64")]
fn instruction_set() -> String {
    let mut found = vec!["x86-64"];
    for (name, here) in [
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
        ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
        ("avx512bf16", std::arch::is_x86_feature_detected!("avx512bf16")),
        ("avx512fp16", std::arch::is_x86_feature_detected!("avx512fp16")),
    ] {
        if here {
            found.push(name);
        }
    }
    found.join("+")
}

#[cfg(not(target_arch = "x86_64"))]
fn instruction_set() -> String {
    std::env::consts::ARCH.to_string()
}

/// One name for each output, or none: a network may have more outputs than the dataset has classes.
fn class_names(known: &[String], outputs: usize) -> Vec<String> {
    if known.is_empty() || known.len() > outputs {
        return Vec::new();
    }
    known.iter().cloned().chain((known.len()..outputs).map(|i| i.to_string())).collect()
}

/// SHA-256 over the final latent weights and normalizations, in the plan's order.
fn weights_hash(state: &State) -> String {
    let mut hash = Sha256::new();
    for layer in &state.layers {
        for values in
            [&layer.weight.value, &layer.gamma.value, &layer.beta.value, &layer.mean, &layer.variance]
        {
            for v in values {
                hash.update(v.to_le_bytes());
            }
        }
    }
    hex(hash)
}

/// Adds provenance and certificate and encodes the artifact.
fn seal(
    request: &Request,
    coder: &Coder,
    model: Arc<Model>,
    accuracy: Accuracy,
) -> Result<Vec<u8>, WorkerError> {
    let model_error = |e: &dyn std::fmt::Display| WorkerError::Model(e.to_string());
    let mut golden = vec![GoldenInput::Seed(1), GoldenInput::Seed(2)];
    if request.test.image_len() <= GOLDEN_IMAGE_CODES {
        golden
            .extend((0..request.test.len().min(2)).map(|i| GoldenInput::Codes(coder.codes(request.test, i))));
    }
    let certificate = Certificate::make(&model, golden).map_err(|e| model_error(&e))?;
    let version = |name: &str, version: &str| (name.to_string(), version.to_string());
    let provenance = Provenance {
        model_sha256: Some(request.model_sha256.clone()),
        dataset_sha256: Some(request.dataset_sha256.clone()),
        job: Some(serde_json::to_value(request.spec).map_err(|e| model_error(&e))?),
        accuracy: Some(accuracy),
        versions: BTreeMap::from([
            version("dyadic", env!("CARGO_PKG_VERSION")),
            version("libtorch", "2.13.0"),
        ]),
        ..Provenance::default()
    };
    let model = CheckedModel::new(model).map_err(|e| model_error(&e))?;
    Artifact { model, provenance, certificate }.to_bytes().map_err(|e| model_error(&e))
}
