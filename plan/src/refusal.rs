//! Why a layer cannot be quantized.

/// One layer that cannot be quantized.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("layer '{layer}' cannot be quantized: {reason}")]
pub struct Refusal {
    /// The layer's name in the source file.
    pub layer: String,
    /// Why, and what would do.
    pub reason: String,
}

impl Refusal {
    /// A layer's refusal.
    pub fn new(layer: impl Into<String>, reason: impl Into<String>) -> Self {
        Refusal { layer: layer.into(), reason: reason.into() }
    }
}
