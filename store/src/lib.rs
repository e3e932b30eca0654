//! Postgres (queue, history, registry), the blob store, and the domain types that go through both.

pub mod blob;
pub mod cluster;
pub mod spec;
#[cfg(feature = "testing")]
pub mod testing;
