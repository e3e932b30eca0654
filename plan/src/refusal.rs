//! Why a layer cannot be quantized, or a rule does nothing.

/// One layer that cannot be quantized, or one rule that says something of no layer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{} '{layer}' {}: {reason}", if *.rule { "rule" } else { "layer" }, if *.rule { "has no effect" } else { "cannot be quantized" })]
pub struct Refusal {
    /// The layer's name in the source file; the rule's pattern.
    pub layer: String,
    /// Why, and what would do.
    pub reason: String,
    /// Whether it is a rule.
    pub rule: bool,
}

impl Refusal {
    /// A layer's refusal.
    pub fn new(layer: impl Into<String>, reason: impl Into<String>) -> Self {
        Refusal { layer: layer.into(), reason: reason.into(), rule: false }
    }

    /// That of a rule, by its pattern.
    pub fn of_rule(pattern: impl Into<String>, reason: impl Into<String>) -> Self {
        Refusal { layer: pattern.into(), reason: reason.into(), rule: true }
    }
}
