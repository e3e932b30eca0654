//! Puts the server together, and takes it down: bind, serve, and on the signal drain.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Identity as TlsIdentity, ServerTlsConfig};
use tower::ServiceBuilder;

use crate::auth::Authenticator;
use crate::config::{Config, Limits};
use crate::layers::auth::AuthLayer;
use crate::layers::deadline::DeadlineLayer;
use crate::layers::shed::ShedLayer;
use crate::layers::status::StatusLayer;
use crate::layers::trace::TraceLayer;

/// Time for a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A connection is pinged when it was silent for this long,
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// and closed if no answer comes within this.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Streams that a client has reset and we have not seen yet: bounds the "rapid reset" attack.
const PENDING_RESETS: usize = 64;
/// Streams that we have reset for a client's mistakes before the connection goes.
const OWN_RESETS: usize = 256;
/// Bytes of request headers.
const HEADER_BYTES: u32 = 16 << 10;
/// Flow-control windows: an inference batch or an upload chunk fits without waiting.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// Everything that is served, ready to bind.
pub(crate) struct Assembly {
    pub(crate) routes: Routes,
    pub(crate) authenticator: Arc<Authenticator>,
    pub(crate) drain: CancellationToken,
}

/// The socket cannot be had, or the certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Binding failed.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A file of the TLS set-up cannot be read.
    #[error("{path}: {source}")]
    TlsFile {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The transport failed.
    #[error(transparent)]
    Transport(#[from] tonic::transport::Error),
}

/// A listening socket, not yet served.
pub(crate) struct Bound {
    listener: TcpListener,
    pub(crate) address: SocketAddr,
}

impl Bound {
    pub(crate) async fn bind(address: SocketAddr) -> Result<Self, ServeError> {
        let failed = |source| ServeError::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// Serves until `drain` is cancelled, and then for at most `config.drain()` more.
    pub(crate) async fn serve(self, config: &Config, assembly: Assembly) -> Result<(), ServeError> {
        let Assembly { routes, authenticator, drain } = assembly;
        let limits = &config.limits;
        let layers = ServiceBuilder::new()
            .layer(TraceLayer)
            .layer(StatusLayer)
            .layer(DeadlineLayer { call: limits.call() })
            .layer(ShedLayer::new(limits.max_calls, drain.clone()))
            .layer(AuthLayer(authenticator))
            .into_inner();
        let mut server = builder(limits).layer(layers);
        if let Some(tls) = tls(config)? {
            server = server.tls_config(tls)?;
        }
        let incoming = TcpIncoming::from(self.listener).with_nodelay(Some(true));
        let until = drain.clone();
        let served = server.add_routes(routes).serve_with_incoming_shutdown(incoming, async move {
            until.cancelled().await;
        });
        let hurry = async {
            drain.cancelled().await;
            tokio::time::sleep(config.drain()).await;
        };
        tokio::select! {
            result = served => Ok(result?),
            () = hurry => {
                tracing::warn!(seconds = config.drain_secs, "calls were still running at the drain deadline");
                Ok(())
            }
        }
    }
}

fn builder(limits: &Limits) -> tonic::transport::Server {
    tonic::transport::Server::builder()
        .max_concurrent_streams(limits.max_streams)
        .http2_max_pending_accept_reset_streams(Some(PENDING_RESETS))
        .http2_max_local_error_reset_streams(Some(OWN_RESETS))
        .http2_max_header_list_size(HEADER_BYTES)
        .http2_keepalive_interval(Some(PING_INTERVAL))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
}

fn tls(config: &Config) -> Result<Option<ServerTlsConfig>, ServeError> {
    let (Some(cert), Some(key)) = (&config.tls_cert, &config.tls_key) else { return Ok(None) };
    let read = |path: &Path| {
        std::fs::read(path).map_err(|source| ServeError::TlsFile { path: path.display().to_string(), source })
    };
    let identity = TlsIdentity::from_pem(read(cert)?, read(key)?);
    Ok(Some(ServerTlsConfig::new().identity(identity).timeout(HANDSHAKE)))
}

/// Sets a generated server's message limits and compression.
macro_rules! limited {
    ($server:expr, $limits:expr) => {
        $server
            .max_decoding_message_size($limits.max_message_bytes)
            .accept_compressed(tonic::codec::CompressionEncoding::Gzip)
    };
}
pub(crate) use limited;
