//! A real server on a free port, with a real database and a blob folder of its own.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Parser;
use dyadic_engine::artifact::Provenance;
use dyadic_engine::certificate::GoldenInput;
use dyadic_engine::testing::resnet20;
use dyadic_engine::{Artifact, Certificate, Engine, Model};
use dyadic_proto::inference as pb;
use dyadic_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use dyadic_proto::v1::dataset_service_client::DatasetServiceClient;
use dyadic_proto::v1::experiment_service_client::ExperimentServiceClient;
use dyadic_proto::v1::job_service_client::JobServiceClient;
use dyadic_proto::v1::model_service_client::ModelServiceClient;
use dyadic_proto::v1::served_model_service_client::ServedModelServiceClient;
use dyadic_proto::v1::token_service_client::TokenServiceClient;
use dyadic_proto::v1::{CreateTokenRequest, JobSpec, Role, SubmitJobRequest};
use dyadic_server::config::Config;
use dyadic_server::start::Server;
use dyadic_store::job::{Job, Lease, Outcome, Published, Tags, Worker};
use dyadic_store::registry::{ModelFile, NewDataset, NewModel};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// Served name of a model that takes images too.
pub(crate) const NORMALIZED: &str = "with-images";
/// Served name of a model that takes floats only.
pub(crate) const PLAIN: &str = "floats-only";
/// Values of one sample.
pub(crate) const SAMPLE: usize = 3 * 32 * 32;

/// A running server.
pub(crate) struct Harness {
    server: Server,
    pub(crate) store: dyadic_store::Store,
    pub(crate) blobs: dyadic_store::blob::BlobStore,
    channel: Channel,
    database: dyadic_store::testing::Database,
    dir: tempfile::TempDir,
    engines: Mutex<Vec<(&'static str, Arc<Engine>)>>,
}

/// Adds a token.
#[derive(Clone)]
pub(crate) struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

type Transport = InterceptedService<Channel, Bearer>;

impl Harness {
    /// A server with nothing in it.
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// The same with further flags.
    pub(crate) async fn start_with(flags: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), flags).await
    }

    /// The same with its data in the folder `data` of a given one.
    pub(crate) async fn start_in(dir: tempfile::TempDir, flags: &[&str]) -> Self {
        Self::start_on(dyadic_store::testing::database().await, dir, flags).await
    }

    /// Another server on the same database and blobs.
    pub(crate) async fn replica(&self) -> Self {
        let blobs = format!("file://{}", self.folder().join("blobs").display());
        Self::start_on(self.database.clone(), tempfile::tempdir().unwrap(), &["--blobs", &blobs]).await
    }

    async fn start_on(
        database: dyadic_store::testing::Database,
        dir: tempfile::TempDir,
        flags: &[&str],
    ) -> Self {
        let data = dir.path().join("data");
        let data = data.to_str().unwrap();
        let base = [
            "dyadic-server",
            "--listen",
            "127.0.0.1:0",
            "--database-url",
            database.url(),
            "--data-dir",
            data,
        ];
        let config = Config::try_parse_from(base.iter().chain(flags)).unwrap();
        let server = Server::start(config).await.unwrap();
        let store = server.store().clone();
        let blobs = server.blobs().clone();
        let channel = Endpoint::from_shared(format!("http://{}", server.address())).unwrap().connect_lazy();
        Self { server, store, blobs, channel, database, dir, engines: Mutex::default() }
    }

    /// A server with the models [`NORMALIZED`] and [`PLAIN`], ready.
    pub(crate) async fn serving() -> Self {
        let harness = Self::start().await;
        for (name, seed, images) in [(NORMALIZED, 1, true), (PLAIN, 2, false)] {
            let mut model = resnet20(seed, 2);
            "input".clone_into(&mut model.input.name);
            "logits".clone_into(&mut model.output.name);
            model.output.labels = (0..10).map(|class| format!("class{class}")).collect();
            if !images {
                model.input.normalization = None;
            }
            harness.publish(name, &model).await;
            harness.engines.lock().unwrap().push((name, Arc::new(Engine::new(model).unwrap())));
            harness.until_ready(name, 1).await;
        }
        harness
    }

    pub(crate) fn address(&self) -> String {
        self.server.address().to_string()
    }

    pub(crate) fn local_token(&self) -> String {
        std::fs::read_to_string(self.folder().join("token")).unwrap().trim().to_owned()
    }

    /// Files of uploads that are under way.
    pub(crate) fn spooled_files(&self) -> usize {
        std::fs::read_dir(self.folder().join("uploads")).unwrap().count()
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    fn transport(&self, token: &str) -> Transport {
        InterceptedService::new(self.channel(), Bearer(format!("Bearer {token}").parse().unwrap()))
    }

    fn local(&self) -> Transport {
        self.transport(&self.local_token())
    }

    pub(crate) fn inference(&self) -> GrpcInferenceServiceClient<Transport> {
        GrpcInferenceServiceClient::new(self.local())
    }

    pub(crate) fn inference_as(&self, token: &str) -> GrpcInferenceServiceClient<Transport> {
        GrpcInferenceServiceClient::new(self.transport(token))
    }

    pub(crate) fn models(&self) -> ModelServiceClient<Transport> {
        ModelServiceClient::new(self.local())
    }

    pub(crate) fn models_as(&self, token: &str) -> ModelServiceClient<Transport> {
        ModelServiceClient::new(self.transport(token))
    }

    pub(crate) fn served(&self) -> ServedModelServiceClient<Transport> {
        ServedModelServiceClient::new(self.local())
    }

    pub(crate) fn served_as(&self, token: &str) -> ServedModelServiceClient<Transport> {
        ServedModelServiceClient::new(self.transport(token))
    }

    pub(crate) fn datasets(&self) -> DatasetServiceClient<Transport> {
        DatasetServiceClient::new(self.local())
    }

    pub(crate) fn datasets_as(&self, token: &str) -> DatasetServiceClient<Transport> {
        DatasetServiceClient::new(self.transport(token))
    }

    pub(crate) fn jobs(&self) -> JobServiceClient<Transport> {
        JobServiceClient::new(self.local())
    }

    pub(crate) fn jobs_as(&self, token: &str) -> JobServiceClient<Transport> {
        JobServiceClient::new(self.transport(token))
    }

    pub(crate) fn experiments(&self) -> ExperimentServiceClient<Transport> {
        ExperimentServiceClient::new(self.local())
    }

    pub(crate) fn tokens(&self) -> TokenServiceClient<Transport> {
        TokenServiceClient::new(self.local())
    }

    /// A new token's secret.
    pub(crate) async fn token(&self, name: &str, role: Role) -> String {
        let request = CreateTokenRequest { name: name.to_owned(), role: role.into() };
        self.tokens().create(request).await.unwrap().into_inner().secret
    }

    /// Stops the server as SIGTERM would.
    pub(crate) async fn stop(self) {
        self.server.drain();
        self.server.until_finished().await.unwrap();
    }

    pub(crate) fn drain(&self) {
        self.server.drain();
    }

    /// What an engine of the test's own computes.
    pub(crate) fn engine_floats(&self, name: &str, input: &[f32]) -> Vec<f32> {
        let engine = self.engine(name);
        let batch = input.len() / SAMPLE;
        let mut output = vec![0.0; batch * engine.output_len()];
        engine.run_f32(&mut engine.scratch(), input, batch, &mut output).unwrap();
        output
    }

    /// The same for images.
    pub(crate) fn engine_bytes(&self, name: &str, input: &[u8]) -> Vec<f32> {
        let engine = self.engine(name);
        let batch = input.len() / SAMPLE;
        let mut output = vec![0.0; batch * engine.output_len()];
        engine.run_u8(&mut engine.scratch(), input, batch, &mut output).unwrap();
        output
    }

    /// Mean and standard deviation of [`NORMALIZED`].
    pub(crate) fn normalization(&self) -> (Vec<f32>, Vec<f32>) {
        let normalization = self.engine(NORMALIZED).model().input.normalization.clone().unwrap();
        (normalization.mean, normalization.std)
    }

    fn engine(&self, name: &str) -> Arc<Engine> {
        let engines = self.engines.lock().unwrap();
        engines.iter().find(|(known, _)| *known == name).unwrap().1.clone()
    }

    /// Publishes a model as the next version of a served name, the way a worker does: a job is submitted, claimed and
    /// completed. Answers the job's id.
    pub(crate) async fn publish(&self, served_name: &str, model: &Model) -> uuid::Uuid {
        let job = self.submitted(served_name).await;
        let (lease, _) = self.claim().await;
        assert_eq!(lease.job, job);
        self.complete(lease, &artifact(model)).await;
        job
    }

    /// The same with these accuracies, by a job that asks this of the gate.
    pub(crate) async fn publish_judged(
        &self,
        served_name: &str,
        model: &Model,
        promote: &str,
        (float_accuracy, accuracy): (f64, f64),
    ) -> uuid::Uuid {
        let job = self.submitted_asking(served_name, promote).await;
        let (lease, _) = self.claim().await;
        assert_eq!(lease.job, job);
        let summary = serde_json::json!({ "float_accuracy": float_accuracy, "accuracy": accuracy });
        self.complete_with(lease, &artifact(model), summary).await;
        job
    }

    /// A job in the queue whose result is to be served under this name.
    pub(crate) async fn submitted(&self, served_name: &str) -> uuid::Uuid {
        self.submitted_asking(served_name, "").await
    }

    async fn submitted_asking(&self, served_name: &str, promote: &str) -> uuid::Uuid {
        let model = self.model("m", crate::models::fixture("lenet_relu_script16_one.onnx")).await;
        let dataset = self.dataset("d", crate::datasets::Digits::GOOD.tar()).await;
        let spec = JobSpec {
            model: model.to_string(),
            dataset: dataset.to_string(),
            served_name: served_name.to_owned(),
            promote: promote.to_owned(),
            ..JobSpec::default()
        };
        let request = SubmitJobRequest { spec: Some(spec), idempotency_key: String::new() };
        let job = self.jobs().submit(request).await.unwrap().into_inner().job.unwrap();
        job.id.parse().unwrap()
    }

    /// IDX files that are there without having been pushed: nobody has looked into them.
    pub(crate) async fn dataset(&self, name: &str, tar: Vec<u8>) -> uuid::Uuid {
        let size_bytes = tar.len() as u64;
        let sha256 = self.blobs.put_bytes(tar).await.unwrap();
        self.store.touch_blob(sha256, size_bytes).await.unwrap();
        let dataset = NewDataset {
            owner: "local".into(),
            name: name.into(),
            format: "idx".into(),
            splits: vec![],
            labels: vec![],
            file_name: "d.tar".into(),
            sha256,
            size_bytes,
            tags: Tags::new(),
        };
        self.store.add_dataset(&dataset).await.unwrap().0.id
    }

    /// A model that is there without having been pushed.
    pub(crate) async fn model(&self, name: &str, bytes: Vec<u8>) -> uuid::Uuid {
        let size_bytes = bytes.len() as u64;
        let sha256 = self.blobs.put_bytes(bytes).await.unwrap();
        self.store.touch_blob(sha256, size_bytes).await.unwrap();
        let file = ModelFile { name: "m.onnx".into(), sha256, size_bytes };
        let (owner, name, info) = ("local".to_owned(), name.to_owned(), serde_json::json!({}));
        let model = NewModel { owner, name, files: vec![file], info, tags: Tags::new() };
        self.store.add_model(&model).await.unwrap().0.id
    }

    /// Claims the next job as a worker.
    pub(crate) async fn claim(&self) -> (Lease, Job) {
        let worker = Worker {
            name: "worker-1".into(),
            host: "here".into(),
            code_version: "test".into(),
            capabilities: vec![],
        };
        self.store.claim(&worker, Duration::from_secs(60)).await.unwrap().unwrap()
    }

    /// Publishes an artifact and ends the job.
    pub(crate) async fn complete(&self, lease: Lease, bytes: &[u8]) -> Published {
        self.complete_with(lease, bytes, serde_json::json!({ "accuracy": 0.75 })).await
    }

    async fn complete_with(&self, lease: Lease, bytes: &[u8], summary: serde_json::Value) -> Published {
        let sha256 = self.blobs.put_bytes(bytes.to_vec()).await.unwrap();
        let outcome = Outcome { sha256, size_bytes: bytes.len() as u64, summary };
        self.store.complete(lease, &outcome).await.unwrap()
    }

    /// Waits until the server has loaded a version.
    pub(crate) async fn until_ready(&self, name: &str, version: u64) {
        for _ in 0..600 {
            let request = pb::ModelReadyRequest { name: name.into(), version: version.to_string() };
            if self.inference().model_ready(request).await.is_ok_and(|answer| answer.into_inner().ready) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{name}/{version} did not become ready");
    }

    /// Its data.
    pub(crate) fn folder(&self) -> std::path::PathBuf {
        self.dir.path().join("data")
    }
}

/// An artifact's bytes.
pub(crate) fn artifact(model: &Model) -> Vec<u8> {
    let certificate = Certificate::make(model, vec![GoldenInput::Seed(7)]).unwrap();
    let model = model.clone().try_into().unwrap();
    Artifact { model, provenance: Provenance::default(), certificate }.to_bytes().unwrap()
}

/// Sample `index` of a series of NCHW floats.
pub(crate) fn float_sample(index: usize) -> Vec<f32> {
    (0..SAMPLE).map(|i| ((i * 37 + index * 101) % 1000) as f32 / 200.0 - 2.5).collect()
}

/// Sample `index` of a series of HWC images.
pub(crate) fn image_sample(index: usize) -> Vec<u8> {
    (0..SAMPLE).map(|i| ((i * 31 + index * 77) % 256) as u8).collect()
}

/// Little-endian.
pub(crate) fn float_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
