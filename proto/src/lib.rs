//! Dyadic's gRPC APIs: messages, clients and server traits generated from the .proto files beside this crate.
//!
//! Field names and numbers are forever; what is removed is reserved.

/// Our own API: models, datasets, jobs, experiments, tokens.
#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    reason = "generated; the .proto files are the documentation"
)]
pub mod v1 {
    tonic::include_proto!("dyadic.v1");
}

/// The Open Inference Protocol, version 2.
#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    reason = "generated; the .proto files are the documentation"
)]
pub mod inference {
    tonic::include_proto!("inference");
}

/// All files above as an encoded `google.protobuf.FileDescriptorSet`, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

pub use prost_types::Timestamp;
