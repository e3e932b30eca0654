//! The integer network: number format, artifact file and shift-add execution.
//!
//! No async, no I/O beyond bytes in and bytes out; floats appear only at the input's and the output's edge.
//!
//! ```
//! use dyadic_engine::{Artifact, Engine};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let bytes = include_bytes!("../tests/golden/v1_cnn_ternary.safetensors");
//! let artifact = Artifact::from_bytes(bytes)?;
//! let engine = Engine::new(artifact.model)?;
//! engine.verify(&artifact.certificate)?;
//!
//! let mut scratch = engine.scratch();
//! let image = vec![0.0; engine.input_shape().len()];
//! let mut logits = vec![0.0; engine.output_len()];
//! engine.run_f32(&mut scratch, &image, 1, &mut logits)?;
//! # Ok(())
//! # }
//! ```

pub mod artifact;
pub mod certificate;
pub mod check;
pub mod cost;
pub mod digits;
pub mod engine;
mod kernels;
pub mod model;
pub mod operation;
pub mod quantize;
pub mod reference;
pub mod summary;
#[doc(hidden)]
pub mod testing;

pub use artifact::{Artifact, ArtifactError};
pub use certificate::Certificate;
pub use check::CheckedModel;
pub use engine::{Engine, EngineError, Pool, RunError, Scratch, Team};
pub use model::Model;
