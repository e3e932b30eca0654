//! Where an artifact comes from. Everything is optional, and members that this code does not know are kept.
//!
//! These hold any JSON, and a value takes far more memory than its text: no more than [`MOST_VALUES`] are read.

mod bounded;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use bounded::MOST_VALUES;

/// The history of an artifact. Nothing in it depends on clock, host or job number: the same training gives the same
/// bytes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Provenance {
    /// Hash of the source model's bytes, lower-case hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_sha256: Option<String>,
    /// Hash of the data set's bytes, lower-case hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataset_sha256: Option<String>,
    /// The job's specification with all defaults resolved.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "bounded::value")]
    pub job: Option<Value>,
    /// What is done to a picture before it is the bytes that the network reads; the normalization is not among it.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "bounded::value")]
    pub preprocess: Option<Value>,
    /// What the network scored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<Accuracy>,
    /// Versions of the code that took part, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub versions: BTreeMap<String, String>,
    /// Members of later versions.
    #[serde(flatten, deserialize_with = "bounded::members")]
    pub other: BTreeMap<String, Value>,
}

/// Top-1 accuracies as fractions of 1.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Accuracy {
    /// The float model's, before quantization.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub float: Option<f64>,
    /// This network's, as the engine computed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantized: Option<f64>,
    /// Images that both were measured on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<u64>,
}
