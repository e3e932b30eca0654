//! Postgres (queue, history, registry), the blob store, and the domain types that go through both.

mod database;
mod error;

pub mod blob;
pub mod cluster;
pub mod history;
pub mod job;
pub mod notice;
pub mod objects;
pub mod queue;
pub mod registry;
pub mod spec;
#[cfg(feature = "testing")]
pub mod testing;

pub use database::Store;
pub use error::{ErrorKind, Result, StoreError};
