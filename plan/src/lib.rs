//! What becomes of each layer of a float network, before anything is trained and without libtorch.
//!
//! [`lower`] makes the [`Plan`]: the network's quantized units, one for each node of the integer network, with the width
//! of every tensor and the [`codebook`] of every weighted layer. What cannot be quantized is refused here, by the layer's
//! name in the source file, so that whoever takes in a model can say so before a job is queued.

pub mod codebook;
mod lower;
mod plan;
mod refusal;

pub use lower::{Options, lower};
pub use plan::{Act, Coding, Plan, TensorPlan, Unary, Unit, UnitOp, WeightPlan};
pub use refusal::Refusal;
