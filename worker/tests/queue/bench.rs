//! A queue with a model and a dataset in it, and workers as real processes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dyadic_store::Store;
use dyadic_store::blob::{BlobStore, Digest};
use dyadic_store::job::{Job, JobState, NewJob};
use dyadic_store::queue::Reaper;
use dyadic_store::registry::{ModelFile, NewDataset, NewModel, Promote};
use dyadic_store::spec::{JobSpec, Method, Precision};
use rustix::process::{Pid, Signal, kill_process};
use uuid::Uuid;

const LEASE_SECS: u64 = 2;

/// A queue with a model and a dataset in it.
pub(crate) struct Bench {
    pub(crate) url: String,
    pub(crate) store: Store,
    pub(crate) blobs: BlobStore,
    blobs_url: String,
    pub(crate) folder: tempfile::TempDir,
    model: Uuid,
    dataset: Uuid,
}

/// A worker process; killed when dropped.
pub(crate) struct Worker(Child);

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Worker {
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw).expect("a process number");
        kill_process(pid, signal).expect("the process is ours");
    }

    /// Waits for the process to end by itself.
    pub(crate) fn ended(&mut self) -> bool {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(60) {
            if let Ok(Some(status)) = self.0.try_wait() {
                return status.success();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }
}

/// MNIST-like files: which half is bright decides the class.
fn digits(folder: &Path) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (prefix, count) in [("train", 640u32), ("t10k", 100)] {
        let mut images: Vec<u8> = [0x0803, count, 20, 20].into_iter().flat_map(u32::to_be_bytes).collect();
        let mut labels: Vec<u8> = [0x0801, count].into_iter().flat_map(u32::to_be_bytes).collect();
        for i in 0..count {
            labels.push((i % 2) as u8);
            images.extend((0..400u32).map(|p| {
                let noise =
                    (i.wrapping_mul(2_654_435_761).wrapping_add(p.wrapping_mul(40_503)) >> 9) as u8 / 3;
                noise + if (p >= 200) == (i % 2 == 1) { 120 } else { 0 }
            }));
        }
        for (name, bytes) in [("images-idx3-ubyte", images), ("labels-idx1-ubyte", labels)] {
            let path = folder.join(format!("{prefix}-{name}"));
            fs::write(&path, bytes).expect("writable");
            archive.append_path_with_name(&path, path.file_name().expect("a file")).expect("appendable");
        }
    }
    archive.into_inner().expect("finishable")
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::with_blobs(|folder| folder.join("blobs")).await
    }

    /// With the blobs in the folder that `place` makes of the bench's own.
    pub(crate) async fn with_blobs(place: impl FnOnce(&Path) -> PathBuf) -> Self {
        let database = dyadic_store::testing::database().await;
        let store = Store::connect(database.url()).await.expect("a fresh database");
        store.migrate().await.expect("migrations apply");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let blobs_url = format!("file://{}", place(folder.path()).display());
        let blobs = BlobStore::open(&blobs_url).expect("a local store");
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../graph/tests/fixtures/lenet_relu_script16_one.onnx");
        let onnx = fs::read(fixture).expect("the fixture is committed");
        let size_bytes = onnx.len() as u64;
        let sha256 = blobs.put_bytes(onnx).await.expect("storable");
        let file = ModelFile { name: "lenet.onnx".into(), sha256, size_bytes };
        let model = NewModel {
            owner: "tests".into(),
            name: "lenet".into(),
            files: vec![file],
            info: serde_json::json!({}),
            tags: [].into(),
        };
        let (model, _) = store.add_model(&model).await.expect("registrable");
        let tar = digits(folder.path());
        let size_bytes = tar.len() as u64;
        let sha256 = blobs.put_bytes(tar).await.expect("storable");
        let dataset = NewDataset {
            owner: "tests".into(),
            name: "digits".into(),
            format: "idx".into(),
            splits: Vec::new(),
            labels: vec!["top".into(), "bottom".into()],
            file_name: "digits.tar".into(),
            sha256,
            size_bytes,
            tags: [].into(),
        };
        let (dataset, _) = store.add_dataset(&dataset).await.expect("registrable");
        Bench {
            url: database.url().to_string(),
            store,
            blobs,
            blobs_url,
            folder,
            model: model.id,
            dataset: dataset.id,
        }
    }

    /// Digests of the model's and the dataset's bytes.
    pub(crate) async fn inputs(&self) -> Vec<Digest> {
        let model = self.store.model(None, &self.model.to_string()).await.expect("it was added");
        let dataset = self.store.dataset(None, &self.dataset.to_string()).await.expect("it was added");
        model.files.iter().map(|file| file.sha256).chain([dataset.sha256]).collect()
    }

    pub(crate) async fn submit(&self, spec: JobSpec) -> Uuid {
        self.submit_over(self.dataset, &["cpu"], spec).await
    }

    /// Registers a tar of these files as a dataset.
    pub(crate) async fn dataset(&self, name: &str, format: &str, files: &[(&str, &[u8])]) -> Uuid {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, bytes) in files {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            archive.append_data(&mut header, name, *bytes).expect("appendable");
        }
        let tar = archive.into_inner().expect("finishable");
        let size_bytes = tar.len() as u64;
        let dataset = NewDataset {
            owner: "tests".into(),
            name: name.into(),
            format: format.into(),
            splits: Vec::new(),
            labels: Vec::new(),
            file_name: format!("{name}.tar"),
            sha256: self.blobs.put_bytes(tar).await.expect("storable"),
            size_bytes,
            tags: [].into(),
        };
        self.store.add_dataset(&dataset).await.expect("registrable").0.id
    }

    pub(crate) async fn submit_over(&self, dataset: Uuid, requires: &[&str], spec: JobSpec) -> Uuid {
        let job = NewJob {
            owner: "tests".into(),
            experiment: "tests".into(),
            model: self.model,
            dataset,
            train_split: "train".into(),
            eval_split: "test".into(),
            served_name: "halves".into(),
            spec: serde_json::json!({}),
            settings: spec,
            requires: requires.iter().map(|word| (*word).to_owned()).collect(),
            priority: 0,
            max_stalls: 3,
            promote: Promote::default(),
            idempotency_key: None,
            tags: [].into(),
            plan: None,
        };
        self.store.submit(&job, 100).await.expect("submittable").job.id
    }

    pub(crate) fn worker(&self, name: &str) -> Worker {
        self.worker_in(name, &[])
    }

    /// A worker with further environment variables.
    pub(crate) fn worker_in(&self, name: &str, environment: &[(&str, &str)]) -> Worker {
        let log = fs::File::create(self.folder.path().join(format!("{name}.log"))).expect("writable");
        let child = Command::new(env!("CARGO_BIN_EXE_dyadic-worker"))
            .args(["run", "--name", name, "--database-url", &self.url, "--blobs", &self.blobs_url])
            .args(["--lease-secs", "2", "--checkpoint-secs", "1", "--poll-secs", "1"])
            .arg("--cache")
            .arg(self.folder.path().join("cache"))
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the worker is built");
        Worker(child)
    }

    pub(crate) async fn job(&self, id: Uuid) -> Job {
        self.store.job(None, id).await.expect("the job is there")
    }

    /// Waits until a job is as wanted; fails with the job and the workers' logs after five minutes.
    pub(crate) async fn until(&self, id: Uuid, what: &str, wanted: impl Fn(&Job) -> bool) -> Job {
        let began = Instant::now();
        let mut reaper = Reaper::new(LEASE_SECS);
        loop {
            let job = self.job(id).await;
            if wanted(&job) {
                return job;
            }
            if began.elapsed() > Duration::from_secs(300) || (job.state.is_final() && !wanted(&job)) {
                let logs = fs::read_dir(self.folder.path()).expect("listable").filter_map(Result::ok);
                let logs: Vec<_> = logs.filter_map(|e| fs::read_to_string(e.path()).ok()).collect();
                panic!("{what}: {job:#?}\n{}", logs.join("\n"));
            }
            reaper.tick(&self.store, Instant::now()).await.expect("the database is there");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Long enough to be disturbed in the middle.
pub(crate) fn long() -> JobSpec {
    let mut spec = JobSpec {
        method: Method::Aptq,
        epochs: 60,
        batch_size: 16,
        threads: Some(1),
        precision: Precision::F32,
        ..JobSpec::default()
    };
    spec.normalization.mean = vec![0.5];
    spec.normalization.std = vec![0.25];
    spec
}

pub(crate) fn weights(job: &Job) -> String {
    let artifact = job.artifact.0.as_ref().expect("a success has an artifact");
    artifact.summary["weights_sha256"].as_str().expect("the summary has it").to_string()
}

pub(crate) fn in_training(job: &Job) -> bool {
    job.state == JobState::Running && job.checkpoint_step > Some(0) && job.phase == "train"
}
