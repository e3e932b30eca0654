//! The Dyadic server: uploads, quantization jobs, history and inference over gRPC.
//!
//! [`start::Server`] puts it together. Services are thin: check, call the domain, convert. All errors become status codes in
//! [`error`]; all calls pass [`layers`]; all rights are in [`auth`].

pub mod auth;
mod background;
pub mod config;
pub mod error;
pub mod infer;
pub mod layers;
mod notices;
pub mod serve;
mod services;
pub mod start;
pub mod upload;

pub use config::Config;
