//! Where the server is, which token to show it, and the connection.
//!
//! A token found in a file is this machine's own and is sent to this machine only; a server elsewhere gets what
//! `--token` or `DYADIC_TOKEN` gives, and nothing else.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use dyadic_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use dyadic_proto::v1::dataset_service_client::DatasetServiceClient;
use dyadic_proto::v1::experiment_service_client::ExperimentServiceClient;
use dyadic_proto::v1::job_service_client::JobServiceClient;
use dyadic_proto::v1::model_service_client::ModelServiceClient;
use dyadic_proto::v1::served_model_service_client::ServedModelServiceClient;
use dyadic_proto::v1::token_service_client::TokenServiceClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};

use crate::error::{CliError, Kind, Result};

/// Where `dyadic up` and `dyadic-server` listen unless told otherwise.
pub(crate) const DEFAULT_SERVER: &str = "http://127.0.0.1:8470";

/// File of a data folder that holds its server's address and port.
pub(crate) const ADDRESS_FILE: &str = "address";

/// Replies may be large: logits of a big batch, a comparison of fifty runs.
const MAX_REPLY_BYTES: usize = 256 << 20;

/// Which server, and as whom.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct ServerArgs {
    /// Address of the server [default: what `dyadic up` wrote into its data folder, or http://127.0.0.1:8470]
    #[arg(long, global = true, env = "DYADIC_SERVER", value_name = "URL", hide_env_values = true)]
    server: Option<String>,
    /// Token; for a server on this machine it is found by itself
    #[arg(long, global = true, env = "DYADIC_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Data folder of the server on this machine; its files `token` and `address` are used
    #[arg(long, global = true, env = "DYADIC_DATA_DIR", value_name = "DIR", hide_env_values = true)]
    pub(crate) data: Option<PathBuf>,
    /// PEM file of the authority that signed an https server's certificate
    #[arg(long, global = true, env = "DYADIC_CA", value_name = "FILE", hide_env_values = true)]
    ca: Option<PathBuf>,
}

/// `$XDG_DATA_HOME/dyadic`, or `~/.local/share/dyadic`.
pub(crate) fn default_data_dir() -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let base = set("XDG_DATA_HOME").or_else(|| set("HOME").map(|h| h.join(".local/share")));
    base.unwrap_or_else(|| PathBuf::from(".")).join("dyadic")
}

/// Adds the token to every request.
#[derive(Debug, Clone)]
pub(crate) struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

type Transport = InterceptedService<Channel, Bearer>;

/// An open connection, from which clients of the services are made.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    channel: Channel,
    bearer: Bearer,
}

impl ServerArgs {
    /// The server's address with its scheme.
    pub(crate) fn address(&self) -> String {
        match self.server.as_deref() {
            None => self.written_address().unwrap_or_else(|| DEFAULT_SERVER.to_owned()),
            Some(s) if s.contains("://") => s.to_owned(),
            Some(s) => format!("http://{s}"),
        }
    }

    /// What the server on this machine wrote into its data folder.
    fn written_address(&self) -> Option<String> {
        let text = fs::read_to_string(self.folder().join(ADDRESS_FILE)).ok()?;
        let mut address: std::net::SocketAddr = text.trim().parse().ok()?;
        match address.ip() {
            std::net::IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
            std::net::IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
            _ => {}
        }
        Some(format!("http://{address}"))
    }

    fn folder(&self) -> PathBuf {
        self.data.clone().unwrap_or_else(default_data_dir)
    }

    /// Connects, or says why not and what to do.
    pub(crate) async fn connect(&self) -> Result<Connection> {
        let address = self.address();
        let bearer = Bearer(self.token_for(&address)?);
        let endpoint = self.endpoint(&address)?;
        let channel = endpoint.connect().await.map_err(|e| {
            let file = self.folder().join(ADDRESS_FILE);
            let written = self.server.is_none() && self.written_address().is_some();
            let from = if written { format!(" (which {} says)", file.display()) } else { String::new() };
            CliError::new(Kind::Unavailable, format!("cannot reach {address}{from}: {}", innermost(&e)))
                .hint("start one with `dyadic up`, or name another with --server or DYADIC_SERVER")
        })?;
        Ok(Connection { channel, bearer })
    }

    fn endpoint(&self, address: &str) -> Result<Endpoint> {
        let bad =
            |e: tonic::transport::Error| CliError::usage(format!("--server {address}: {}", innermost(&e)));
        let endpoint = Endpoint::from_shared(address.to_owned())
            .map_err(bad)?
            .connect_timeout(Duration::from_secs(10))
            .http2_keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(20))
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(8 << 20);
        if !address.starts_with("https://") {
            return Ok(endpoint);
        }
        let ca = self.ca.as_deref().ok_or_else(|| {
            CliError::usage(
                "an https server needs --ca FILE, the certificate of the authority that signed its own",
            )
        })?;
        let pem = fs::read(ca).map_err(|e| CliError::file(ca, e))?;
        endpoint.tls_config(ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem))).map_err(bad)
    }

    fn token_for(&self, address: &str) -> Result<Option<MetadataValue<Ascii>>> {
        let token = match &self.token {
            Some(token) => Some(token.clone()),
            None if is_loopback(address) => read_token(&self.folder()),
            None => None,
        };
        let Some(token) = token else { return Ok(None) };
        let value = format!("Bearer {}", token.trim()).parse();
        value.map(Some).map_err(|_| CliError::usage("the token has characters that no token has"))
    }
}

/// Whether the address names this machine.
fn is_loopback(address: &str) -> bool {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or(rest);
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or(v6),
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn read_token(data: &Path) -> Option<String> {
    let text = fs::read_to_string(data.join("token")).ok()?;
    let token = text.trim();
    (!token.is_empty()).then(|| token.to_owned())
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

macro_rules! clients {
    ($($(#[$doc:meta])* $name:ident: $client:ident,)*) => {
        impl Connection {
            $($(#[$doc])* pub(crate) fn $name(&self) -> $client<Transport> {
                $client::with_interceptor(self.channel.clone(), self.bearer.clone()).max_decoding_message_size(MAX_REPLY_BYTES)
            })*
        }
    };
}

clients! {
    /// Float models.
    models: ModelServiceClient,
    /// Quantized models by served name.
    served: ServedModelServiceClient,
    /// Datasets.
    datasets: DatasetServiceClient,
    /// Jobs.
    jobs: JobServiceClient,
    /// History.
    experiments: ExperimentServiceClient,
    /// Access tokens.
    tokens: TokenServiceClient,
    /// The Open Inference Protocol.
    inference: GrpcInferenceServiceClient,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(server: Option<&str>, token: Option<&str>, data: Option<&Path>) -> ServerArgs {
        let own = |s: Option<&str>| s.map(str::to_owned);
        ServerArgs { server: own(server), token: own(token), data: data.map(Path::to_owned), ca: None }
    }

    #[test]
    fn addresses_get_a_scheme_and_a_default() {
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(args(None, None, Some(empty.path())).address(), DEFAULT_SERVER);
        assert_eq!(args(Some("box:9"), None, None).address(), "http://box:9");
        assert_eq!(args(Some("https://box"), None, None).address(), "https://box");
    }

    #[test]
    fn a_data_folder_tells_where_its_server_listens() {
        let dir = tempfile::tempdir().unwrap();
        let of = |text: &str, server: Option<&str>| {
            fs::write(dir.path().join("address"), text).unwrap();
            args(server, None, Some(dir.path())).address()
        };
        assert_eq!(of("127.0.0.1:43121\n", None), "http://127.0.0.1:43121");
        assert_eq!(of("127.0.0.1:43121\n", Some("box:9")), "http://box:9");
        assert_eq!(of("0.0.0.0:9", None), "http://127.0.0.1:9");
        assert_eq!(of("[::]:9", None), "http://[::1]:9");
        for torn in ["", "127.0.0.1", "http://127.0.0.1:1"] {
            assert_eq!(of(torn, None), DEFAULT_SERVER, "{torn}");
        }
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for yes in ["http://127.0.0.1:8470", "http://localhost", "https://[::1]:9/x", "127.9.9.9:1"] {
            assert!(is_loopback(yes), "{yes}");
        }
        for no in [
            "http://10.0.0.1:8001",
            "https://localhost.example.com",
            "http://127.0.0.1.evil.com:1",
            "http://[::2]:1",
        ] {
            assert!(!is_loopback(no), "{no}");
        }
    }

    #[test]
    fn token_files_are_shown_to_this_machine_only() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("token"), "secret\n").unwrap();
        let of = |server: &str, token: Option<&str>| {
            let args = args(Some(server), token, Some(dir.path()));
            args.token_for(&args.address()).unwrap().map(|v| v.to_str().unwrap().to_owned())
        };
        assert_eq!(of("127.0.0.1:1", None).as_deref(), Some("Bearer secret"));
        assert_eq!(of("example.com:1", None), None);
        assert_eq!(of("example.com:1", Some("given")).as_deref(), Some("Bearer given"));
        assert_eq!(of("127.0.0.1:1", Some("given")).as_deref(), Some("Bearer given"));
    }

    #[test]
    fn https_without_an_authority_says_what_is_missing() {
        let args = args(Some("https://example.com"), None, None);
        let error = args.endpoint(&args.address()).unwrap_err();
        assert_eq!(error.kind, Kind::Usage);
        assert!(error.message.contains("--ca"));
    }
}
