//! Corrects what the transport answers by itself: OUT_OF_RANGE for a message over the size limit is RESOURCE_EXHAUSTED,
//! and CANCELLED for a time-out is DEADLINE_EXCEEDED.

use std::task::{Context, Poll};

use tonic::codegen::http::HeaderValue;
use tonic::{Code, Status};
use tower::{Layer, Service};

use super::{Request, Response, ResponseFuture, take_ready};

/// Makes [`CorrectStatus`] services.
#[derive(Debug, Clone, Copy)]
pub struct StatusLayer;

impl<S> Layer<S> for StatusLayer {
    type Service = CorrectStatus<S>;

    fn layer(&self, inner: S) -> CorrectStatus<S> {
        CorrectStatus { inner }
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct CorrectStatus<S> {
    inner: S,
}

/// The code that should have been answered.
pub fn corrected(code: Code) -> Code {
    match code {
        Code::OutOfRange => Code::ResourceExhausted,
        Code::Cancelled => Code::DeadlineExceeded,
        other => other,
    }
}

impl<S> Service<Request> for CorrectStatus<S>
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
        Box::pin(async move {
            let mut response = inner.call(request).await?;
            if let Some(code) =
                response.headers().get(Status::GRPC_STATUS).map(|v| Code::from_bytes(v.as_bytes()))
            {
                let code = i32::from(corrected(code));
                response.headers_mut().insert(Status::GRPC_STATUS, HeaderValue::from(code));
            }
            Ok(response)
        })
    }
}
