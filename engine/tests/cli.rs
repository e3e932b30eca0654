//! The command, as a user runs it: real processes, real files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use dyadic_engine::certificate::GoldenInput;
use dyadic_engine::testing::{random_model, small_cnn};
use dyadic_engine::{Artifact, Certificate, Engine, Model, reference};
use serde_json::Value;
use tempfile::TempDir;

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dyadic-engine")).args(arguments).output().expect("the command starts")
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn json(output: &Output) -> Value {
    serde_json::from_str(&stdout(output)).expect("JSON")
}

fn write(folder: &TempDir, model: Model) -> (PathBuf, Artifact) {
    let certificate = Certificate::make(&model, vec![GoldenInput::Seed(3)]).expect("valid");
    let artifact = Artifact {
        model: model.try_into().expect("valid"),
        provenance: dyadic_engine::artifact::Provenance::default(),
        certificate,
    };
    let path = folder.path().join("a.safetensors");
    fs::write(&path, artifact.to_bytes().expect("valid")).expect("written");
    (path, artifact)
}

fn npy(path: &Path, descr: &str, shape: &str, data: &[u8]) {
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    header.push_str(&" ".repeat(63 - (10 + header.len()) % 64));
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    fs::write(path, bytes).expect("written");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn inspect_shows_every_node_and_the_totals() {
    let folder = TempDir::new().expect("a folder");
    let (path, artifact) = write(&folder, small_cnn(1, 2));
    let shown = stdout(&run(&["inspect", text(&path)]));
    for node in &artifact.model.nodes {
        assert!(shown.contains(&node.name), "{shown}");
    }
    let report = json(&run(&["inspect", text(&path), "--json"]));
    let macs: u64 = artifact.model.summary().iter().map(|node| node.macs).sum();
    assert_eq!(report["total"]["macs"], macs);
    assert_eq!(report["nodes"].as_array().expect("a list").len(), artifact.model.nodes.len());
    assert_eq!(report["file_bytes"], fs::metadata(&path).expect("there").len());
}

#[test]
fn run_gives_the_engines_outputs_for_floats_and_bytes_and_traces_every_tensor() {
    let folder = TempDir::new().expect("a folder");
    let (path, artifact) = write(&folder, small_cnn(1, 2));
    let engine = Engine::new(artifact.model.clone()).expect("valid");
    let len = engine.input_shape().len();
    let floats: Vec<f32> = (0..2 * len).map(|i| (i % 97) as f32 * 0.03 - 1.4).collect();
    let input = folder.path().join("floats.npy");
    let data: Vec<u8> = floats.iter().flat_map(|x| x.to_le_bytes()).collect();
    npy(&input, "<f4", "(2, 3, 12, 12)", &data);
    let trace = folder.path().join("trace");
    let shown =
        stdout(&run(&["run", text(&path), "--input", text(&input), "--json", "--trace", text(&trace)]));
    let mut expected = vec![0.0f32; 2 * engine.output_len()];
    engine.run_f32(&mut engine.scratch(), &floats, 2, &mut expected).expect("valid");
    let lines: Vec<Value> = shown.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 2);
    for (line, values) in lines.iter().zip(expected.chunks_exact(engine.output_len())) {
        let outputs: Vec<f32> = line["outputs"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|v| v.as_f64().expect("a number") as f32)
            .collect();
        assert_eq!(outputs, values);
        assert_eq!(line["top"].as_array().expect("a list").len(), 5);
    }
    assert_eq!(fs::read_dir(&trace).expect("a folder").count(), artifact.model.tensors.len());
    // The traced codes are the reference's, for the codes that were traced for the input.
    let codes = |index: usize| -> Vec<i32> {
        let prefix = format!("{index:04}_");
        let entry = fs::read_dir(&trace)
            .expect("a folder")
            .map(|entry| entry.expect("readable"))
            .find(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
            .expect("one file a tensor");
        let bytes = fs::read(entry.path()).expect("readable");
        let count = 2 * artifact.model.tensors[index].shape.len();
        let (values, _) = bytes[bytes.len() - 4 * count..].as_chunks::<4>();
        values.iter().map(|value| i32::from_le_bytes(*value)).collect()
    };
    let first = reference::run(&artifact.model, &codes(0)[..len]).expect("valid");
    for (index, tensor) in first.codes.iter().enumerate() {
        assert_eq!(*tensor, codes(index)[..tensor.len()], "tensor {index}");
    }

    let bytes: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
    let input = folder.path().join("bytes.npy");
    npy(&input, "|u1", "(12, 12, 3)", &bytes);
    let line = json(&run(&["run", text(&path), "--input", text(&input), "--json", "--top", "2"]));
    engine.run_u8(&mut engine.scratch(), &bytes, 1, &mut expected[..5]).expect("valid");
    let best = (0..5).max_by(|&a, &b| expected[a].total_cmp(&expected[b])).expect("five outputs");
    assert_eq!(line["top"][0]["index"], best);
    assert_eq!(line["top"][0]["label"], artifact.model.output.labels[best].as_str());
}

#[test]
fn bench_prints_the_least_and_the_median_time() {
    let folder = TempDir::new().expect("a folder");
    let (path, _) = write(&folder, small_cnn(1, 2));
    let shown = stdout(&run(&["bench", text(&path), "--seconds", "0.05"]));
    assert!(shown.contains("min_ms") && shown.contains("median_ms"), "{shown}");
    let report =
        json(&run(&["bench", text(&path), "--seconds", "0.05", "--threads", "2", "--batch", "3", "--json"]));
    assert!(report["min_ms"].as_f64().expect("a number") <= report["median_ms"].as_f64().expect("a number"));
    assert_eq!((&report["batch"], &report["split"]), (&3.into(), &"images".into()));
    let one = json(&run(&["bench", text(&path), "--seconds", "0.05", "--threads", "2", "--json"]));
    assert_eq!((&one["threads"], &one["split"]), (&2.into(), &"layers".into()));
}

#[test]
fn verify_accepts_what_is_exact_and_names_what_is_not() {
    let folder = TempDir::new().expect("a folder");
    let (path, mut artifact) = write(&folder, random_model(9));
    let report = json(&run(&["verify", text(&path), "--reference", "--json"]));
    assert_eq!(report["verified"], true);
    let node = artifact.model.nodes.last().expect("a node").clone();
    artifact.certificate.hashes[node.output.0 as usize][0] ^= 1;
    fs::write(&path, artifact.to_bytes().expect("valid")).expect("written");
    let output = run(&["verify", text(&path), "--json"]);
    assert_eq!(output.status.code(), Some(4));
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["first_differing_node"], node.name.as_str());
}

#[test]
fn each_kind_of_failure_has_its_exit_code() {
    let folder = TempDir::new().expect("a folder");
    let (path, _) = write(&folder, random_model(9));
    let broken = folder.path().join("broken.safetensors");
    fs::write(&broken, b"not an artifact").expect("written");
    let wrong = folder.path().join("wrong.npy");
    npy(&wrong, "<f4", "(1, 1)", &[0; 4]);
    let doubles = folder.path().join("doubles.npy");
    npy(&doubles, "<f8", "(1, 1)", &[0; 8]);
    let cases: [(&[&str], i32); 7] = [
        (&["inspect", "/nowhere/a.safetensors"], 1),
        (&["inspect"], 2),
        (&["bench", text(&path), "--threads", "0"], 2),
        (&["inspect", text(&broken)], 3),
        (&["run", text(&path), "--input", text(&wrong)], 5),
        (&["run", text(&path), "--input", text(&doubles)], 5),
        (&["run", text(&path), "--input", text(&broken)], 5),
    ];
    for (arguments, code) in cases {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
}
