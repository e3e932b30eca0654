//! A migrated database with a model and a dataset in it, and ways to get a job into any state.

use std::time::Duration;

use dyadic_store::blob::Digest;
use dyadic_store::job::{Failure, Job, JobState, Lease, NewJob, Outcome, Progress, Published, Tags, Worker};
use dyadic_store::registry::{ModelFile, NewDataset, NewModel, Promote, Split};
use dyadic_store::spec::JobSpec;
use dyadic_store::{ErrorKind, Result, Store};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use uuid::Uuid;

pub(crate) const LEASE: Duration = Duration::from_secs(60);
pub(crate) const ROOM: u32 = 1000;

pub(crate) struct Fixture {
    pub(crate) store: Store,
    pub(crate) url: String,
    pub(crate) model: Uuid,
    pub(crate) dataset: Uuid,
}

pub(crate) fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

pub(crate) fn new_model(name: &str) -> NewModel {
    let file = |file: &str| ModelFile {
        name: file.to_owned(),
        sha256: digest(&format!("{name}/{file}")),
        size_bytes: 1000,
    };
    NewModel {
        owner: "ada".to_owned(),
        name: name.to_owned(),
        files: vec![file("m.onnx"), file("m.onnx.data")],
        info: serde_json::json!({"macs": 7}),
        tags: [("kind".to_owned(), "cnn".to_owned())].into(),
    }
}

pub(crate) fn new_dataset(name: &str) -> NewDataset {
    NewDataset {
        owner: "ada".to_owned(),
        name: name.to_owned(),
        format: "idx".to_owned(),
        splits: vec![Split { name: "train".to_owned(), paths: vec![] }],
        labels: vec!["zero".to_owned(), "one".to_owned()],
        file_name: "digits.tar".to_owned(),
        sha256: digest(name),
        size_bytes: 5000,
        tags: Tags::new(),
    }
}

pub(crate) fn worker(name: &str) -> Worker {
    Worker {
        name: name.to_owned(),
        host: "here".to_owned(),
        code_version: "0.1.0".to_owned(),
        capabilities: vec!["cpu".to_owned()],
    }
}

pub(crate) fn outcome() -> Outcome {
    Outcome { sha256: digest("artifact"), size_bytes: 99, summary: serde_json::json!({"accuracy": 0.9}) }
}

pub(crate) fn failure(retryable: bool) -> Failure {
    Failure { code: "io".to_owned(), message: "the disk is full; free some space".to_owned(), retryable }
}

pub(crate) fn kind<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
    result.expect_err("must be refused").kind()
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        let database = dyadic_store::testing::database().await;
        let store = Store::connect(database.url()).await.unwrap();
        store.migrate().await.unwrap();
        let (model, _) = store.add_model(&new_model("lenet")).await.unwrap();
        let (dataset, _) = store.add_dataset(&new_dataset("digits")).await.unwrap();
        Self { store, url: database.url().to_owned(), model: model.id, dataset: dataset.id }
    }

    pub(crate) fn new_job(&self) -> NewJob {
        NewJob {
            owner: "ada".to_owned(),
            experiment: "default".to_owned(),
            model: self.model,
            dataset: self.dataset,
            train_split: "train".to_owned(),
            eval_split: "test".to_owned(),
            served_name: "lenet".to_owned(),
            spec: serde_json::json!({"epochs": 3}),
            settings: JobSpec { epochs: 3, ..JobSpec::default() },
            requires: vec![],
            priority: 0,
            max_stalls: 3,
            promote: Promote::default(),
            idempotency_key: None,
            tags: [("colour".to_owned(), "blue".to_owned())].into(),
            plan: Some("version = 1".to_owned()),
        }
    }

    pub(crate) async fn submit(&self) -> Job {
        self.store.submit(&self.new_job(), ROOM).await.unwrap().job
    }

    pub(crate) async fn claim(&self) -> Lease {
        self.store.claim(&worker("w1"), LEASE).await.unwrap().expect("a job waits").0
    }

    pub(crate) async fn running(&self) -> Lease {
        self.submit().await;
        self.claim().await
    }

    pub(crate) async fn job(&self, id: Uuid) -> Job {
        self.store.job(None, id).await.unwrap()
    }

    pub(crate) async fn heartbeat(&self, held: Lease, done: u64) -> Result<bool> {
        let progress = Progress { phase: "train".to_owned(), done, total: 10 };
        Ok(self.store.heartbeat(held, LEASE, &progress).await?.cancel_requested)
    }

    pub(crate) async fn complete(&self, held: Lease) -> Result<Published> {
        self.store.complete(held, &outcome()).await
    }

    /// A job in this state, by the way that jobs get there.
    pub(crate) async fn in_state(&self, state: JobState) -> Uuid {
        if state == JobState::Queued {
            return self.submit().await.id;
        }
        let held = self.running().await;
        match state {
            JobState::Queued | JobState::Running => {}
            JobState::Succeeded => drop(self.complete(held).await.unwrap()),
            JobState::Failed => self.store.fail(held, &failure(false)).await.unwrap(),
            JobState::Cancelled => {
                self.store.cancel(None, held.job, "ada").await.unwrap();
                self.store.acknowledge_cancel(held).await.unwrap();
            }
        }
        held.job
    }

    /// Runs statements past the store; answers rows affected.
    pub(crate) async fn sql(&self, statement: &str) -> std::result::Result<u64, sqlx::Error> {
        let mut connection = PgConnection::connect(&self.url).await?;
        Ok(sqlx::query(AssertSqlSafe(statement)).execute(&mut connection).await?.rows_affected())
    }

    pub(crate) async fn expire_leases(&self) {
        self.sql("UPDATE job SET lease_expires_at = now() - interval '1 s' WHERE state = 'running'")
            .await
            .unwrap();
    }

    /// Lets every backoff pass.
    pub(crate) async fn pass_backoffs(&self) {
        self.sql("UPDATE job SET run_at = now() WHERE state = 'queued'").await.unwrap();
    }
}
