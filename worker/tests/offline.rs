//! `dyadic-worker quantize` as a user runs it, without labels.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn quantize(arguments: &[&str]) -> Output {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../graph/tests/fixtures/resnet_script13.onnx");
    Command::new(env!("CARGO_BIN_EXE_dyadic-worker"))
        .args(["quantize", "--method", "apq", "--bits", "5", "--threads", "1", "--model"])
        .arg(model)
        .args(arguments)
        .output()
        .expect("the worker runs")
}

/// Noise, slowly varying from image to image.
fn array(images: usize, [height, width, channels]: [usize; 3]) -> Vec<u8> {
    let shape = format!("({images}, {height}, {width}, {channels})");
    let header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}");
    let padded = format!("{header:<117}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((padded.len() as u16).to_le_bytes());
    bytes.extend(padded.as_bytes());
    let mut state = 1u64;
    bytes.extend((0..images * height * width * channels).map(|i| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 57) as usize + i / (height * width * channels) % 128) as u8
    }));
    bytes
}

#[test]
fn images_without_labels_give_an_artifact_and_its_closeness_but_no_accuracy() {
    let folder = tempfile::tempdir().expect("a folder");
    let (images, out) = (folder.path().join("x.npy"), folder.path().join("m.dyadic"));
    fs::write(&images, array(64, [16, 16, 3])).expect("written");
    let (images, out) = (images.to_str().expect("UTF-8"), out.to_str().expect("UTF-8"));
    let normalization = ["--mean", "0.5,0.5,0.5", "--std", "0.25,0.25,0.25"];

    let mut arguments = vec!["--calibration", images, "--out", out];
    let refused = quantize(&arguments);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("--mean"), "{said}");

    arguments.extend(normalization);
    let done = quantize(&arguments);
    let (told, said) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{said}");
    assert!(told.contains("closeness") && told.contains(" dB"), "{told}");
    assert!(!told.contains("accuracy") && !said.contains(" % on "), "{told}{said}");
    assert!(fs::metadata(out).expect("it was written").len() > 1000);

    arguments.push("--json");
    let done = quantize(&arguments);
    let report: serde_json::Value = serde_json::from_slice(&done.stdout).expect("one JSON object");
    assert!(report["closeness_db"].as_f64().is_some_and(|db| db > 10.0), "{report}");
    assert!(report["accuracy"].is_null() && report["float_accuracy"].is_null());
}
