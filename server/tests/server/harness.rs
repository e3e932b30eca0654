//! A real server on a free port, with a real database and a blob folder of its own.

use std::sync::{Arc, Mutex};

use clap::Parser;
use dyadic_engine::certificate::GoldenInput;
use dyadic_engine::testing::resnet20;
use dyadic_engine::{Artifact, Certificate, Engine, Model};
use dyadic_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use dyadic_proto::v1::dataset_service_client::DatasetServiceClient;
use dyadic_proto::v1::experiment_service_client::ExperimentServiceClient;
use dyadic_proto::v1::job_service_client::JobServiceClient;
use dyadic_proto::v1::model_service_client::ModelServiceClient;
use dyadic_proto::v1::served_model_service_client::ServedModelServiceClient;
use dyadic_proto::v1::token_service_client::TokenServiceClient;
use dyadic_proto::v1::{CreateTokenRequest, Role};
use dyadic_server::config::Config;
use dyadic_server::start::Server;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// Served name of a model that takes images too.
pub const NORMALIZED: &str = "with-images";
/// Served name of a model that takes floats only.
pub const PLAIN: &str = "floats-only";
/// Values of one sample.
pub const SAMPLE: usize = 3 * 32 * 32;

/// A running server.
pub struct Harness {
    server: Server,
    pub store: dyadic_store::Store,
    pub blobs: dyadic_store::blob::BlobStore,
    channel: Channel,
    dir: tempfile::TempDir,
    engines: Mutex<Vec<(&'static str, Arc<Engine>)>>,
}

/// Adds a token.
#[derive(Clone)]
pub struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

type Transport = InterceptedService<Channel, Bearer>;

impl Harness {
    /// A server with nothing in it.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// The same with further flags.
    pub async fn start_with(flags: &[&str]) -> Self {
        let database = dyadic_store::testing::database().await;
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().to_str().unwrap();
        let base = ["dyadic-server", "--listen", "127.0.0.1:0", "--database-url", database.url(), "--data-dir", data];
        let config = Config::try_parse_from(base.iter().chain(flags)).unwrap();
        let server = Server::start(config).await.unwrap();
        let store = server.store().clone();
        let blobs = server.blobs().clone();
        let channel = Endpoint::from_shared(format!("http://{}", server.address())).unwrap().connect_lazy();
        Self { server, store, blobs, channel, dir, engines: Mutex::default() }
    }

    /// A server with the models [`NORMALIZED`] and [`PLAIN`], ready.
    pub async fn serving() -> Self {
        let harness = Self::start().await;
        for (name, seed, images) in [(NORMALIZED, 1, true), (PLAIN, 2, false)] {
            let mut model = resnet20(seed, 2);
            model.input.name = "input".to_owned();
            model.output.name = "logits".to_owned();
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

    pub fn address(&self) -> String {
        self.server.address().to_string()
    }

    pub fn local_token(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("token")).unwrap().trim().to_owned()
    }

    /// Files of uploads that are under way.
    pub fn spooled_files(&self) -> usize {
        std::fs::read_dir(self.dir.path().join("uploads")).unwrap().count()
    }

    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    fn bearer(&self, token: &str) -> Bearer {
        Bearer(format!("Bearer {token}").parse().unwrap())
    }

    fn transport(&self, token: &str) -> Transport {
        InterceptedService::new(self.channel(), self.bearer(token))
    }

    fn local(&self) -> Transport {
        self.transport(&self.local_token())
    }

    pub fn inference(&self) -> GrpcInferenceServiceClient<Transport> {
        GrpcInferenceServiceClient::new(self.local())
    }

    pub fn models(&self) -> ModelServiceClient<Transport> {
        ModelServiceClient::new(self.local())
    }

    pub fn models_as(&self, token: &str) -> ModelServiceClient<Transport> {
        ModelServiceClient::new(self.transport(token))
    }

    pub fn served(&self) -> ServedModelServiceClient<Transport> {
        ServedModelServiceClient::new(self.local())
    }

    pub fn datasets(&self) -> DatasetServiceClient<Transport> {
        DatasetServiceClient::new(self.local())
    }

    pub fn jobs(&self) -> JobServiceClient<Transport> {
        JobServiceClient::new(self.local())
    }

    pub fn jobs_as(&self, token: &str) -> JobServiceClient<Transport> {
        JobServiceClient::new(self.transport(token))
    }

    pub fn experiments(&self) -> ExperimentServiceClient<Transport> {
        ExperimentServiceClient::new(self.local())
    }

    pub fn tokens(&self) -> TokenServiceClient<Transport> {
        TokenServiceClient::new(self.local())
    }

    /// A new token's secret.
    pub async fn token(&self, name: &str, role: Role) -> String {
        let request = CreateTokenRequest { name: name.to_owned(), role: role.into() };
        self.tokens().create(request).await.unwrap().into_inner().secret
    }

    /// Stops the server as SIGTERM would.
    pub async fn stop(self) {
        self.server.drain();
        self.server.until_finished().await.unwrap();
    }

    pub fn drain(&self) {
        self.server.drain();
    }

    /// What an engine of the test's own computes.
    pub fn engine_floats(&self, name: &str, input: &[f32]) -> Vec<f32> {
        let engine = self.engine(name);
        let batch = input.len() / SAMPLE;
        let mut output = vec![0.0; batch * engine.output_len()];
        engine.run_f32(&mut engine.scratch(), input, batch, &mut output).unwrap();
        output
    }

    /// The same for images.
    pub fn engine_bytes(&self, name: &str, input: &[u8]) -> Vec<f32> {
        let engine = self.engine(name);
        let batch = input.len() / SAMPLE;
        let mut output = vec![0.0; batch * engine.output_len()];
        engine.run_u8(&mut engine.scratch(), input, batch, &mut output).unwrap();
        output
    }

    /// Mean and standard deviation of [`NORMALIZED`].
    pub fn normalization(&self) -> (Vec<f32>, Vec<f32>) {
        let normalization = self.engine(NORMALIZED).model().input.normalization.clone().unwrap();
        (normalization.mean, normalization.std)
    }

    fn engine(&self, name: &str) -> Arc<Engine> {
        let engines = self.engines.lock().unwrap();
        engines.iter().find(|(known, _)| *known == name).unwrap().1.clone()
    }

    pub fn folder(&self) -> &std::path::Path {
        self.dir.path()
    }
}

/// An artifact's bytes.
pub fn artifact(model: &Model) -> Vec<u8> {
    let certificate = Certificate::make(model, vec![GoldenInput::Seed(7)]).unwrap();
    Artifact { model: model.clone(), provenance: Default::default(), certificate }.to_bytes().unwrap()
}

/// Sample `index` of a series of NCHW floats.
pub fn float_sample(index: usize) -> Vec<f32> {
    (0..SAMPLE).map(|i| ((i * 37 + index * 101) % 1000) as f32 / 200.0 - 2.5).collect()
}

/// Sample `index` of a series of HWC images.
pub fn image_sample(index: usize) -> Vec<u8> {
    (0..SAMPLE).map(|i| ((i * 31 + index * 77) % 256) as u8).collect()
}

/// Little-endian.
pub fn float_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
