//! `dyadic-worker quantize` as a user runs it, without labels.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use dyadic_engine::artifact::Artifact;
use dyadic_engine::model::{Format, Node, Op};

#[path = "support/pictures.rs"]
mod pictures;

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

/// Bits of the weights and formats of the input of each convolution in an artifact, by name.
fn layers(artifact: &Path) -> Vec<(String, u8, u8)> {
    let artifact = Artifact::from_vec(fs::read(artifact).expect("it was written")).expect("an artifact");
    let model = &artifact.model;
    let reads = |node: &Node| match model.tensor(node.inputs[0]).format {
        Format::Unsigned { bits } | Format::Signed { bits } => bits,
        Format::Accumulator => 32,
    };
    let layer = |node: &Node| match &node.op {
        Op::Conv(conv) => Some((node.name.clone(), conv.weights.bits, reads(node))),
        _ => None,
    };
    model.nodes.iter().filter_map(layer).collect()
}

#[test]
fn a_plan_file_changes_the_layers_that_it_names_and_no_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let [plan, plain, planned] = ["p.toml", "plain.dyadic", "planned.dyadic"].map(|f| folder.path().join(f));
    let run = |out: &Path, more: &[&str]| {
        let out = out.to_str().expect("UTF-8");
        let done = quantize(&[&["--epochs", "0", "--calibration", "random", "--out", out], more].concat());
        (done.status.success(), String::from_utf8_lossy(&done.stderr).into_owned())
    };
    assert!(run(&plain, &[]).0);
    let with = ["--plan", plan.to_str().expect("UTF-8")];

    let text = "version = 1\n[layers]\n\"*stages.[01]/conv2*\" = { method = \"aptq\" }\n\
                \"/stages/stages.3/conv1/Conv\" = { codebook = \"multi-binary\", bits = 7, input_bits = 5 }\n\
                \"/stages/stages.5/conv?/Conv\" = \"skip\"\n";
    fs::write(&plan, text).expect("written");
    let (done, said) = run(&planned, &with);
    assert!(done, "{said}");
    let (plain, planned) = (layers(&plain), layers(&planned));
    assert_eq!(plain.len(), planned.len());
    for ((name, bits, reads), (_, new_bits, new_reads)) in plain.iter().zip(&planned) {
        let wanted = match name.as_str() {
            "/stages/stages.0/conv2/Conv" | "/stages/stages.1/conv2/Conv" => (2, *reads),
            "/stages/stages.3/conv1/Conv" => (7, 5),
            "/stages/stages.5/conv1/Conv" | "/stages/stages.5/conv2/Conv" => (8, 8),
            _ => (*bits, *reads),
        };
        assert_eq!((*new_bits, *new_reads), wanted, "{name}, {bits} bits before");
    }

    // All that is wrong with a text, and then what is right and matches nothing.
    fs::write(&plan, text.replace("\"aptq\"", "\"aptp\"").replace("= 7", "= 9")).expect("written");
    let (done, said) = run(&folder.path().join("x"), &with);
    assert!(!done && said.contains("line 3, column 36: \"aptp\" is not a method"), "{said}");
    assert!(said.contains("line 4, column 69: bits: 9 is not in 2 to 8"), "{said}");
    fs::write(&plan, text.replace("conv?", "cnv?")).expect("written");
    let (done, said) = run(&folder.path().join("x"), &with);
    assert!(!done && said.contains("line 5, column 1: it matches no layer"), "{said}");
    assert!(said.contains("'/stages/stages.5/conv1/Conv'"), "{said}");
}

#[test]
fn a_folder_of_pictures_of_any_size_calibrates_and_is_judged_by_agreement() {
    let folder = tempfile::tempdir().expect("a folder");
    let (pictures, out) = (folder.path().join("pictures"), folder.path().join("m.dyadic"));
    for class in ["a", "b"] {
        fs::create_dir_all(pictures.join(class)).expect("made");
        for n in 0..12 {
            let image = pictures::bitmap(20 + n, 33 - n, n + if class == "a" { 0 } else { 20 });
            fs::write(pictures.join(class).join(format!("{n}.bmp")), image).expect("written");
        }
    }
    let path = pictures.to_str().expect("UTF-8");
    let common = ["--mean", "0.5,0.5,0.5", "--std", "0.25,0.25,0.25", "--out", out.to_str().expect("UTF-8")];
    let run = |more: &[&str]| {
        let done = quantize(&[&common, more].concat());
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        (done.status.success(), String::from_utf8_lossy(&done.stdout).into_owned(), said)
    };
    let resized = ["--resize", "18", "--interpolation", "bicubic"];

    let (done, told, said) = run(&[&["--calibration", path], resized.as_slice()].concat());
    assert!(done, "{said}");
    assert!(told.contains("agreement") && told.contains("closeness") && !told.contains("accuracy"), "{told}");
    let artifact = Artifact::from_vec(fs::read(&out).expect("it was written")).expect("an artifact");
    let preprocess = artifact.provenance.preprocess.clone().expect("it says what was done");
    assert_eq!(preprocess["resize"]["shorter"], 18);
    assert_eq!((&preprocess["interpolation"], &preprocess["crop"][0]), (&"bicubic".into(), &16.into()));

    let (done, _, said) = run(&["--calibration", path]);
    assert!(!done && said.contains("a/") && said.contains("33"), "{said}");
    let dataset =
        [&["--dataset", path, "--epochs", "0", "--validation", "0.25"], resized.as_slice()].concat();
    let (done, _, said) = run(&dataset);
    assert!(!done && said.contains("--labels"), "folder order says nothing: {said}");
    let names = folder.path().join("names");
    fs::write(&names, "b\na\n").expect("written");
    let with = ["--labels", names.to_str().expect("UTF-8")];
    let (done, told, said) = run(&[dataset.as_slice(), &with].concat());
    assert!(done && told.contains("float accuracy") && told.contains("images            6 "), "{told}{said}");
}

#[test]
fn pictures_that_a_manifest_lists_answer_as_the_folder_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let photos = folder.path().join("photos");
    for class in ["a", "b"] {
        fs::create_dir_all(photos.join(class)).expect("made");
        for n in 0..8 {
            let image = pictures::bitmap(20 + n, 33 - n, n + if class == "a" { 0 } else { 20 });
            fs::write(photos.join(class).join(format!("{n}.bmp")), image).expect("written");
        }
    }
    let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let (manifest, out) = (text(&folder.path().join("photos.jsonl")), text(&folder.path().join("m.dyadic")));
    let listed = Command::new(env!("CARGO_BIN_EXE_dyadic-worker"))
        .args(["manifest", &text(&photos), "--out", &manifest])
        .output()
        .expect("the worker is built");
    let said = String::from_utf8_lossy(&listed.stdout);
    assert!(listed.status.success() && said.contains("train 16") && said.contains("2 classes"), "{said}");
    let run = |calibration: &str| {
        let common =
            ["--mean", "0.5,0.5,0.5", "--std", "0.25,0.25,0.25", "--resize", "18", "--out", &out, "--json"];
        let done = quantize(&[&common[..], &["--calibration", calibration]].concat());
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let report: serde_json::Value = serde_json::from_slice(&done.stdout).expect("JSON");
        (report["weights_sha256"].clone(), report["logits_sha256"].clone(), report["images"].clone())
    };
    assert_eq!(run(&manifest), run(&text(&photos)));
    fs::remove_file(photos.join("a/3.bmp")).expect("removed");
    fs::write(photos.join("b/1.bmp"), b"shorter").expect("written");
    let done = quantize(&[
        "--calibration",
        &manifest,
        "--mean",
        "0.5,0.5,0.5",
        "--std",
        "0.25,0.25,0.25",
        "--resize",
        "18",
        "--out",
        &out,
    ]);
    let said = String::from_utf8_lossy(&done.stderr);
    let named = ["2 of the manifest's pictures", "a/3.bmp", "b/1.bmp: has 7 bytes", "make a new manifest"];
    assert!(!done.status.success() && named.iter().all(|part| said.contains(part)), "{said}");
}
