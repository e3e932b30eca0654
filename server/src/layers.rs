//! What every call passes through, outermost first: [`trace`] (request id, span, one log line), [`status`] (codes that the
//! transport gets wrong), [`deadline`], [`shed`] (drain and overload), [`auth`].

pub mod auth;
pub mod deadline;
pub mod shed;
pub mod status;
pub mod trace;

use std::pin::Pin;

use tonic::body::Body;
use tonic::codegen::http;

/// A request as the layers see it.
pub(crate) type Request = http::Request<Body>;
/// A response as the layers see it.
pub(crate) type Response = http::Response<Body>;
/// A response to come.
pub(crate) type ResponseFuture<E> = Pin<Box<dyn Future<Output = Result<Response, E>> + Send>>;

/// Takes the service that was polled ready, and leaves a clone for the next call.
pub(crate) fn take_ready<S: Clone>(service: &mut S) -> S {
    let clone = service.clone();
    std::mem::replace(service, clone)
}
