//! Postgres (queue, history, registry), the blob store, and the domain types that go through both.

pub mod spec;
