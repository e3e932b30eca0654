//! The artifact: a `.safetensors` file with the integer network, where it comes from, and the proof that it runs
//! exactly.
//!
//! Packed codes and parameters are a few large tensors, read in node order; the graph, the provenance and the
//! certificate's description are canonical JSON under the metadata key `dyadic`. The same artifact always gives the
//! same bytes. The format is written down in `docs/artifact-format.md`.

mod canonical;
pub(crate) mod container;
mod document;
mod nodes;
mod provenance;

pub use container::{ElementType, HEADER_LIMIT};
pub use provenance::{Accuracy, Provenance};

use std::sync::Arc;

use crate::certificate::Certificate;
use crate::check::{CheckedModel, ModelError};
pub use crate::model::Packing;

/// The newest format version that this code writes, and reads along with all before it.
pub const FORMAT_VERSION: u32 = 1;

/// The only metadata key.
pub const METADATA_KEY: &str = "dyadic";

/// A quantized network with its history and its proof.
#[derive(Debug, Clone, PartialEq)]
pub struct Artifact {
    /// The integer network.
    pub model: CheckedModel,
    /// Where it comes from.
    pub provenance: Provenance,
    /// Golden inputs and what every tensor must hold for them.
    pub certificate: Certificate,
}

/// Why bytes are not an artifact, or an artifact cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// Not a safetensors file, or one whose offsets, lengths and shapes disagree.
    #[error("not a readable safetensors file: {0}")]
    Container(String),
    /// A safetensors file of someone else's.
    #[error("the file has no `{METADATA_KEY}` metadata; it is not a Dyadic artifact")]
    NotAnArtifact,
    /// Written by newer code.
    #[error("format version {found} is newer than {FORMAT_VERSION}, the newest that this code reads")]
    NewerFormat {
        /// The file's version.
        found: u32,
    },
    /// The metadata does not follow the format.
    #[error("metadata: {0}")]
    Metadata(String),
    /// A tensor is missing, of another type, or of another length than the graph needs.
    #[error("tensor {tensor:?}: {problem}")]
    Tensor {
        /// Its name.
        tensor: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// Everything can be read, but the model breaks a rule.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The certificate does not fit the model.
    #[error("certificate: {0}")]
    Certificate(String),
}

impl Artifact {
    /// The file's bytes: a pure function of the artifact. Fails where the certificate does not fit the model.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ArtifactError> {
        self.certificate.check(&self.model).map_err(ArtifactError::Certificate)?;
        let mut tensors = container::Writer::default();
        let nodes = nodes::encode(&self.model, &mut tensors)?;
        let certificate = document::encode_certificate(&self.certificate, &self.model, &mut tensors);
        let text = document::encode(self, nodes, certificate)?;
        tensors.finish(&text)
    }

    /// Reads a file's bytes. Every offset, length, shape product, enum and code is checked before its first use,
    /// and what is allocated stays within a small multiple of the bytes' length.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ArtifactError> {
        Self::from_vec(bytes.to_vec())
    }

    /// As [`Artifact::from_bytes`]; the weight codes stay where they are in `bytes`, which the model keeps.
    pub fn from_vec(bytes: Vec<u8>) -> Result<Self, ArtifactError> {
        let bytes = Arc::new(bytes);
        let (text, mut tensors) = container::Reader::open(&bytes)?;
        let document = document::decode(&text)?;
        let model = CheckedModel::new(document.model(&mut tensors)?)?;
        let certificate = document.certificate(&model, &mut tensors)?;
        tensors.finish()?;
        certificate.check(&model).map_err(ArtifactError::Certificate)?;
        Ok(Artifact { model, provenance: document.into_provenance(), certificate })
    }
}
