//! Artifacts of every released format version stay readable and exact: each file under `tests/golden/` is loaded,
//! verified, and its outputs compared with the numbers beside it.
//!
//! `DYADIC_WRITE_GOLDEN=1 cargo test -p dyadic-engine --test golden` writes the files that are missing.

use std::fs;
use std::path::{Path, PathBuf};

use dyadic_engine::artifact::{Accuracy, FORMAT_VERSION, Provenance};
use dyadic_engine::certificate::GoldenInput;
use dyadic_engine::testing::{random_model, small_cnn};
use dyadic_engine::{Artifact, Certificate, Engine, Model, reference};
use sha2::{Digest, Sha256};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// The models of this version's files; earlier versions' files are what they are.
fn models() -> Vec<(&'static str, Model)> {
    vec![
        ("cnn_ternary", small_cnn(1, 2)),
        ("cnn_4bit", small_cnn(2, 4)),
        ("cnn_8bit", small_cnn(3, 8)),
        ("graph_5", random_model(5)),
        ("graph_17", random_model(17)),
        ("graph_41", random_model(41)),
    ]
}

fn artifact(model: Model) -> Artifact {
    let stored = vec![1; model.input_shape().len()];
    let inputs = vec![GoldenInput::Seed(1), GoldenInput::Seed(2), GoldenInput::Codes(stored)];
    let certificate = Certificate::make(&model, inputs).expect("generated models are valid");
    let provenance = Provenance {
        model_sha256: Some("0123456789abcdef".repeat(4)),
        job: Some(serde_json::json!({ "method": "aptq", "bits": 2 })),
        accuracy: Some(Accuracy { float: Some(0.9152), quantized: Some(0.907), images: Some(10_000) }),
        ..Provenance::default()
    };
    Artifact { model: model.try_into().expect("valid"), provenance, certificate }
}

/// Output codes of golden input 0, one a line, after the SHA-256 of the file.
fn expectation(bytes: &[u8], artifact: &Artifact) -> String {
    let hash = Sha256::digest(bytes).iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    let codes = artifact.certificate.inputs[0].codes(&artifact.model);
    let trace = reference::run(&artifact.model, &codes).expect("checked");
    let outputs = trace.codes[artifact.model.output.tensor.0 as usize].iter().map(ToString::to_string);
    std::iter::once(hash).chain(outputs).fold(String::new(), |text, line| text + &line + "\n")
}

fn write_missing() {
    for (name, model) in models() {
        let path = folder().join(format!("v{FORMAT_VERSION}_{name}.safetensors"));
        if !path.exists() {
            let artifact = artifact(model);
            let bytes = artifact.to_bytes().expect("valid");
            fs::create_dir_all(folder()).expect("a folder");
            fs::write(path.with_extension("txt"), expectation(&bytes, &artifact)).expect("written");
            fs::write(path, bytes).expect("written");
        }
    }
}

fn files() -> Vec<PathBuf> {
    let entries = fs::read_dir(folder()).expect("the golden files are in the repository");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "safetensors"));
    files.sort();
    files
}

#[test]
fn golden_artifacts_load_verify_and_give_their_recorded_outputs() {
    if std::env::var_os("DYADIC_WRITE_GOLDEN").is_some() {
        write_missing();
    }
    let files = files();
    assert!(files.len() >= models().len(), "{} golden files", files.len());
    for path in files {
        let name = path.display();
        let bytes = fs::read(&path).expect("readable");
        let artifact = Artifact::from_bytes(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        let recorded = fs::read_to_string(path.with_extension("txt")).expect("readable");
        assert_eq!(expectation(&bytes, &artifact), recorded, "{name}");
        let engine = Engine::new(artifact.model.clone()).expect("valid");
        engine.verify(&artifact.certificate).unwrap_or_else(|mismatch| panic!("{name}: {mismatch}"));
        let input = artifact.certificate.inputs[0].codes(&artifact.model);
        let mut output = vec![0; engine.output_len()];
        engine.run_codes(&mut engine.scratch(), &input, 1, &mut output).expect("valid");
        let numbers: Vec<i32> =
            recorded.lines().skip(1).map(|line| line.parse().expect("a number")).collect();
        assert_eq!(output, numbers, "{name}");
    }
}

#[test]
fn the_encoder_still_writes_the_bytes_of_its_version() {
    let current = format!("v{FORMAT_VERSION}_");
    for path in files() {
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&current)) {
            let bytes = fs::read(&path).expect("readable");
            let artifact = Artifact::from_bytes(&bytes).expect("valid");
            assert!(artifact.to_bytes().expect("valid") == bytes, "{}", path.display());
        }
    }
}
