//! `dyadic up` on a free port in a folder of its own, and the `dyadic` that talks to it.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;

use super::digits;

/// Everything that a test needs; stopped and removed when dropped.
pub(crate) struct Stack {
    up: Child,
    server: String,
    data: PathBuf,
    pids: Vec<i32>,
    worker: i32,
    /// Synthetic digits as IDX files.
    pub(crate) digits: PathBuf,
    /// For files of the test; all else is inside, too.
    pub(crate) folder: tempfile::TempDir,
}

/// Output as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn dyadic() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dyadic"));
    for name in
        ["DYADIC_SERVER", "DYADIC_TOKEN", "DYADIC_DATA_DIR", "DYADIC_BLOBS", "DATABASE_URL", "NO_COLOR"]
    {
        command.env_remove(name);
    }
    command
}

impl Stack {
    /// Starts it; fails if the programs are not built.
    pub(crate) fn start() -> Self {
        let beside = Path::new(env!("CARGO_BIN_EXE_dyadic")).parent().expect("a folder");
        for program in ["dyadic-server", "dyadic-worker"] {
            assert!(
                beside.join(program).is_file(),
                "{program} is not in {}: run `cargo build --workspace`",
                beside.display()
            );
        }
        let folder = tempfile::tempdir().expect("a folder");
        // The database may have to run as another user, who must get to its folder.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).expect("permissions");
        let digits = folder.path().join("digits");
        std::fs::create_dir(&digits).expect("a folder");
        digits::write(&digits, 7);
        let data = folder.path().join("data");
        let mut up = dyadic()
            .args(["up", "--port", "0", "--workers", "1", "--json", "--data"])
            .arg(&data)
            // A killed worker's job should not wait for long, and should have something to go on from.
            .envs([("DYADIC_LEASE_SECS", "6"), ("DYADIC_CHECKPOINT_SECS", "1")])
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("dyadic up starts");
        let started = started(&mut up);
        let pid = |p: &Value| i32::try_from(p["pid"].as_i64().expect("pid")).expect("pid");
        let processes = started["processes"].as_array().expect("processes");
        let server = started["server"].as_str().expect("server").to_owned();
        Stack {
            up,
            server,
            data,
            pids: processes.iter().map(pid).collect(),
            worker: pid(&processes[1]),
            digits,
            folder,
        }
    }

    /// Runs `dyadic` against this server.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let mut command = dyadic();
        command.env("DYADIC_SERVER", &self.server).env("DYADIC_DATA_DIR", &self.data);
        command.args(arguments).stdin(Stdio::null()).output().expect("dyadic runs")
    }

    /// Runs `dyadic`, which must succeed.
    pub(crate) fn ok(&self, arguments: &[&str]) -> Output {
        let output = self.run(arguments);
        if !output.status.success() {
            self.tell_logs();
            panic!(
                "{arguments:?} ended with {}\n{}\n{}",
                output.status,
                text(&output.stdout),
                text(&output.stderr)
            );
        }
        output
    }

    /// Runs `dyadic … --json`, which must succeed, and reads what it prints.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let output = self.ok(&[arguments, &["--json"]].concat());
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|e| panic!("{arguments:?}: {e}: {}", text(&output.stdout)))
    }

    /// Waits until it is so.
    pub(crate) fn until(&self, most: Duration, what: &str, so: impl Fn() -> bool) {
        let started = Instant::now();
        while !so() {
            if started.elapsed() > most {
                self.tell_logs();
                panic!("not within {most:?}: {what}");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until a version of a served model is ready.
    pub(crate) fn until_served(&self, name: &str, version: u64) {
        self.until(Duration::from_secs(30), "the version is served", || {
            let served = self.json(&["model", "versions", name]);
            let mut versions = served["versions"].as_array().expect("versions").iter();
            versions.any(|v| v["version"] == version && v["state"] == "ready")
        });
    }

    /// Kills the first worker without a word.
    pub(crate) fn kill_worker(&self) {
        let pid = Pid::from_raw(self.worker).expect("a pid");
        kill_process(pid, Signal::KILL).expect("the worker was running");
    }

    /// Stops everything as Ctrl-C does; nothing may be left.
    pub(crate) fn stop(mut self) {
        self.terminate();
        let status = self.up.wait().expect("dyadic up ends");
        assert!(status.success(), "dyadic up ended with {status}");
        for &pid in &self.pids {
            let gone = test_kill_process(Pid::from_raw(pid).expect("a pid")).is_err();
            assert!(gone, "process {pid} is still there");
        }
    }

    fn terminate(&self) {
        let pid = i32::try_from(self.up.id()).ok().and_then(Pid::from_raw).expect("a pid");
        // It may have ended already; then waiting tells how.
        let _ = kill_process(pid, Signal::TERM);
    }

    fn tell_logs(&self) {
        for name in ["server", "worker-1"] {
            let log = std::fs::read_to_string(self.data.join("logs").join(format!("{name}.log")))
                .unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- end of {name}.log\n{}", lines[lines.len().saturating_sub(40)..].join("\n"));
        }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if self.up.try_wait().is_ok_and(|ended| ended.is_some()) {
            return;
        }
        self.terminate();
        // There is nothing better to do with an error here.
        let _ = self.up.wait();
    }
}

/// The JSON that `dyadic up` prints when all is up; fails with its words if it ends before.
fn started(up: &mut Child) -> Value {
    let mut reader = BufReader::new(up.stdout.take().expect("a pipe"));
    let mut json = String::new();
    loop {
        let mut line = String::new();
        let read = reader.read_line(&mut line).expect("a line");
        assert!(read > 0, "dyadic up ended early: {:?}", up.wait());
        json.push_str(&line);
        if line.starts_with('}') {
            break;
        }
    }
    // Keep the pipe drained, so that it can never block.
    std::thread::spawn(move || reader.read_to_end(&mut Vec::new()));
    serde_json::from_str(&json).expect("JSON")
}
