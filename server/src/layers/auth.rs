//! Turns away who may not call; hands on who calls as an [`Identity`](crate::auth::Identity) in the request's extensions.

use std::sync::Arc;
use std::task::{Context, Poll};

use tower::{Layer, Service};

use super::{Request, Response, ResponseFuture, take_ready};
use crate::auth::Authenticator;
use crate::error::ApiError;

/// Makes [`Auth`] services.
#[derive(Clone)]
pub struct AuthLayer(pub Arc<Authenticator>);

impl<S> Layer<S> for AuthLayer {
    type Service = Auth<S>;

    fn layer(&self, inner: S) -> Auth<S> {
        Auth { inner, authenticator: self.0.clone() }
    }
}

/// See the module.
#[derive(Clone)]
pub struct Auth<S> {
    inner: S,
    authenticator: Arc<Authenticator>,
}

impl<S> Service<Request> for Auth<S>
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

    fn call(&mut self, mut request: Request) -> Self::Future {
        let mut inner = take_ready(&mut self.inner);
        let authenticator = self.authenticator.clone();
        Box::pin(async move {
            match authenticator.authorize(request.uri().path(), request.headers()).await {
                Ok(identity) => {
                    // The secret goes no further.
                    request.headers_mut().remove("authorization");
                    if let Some(identity) = identity {
                        request.extensions_mut().insert(identity);
                    }
                    inner.call(request).await
                }
                Err(error) => Ok(ApiError::from(error).into_status().into_http()),
            }
        })
    }
}
