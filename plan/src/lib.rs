//! What becomes of each layer of a float network, before anything is trained and without libtorch.
//!
//! [`lower`] makes the [`Plan`]: the network's quantized units, one for each node of the integer network, with the width
//! of every tensor, the [`codebook`] of every weighted layer, the steps that tensors share, and what each unit costs. The
//! [`Rules`] say what is wanted. What cannot be quantized is refused here, all of it at once, by the layers' names in the
//! source file, so that whoever takes in a model can say so before a job is queued.

pub mod codebook;
mod expected;
mod limits;
mod lower;
mod operation;
mod plan;
mod refusal;
mod rules;
mod summary;

pub use limits::{GOLDEN_IMAGE_CODES, GOLDEN_IMAGES, GOLDEN_SEEDS};
pub use lower::{lower, without_effect};
pub use operation::{Act, Unary, UnitOp};
pub use plan::{Coding, Plan, TensorPlan, Unit, WeightPlan};
pub use refusal::Refusal;
pub use rules::{
    Asked, Defaults, MAX_PATTERN, MAX_RULES, MAX_TEXT, Mistake, Mistakes, Pattern, Place, Read, Role, Rule,
    RuleError, Rules, Settings,
};
pub use summary::{Resolved, Row, Total};
