//! One quantization from beginning to end: lower, calibrate, fine-tune, fold, export, and prove it against the engine.

use std::collections::BTreeMap;
use std::sync::Arc;

use dyadic_engine::artifact::{Accuracy, Artifact, Provenance};
use dyadic_engine::certificate::{Certificate, GoldenInput};
use dyadic_engine::model::Model;
use dyadic_engine::{CheckedModel, Engine};
use dyadic_graph::network::Network;
use dyadic_store::blob::Digest;
use dyadic_store::spec::{self, JobSpec};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tch::Device;

use crate::data::{EVALUATION_SEED, Loader, Preprocess};
use crate::error::WorkerError;
use crate::images::Coder;
use crate::observer::{Observer, Phase, Stopwatch};
use crate::report::{LayerReport, layer_reports};
use crate::simulate::Simulation;
use crate::stage::{Calibrated, Folded, Known, Proven, Setup, Trained, report};
use dyadic_plan::codebook::{Family, Objective};
use dyadic_plan::{Asked, GOLDEN_IMAGE_CODES, GOLDEN_IMAGES, GOLDEN_SEEDS, Rules};

/// Work, as [`Model::work`] counts it, that the reference is asked to do: some seconds.
const REFERENCE_WORK: u64 = 1 << 28;

/// What is to be quantized.
pub struct Request<'a> {
    /// The float network.
    pub network: &'a Network,
    /// SHA-256 of the model bundle, hex.
    pub model_sha256: String,
    /// Images for calibration and training.
    pub train: &'a Loader,
    /// Images for the accuracy figures.
    pub test: &'a Loader,
    /// Class names in the order of the labels; if there are none, the evaluation images'.
    pub classes: &'a [String],
    /// Whether the labels mean anything; without, no accuracy is told.
    pub labelled: bool,
    /// SHA-256 of the dataset, hex.
    pub dataset_sha256: String,
    /// The settings.
    pub spec: &'a JobSpec,
    /// A checkpoint to go on from.
    pub resume: Option<&'a [u8]>,
    /// What was done to pictures before they had the network's size.
    pub preprocess: Option<&'a Preprocess>,
    /// Bytes of memory that the run may take beside the network itself; by default a share of what is there. They decide over
    /// speed, never over a result.
    pub memory: Option<u64>,
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
    /// Top-1 of the float network on the evaluation images; none without labels.
    pub float_accuracy: Option<f64>,
    /// Top-1 of the engine on the same images, last epoch.
    pub accuracy: Option<f64>,
    /// Share of these images for which the engine's largest output is the float network's.
    pub agreement: f64,
    /// Signal-to-noise of the engine's outputs against the float network's on these images, dB, each output's mean over the
    /// images removed; none where there is no signal or no noise.
    pub closeness_db: Option<f64>,
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
    /// Seconds that this run spent in each phase, by its name; reading model and dataset, before it, is not among them.
    pub seconds: BTreeMap<String, f64>,
    /// One a weighted layer.
    pub layers: Vec<LayerReport>,
}

/// The rules that `spec` asks for.
///
/// # Errors
/// [`WorkerError::Invalid`] with all mistakes: codebooks, widths and objectives that do not exist, and those of the plan's
/// text.
pub fn rules(spec: &JobSpec) -> Result<Rules, WorkerError> {
    let spec::ActivationBits { conv3x3, other } = spec.activation_bits;
    let asked = Asked {
        method: Some(match spec.method {
            spec::Method::Aptq => Family::Aptq,
            spec::Method::Apq => Family::Apq,
        }),
        codebook: spec.codebook.as_deref(),
        bits: Some(spec.bits.into()),
        objective: spec.objective.map(|objective| match objective {
            spec::Objective::L2 => Objective::L2,
            spec::Objective::Angle => Objective::Angle,
        }),
        strict: spec.strict,
        conv3x3_bits: Some(conv3x3.into()),
        other_bits: Some(other.into()),
        plan: spec.plan.as_deref(),
    };
    asked.rules().map_err(|mistakes| WorkerError::Invalid(mistakes.to_string()))
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
    let train = request.train.sample(limit(spec.train_limit), spec.seed);
    let test = request.test.sample(limit(spec.eval_limit), EVALUATION_SEED);
    let alike = std::ptr::eq(request.train, request.test)
        && (train.len(), test.len()) == (request.train.len(), request.train.len());
    let request = Request {
        train: &train,
        test: if alike { &train } else { &test },
        model_sha256: request.model_sha256.clone(),
        dataset_sha256: request.dataset_sha256.clone(),
        ..*request
    };
    let mut watch = Stopwatch::new(observer);
    let setup = Setup::new(&request)?;
    let mut calibrated = Calibrated::new(&setup, &mut watch)?;
    let trained = Trained::new(&calibrated, &setup, &mut watch)?;
    let verified = calibrated.verified.take();
    let float = calibrated.into_float();
    let folded = Folded::new(&trained, &setup, &mut watch)?;
    let proven = Proven::new(&folded, &trained, Known { float: &float, verified }, &setup, &mut watch)?;
    let mut outcome = publish(&setup, &trained, &folded, &proven, &mut watch)?;
    outcome.report.seconds = watch.seconds();
    Ok(outcome)
}

/// The artifact and its figures.
fn publish(
    setup: &Setup,
    trained: &Trained,
    folded: &Folded,
    proven: &Proven,
    observer: &mut dyn Observer,
) -> Result<Outcome, WorkerError> {
    let (state, exact) = (&folded.state, &proven.exactness);
    let labelled = setup.request.labelled;
    let float_accuracy = labelled.then_some(trained.float_accuracy);
    let accuracy = labelled.then(|| proven.accuracy());
    let step = state.step as i64;
    if let Some(accuracy) = accuracy {
        observer.metric("accuracy", step, accuracy);
        if setup.spec().epochs > 0 {
            // The last epoch's, which the training graph was not asked for.
            observer.metric("epoch/accuracy", i64::from(setup.spec().epochs), accuracy);
        }
    }
    let agreement = exact.agreeing as f64 / exact.images.max(1) as f64;
    observer.metric("agreement", step, agreement);
    if let Some(db) = exact.closeness_db {
        observer.metric("closeness_db", step, db);
    }
    let layers = layer_reports(&setup.plan, state, &folded.model, observer);
    let figures = Accuracy { float: float_accuracy, quantized: accuracy, images: Some(exact.images) };
    let artifact = seal(setup.request, &setup.coder, Arc::clone(&folded.model), figures)?;
    report(observer, Phase::Export, 2, 2)?;
    let measured = accuracy.map_or(String::new(), |a| format!("{:.2} % on ", 100.0 * a));
    let close = exact.closeness_db.map_or(String::new(), |db| {
        format!(", {db:.1} dB from the float network's and of its opinion on {:.2} %", 100.0 * agreement)
    });
    observer.log(&format!(
        "engine: {measured}{} images, logits identical to the training graph's on every one{close}; {} bytes",
        exact.images,
        artifact.len()
    ));
    let report = Report {
        float_accuracy,
        accuracy,
        agreement,
        closeness_db: exact.closeness_db,
        images: exact.images,
        logits_sha256: exact.logits_sha256.clone(),
        artifact_bytes: artifact.len() as u64,
        weights_sha256: state.sha256(),
        steps: state.step,
        images_per_second: trained.images_per_second,
        seconds: BTreeMap::new(),
        layers,
    };
    Ok(Outcome { artifact, report })
}

/// A finished hash, hex.
pub(crate) fn hex(hash: Sha256) -> String {
    Digest::from(<[u8; 32]>::from(hash.finalize())).to_string()
}

/// The proof of exactness: by the reference, or for a network that this would take minutes for by the training graph, and the
/// engine must come to the same.
fn certify(model: &Arc<Model>, golden: Vec<GoldenInput>) -> Result<Certificate, WorkerError> {
    let model_error = |e: &dyn std::fmt::Display| WorkerError::Model(e.to_string());
    if model.work().saturating_mul(golden.len() as u64) <= REFERENCE_WORK {
        return Certificate::make(model, golden).map_err(|e| model_error(&e));
    }
    let simulation = Simulation::new(model, Device::Cpu);
    let certificate =
        Certificate::made_by(model, golden, |input, see| simulation.show(&input.codes(model), see))?;
    let engine = Engine::new(Arc::clone(model)).map_err(|e| model_error(&e))?;
    engine.verify(&certificate).map_err(|e| model_error(&e))?;
    Ok(certificate)
}

/// Adds provenance and certificate and encodes the artifact.
fn seal(
    request: &Request,
    coder: &Coder,
    model: Arc<Model>,
    accuracy: Accuracy,
) -> Result<Vec<u8>, WorkerError> {
    let model_error = |e: &dyn std::fmt::Display| WorkerError::Model(e.to_string());
    let mut golden: Vec<_> = (1..=GOLDEN_SEEDS).map(GoldenInput::Seed).collect();
    if request.test.image_len() as u64 <= GOLDEN_IMAGE_CODES {
        for index in 0..request.test.len().min(GOLDEN_IMAGES as usize) {
            golden.push(GoldenInput::Codes(coder.codes_of(request.test, index)?));
        }
    }
    let certificate = certify(&model, golden)?;
    let version = |name: &str, version: &str| (name.to_string(), version.to_string());
    let provenance = Provenance {
        model_sha256: Some(request.model_sha256.clone()),
        dataset_sha256: Some(request.dataset_sha256.clone()),
        job: Some(serde_json::to_value(request.spec).map_err(|e| model_error(&e))?),
        preprocess: request.preprocess.map(serde_json::to_value).transpose().map_err(|e| model_error(&e))?,
        accuracy: Some(accuracy),
        versions: BTreeMap::from([
            version("dyadic", env!("CARGO_PKG_VERSION")),
            version("libtorch", &crate::arithmetic::libtorch_version()),
        ]),
        ..Provenance::default()
    };
    let model = CheckedModel::new(model).map_err(|e| model_error(&e))?;
    Artifact { model, provenance, certificate }.to_bytes().map_err(|e| model_error(&e))
}
