//! The second kind of test: not that graph and engine agree, but that what they agree on is the float network.
//!
//! 8-bit weights and activations, no training, each output's mean over the inputs removed: signal-to-noise against the
//! float network, of the engine and of the fake-quantized graph in f32 and bf16.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use dyadic_graph::network::{Network, Op};
use dyadic_plan::codebook::Choice;
use dyadic_plan::{Rules, Settings};
use dyadic_store::spec::{ActivationBits, JobSpec, Method, Precision};
use dyadic_worker::closeness::signal_to_noise_db;
use dyadic_worker::data::{self, Dataset, Loader};
use dyadic_worker::net::{Collect, FloatNet, Leaves, Pass, Place, Upload, forward};
use dyadic_worker::observer::{Control, Observer, Progress};
use dyadic_worker::quantize::Request;
use dyadic_worker::stage::{Calibrated, Folded, Known, Proven, Setup, Trained};
use tch::{Device, Kind, Tensor};

#[path = "support/networks.rs"]
#[allow(dead_code)]
mod networks;

struct Silent;

impl Observer for Silent {
    fn progress(&mut self, _: Progress) -> Control {
        Control::Continue
    }
    fn metric(&mut self, _: &str, _: i64, _: f64) {}
    fn log(&mut self, _: &str) {}
    fn wants_checkpoint(&mut self, _: u64) -> bool {
        false
    }
    fn checkpoint(&mut self, _: Vec<u8>, _: u64) -> Control {
        Control::Continue
    }
}

const IMAGES: usize = 64;

/// 8 bits everywhere.
fn eight() -> Rules {
    let weights = Choice::linear8();
    let settings = Settings { weights, strict: false, conv3x3_bits: 8, other_bits: 8 };
    Rules::of(&settings).expect("sound settings")
}

fn spec(channels: usize) -> JobSpec {
    let mut spec =
        JobSpec { method: Method::Apq, bits: 5, epochs: 0, threads: Some(1), ..JobSpec::default() };
    spec.precision = Precision::F32;
    spec.activation_bits = ActivationBits { conv3x3: 8, other: 8 };
    spec.normalization.mean = vec![0.5; channels];
    spec.normalization.std = vec![0.25; channels];
    spec
}

/// Decibels of the engine, of the graph in f32 and of the graph in bf16.
fn decibels(network: &Network, images: &Dataset) -> [f64; 3] {
    let spec = spec(images.channels);
    let loader = Loader::in_memory(images.clone());
    let request = Request {
        network,
        model_sha256: "m".into(),
        train: &loader,
        test: &loader,
        classes: &[],
        labelled: true,
        dataset_sha256: "d".into(),
        spec: &spec,
        resume: None,
        preprocess: None,
        memory: None,
    };
    let name = &network.name;
    let setup = Setup::with_rules(&request, &eight()).unwrap_or_else(|e| panic!("{name}: {e}"));
    let calibrated = Calibrated::new(&setup, &mut Silent).expect("calibrated");
    let trained = Trained::new(&calibrated, &setup, &mut Silent).expect("nothing to train");
    let folded = Folded::new(&trained, &setup, &mut Silent).unwrap_or_else(|e| panic!("{name}: {e}"));
    let known = Known { float: &calibrated.float, verified: None };
    let proven =
        Proven::new(&folded, &trained, known, &setup, &mut Silent).unwrap_or_else(|e| panic!("{name}: {e}"));
    let engine = proven.exactness.closeness_db.expect("there is signal and noise");

    let place = |kind| Place { device: Device::Cpu, kind };
    let indices: Vec<usize> = (0..images.len()).collect();
    let float = FloatNet::new(&setup.plan, place(Kind::Float));
    let end = |logits: Tensor| {
        let outputs = match (setup.plan.softmax, setup.plan.log) {
            (true, true) => logits.log_softmax(-1, Kind::Float),
            (true, false) => logits.softmax(-1, Kind::Float),
            (false, _) => logits,
        };
        Vec::<f32>::try_from(outputs.contiguous().view([-1])).expect("outputs")
    };
    let batch = loader.batch(&indices, None).expect("in memory");
    let real = setup.coder.real(&batch, place(Kind::Float));
    let reference = end(float.logits(&setup.plan, &real));
    let outputs = reference.len() / images.len();
    let mut state = folded.state.clone();
    let weights = state
        .fit(&setup.plan, dyadic_worker::state::Fit::Full, &mut dyadic_plan::codebook::Fitter::default())
        .expect("finite weights");
    let graph = |kind| {
        let upload = Upload { place: place(kind), collect: Collect::Nothing, shift_only: false };
        let leaves = Leaves::new(&setup.plan, &state, &weights, upload);
        let codes = setup.coder.codes(&batch, place(kind));
        let _guard = tch::no_grad_guard();
        let logits = forward(&setup.plan, &state, &leaves, &codes, Pass::Evaluate);
        signal_to_noise_db(outputs, &reference, &end(logits)).expect("there is signal and noise")
    };
    [engine, graph(Kind::Float), graph(Kind::BFloat16)]
}

fn shape_of(network: &Network) -> [usize; 3] {
    let shape = &network.values[network.input.0].shape;
    let [c, h, w] = dyadic_graph::network::image(shape).unwrap_or_else(|| panic!("{shape:?} is no image"));
    [h, w, c]
}

#[test]
fn every_unit_is_close_to_the_float_network() {
    let mut far = Vec::new();
    for network in networks::all() {
        let images = networks::images(IMAGES, shape_of(&network), 5);
        let db = decibels(&network, &images);
        println!("{:<24}{:>8.1}{:>8.1}{:>8.1}", network.name, db[0], db[1], db[2]);
        if db.iter().any(|&db| db < 25.0) {
            far.push((network.name, db));
        }
    }
    assert!(far.is_empty(), "{far:?}");
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../graph/tests/fixtures")
}

/// Fixtures that can be imported and lowered.
fn families() -> BTreeMap<String, Network> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(fixtures()).expect("the fixtures are committed") {
        let path = entry.expect("readable").path();
        let Some(name) = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_suffix(".onnx"))
        else {
            continue;
        };
        let model = fs::read(&path).expect("readable");
        let data = fs::read(fixtures().join(format!("{name}.onnx.data"))).unwrap_or_default();
        let side = [(format!("{name}.onnx.data"), data.as_slice())];
        let network = dyadic_graph::import_bytes(&model, side).expect("fixtures are supported");
        if dyadic_plan::lower(&network, &eight()).is_ok() {
            found.insert(name.to_string(), network);
        }
    }
    found
}

/// The images as the network reads them, N × C × H × W or N × C × W, in NumPy's format.
fn write_inputs(path: &Path, images: &Dataset, axes: usize) {
    let setup = dyadic_worker::images::Coder::new(
        dyadic_engine::model::Normalization {
            mean: vec![0.5; images.channels],
            std: vec![0.25; images.channels],
        },
        [images.height, images.width, images.channels],
    )
    .expect("a sound normalization");
    let indices: Vec<usize> = (0..images.len()).collect();
    let place = Place { device: Device::Cpu, kind: Kind::Float };
    let batch = Loader::in_memory(images.clone()).batch(&indices, None).expect("in memory");
    let real = setup.real(&batch, place).contiguous();
    let mut shape: Vec<String> = real.size().iter().map(ToString::to_string).collect();
    if axes == 2 {
        shape.remove(2);
    }
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}), }}", shape.join(", "));
    let padded = format!("{header:<117}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((padded.len() as u16).to_le_bytes());
    bytes.extend(padded.as_bytes());
    let values = Vec::<f32>::try_from(real.view([-1])).expect("values");
    bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    fs::write(path, bytes).expect("written");
}

/// ONNX Runtime's int8 on the same inputs.
fn onnx_runtime(inputs: &Path) -> BTreeMap<String, f64> {
    let python = std::env::var("DYADIC_PYTHON").expect("DYADIC_PYTHON names a Python with onnxruntime");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/closeness.py");
    let run = Command::new(python).arg(script).arg(fixtures()).arg(inputs).output().expect("Python runs");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    serde_json::from_slice(&run.stdout).expect("a JSON object of numbers")
}

/// Decibels that a network may lose whose activations go a little below 0: signed codes spend half of their range on that, and
/// ONNX Runtime's zero points nothing.
const SIGNED_SLACK: f64 = 6.5;

fn half_used(network: &Network) -> bool {
    network.layers.iter().any(|layer| matches!(layer.op, Op::Silu | Op::HardSwish | Op::Gelu { .. }))
}

#[test]
fn every_family_is_as_close_as_onnx_runtimes_int8() {
    let families = families();
    let folder = tempfile::tempdir().expect("a folder");
    let mut images = BTreeMap::new();
    for (name, network) in &families {
        let set = networks::images(IMAGES, shape_of(network), 5);
        let axes = network.values[network.input.0].shape.len();
        write_inputs(&folder.path().join(format!("{name}.npy")), &set, axes);
        images.insert(name, set);
    }
    let theirs = onnx_runtime(folder.path());
    let mut far = Vec::new();
    println!("{:<28}{:>8}{:>8}{:>8}{:>8}", "network", "ORT", "engine", "f32", "bf16");
    for (name, network) in &families {
        let (peer, ours) = (theirs[name], decibels(network, &images[name]));
        println!("{name:<28}{peer:>8.1}{:>8.1}{:>8.1}{:>8.1}", ours[0], ours[1], ours[2]);
        let slack = if half_used(network) { SIGNED_SLACK } else { 1.0 };
        if ours.iter().any(|&db| db < peer - slack) {
            far.push((name, peer, ours));
        }
    }
    assert!(families.len() >= 20, "only {} of the fixtures can be lowered", families.len());
    assert!(far.is_empty(), "{far:?}");
}
