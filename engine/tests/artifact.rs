//! Artifact files: what is written comes back, damage is refused, and the certificate finds differences.

use dyadic_engine::artifact::{Accuracy, METADATA_KEY, Provenance};
use dyadic_engine::certificate::{GoldenInput, Mismatch};
use dyadic_engine::model::{Format, Op};
use dyadic_engine::testing::{Rng, extreme_inputs, random_model, resnet20};
use dyadic_engine::{
    Artifact, ArtifactError, Certificate, CheckedModel, Engine, EngineError, Model, reference,
};

fn artifact(model: Model, seed: u64) -> Artifact {
    let mut inputs: Vec<GoldenInput> = vec![GoldenInput::Seed(seed), GoldenInput::Seed(seed + 1)];
    inputs.extend(extreme_inputs(&model, seed).into_iter().take(2).map(GoldenInput::Codes));
    let certificate = Certificate::make(&model, inputs).expect("generated models are valid");
    let provenance = Provenance {
        model_sha256: Some("ab".repeat(32)),
        job: Some(serde_json::json!({ "method": "aptq", "bits": 2, "epochs": 20, "lr": 0.015 })),
        accuracy: Some(Accuracy { float: Some(0.9152), quantized: Some(0.9063), images: Some(10_000) }),
        ..Provenance::default()
    };
    Artifact { model: model.try_into().expect("valid"), provenance, certificate }
}

#[test]
fn a_written_artifact_comes_back_and_gives_the_same_bytes_again() {
    for seed in 0..120 {
        let written = artifact(random_model(seed), seed);
        let bytes = written.to_bytes().expect("generated artifacts are valid");
        let read = Artifact::from_bytes(&bytes).expect("what was written can be read");
        assert_eq!(read, written, "seed {seed}");
        assert_eq!(read.to_bytes().expect("valid"), bytes, "seed {seed}");
    }
}

#[test]
fn provenance_that_this_version_does_not_know_survives() {
    let mut written = artifact(random_model(3), 3);
    written.provenance.other.insert("later".to_owned(), serde_json::json!({ "z": [1, 2.5], "a": null }));
    let bytes = written.to_bytes().expect("valid");
    assert_eq!(Artifact::from_bytes(&bytes).expect("valid"), written);
}

#[test]
fn a_ternary_resnet20_takes_less_than_a_tenth_of_its_onnx_file() {
    let bytes = artifact(resnet20(1, 2), 1).to_bytes().expect("valid");
    assert!(bytes.len() <= 1_096_780 / 10, "{} bytes", bytes.len());
}

#[test]
fn the_certificate_names_the_first_node_that_differs() {
    for seed in 0..30 {
        let artifact = artifact(random_model(seed), seed);
        let engine = Engine::new(artifact.model.clone()).expect("valid");
        assert_eq!(engine.verify(&artifact.certificate).expect("exact").inputs, 4);
        for (index, node) in artifact.model.nodes.iter().enumerate() {
            let id = node.output.0 as usize;
            let mut forged = artifact.certificate.clone();
            forged.hashes[id][7] ^= 1;
            // A later difference does not hide an earlier one.
            for later in &artifact.model.nodes[index..] {
                forged.hashes[later.output.0 as usize][0] ^= 1;
            }
            match engine.verify(&forged) {
                Err(Mismatch::Node { node: named }) => assert_eq!(named, node.name),
                other => panic!("seed {seed}: {other:?}"),
            }
        }
    }
}

#[test]
fn an_empty_certificate_proves_nothing() {
    let engine = Engine::new(random_model(1)).expect("valid");
    assert!(matches!(engine.verify(&Certificate::default()), Err(Mismatch::NoInputs)));
}

/// Replaces text in the JSON under the metadata key; the header's length is mended.
fn with_metadata(bytes: &[u8], edit: impl Fn(&str) -> String) -> Vec<u8> {
    let length = u64::from_le_bytes(*bytes.first_chunk().expect("a header")) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).expect("JSON");
    let mut header = header;
    let text = header["__metadata__"][METADATA_KEY].as_str().expect("the key").to_owned();
    header["__metadata__"][METADATA_KEY] = edit(&text).into();
    let header = header.to_string().into_bytes();
    [(header.len() as u64).to_le_bytes().as_slice(), &header, &bytes[8 + length..]].concat()
}

#[test]
fn a_newer_format_is_told_from_a_broken_file() {
    let bytes = artifact(random_model(5), 5).to_bytes().expect("valid");
    let newer = with_metadata(&bytes, |text| text.replacen("\"format\":1", "\"format\":2", 3));
    let newest = with_metadata(&bytes, |_| r#"{"format":7,"anything":"else"}"#.to_owned());
    let zeroth = with_metadata(&bytes, |_| r#"{"format":0}"#.to_owned());
    assert!(matches!(Artifact::from_bytes(&newest), Err(ArtifactError::NewerFormat { found: 7 })));
    assert!(!matches!(Artifact::from_bytes(&zeroth), Err(ArtifactError::NewerFormat { .. }) | Ok(_)));
    assert!(Artifact::from_bytes(&newer).is_err());
}

#[test]
fn lists_too_short_too_long_or_of_another_layer_are_refused() {
    let bytes = artifact(random_model(8), 8).to_bytes().expect("valid");
    let edits: [(&str, &str); 5] = [
        ("\"format\":1", "\"format\":1,\"extra\":0"),
        ("\"groups\":1", "\"groups\":0"),
        ("\"kernel\":[", "\"kernel\":[1"),
        ("\"bits\":8", "\"bits\":9"),
        ("\"stored\"", "{\"seed\":1}"),
    ];
    for (from, to) in edits {
        let edited = with_metadata(&bytes, |text| text.replacen(from, to, 1));
        if edited != with_metadata(&bytes, str::to_owned) {
            assert!(Artifact::from_bytes(&edited).is_err(), "{from} → {to}");
        }
    }
}

#[test]
fn no_damaged_file_makes_the_reader_panic() {
    let mut rng = Rng::new(11);
    for seed in 0..40 {
        let bytes = artifact(random_model(seed), seed).to_bytes().expect("valid");
        for _ in 0..60 {
            let mut damaged = bytes.clone();
            for _ in 0..=rng.below(3) {
                let at = rng.below(damaged.len() as u64) as usize;
                match rng.below(4) {
                    0 => damaged.truncate(at.max(1)),
                    1 => damaged.insert(at, rng.bits() as u8),
                    2 => damaged[at] = rng.pick(b"0123456789-,[]{}\"e"),
                    _ => damaged[at] ^= 1 << rng.below(8),
                }
            }
            // What still reads must still be sound: build it and run it.
            if let Ok(artifact) = Artifact::from_bytes(&damaged)
                && let Ok(engine) = Engine::new(artifact.model)
            {
                let _ = engine.verify(&artifact.certificate);
            }
        }
    }
}

/// Replaces one number or string somewhere in a JSON value.
fn disturb(value: &mut serde_json::Value, rng: &mut Rng) {
    use serde_json::Value;
    match value {
        Value::Array(items) if !items.is_empty() => {
            let at = rng.below(items.len() as u64) as usize;
            match rng.below(12) {
                0 => drop(items.remove(at)),
                1 => items.push(items[at].clone()),
                _ => disturb(&mut items[at], rng),
            }
        }
        Value::Object(members) if !members.is_empty() => {
            let at = rng.below(members.len() as u64) as usize;
            if let Some((_, member)) = members.iter_mut().nth(at) {
                disturb(member, rng);
            }
        }
        Value::Number(number) => {
            let old = number.as_i64().unwrap_or(0);
            let new = match rng.below(4) {
                0 => old + i64::from(rng.pick(&[-1, 1])),
                1 => i64::from(rng.code(0, 16)),
                2 => {
                    rng.pick(&[-1, 255, 256, 65_535, 65_536, 1 << 24, (1 << 31) - 1, 1 << 31, (1 << 32) - 1])
                }
                _ => old.saturating_mul(2),
            };
            *value = new.into();
        }
        Value::String(_) => *value = rng.pick(&["bits", "base3", "accumulator", "lut", "x"]).into(),
        other => *other = Value::Bool(rng.one_in(2)),
    }
}

#[test]
fn a_graph_that_was_tampered_with_is_refused_or_runs_exactly() {
    let mut rng = Rng::new(13);
    let (mut refused, mut ran) = (0, 0);
    for seed in 0..60 {
        let bytes = artifact(random_model(seed), seed).to_bytes().expect("valid");
        for _ in 0..30 {
            let which = rng.bits();
            let tampered = with_metadata(&bytes, |text| {
                let mut document = serde_json::from_str(text).expect("JSON");
                let mut rng = Rng::new(which);
                for _ in 0..=rng.below(2) {
                    disturb(&mut document, &mut rng);
                }
                document.to_string()
            });
            let Ok(artifact) = Artifact::from_bytes(&tampered) else {
                refused += 1;
                continue;
            };
            if artifact.model.summary().iter().map(|node| node.macs).sum::<u64>() > 2_000_000 {
                continue;
            }
            let model = artifact.model;
            let engine = Engine::new(model.clone()).expect("small enough");
            for codes in extreme_inputs(&model, seed) {
                let expected = reference::run(&model, &codes).expect("checked");
                assert!(engine.trace(&mut engine.scratch(), &codes).expect("checked") == expected);
            }
            ran += 1;
        }
    }
    assert!(refused > 400 && ran > 120, "{refused} refused, {ran} ran");
}

#[test]
fn tampered_parameters_are_refused_or_run_exactly() {
    let mut rng = Rng::new(14);
    for seed in 0..60 {
        let bytes = artifact(random_model(seed), seed).to_bytes().expect("valid");
        let start = 8 + u64::from_le_bytes(*bytes.first_chunk().expect("a header")) as usize;
        for _ in 0..20 {
            let mut tampered = bytes.clone();
            for _ in 0..=rng.below(2) {
                let at = start + rng.below((bytes.len() - start) as u64) as usize;
                tampered[at] = rng.pick(&[0, 1, 0x7F, 0x80, 0xFF, rng.clone().bits() as u8]);
            }
            if let Ok(artifact) = Artifact::from_bytes(&tampered) {
                let model = artifact.model;
                let engine = Engine::new(model.clone()).expect("small enough");
                for codes in extreme_inputs(&model, seed) {
                    let expected = reference::run(&model, &codes).expect("checked");
                    assert!(engine.trace(&mut engine.scratch(), &codes).expect("checked") == expected);
                }
            }
        }
    }
}

#[test]
fn random_bytes_are_refused() {
    let mut rng = Rng::new(12);
    for length in 0..300 {
        let bytes: Vec<u8> = (0..length).map(|_| rng.bits() as u8).collect();
        assert!(Artifact::from_bytes(&bytes).is_err());
    }
}

#[test]
fn an_invalid_model_is_none_of_an_artifact_or_engine() {
    let mut model = artifact(random_model(2), 2).model.into_model();
    model.tensors[1].format = Format::Unsigned { bits: 9 };
    assert!(CheckedModel::new(model.clone()).is_err());
    assert!(matches!(Engine::new(model), Err(EngineError::Model(_))));
}

#[test]
fn every_operation_occurs_among_the_random_models() {
    let mut seen = [false; 9];
    for seed in 0..120 {
        for node in &random_model(seed).nodes {
            seen[match node.op {
                Op::Conv(_) => 0,
                Op::Add(_) => 1,
                Op::Affine(_) => 2,
                Op::MaxPool(_) => 3,
                Op::AvgPool(..) => 4,
                Op::Lut(_) => 5,
                Op::Concat => 6,
                Op::Scale(_) => 7,
                Op::Select(_) => 8,
            }] = true;
        }
    }
    assert_eq!(seen, [true; 9]);
}
