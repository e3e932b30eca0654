//! Serving artifacts over the Open Inference Protocol.
//!
//! [`registry`] knows which versions are ready; [`loader`] keeps it in step with the database; [`batcher`] runs a version's
//! engine on its own threads behind a bounded queue; [`request`] and [`response`] translate; [`service`] is the API.

pub mod batcher;
pub mod classification;
pub mod describe;
mod error;
pub mod loaded;
pub(crate) mod loader;
pub mod registry;
pub mod request;
pub mod response;
pub mod service;
pub mod statistics;

pub use error::{InferError, LoadError};
