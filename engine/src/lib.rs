//! The integer network: number format, artifact file and shift-add execution.
//!
//! No async, no I/O beyond bytes in and bytes out; floats appear only at the input's and the output's edge.

pub mod artifact;
pub mod certificate;
pub mod check;
pub mod digits;
pub mod engine;
mod kernels;
pub mod model;
pub mod quantize;
pub mod reference;
pub mod summary;
#[doc(hidden)]
pub mod testing;

pub use artifact::{Artifact, ArtifactError};
pub use certificate::Certificate;
pub use engine::{Engine, EngineError, RunError, Scratch};
pub use model::Model;
