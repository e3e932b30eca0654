//! From a configuration to a running server.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use dyadic_proto::FILE_DESCRIPTOR_SET;
use dyadic_proto::inference::grpc_inference_service_server::GrpcInferenceServiceServer;
use dyadic_proto::v1::dataset_service_server::DatasetServiceServer;
use dyadic_proto::v1::experiment_service_server::ExperimentServiceServer;
use dyadic_proto::v1::job_service_server::JobServiceServer;
use dyadic_proto::v1::model_service_server::ModelServiceServer;
use dyadic_proto::v1::served_model_service_server::ServedModelServiceServer;
use dyadic_proto::v1::token_service_server::TokenServiceServer;
use dyadic_store::blob::{BlobError, BlobStore};
use dyadic_store::{Store, StoreError};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::auth::{self, Authenticator, LocalToken, LocalTokenError};
use crate::background;
use crate::config::{Config, ConfigError};
use crate::infer::registry::Registry;
use crate::infer::service::InferenceService;
use crate::notices::Notices;
use crate::serve::{Assembly, Bound, ServeError, limited};
use crate::services::{
    Checks, DatasetApi, DatasetReader, ExperimentApi, Inspector, JobApi, ModelApi, Planner, Pusher,
    ServedModelApi, StoredTokens, TokenApi,
};
use crate::upload::SpoolDir;

/// A server that runs.
pub struct Server {
    address: SocketAddr,
    drain: CancellationToken,
    serving: Mutex<Option<JoinHandle<Result<(), ServeError>>>>,
    store: Store,
    blobs: BlobStore,
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// This machine's token cannot be used.
    #[error(transparent)]
    Token(#[from] LocalTokenError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The blob store.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The socket or the certificate.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// Server reflection.
    #[error("reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// A file or folder.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

/// What the services share.
struct Parts {
    config: Config,
    store: Store,
    blobs: BlobStore,
    spools: SpoolDir,
    registry: Arc<Registry>,
    notices: Notices,
    drain: CancellationToken,
}

impl Server {
    /// Opens everything, brings the database up to date, binds, and serves in the background.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        config.check()?;
        let data_dir = config.data_dir()?;
        let local = LocalToken::open(&data_dir)?;
        let io = |path: &Path, source| StartError::Io { path: path.display().to_string(), source };
        let uploads = data_dir.join("uploads");
        let spools = SpoolDir::open(uploads.clone()).map_err(|source| io(&uploads, source))?;
        let blobs = match &config.blobs {
            Some(url) => BlobStore::open(url)?,
            None => BlobStore::local(&data_dir.join("blobs"))?,
        };
        match blobs.clear_staging().await? {
            0 => {}
            count => tracing::info!(count, "unfinished blobs of writers that are no more removed"),
        }
        let url = config.database_url.as_deref().ok_or(ConfigError::NoDatabase)?;
        let store = Store::connect(url).await?;
        store.migrate().await?;
        let bound = Bound::bind(config.listen).await?;
        let address = bound.address;
        let (registry, drain) = (Arc::new(Registry::default()), CancellationToken::new());
        let parts = Parts { config, store, blobs, spools, registry, notices: Notices::new(), drain };
        let directory = Box::new(StoredTokens(parts.store.clone()));
        let authenticator = Arc::new(Authenticator::new(&local, parts.config.anonymous, directory));
        let (health, routes) = parts.routes()?;
        background::start(parts.background());
        let Parts { config, store, blobs, drain, .. } = parts;
        if let Some(path) = &config.port_file {
            write_whole(path, &address.to_string()).map_err(|source| io(path, source))?;
        }
        tracing::info!(%address, token = %local.path.display(), "serving");
        tokio::spawn(announce(health, drain.clone()));
        let assembly = Assembly { routes, authenticator, drain: drain.clone() };
        let stop = drain.clone();
        let serving = tokio::spawn(async move {
            let result = bound.serve(&config, assembly).await;
            // The background must not outlive a server that fails.
            stop.cancel();
            result
        });
        Ok(Self { address, drain, serving: Mutex::new(Some(serving)), store, blobs })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its database.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Its blobs.
    pub fn blobs(&self) -> &BlobStore {
        &self.blobs
    }

    /// Takes no new calls, lets those in flight finish.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// Waits until it has stopped; once.
    pub async fn until_finished(&self) -> Result<(), ServeError> {
        let serving = self.serving.lock().await.take();
        match serving {
            // A panic in the transport has been reported by its thread.
            Some(task) => task.await.unwrap_or(Ok(())),
            None => Ok(()),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.drain.cancel();
    }
}

impl Parts {
    fn routes(&self) -> Result<(HealthReporter, Routes), StartError> {
        let limits = &self.config.limits;
        let (store, blobs, spools) = (&self.store, &self.blobs, &self.spools);
        let inspector = Inspector::new(limits.max_imports);
        let planner = Planner::new(blobs.clone(), inspector.clone());
        let pusher = Pusher {
            store: store.clone(),
            blobs: blobs.clone(),
            spools: spools.clone(),
            inspector: inspector.clone(),
            limits: limits.clone(),
        };
        let models = ModelApi::new(store.clone(), blobs.clone(), spools.clone(), inspector, limits.clone());
        let served = ServedModelApi::new(pusher, self.registry.clone());
        let reader = DatasetReader::new(store.clone(), blobs.clone(), spools.clone(), limits.max_imports);
        let datasets =
            DatasetApi::new(store.clone(), blobs.clone(), spools.clone(), reader.clone(), limits.clone());
        let checks = Checks { datasets: reader, planner };
        let jobs = JobApi::new(store.clone(), checks, self.notices.clone(), limits, self.drain.clone());
        let experiments = ExperimentApi::new(store.clone());
        let tokens = TokenApi::new(store.clone());
        let inference = InferenceService::new(self.registry.clone(), self.drain.clone());
        let (reporter, health) = tonic_health::server::health_reporter();
        let mut routes = Routes::builder();
        routes
            .add_service(health)
            .add_service(reflection().build_v1()?)
            .add_service(reflection().build_v1alpha()?)
            .add_service(limited!(ModelServiceServer::new(models), limits))
            .add_service(limited!(ServedModelServiceServer::new(served), limits))
            .add_service(limited!(DatasetServiceServer::new(datasets), limits))
            .add_service(limited!(JobServiceServer::new(jobs), limits))
            .add_service(
                limited!(ExperimentServiceServer::new(experiments), limits)
                    .send_compressed(CompressionEncoding::Gzip),
            )
            .add_service(limited!(TokenServiceServer::new(tokens), limits))
            .add_service(limited!(GrpcInferenceServiceServer::new(inference), limits));
        Ok((reporter, routes.routes()))
    }

    fn background(&self) -> background::Parts {
        background::Parts {
            store: self.store.clone(),
            blobs: self.blobs.clone(),
            spools: self.spools.clone(),
            registry: self.registry.clone(),
            notices: self.notices.clone(),
            limits: self.config.limits.clone(),
            drain: self.drain.clone(),
        }
    }
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

/// Tells load balancers of every service, and as soon as the drain begins.
async fn announce(reporter: HealthReporter, drain: CancellationToken) {
    for service in auth::services() {
        reporter.set_service_status(service, ServingStatus::Serving).await;
    }
    drain.cancelled().await;
    for service in std::iter::once("").chain(auth::services()) {
        reporter.set_service_status(service, ServingStatus::NotServing).await;
    }
}

/// Readers see all of it or nothing.
fn write_whole(path: &Path, text: &str) -> std::io::Result<()> {
    let aside = path.with_extension("new");
    std::fs::write(&aside, text)?;
    std::fs::rename(&aside, path)
}
