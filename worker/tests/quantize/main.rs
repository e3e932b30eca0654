//! Whole quantizations, small: exactness over every network family, resuming, and what is refused.

mod interrupted;

use std::fs;
use std::path::{Path, PathBuf};

use dyadic_engine::{Artifact, Engine};
use dyadic_graph::network::Network;
use dyadic_plan::codebook::{self, Family};
use dyadic_store::blob::Digest;
use dyadic_store::spec::{JobSpec, Loss, Method, Objective, Precision, Requant};
use dyadic_worker::data::{self, Dataset, Loader};
use dyadic_worker::error::WorkerError;
use dyadic_worker::observer::{Control, Observer, Progress};
use dyadic_worker::quantize::{Outcome, Request, quantize};
use sha2::{Digest as _, Sha256};

/// Keeps the last checkpoint and stops after a given number of optimizer steps.
#[derive(Default)]
struct Recorder {
    stop_at: Option<u64>,
    checkpoint_at: Option<u64>,
    checkpoint: Option<Vec<u8>>,
    losses: Vec<f64>,
    accuracies: Vec<f64>,
    metrics: Vec<String>,
    /// Each phase with its total and how far it came, in the order in which they began.
    phases: Vec<Progress>,
    lines: Vec<String>,
}

impl Observer for Recorder {
    fn progress(&mut self, p: Progress) -> Control {
        match self.phases.last_mut() {
            Some(last) if last.phase == p.phase => {
                assert_eq!(last.total, p.total, "{:?}: the total is known from the start", p.phase);
                assert!(p.done >= last.done, "{:?} goes back", p.phase);
                *last = p;
            }
            _ => self.phases.push(p),
        }
        let training = p.phase == dyadic_worker::observer::Phase::Train;
        if training && self.stop_at.is_some_and(|s| p.done >= s) { Control::Stop } else { Control::Continue }
    }
    fn metric(&mut self, name: &str, _step: i64, value: f64) {
        if name == "epoch/train_loss" {
            self.losses.push(value);
        }
        if name == "epoch/accuracy" {
            self.accuracies.push(value);
        }
        self.metrics.push(name.to_string());
    }
    fn log(&mut self, line: &str) {
        self.lines.push(line.to_string());
    }
    fn wants_checkpoint(&mut self, step: u64) -> bool {
        self.checkpoint_at == Some(step)
    }
    fn checkpoint(&mut self, bytes: Vec<u8>, _step: u64) -> Control {
        self.checkpoint = Some(bytes);
        Control::Continue
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../graph/tests/fixtures")
}

fn import(name: &str) -> Network {
    let model = fs::read(fixtures().join(format!("{name}.onnx"))).expect("the fixture is committed");
    let data = fs::read(fixtures().join(format!("{name}.onnx.data"))).unwrap_or_default();
    let side = [(format!("{name}.onnx.data"), data.as_slice())];
    dyadic_graph::import_bytes(&model, side).expect("fixtures are supported")
}

/// Two kinds of image, told apart by which half is bright, with seeded noise.
fn halves(count: usize, [height, width, channels]: [usize; 3], seed: u64) -> Dataset {
    let mut set = data::random(count, [height, width, channels], seed);
    let size = height * width * channels;
    for (index, image) in set.images.chunks_exact_mut(size).enumerate() {
        let label = index % 2;
        for (at, value) in image.iter_mut().enumerate() {
            let bottom = at >= size / 2;
            *value = *value / 2 + if bottom == (label == 1) { 100 } else { 0 };
        }
        set.labels[index] = label as u32;
    }
    set
}

fn spec(method: Method, bits: u8, channels: usize) -> JobSpec {
    let mut spec =
        JobSpec { method, bits, epochs: 0, batch_size: 16, threads: Some(1), ..JobSpec::default() };
    spec.precision = Precision::F32;
    spec.augment = false;
    spec.normalization.mean = vec![0.5; channels];
    spec.normalization.std = vec![0.25; channels];
    spec
}

fn run(
    network: &Network,
    train: &Dataset,
    test: &Dataset,
    spec: &JobSpec,
    resume: Option<&[u8]>,
    observer: &mut Recorder,
) -> Result<Outcome, WorkerError> {
    let (train, test) = (Loader::in_memory(train.clone()), Loader::in_memory(test.clone()));
    quantize(&request(network, [&train, &test], spec, resume), observer)
}

fn request<'a>(
    network: &'a Network,
    [train, test]: [&'a Loader; 2],
    spec: &'a JobSpec,
    resume: Option<&'a [u8]>,
) -> Request<'a> {
    Request {
        network,
        model_sha256: "m".into(),
        train,
        test,
        classes: &[],
        labelled: true,
        dataset_sha256: "d".into(),
        spec,
        resume,
        preprocess: None,
        memory: None,
    }
}

/// Image by image, over the bytes that a client would send.
fn hash_of_logits(engine: &Engine, images: &Dataset) -> String {
    let mut hash = Sha256::new();
    let mut scratch = engine.scratch();
    let mut logits = vec![0.0f32; engine.output_len()];
    for image in images.images.chunks_exact(images.image_len()) {
        engine.run_u8(&mut scratch, image, 1, &mut logits).expect("images fit");
        for value in &logits {
            hash.update(value.to_le_bytes());
        }
    }
    Digest::from(<[u8; 32]>::from(hash.finalize())).to_string()
}

fn shape_of(network: &Network) -> [usize; 3] {
    match *network.values[network.input.0].shape.as_slice() {
        [c, h, w] => [h, w, c],
        ref other => panic!("an image network reads (C, H, W), not {other:?}"),
    }
}

/// The comparison of training graph and engine is inside [`quantize`]: it fails on any bit of any image.
#[test]
fn every_family_quantizes_exactly_with_every_method() {
    let families = [
        "resnet_script13",
        "resnet_dynamo18",
        "resnet_a_script17",
        "bottleneck_script17",
        "bottleneck_dynamo19",
        "resnext_dynamo20",
        "vgg_script14",
        "vgg_bn_dynamo20",
        "lenet_relu_dynamo20",
        "lenet_tanh_script13",
        "lenet_sigmoid_script20",
        "preact_dynamo20",
    ];
    let methods = [(Method::Aptq, 2), (Method::Apq, 2), (Method::Apq, 3), (Method::Apq, 4), (Method::Apq, 5)];
    for family in families {
        let network = import(family);
        let shape = shape_of(&network);
        let images = halves(24, shape, 3);
        for (method, bits) in methods {
            let spec = spec(method, bits, shape[2]);
            let outcome = run(&network, &images, &images, &spec, None, &mut Recorder::default())
                .unwrap_or_else(|e| panic!("{family}, {method:?} {bits}: {e}"));
            let artifact =
                Artifact::from_bytes(&outcome.artifact).expect("an artifact just written is readable");
            let engine = Engine::new(artifact.model).expect("and runs");
            assert_eq!(outcome.report.logits_sha256, hash_of_logits(&engine, &images), "{family}");
            engine.verify(&artifact.certificate).expect("and its certificate holds");
        }
    }
}

/// Every codebook at every width and for every objective, through training graph, engine's check and engine; tables
/// without a 0 and codes of six and seven bits among them.
#[test]
fn every_codebook_trains_and_stays_exact() {
    let network = import("lenet_relu_dynamo20");
    let shape = shape_of(&network);
    let (train, test) = (halves(32, shape, 3), halves(24, shape, 4));
    for codebook in codebook::all() {
        let method = match codebook.family() {
            Family::Aptq => Method::Aptq,
            Family::Apq => Method::Apq,
        };
        for bits in codebook.widths() {
            for (&of, strict) in codebook.objectives().iter().zip([false, true]) {
                let objective = match of {
                    codebook::Objective::L2 => Objective::L2,
                    codebook::Objective::Angle => Objective::Angle,
                };
                let name = codebook.name().to_string();
                let spec = JobSpec {
                    codebook: Some(name.clone()),
                    objective: Some(objective),
                    epochs: 2,
                    strict,
                    ..spec(method, bits, shape[2])
                };
                let outcome = run(&network, &train, &test, &spec, None, &mut Recorder::default())
                    .unwrap_or_else(|e| panic!("{name} {bits} {of:?}: {e}"));
                let artifact = Artifact::from_bytes(&outcome.artifact).expect("it is readable");
                let engine = Engine::new(artifact.model).expect("and runs");
                assert_eq!(outcome.report.logits_sha256, hash_of_logits(&engine, &test), "{name} {bits}");
                engine.verify(&artifact.certificate).expect("and its certificate holds");
                let inner = &outcome.report.layers[1];
                assert_eq!(inner.bits, bits, "{name}");
                assert!(
                    inner.shift_adds > 0.0 && inner.codebook_error < 0.9,
                    "{name} {bits} {of:?}: {inner:?}"
                );
            }
        }
    }
}

#[test]
fn strict_shift_only_and_forced_levels_stay_exact() {
    let network = import("resnet_script13");
    let images = halves(24, shape_of(&network), 5);
    let base = spec(Method::Apq, 4, 3);
    let variants = [
        JobSpec { strict: true, ..base.clone() },
        JobSpec { requant: Requant::Shift, ..base.clone() },
        JobSpec { codebook: Some("single-shift".into()), ..base.clone() },
        JobSpec { strict: true, ..spec(Method::Aptq, 2, 3) },
    ];
    for spec in variants {
        run(&network, &images, &images, &spec, None, &mut Recorder::default())
            .unwrap_or_else(|e| panic!("{spec:?}: {e}"));
    }
}

#[test]
fn training_learns_what_can_be_learned() {
    let network = import("lenet_relu_dynamo20");
    let shape = shape_of(&network);
    let (train, test) = (halves(256, shape, 7), halves(100, shape, 8));
    for loss in [Loss::Label, Loss::Both] {
        let spec = JobSpec {
            epochs: 3,
            loss,
            learning_rate: 0.02,
            ema: Some(0.9),
            ..spec(Method::Aptq, 2, shape[2])
        };
        let mut recorder = Recorder::default();
        let outcome = run(&network, &train, &test, &spec, None, &mut recorder).expect("a small training");
        if loss == Loss::Label {
            assert!(recorder.losses[2] < 0.5 * recorder.losses[0], "{:?}", recorder.losses);
        }
        assert!(outcome.report.accuracy > Some(0.9), "{loss:?}: {:?}", outcome.report.accuracy);
        for expected in ["float/accuracy", "epoch/accuracy", "accuracy", "closeness_db", "train/loss"] {
            assert!(recorder.metrics.iter().any(|m| m == expected), "no metric {expected}");
        }
        assert!(recorder.metrics.iter().any(|m| m.starts_with("layer/") && m.ends_with("/sparsity")));
    }
}

#[test]
fn a_resumed_run_ends_with_the_same_bits() {
    let network = import("lenet_relu_dynamo20");
    let shape = shape_of(&network);
    let (train, test) = (halves(320, shape, 9), halves(50, shape, 10));
    let codebooks = [
        (Method::Apq, "two-term", 4, Objective::L2),
        (Method::Apq, "multi-binary", 3, Objective::Angle),
        (Method::Aptq, "additive", 2, Objective::Angle),
    ];
    for (method, name, bits, objective) in codebooks {
        let mut spec = JobSpec { epochs: 3, ema: Some(0.9), ..spec(method, bits, shape[2]) };
        spec.augment = true;
        (spec.codebook, spec.objective) = (Some(name.into()), Some(objective));
        let whole =
            run(&network, &train, &test, &spec, None, &mut Recorder::default()).expect("an undisturbed run");
        // Before the freeze, at an epoch's edge, and after the freeze.
        for at in [7, 20, 43] {
            let mut first =
                Recorder { checkpoint_at: Some(at), stop_at: Some(at + 3), ..Recorder::default() };
            let stopped = run(&network, &train, &test, &spec, None, &mut first);
            assert!(matches!(stopped, Err(WorkerError::Stopped)));
            let checkpoint = first.checkpoint.expect("it was asked for");
            let resumed = run(&network, &train, &test, &spec, Some(&checkpoint), &mut Recorder::default())
                .expect("a resumed run");
            let at = format!("{name}, resumed at step {at}");
            assert_eq!(resumed.report.weights_sha256, whole.report.weights_sha256, "{at}");
            assert_eq!(resumed.artifact, whole.artifact, "{at}");
        }
    }
}

#[test]
fn a_checkpoint_of_another_job_is_refused() {
    let network = import("lenet_relu_dynamo20");
    let shape = shape_of(&network);
    let images = halves(64, shape, 11);
    let spec = JobSpec { epochs: 1, ..spec(Method::Aptq, 2, shape[2]) };
    let mut first = Recorder { checkpoint_at: Some(2), ..Recorder::default() };
    run(&network, &images, &images, &spec, None, &mut first).expect("a small training");
    let checkpoint = first.checkpoint.expect("it was asked for");
    let other = JobSpec { seed: spec.seed + 1, ..spec.clone() };
    let cut = &checkpoint[..checkpoint.len() - 5];
    for (spec, bytes) in [(&other, checkpoint.as_slice()), (&spec, cut), (&spec, b"nonsense".as_slice())] {
        let refused = run(&network, &images, &images, spec, Some(bytes), &mut Recorder::default());
        assert!(matches!(refused, Err(WorkerError::Checkpoint(_))));
    }
}

#[test]
fn what_does_not_fit_is_refused_in_words() {
    let network = import("lenet_relu_dynamo20");
    let shape = shape_of(&network);
    let images = halves(40, shape, 12);
    let good = spec(Method::Aptq, 2, shape[2]);

    let other_size = halves(40, [shape[0] + 1, shape[1], shape[2]], 12);
    let refused = run(&network, &other_size, &other_size, &good, None, &mut Recorder::default());
    assert!(matches!(refused, Err(WorkerError::Invalid(_))));

    let mut labels = images.clone();
    labels.labels[3] = 4000;
    let refused = run(&network, &labels, &images, &good, None, &mut Recorder::default());
    assert!(matches!(refused, Err(WorkerError::Invalid(ref why)) if why.contains("4000")));

    let batch = JobSpec { epochs: 1, batch_size: 64, ..good.clone() };
    let refused = run(&network, &images, &images, &batch, None, &mut Recorder::default());
    assert!(matches!(refused, Err(WorkerError::Invalid(ref why)) if why.contains("batch")));
}

#[test]
fn a_training_that_diverged_fails_and_names_the_learning_rate() {
    for name in ["lenet_relu_dynamo20", "vgg_bn_script16", "resnet_script13"] {
        let network = import(name);
        let shape = shape_of(&network);
        let images = halves(64, shape, 12);
        for learning_rate in [1e6, 1e30] {
            for epochs in [1, 3] {
                let spec = JobSpec { epochs, learning_rate, ..spec(Method::Aptq, 2, shape[2]) };
                let refused = run(&network, &images, &images, &spec, None, &mut Recorder::default());
                let error = refused.err().unwrap_or_else(|| panic!("{name} at {learning_rate} succeeded"));
                assert!(matches!(error, WorkerError::Diverged { .. }), "{name} at {learning_rate}: {error}");
                assert!(error.to_string().contains(&learning_rate.to_string()), "{error}");
                assert!(!error.is_retryable());
            }
        }
    }
}

#[test]
fn without_training_augmentation_changes_nothing() {
    let network = import("resnet_script13");
    let images = halves(48, shape_of(&network), 5);
    let plain = spec(Method::Apq, 5, 3);
    let augmented = JobSpec { augment: true, ..plain.clone() };
    let [a, b] = [plain, augmented].map(|spec| {
        run(&network, &images, &images, &spec, None, &mut Recorder::default()).expect("a quantization")
    });
    assert_eq!(a.report.logits_sha256, b.report.logits_sha256);
}

#[test]
fn one_image_a_step_trains_hidden_layers() {
    let network = import("lenet_relu_dynamo20");
    let shape = shape_of(&network);
    let images = halves(8, shape, 12);
    let spec = JobSpec { epochs: 1, batch_size: 1, learning_rate: 1e-4, ..spec(Method::Aptq, 2, shape[2]) };
    run(&network, &images, &images, &spec, None, &mut Recorder::default()).expect("a small training");
}

#[test]
fn averaged_weights_are_judged_with_their_own_statistics() {
    let network = import("lenet_relu_dynamo20");
    let shape = shape_of(&network);
    let (train, test) = (halves(256, shape, 7), halves(100, shape, 8));
    let spec = JobSpec { epochs: 3, learning_rate: 0.2, ema: Some(0.98), ..spec(Method::Apq, 4, shape[2]) };
    let mut recorder = Recorder::default();
    let outcome = run(&network, &train, &test, &spec, None, &mut recorder).expect("a small training");
    let engine = outcome.report.accuracy.expect("labelled");
    let &[_, graph, last] = recorder.accuracies.as_slice() else { panic!("three epochs were judged") };
    assert_eq!(last, engine, "the last epoch is judged by the engine alone");
    assert!((engine - graph).abs() < 0.1, "the graph says {graph}, the engine {engine}");
}

#[test]
fn a_caught_panic_leaves_the_next_training_its_gradients() {
    let network = import("lenet_relu_dynamo20");
    let shape = shape_of(&network);
    let rules = dyadic_worker::quantize::rules(&spec(Method::Aptq, 2, shape[2])).expect("sound");
    let plan = dyadic_plan::lower(&network, &rules).expect("supported");
    let place = dyadic_worker::net::Place { device: tch::Device::Cpu, kind: tch::Kind::Float };
    let net = dyadic_worker::net::FloatNet::new(&plan, place);
    let wrong = tch::Tensor::zeros([1, 7, 3, 3], (tch::Kind::Float, tch::Device::Cpu));
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| net.logits(&plan, &wrong)));
    assert!(caught.is_err(), "seven channels do not fit");
    let images = halves(32, shape, 12);
    let spec = JobSpec { epochs: 1, ..spec(Method::Aptq, 2, shape[2]) };
    run(&network, &images, &images, &spec, None, &mut Recorder::default()).expect("a small training");
}

#[test]
fn limits_hold_for_calibration_too_and_are_spread_over_the_set() {
    let network = import("lenet_relu_dynamo20");
    let shape = shape_of(&network);
    // Sorted by class, as image folders are.
    let sorted = |count: usize, seed: u64| {
        let mut set = halves(count, shape, seed);
        let size = set.image_len();
        let images: Vec<&[u8]> = set.images.chunks_exact(size).collect();
        let order = (0..count).step_by(2).chain((1..count).step_by(2));
        set.images = order.flat_map(|index| images[index].to_vec()).collect();
        set.labels = (0..count as u32).map(|index| index / (count as u32 / 2)).collect();
        set
    };
    let (train, test) = (sorted(96, 21), sorted(40, 22));
    let spec = JobSpec { train_limit: Some(24), eval_limit: Some(10), ..spec(Method::Aptq, 2, shape[2]) };
    let limited = run(&network, &train, &test, &spec, None, &mut Recorder::default()).expect("a limited run");
    assert_eq!(limited.report.images, 10);

    let few = train.sample(Some(24), spec.seed).into_owned();
    let few_test = test.sample(Some(10), data::EVALUATION_SEED).into_owned();
    for set in [&few, &few_test] {
        assert_eq!(set.labels.iter().filter(|&&label| label == 0).count(), set.len() / 2);
    }
    let unlimited = JobSpec { train_limit: None, eval_limit: None, ..spec };
    let alone =
        run(&network, &few, &few_test, &unlimited, None, &mut Recorder::default()).expect("a small run");
    assert_eq!(limited.report.weights_sha256, alone.report.weights_sha256);
    assert_eq!(limited.report.logits_sha256, alone.report.logits_sha256);
}

#[test]
fn each_phase_has_its_word_and_each_evaluation_image_passes_once_through_each_network() {
    use dyadic_worker::observer::Phase;
    let network = import("lenet_relu_dynamo20");
    let shape = shape_of(&network);
    let (train, test) = (halves(64, shape, 7), halves(40, shape, 8));
    let spec = JobSpec { epochs: 2, ..spec(Method::Aptq, 2, shape[2]) };
    let mut recorder = Recorder::default();
    run(&network, &train, &test, &spec, None, &mut recorder).expect("a small training");
    let phases: Vec<Phase> = recorder.phases.iter().map(|p| p.phase).collect();
    let wanted = [
        Phase::Float,
        Phase::Calibrate,
        Phase::Train,
        Phase::Evaluate,
        Phase::Train,
        Phase::Fold,
        Phase::Verify,
        Phase::Export,
    ];
    assert_eq!(phases, wanted);
    for p in &recorder.phases {
        match p.phase {
            // The first of the two stretches of training.
            Phase::Train if p.done < p.total => assert_eq!(p.done, p.total / 2),
            Phase::Float | Phase::Evaluate | Phase::Verify => assert_eq!((p.done, p.total), (40, 40)),
            _ => assert_eq!(p.done, p.total, "{:?}", p.phase),
        }
    }
    let words: std::collections::BTreeSet<&str> = phases.iter().map(|p| p.name()).collect();
    assert_eq!(words.len(), 7);
}

#[test]
fn memory_and_threads_decide_over_no_bit_of_an_artifact_without_training() {
    let network = import("resnet_script13");
    let shape = shape_of(&network);
    let images = halves(70, shape, 5);
    let loader = Loader::in_memory(images);
    let plain = spec(Method::Apq, 5, shape[2]);
    let artifact = |memory: u64, threads: u32| {
        let spec = JobSpec { threads: Some(threads), ..plain.clone() };
        let request = Request { memory: Some(memory), ..request(&network, [&loader, &loader], &spec, None) };
        let outcome = quantize(&request, &mut Recorder::default()).expect("a quantization");
        let artifact = Artifact::from_bytes(&outcome.artifact).expect("our own");
        (outcome.report.logits_sha256, artifact.certificate)
    };
    let roomy = artifact(4 << 30, 1);
    // One image at a time, and no sums are kept.
    assert_eq!(artifact(1, 1), roomy);
    assert_eq!(artifact(4 << 30, 2), roomy);
}

#[test]
fn what_labels_would_be_needed_for_is_not_told_without_them() {
    let network = import("lenet_relu_dynamo20");
    let shape = shape_of(&network);
    let loader = Loader::in_memory(halves(48, shape, 5));
    for epochs in [0, 1] {
        let spec = JobSpec { epochs, loss: Loss::Distill, ..spec(Method::Apq, 5, shape[2]) };
        let request = Request { labelled: false, ..request(&network, [&loader, &loader], &spec, None) };
        let mut recorder = Recorder::default();
        let report = quantize(&request, &mut recorder).expect("a quantization").report;
        assert!(report.agreement > 0.5 && report.accuracy.is_none() && report.float_accuracy.is_none());
        assert!(recorder.metrics.iter().all(|m| !m.contains("accuracy")), "{:?}", recorder.metrics);
        assert!(recorder.metrics.iter().any(|m| m == "agreement"));
        assert!(recorder.lines.iter().all(|l| !l.contains("float network:") && !l.starts_with("epoch")));
        // Nothing but calibration has asked the float network.
        assert!(recorder.phases.iter().all(|p| p.phase != dyadic_worker::observer::Phase::Float));
    }
}
