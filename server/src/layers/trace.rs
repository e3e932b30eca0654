//! A request id, a span and one log line a call. The caller's `x-request-id` is taken over if it is plain text of at most
//! 64 characters; the answer carries the id either way.

use std::task::{Context, Poll};
use std::time::Instant;

use tonic::Code;
use tonic::codegen::http::{HeaderMap, HeaderName, HeaderValue};
use tower::{Layer, Service};
use tracing::Instrument;
use uuid::Uuid;

use super::{Request, Response, ResponseFuture, take_ready};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Makes [`Trace`] services.
#[derive(Debug, Clone, Copy)]
pub struct TraceLayer;

impl<S> Layer<S> for TraceLayer {
    type Service = Trace<S>;

    fn layer(&self, inner: S) -> Trace<S> {
        Trace { inner }
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Trace<S> {
    inner: S,
}

impl<S> Service<Request> for Trace<S>
where
    S: Service<Request, Response = Response> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let mut inner = take_ready(&mut self.inner);
        let id = request_id(request.headers());
        let span =
            tracing::info_span!("call", path = request.uri().path(), id = id.to_str().unwrap_or_default());
        let started = Instant::now();
        let work = async move {
            let mut response = inner.call(request).await?;
            let code =
                response.headers().get("grpc-status").map_or(Code::Ok, |v| Code::from_bytes(v.as_bytes()));
            let elapsed_ms = started.elapsed().as_secs_f64() * 1000.0;
            match code {
                Code::Ok => tracing::debug!(elapsed_ms, "answered"),
                Code::Internal | Code::Unknown | Code::DataLoss => {
                    tracing::error!(?code, elapsed_ms, "failed");
                }
                _ => tracing::info!(?code, elapsed_ms, "refused"),
            }
            response.headers_mut().insert(REQUEST_ID, id);
            Ok(response)
        };
        Box::pin(work.instrument(span))
    }
}

fn request_id(headers: &HeaderMap) -> HeaderValue {
    let plain = |value: &&HeaderValue| {
        (1..=64).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic)
    };
    let made = || {
        HeaderValue::try_from(Uuid::new_v4().simple().to_string()).unwrap_or(HeaderValue::from_static("-"))
    };
    headers.get(REQUEST_ID).filter(plain).cloned().unwrap_or_else(made)
}
