//! The whole way with the real programs: `dyadic up` starts server, worker and database; a model and a dataset are
//! pushed, quantized, served, measured; a worker is killed; jobs are cancelled; every kind of error has its exit code.
//!
//! The programs are those beside the `dyadic` under test: `cargo build --workspace` makes them.

#[path = "end_to_end/digits.rs"]
mod digits;
#[path = "end_to_end/plans.rs"]
mod plans;
#[path = "end_to_end/stack.rs"]
mod stack;

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use serde_json::Value;
use stack::{Stack, text};

/// A LeNet with a side file, one channel of 20 × 20, dynamic batch.
fn lenet() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../graph/tests/fixtures/lenet_relu_dynamo20.onnx")
}

// A LeNet that was never trained is no better than chance, nor worse by a number that is known.
const SUBMIT: [&str; 14] = [
    "job",
    "submit",
    "--model",
    "lenet",
    "--dataset",
    "digits",
    "--mean",
    "0.1307",
    "--std",
    "0.3081",
    "--method",
    "aptq",
    "--promote",
    "always",
];

fn submit<'a>(more: &[&'a str]) -> Vec<&'a str> {
    SUBMIT.iter().chain(more).copied().collect()
}

fn string(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no string")).to_owned()
}

/// The last value of a metric of a run.
fn metric(run: &Value, name: &str) -> f64 {
    let last = run["last"].as_array().expect("last");
    let found = last.iter().find(|m| m["name"] == name).unwrap_or_else(|| panic!("no {name} in {last:?}"));
    found["value"].as_f64().expect("a number")
}

#[test]
fn from_an_onnx_file_to_a_served_network_and_back_from_every_accident() {
    let stack = Stack::start();
    a_model_and_its_side_file_are_pushed_once(&stack);
    a_dataset_is_recognized_and_pushed_once(&stack);
    let job = a_job_succeeds_and_its_accuracy_is_the_served_one(&stack);
    a_plan_says_what_the_job_has_made(&stack, &job);
    the_same_key_answers_the_same_job(&stack);
    every_list_reads_as_a_table_and_as_json(&stack, &job);
    a_killed_worker_loses_nothing(&stack);
    a_cancelled_job_tells_so_and_leaves_no_artifact(&stack);
    a_second_version_can_be_rolled_back(&stack);
    what_the_gate_keeps_can_be_promoted_pushed_and_removed(&stack);
    every_refusal_has_its_exit_code(&stack);
    doomed_jobs_are_refused_before_they_are_queued(&stack);
    other_classes_than_the_models_are_told(&stack);
    tokens_open_what_their_role_allows(&stack);
    a_folder_of_pictures_goes_from_push_to_answer(&stack);
    plans::a_plan_file_is_edited_submitted_kept_and_compared(&stack, &job);
    plans::runs_are_found_by_their_beginnings_and_tags(&stack, &job);
    stack.stop();
}

fn a_model_and_its_side_file_are_pushed_once(stack: &Stack) {
    let onnx = lenet();
    let push = ["model", "push", onnx.to_str().expect("UTF-8"), "--name", "lenet"];
    let first = stack.json(&push);
    assert_eq!(first["existed"], false);
    let files: Vec<String> =
        first["model"]["files"].as_array().expect("files").iter().map(|f| string(&f["name"])).collect();
    assert_eq!(files, ["lenet_relu_dynamo20.onnx", "lenet_relu_dynamo20.onnx.data"]);
    let again = stack.json(&push);
    assert_eq!((&again["existed"], &again["model"]["id"]), (&Value::Bool(true), &first["model"]["id"]));
    let pulled = stack.folder.path().join("pulled");
    stack.ok(&["model", "pull", "lenet", "--onnx", "--out", pulled.to_str().expect("UTF-8")]);
    let same = std::fs::read(pulled.join("lenet_relu_dynamo20.onnx.data")).expect("pulled");
    assert_eq!(same, std::fs::read(onnx.with_extension("onnx.data")).expect("fixture"));
}

fn a_dataset_is_recognized_and_pushed_once(stack: &Stack) {
    let folder = stack.digits.to_str().expect("UTF-8");
    let push = ["dataset", "push", folder, "--name", "digits"];
    let first = stack.json(&push);
    assert_eq!((&first["existed"], &first["dataset"]["format"]), (&Value::Bool(false), &Value::from("idx")));
    let again = stack.json(&push);
    assert_eq!((&again["existed"], &again["dataset"]["id"]), (&Value::Bool(true), &first["dataset"]["id"]));
    let dry = stack.json(&["dataset", "push", folder, "--name", "digits", "--dry-run"]);
    assert_eq!(dry["sha256"], first["dataset"]["tar"]["sha256"]);
}

/// Answers the job's id.
fn a_job_succeeds_and_its_accuracy_is_the_served_one(stack: &Stack) -> String {
    let watched = stack.ok(&submit(&["--epochs", "1", "--seed", "3", "--watch"]));
    assert!(text(&watched.stdout).contains("succeeded"), "{}", text(&watched.stdout));
    let job = stack.json(&["job", "show", "last"]);
    assert_eq!((&job["state"], &job["artifact"]["version"]), (&Value::from("succeeded"), &Value::from(1)));
    let id = string(&job["id"]);
    let run = stack.json(&["runs", "show", &id]);
    let reported = metric(&run, "accuracy");
    assert!(!run["layers"].as_array().expect("layers").is_empty());
    stack.until_served("lenet", 1);
    for (kind, batch) in [("--u8", "1"), ("--u8", "32"), ("--fp32", "7")] {
        let folder = stack.digits.to_str().expect("UTF-8");
        let measured = stack.json(&[
            "infer",
            "lenet",
            "--dataset",
            folder,
            kind,
            "--batch",
            batch,
            "--concurrency",
            "3",
        ]);
        assert_eq!(measured["images"], digits::TEST as u64);
        let served = measured["accuracy"].as_f64().expect("accuracy");
        assert_eq!(served, reported, "served against reported, {kind} in batches of {batch}");
    }
    let pulled =
        stack.json(&["model", "pull", "lenet", "--out", stack.folder.path().to_str().expect("UTF-8")]);
    let artifact = std::fs::read(string(&pulled["files"][0])).expect("artifact");
    assert_eq!(artifact.len() as u64, job["artifact"]["size_bytes"].as_u64().expect("size"));
    id
}

fn a_plan_says_what_the_job_has_made(stack: &Stack, job: &str) {
    let flags = ["job", "plan", "--model", "lenet", "--dataset", "digits", "--method", "aptq"];
    let before = stack.json(&["job", "list"]);
    let plan = stack.json(&flags);
    let units = plan["units"].as_array().expect("units");
    let weighted: Vec<_> = units.iter().filter(|unit| !unit["bits"].is_null()).collect();
    assert_eq!(weighted.iter().map(|unit| unit["bits"].clone()).collect::<Vec<_>>(), [8, 2, 2, 2, 8]);
    assert_eq!(plan["refusals"], Value::from(Vec::<Value>::new()));
    // The artifact has the plan's numbers, and its graph as JSON.
    let size = stack.json(&["job", "show", job])["artifact"]["size_bytes"].as_u64().expect("size");
    let planned = plan["total"]["bytes"].as_u64().expect("bytes");
    assert!((planned..planned + 16_384).contains(&size), "{planned} planned, {size} made");
    let table = text(&stack.ok(&flags).stdout);
    assert!(table.contains("linear8 8") && table.contains("sign-split 2 angle") && table.contains("total"));
    let toml = text(&stack.ok(&[&flags[..], &["--toml"]].concat()).stdout);
    assert!(toml.starts_with("version = 1\n") && toml.contains("[outcome]"), "{toml}");
    assert_eq!(stack.json(&["job", "list"]), before, "a plan queues nothing");
}

fn the_same_key_answers_the_same_job(stack: &Stack) {
    let keyed = submit(&["--epochs", "1", "--idempotency-key", "once"]);
    let first = stack.json(&keyed);
    let again = stack.json(&keyed);
    assert_eq!((&again["existed"], &again["job"]["id"]), (&Value::Bool(true), &first["job"]["id"]));
    let other = stack.run(&submit(&["--epochs", "2", "--idempotency-key", "once"]));
    assert_code(&other, 6);
    stack.run(&["job", "cancel", &string(&first["job"]["id"]), "--wait"]);
}

fn every_list_reads_as_a_table_and_as_json(stack: &Stack, job: &str) {
    let lists: [&[&str]; 15] = [
        &["model", "list"],
        &["model", "show", "lenet"],
        &["model", "served"],
        &["model", "versions", "lenet"],
        &["dataset", "list"],
        &["dataset", "show", "digits"],
        &["job", "list"],
        &["job", "show", job],
        &["job", "watch", job],
        &["runs", "list"],
        &["runs", "experiments"],
        &["runs", "show", job],
        &["runs", "compare", job, "last"],
        &["runs", "plot", job, "--metric", "train/loss"],
        &["serve-stats"],
    ];
    for list in lists {
        let table = stack.ok(list);
        assert!(!table.stdout.is_empty(), "{list:?} prints nothing");
        assert!(!text(&table.stdout).contains('\x1b'), "{list:?} paints a pipe");
        let json = stack.ok(&[list, &["--json"]].concat());
        let values = serde_json::Deserializer::from_slice(&json.stdout).into_iter::<Value>();
        let values: Vec<Value> = values.collect::<Result<_, _>>().unwrap_or_else(|e| panic!("{list:?}: {e}"));
        assert!(!values.is_empty(), "{list:?} prints no JSON");
    }
    let lines = stack.ok(&["runs", "export", job]);
    for line in text(&lines.stdout).lines() {
        serde_json::from_str::<Value>(line).expect("a JSON line");
    }
    let tagged = stack.ok(&["runs", "tag", job, "kept=yes"]);
    assert!(text(&tagged.stdout).contains("kept=yes"));
}

fn a_killed_worker_loses_nothing(stack: &Stack) {
    let id = string(&stack.json(&submit(&["--epochs", "400", "--seed", "5"]))["job"]["id"]);
    stack.until(Duration::from_secs(120), "the job trains", || {
        let job = stack.json(&["job", "show", &id]);
        assert_ne!(job["state"], "succeeded", "the job is too short to be interrupted");
        job["progress"]["phase"] == "train" && job["progress"]["done"].as_u64() > Some(0)
    });
    stack.kill_worker();
    let watched = stack.ok(&["job", "watch", &id]);
    assert!(text(&watched.stdout).contains("succeeded"));
    let job = stack.json(&["job", "show", &id]);
    assert_eq!((&job["state"], &job["fence"]), (&Value::from("succeeded"), &Value::from(2)));
}

fn a_cancelled_job_tells_so_and_leaves_no_artifact(stack: &Stack) {
    let id = string(&stack.json(&submit(&["--epochs", "5000"]))["job"]["id"]);
    stack.until(Duration::from_secs(120), "the job runs", || {
        stack.json(&["job", "show", &id])["state"] == "running"
    });
    assert_code(&stack.run(&["model", "rm", "lenet"]), 6);
    stack.ok(&["job", "cancel", &id, "--wait"]);
    let job = stack.json(&["job", "show", &id]);
    assert_eq!((&job["state"], &job["artifact"]), (&Value::from("cancelled"), &Value::Null));
    assert_code(&stack.run(&["job", "watch", &id]), 8);
    let again = stack.json(&["job", "retry", &id]);
    assert_eq!(
        (&again["retry_of"], &again["resolved"]["epochs"]),
        (&Value::from(id.as_str()), &Value::from(5000))
    );
    stack.ok(&["job", "cancel", "last", "--wait"]);
    let over = stack.json(&["job", "list", "--state", "succeeded"]);
    assert_code(&stack.run(&["job", "cancel", &string(&over[0]["id"])]), 6);
}

fn a_second_version_can_be_rolled_back(stack: &Stack) {
    let served = stack.json(&["model", "versions", "lenet"]);
    let latest = served["latest"].as_u64().expect("latest");
    assert_eq!(latest, 2, "the run that survived its worker is the second version");
    let back = stack.json(&["model", "rollback", "lenet"]);
    assert_eq!((&back["latest"], &back["pinned"]), (&Value::from(1), &Value::from(1)));
    let again = stack.json(&["model", "promote", "lenet", "2"]);
    assert_eq!(again["latest"], 2);
    assert_code(&stack.run(&["model", "promote", "lenet", "99"]), 3);
}

fn what_the_gate_keeps_can_be_promoted_pushed_and_removed(stack: &Stack) {
    let kept = [&SUBMIT[..12], &["--promote", "never", "--epochs", "0", "--seed", "9", "--wait"]].concat();
    let told = text(&stack.ok(&kept).stdout);
    assert!(
        told.contains("kept as lenet version 3") && told.contains("`dyadic model promote lenet 3`"),
        "{told}"
    );
    let job = stack.json(&["job", "show", "last"]);
    assert_eq!(
        (&job["artifact"]["held"], &job["resolved"]["promote"]),
        (&"promote is never".into(), &"never".into())
    );
    let id = string(&job["id"]);
    assert!(text(&stack.ok(&["runs", "show", &id]).stdout).contains("kept, not live"));
    stack.until_served("lenet", 3);
    let unpinned = stack.json(&["model", "unpin", "lenet"]);
    assert_eq!((&unpinned["latest"], &unpinned["pinned"]), (&Value::from(2), &Value::from(0)));
    let would = text(&stack.ok(&["model", "promote", "lenet", "3", "--dry-run"]).stdout);
    assert!(would.contains("would mean version 3") && would.contains("instead of version 2"), "{would}");

    // The same file, as if it had been made elsewhere.
    let out = stack.folder.path().join("artifacts");
    let pull = ["model", "pull", "lenet", "--version", "3", "--out", out.to_str().expect("UTF-8")];
    let file = string(&stack.json(&pull)["files"][0]);
    let push = ["model", "push-artifact", &file, "--name", "offline"];
    let first = stack.json(&push);
    assert_eq!((&first["existed"], &first["version"]), (&Value::Bool(false), &Value::from(1)));
    assert_eq!(stack.json(&push)["existed"], true);
    stack.until_served("offline", 1);
    let folder = stack.digits.to_str().expect("UTF-8");
    let served = stack.json(&["infer", "offline", "--version", "1", "--dataset", folder, "--batch", "1000"]);
    assert_eq!(served["accuracy"].as_f64(), Some(metric(&stack.json(&["runs", "show", &id]), "accuracy")));
    assert_code(&stack.run(&["model", "push-artifact", lenet().to_str().expect("UTF-8")]), 6);

    assert_code(&stack.run(&["model", "remove", "lenet:2"]), 6);
    stack.ok(&["model", "remove", "lenet:3"]);
    assert_code(&stack.run(&["infer", "lenet", "--version", "3", "--dataset", folder]), 3);
    assert!(text(&stack.ok(&["job", "show", &id]).stdout).contains("removed"));
    assert_code(&stack.run(&["model", "remove", "offline"]), 2);
    stack.ok(&["model", "remove", "offline", "--yes"]);
    assert_code(&stack.run(&["model", "versions", "offline"]), 3);
}

fn every_refusal_has_its_exit_code(stack: &Stack) {
    let nobody = "00000000-0000-7000-8000-000000000000";
    let garbage = stack.folder.path().join("garbage.onnx");
    std::fs::write(&garbage, "no protobuf at all").expect("written");
    // A model whose graph is empty is an ONNX file, but nothing that can be quantized.
    let empty = stack.folder.path().join("empty.onnx");
    std::fs::write(&empty, [0x08, 0x08, 0x3a, 0x00]).expect("written");
    let cases: [(&[&str], i32); 11] = [
        (&["job", "show", nobody], 3),
        (&["job", "watch", nobody], 3),
        (&["model", "show", "nothing"], 3),
        (&["infer", "nothing", "--dataset", stack.digits.to_str().expect("UTF-8")], 3),
        (&["model", "push", garbage.to_str().expect("UTF-8")], 2),
        (&["model", "push", empty.to_str().expect("UTF-8")], 6),
        (&["dataset", "push", "/nonexistent"], 2),
        (&["job", "submit"], 2),
        (&["job", "list", "--server", "http://127.0.0.1:1"], 5),
        (&["job", "list", "--token", "wrong"], 4),
        (&["infer", "lenet"], 2),
    ];
    for (arguments, code) in cases {
        let output = stack.run(arguments);
        assert_code(&output, code);
        assert!(text(&output.stderr).contains("error"), "{arguments:?} says nothing");
    }
    let refused = concat!(env!("CARGO_MANIFEST_DIR"), "/../graph/tests/refused/convnext_script.onnx");
    let output = stack.run(&["model", "push", refused]);
    assert_code(&output, 6);
    let shown = text(&output.stderr);
    assert!(shown.contains("Transpose (8 nodes)") && shown.contains("and 5 more"), "{shown}");
    let output = stack.run(&["model", "push", refused, "--json"]);
    assert_code(&output, 6);
    let error: Value = serde_json::from_slice(&output.stderr).expect("JSON");
    let refusals = &error["error"]["refusals"];
    assert_eq!(refusals[0]["operator"], "Transpose");
    assert_eq!(refusals[0]["nodes"].as_array().map(Vec::len), Some(8), "{refusals}");
    let missing = stack.run(&[
        "job",
        "submit",
        "--model",
        "nothing",
        "--dataset",
        "digits",
        "--mean",
        "0",
        "--std",
        "1",
    ]);
    assert_code(&missing, 3);
}

fn doomed_jobs_are_refused_before_they_are_queued(stack: &Stack) {
    let before = stack.json(&["job", "list", "--all"]);
    let bad = ["job", "submit", "--model", "lenet", "--dataset", "digits", "--eval-split", "validation"];
    let bad = [&bad[..], &["--batch-size", "5000", "--mean", "0.5,0.5,0.5", "--std", "1,1,1"]].concat();
    let refused = stack.run(&bad);
    assert_code(&refused, 6);
    let told = text(&refused.stderr);
    for word in ["for 3 reasons", "\n  splits.eval: ", "\n  normalization: ", "\n  batch_size: "] {
        assert!(told.contains(word), "{told}");
    }
    let refused = stack.run(&[&bad[..], &["--json"]].concat());
    let error: Value = serde_json::from_slice(&refused.stderr).expect("JSON");
    let fields: Vec<&str> = error["error"]["reasons"]
        .as_array()
        .expect("reasons")
        .iter()
        .filter_map(|r| r["field"].as_str())
        .collect();
    assert_eq!(fields, ["splits.eval", "normalization", "batch_size"]);

    let photos = stack.folder.path().join("photos");
    for name in ["train/cat", "train/dog", "test/cat"] {
        std::fs::create_dir_all(photos.join(name)).expect("a folder");
        std::fs::write(photos.join(name).join("1.png"), "looked at by nobody").expect("written");
    }
    stack.ok(&["dataset", "push", photos.to_str().expect("UTF-8"), "--name", "photos"]);
    let refused = stack.run(&["job", "submit", "--model", "lenet", "--dataset", "photos"]);
    assert_code(&refused, 6);
    assert!(text(&refused.stderr).contains("3 of 3 images cannot be read"), "{}", text(&refused.stderr));
    let after = stack.json(&["job", "list", "--all"]);
    assert_eq!(before.as_array().map(Vec::len), after.as_array().map(Vec::len));

    let usual = stack.json(&["job", "submit", "--model", "lenet", "--dataset", "digits", "--epochs", "0"]);
    let mean = &usual["job"]["resolved"]["normalization"]["mean"];
    assert!((mean[0].as_f64().expect("a mean") - 0.1307).abs() < 1e-6, "{usual}");
    stack.run(&["job", "cancel", &string(&usual["job"]["id"]), "--wait"]);
}

fn other_classes_than_the_models_are_told(stack: &Stack) {
    let other = stack.folder.path().join("other");
    std::fs::create_dir(&other).expect("a folder");
    digits::write_from(&other, 7, 10);
    let measured = stack.run(&["infer", "lenet", "--dataset", other.to_str().expect("UTF-8"), "--json"]);
    assert_code(&measured, 0);
    let value: Value = serde_json::from_slice(&measured.stdout).expect("JSON");
    assert_eq!((&value["correct"], value["remarks"].as_array().map(Vec::len)), (&Value::from(0), Some(1)));
    assert!(text(&measured.stderr).contains("200 of 200 images"), "{}", text(&measured.stderr));
    let same = stack.json(&["infer", "lenet", "--dataset", stack.digits.to_str().expect("UTF-8")]);
    assert_eq!(same["remarks"], Value::Array(Vec::new()));
}

/// A picture of one gray, as a BMP.
fn picture(height: u32, width: u32, gray: u8) -> Vec<u8> {
    let row = (width * 3).next_multiple_of(4);
    let mut file = b"BM".to_vec();
    for value in
        [54 + row * height, 0, 54, 40, width, height, 1 | 24 << 16, 0, row * height, 2835, 2835, 0, 0]
    {
        file.extend(value.to_le_bytes());
    }
    file.resize((54 + row * height) as usize, gray);
    file
}

/// The commands of docs/your-own-data.md.
fn a_folder_of_pictures_goes_from_push_to_answer(stack: &Stack) {
    let photos = stack.folder.path().join("flowers");
    for (class, gray) in [("daisy", 200), ("rose", 90), ("tulip", 20)] {
        let folder = photos.join(class);
        std::fs::create_dir_all(&folder).expect("created");
        for n in 0..4u8 {
            let picture = picture(24 + 3 * u32::from(n), 31, gray + n);
            std::fs::write(folder.join(format!("{n}.bmp")), picture).expect("written");
        }
    }
    let (photos, labels) = (photos.to_str().expect("UTF-8"), stack.folder.path().join("labels.txt"));
    std::fs::write(&labels, "tulip\ndaisy\nrose\n").expect("written");
    let labels = labels.to_str().expect("UTF-8");
    let pushed = stack.ok(&["dataset", "push", photos, "--name", "flowers"]);
    assert!(text(&pushed.stderr).contains("--labels"), "{}", text(&pushed.stderr));
    let job =
        ["job", "submit", "--model", "lenet", "--dataset", "flowers", "--name", "flowers", "--epochs", "0"];
    let more = ["--validation", "0.25", "--resize", "22", "--crop", "20", "--promote", "always", "--watch"];
    let refused = stack.run(&[job.as_slice(), &more].concat());
    assert!(
        !refused.status.success() && text(&refused.stderr).contains("daisy, rose, tulip"),
        "{}",
        text(&refused.stderr)
    );
    stack.ok(&[job.as_slice(), &more, &["--labels", labels]].concat());
    stack.until_served("flowers", 1);
    let named = format!("{photos}/rose/3.bmp");
    let answer = stack.ok(&["infer", "flowers", &named, "--top", "1"]);
    let said = text(&answer.stdout);
    assert!(["tulip", "daisy", "rose"].iter().any(|name| said.contains(name)), "{said}");
    let judged = stack.ok(&["infer", "flowers", "--dataset", photos, "--split", "train"]);
    assert!(text(&judged.stdout).contains("12"), "{}", text(&judged.stdout));
}

fn tokens_open_what_their_role_allows(stack: &Stack) {
    let made = stack.json(&["token", "create", "reader", "--role", "infer"]);
    let secret = string(&made["secret"]);
    let listed = text(&stack.ok(&["token", "list"]).stdout);
    assert!(listed.contains("reader") && !listed.contains(&secret), "{listed}");
    assert_code(&stack.run(&["job", "list", "--token", &secret]), 4);
    let folder = stack.digits.to_str().expect("UTF-8");
    stack.ok(&["infer", "lenet", "--dataset", folder, "--limit", "5", "--token", &secret]);
    stack.ok(&["token", "revoke", &string(&made["token"]["id"])]);
    stack.until(Duration::from_secs(60), "the token is worthless", || {
        stack.run(&["infer", "lenet", "--dataset", folder, "--limit", "5", "--token", &secret]).status.code()
            == Some(4)
    });
}

fn assert_code(output: &Output, code: i32) {
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "\nstdout: {out}\nstderr: {err}");
}

#[test]
fn what_needs_no_server_works_without_one() {
    let dir = tempfile::tempdir().expect("a folder");
    digits::write(dir.path(), 1);
    let dyadic = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_dyadic"));
        for name in ["DYADIC_SERVER", "DYADIC_TOKEN", "DYADIC_DATA_DIR", "NO_COLOR"] {
            command.env_remove(name);
        }
        command.args(arguments).output().expect("dyadic runs")
    };
    for arguments in [
        &["--help"][..],
        &["--version"],
        &["job", "submit", "--help"],
        &["completions", "bash"],
        &["dataset", "push", dir.path().to_str().expect("UTF-8"), "--dry-run"],
    ] {
        let output = dyadic(arguments);
        assert_code(&output, 0);
        assert!(!output.stdout.is_empty());
    }
    assert_code(&dyadic(&[]), 2);
    assert_code(&dyadic(&["fly"]), 2);
    let away = dyadic(&["job", "list", "--server", "127.0.0.1:1", "--json"]);
    assert_code(&away, 5);
    let error: Value = serde_json::from_slice(&away.stderr).expect("JSON");
    assert_eq!(error["error"]["exit_code"], 5);
}
