//! The caller's deadline (`grpc-timeout`), and ours for calls that are not streams: past it the work is dropped and the
//! answer is DEADLINE_EXCEEDED. The transport's own time-out would answer CANCELLED; this one comes a little before it.

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tonic::codegen::http::HeaderMap;
use tower::{Layer, Service};

use super::{Request, Response, ResponseFuture, take_ready};
use crate::auth::is_long_lived;
use crate::error::ApiError;

/// When the caller stops waiting; in the request's extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline(pub Instant);

/// Makes [`WithDeadline`] services.
#[derive(Debug, Clone, Copy)]
pub struct DeadlineLayer {
    /// Longest time for a call that is no stream.
    pub call: Duration,
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = WithDeadline<S>;

    fn layer(&self, inner: S) -> WithDeadline<S> {
        WithDeadline { inner, call: self.call }
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct WithDeadline<S> {
    inner: S,
    call: Duration,
}

impl<S> Service<Request> for WithDeadline<S>
where
    S: Service<Request, Response = Response> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
{
    type Response = Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let mut inner = take_ready(&mut self.inner);
        let asked = grpc_timeout(request.headers()).map(|timeout| timeout.saturating_sub(early(timeout)));
        let ours = (!is_long_lived(request.uri().path())).then_some(self.call);
        let Some(wait) = asked.into_iter().chain(ours).min() else {
            return Box::pin(inner.call(request));
        };
        let deadline = Instant::now() + wait;
        request.extensions_mut().insert(Deadline(deadline));
        Box::pin(async move {
            match tokio::time::timeout_at(deadline.into(), inner.call(request)).await {
                Ok(response) => response,
                Err(_) => Ok(ApiError::DeadlineExceeded.into_status().into_http()),
            }
        })
    }
}

/// How much before the caller's deadline the answer is given, so that it can still arrive.
fn early(timeout: Duration) -> Duration {
    (timeout / 20).min(Duration::from_millis(5))
}

/// The header's value: up to eight digits and a unit. Anything else counts as absent, as gRPC implementations do.
fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(value * 3600),
        "M" => Duration::from_secs(value * 60),
        "S" => Duration::from_secs(value),
        "m" => Duration::from_millis(value),
        "u" => Duration::from_micros(value),
        "n" => Duration::from_nanos(value),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use tonic::body::Body;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn a_deadline_that_passes_is_told_as_such() {
        let never = tower::service_fn(|request: Request| async move {
            assert!(request.extensions().get::<Deadline>().is_some());
            std::future::pending::<Result<Response, std::convert::Infallible>>().await
        });
        let cases =
            [("/dyadic.v1.JobService/Watch", Some("3m"), 3600), ("/dyadic.v1.JobService/List", None, 0)];
        for (path, timeout, call_secs) in cases {
            let layer = DeadlineLayer { call: Duration::from_secs(call_secs) };
            let mut request = Request::new(Body::empty());
            *request.uri_mut() = path.parse().unwrap();
            if let Some(timeout) = timeout {
                request.headers_mut().insert("grpc-timeout", timeout.parse().unwrap());
            }
            let response = layer.layer(never).oneshot(request).await.unwrap();
            assert_eq!(response.headers()["grpc-status"], "4", "{path}");
        }
    }

    #[test]
    fn time_outs_are_read_as_grpc_writes_them() {
        let cases = [
            ("1H", Some(Duration::from_secs(3600))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("4m", Some(Duration::from_millis(4))),
            ("5u", Some(Duration::from_micros(5))),
            ("6n", Some(Duration::from_nanos(6))),
            ("", None),
            ("S", None),
            ("1", None),
            ("100000000S", None),
            ("-1S", None),
            ("1s", None),
            ("1µ", None),
        ];
        for (text, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().unwrap());
            assert_eq!(grpc_timeout(&headers), expected, "{text:?}");
        }
    }
}
