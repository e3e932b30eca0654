//! Why a layer cannot be quantized.

/// One layer that cannot be quantized.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("layer '{layer}' cannot be quantized: {reason}")]
pub struct Refusal {
    /// The layer's name in the source file.
    pub layer: String,
    /// Why, and what would do.
    pub reason: String,
}
