//! Turns calls away while the server drains, and when too many run at once. What anyone may call (health, liveness) always
//! gets through.

use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::{Layer, Service};

use super::{Request, Response, ResponseFuture, take_ready};
use crate::auth::{Access, access};
use crate::error::ApiError;

/// Makes [`Shed`] services, which share one count of calls.
#[derive(Debug, Clone)]
pub struct ShedLayer {
    calls: Arc<Semaphore>,
    drain: CancellationToken,
}

impl ShedLayer {
    /// At most `max_calls` at once; none once `drain` is cancelled.
    pub fn new(max_calls: usize, drain: CancellationToken) -> Self {
        Self { calls: Arc::new(Semaphore::new(max_calls.min(Semaphore::MAX_PERMITS))), drain }
    }
}

impl<S> Layer<S> for ShedLayer {
    type Service = Shed<S>;

    fn layer(&self, inner: S) -> Shed<S> {
        Shed { inner, calls: self.calls.clone(), drain: self.drain.clone() }
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Shed<S> {
    inner: S,
    calls: Arc<Semaphore>,
    drain: CancellationToken,
}

impl<S> Service<Request> for Shed<S>
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
        if access(request.uri().path()) == Some(Access::Open) {
            return Box::pin(inner.call(request));
        }
        if self.drain.is_cancelled() {
            return Box::pin(async { Ok(ApiError::Draining.into_status().into_http()) });
        }
        let Ok(permit) = self.calls.clone().try_acquire_owned() else {
            return Box::pin(async { Ok(ApiError::Overloaded.into_status().into_http()) });
        };
        Box::pin(async move {
            let response = inner.call(request).await;
            drop(permit);
            response
        })
    }
}
