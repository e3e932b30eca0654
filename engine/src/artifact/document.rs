//! The JSON under the metadata key: graph, provenance, and the certificate's description.

use serde::{Deserialize, Serialize};

use super::container::{Reader, Writer};
use super::nodes::{self, NodeDocument};
use super::{Artifact, ArtifactError, FORMAT_VERSION, Provenance, canonical};
use crate::certificate::{Certificate, GoldenInput};
use crate::model::{Format, Input, Model, Output, Shape, Step, Tensor};

/// The whole JSON document of format version 1.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    format: u32,
    name: String,
    input: Input,
    output: Output,
    tensors: Vec<TensorDocument>,
    nodes: Vec<NodeDocument>,
    provenance: Provenance,
    certificate: CertificateDocument,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TensorDocument {
    name: String,
    /// Height, width, channels.
    shape: [u32; 3],
    format: Format,
    step: Step,
}

/// The golden inputs in order; hashes, outputs and stored codes are lists.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CertificateDocument {
    inputs: Vec<InputDocument>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum InputDocument {
    Seed(u64),
    Stored,
}

/// Enough to find out the version of a document of any version.
#[derive(Deserialize)]
struct Version {
    format: u32,
}

/// The canonical text of an artifact's document.
pub(super) fn encode(
    artifact: &Artifact,
    nodes: Vec<NodeDocument>,
    certificate: CertificateDocument,
) -> Result<String, ArtifactError> {
    let model = &artifact.model;
    let document = Document {
        format: FORMAT_VERSION,
        name: model.name.clone(),
        input: model.input.clone(),
        output: model.output.clone(),
        tensors: model.tensors.iter().map(TensorDocument::of).collect(),
        nodes,
        provenance: artifact.provenance.clone(),
        certificate,
    };
    let value = serde_json::to_value(document).map_err(|error| ArtifactError::Metadata(error.to_string()))?;
    Ok(canonical::to_string(&value))
}

/// Reads a document, refusing newer versions before anything else.
pub(super) fn decode(text: &str) -> Result<Document, ArtifactError> {
    let broken = |error: serde_json::Error| ArtifactError::Metadata(error.to_string());
    let version: Version = serde_json::from_str(text).map_err(broken)?;
    match version.format {
        FORMAT_VERSION => serde_json::from_str(text).map_err(broken),
        found if found > FORMAT_VERSION => Err(ArtifactError::NewerFormat { found }),
        found => Err(ArtifactError::Metadata(format!("there is no format version {found}"))),
    }
}

impl TensorDocument {
    fn of(tensor: &Tensor) -> Self {
        let Shape { h, w, c } = tensor.shape;
        TensorDocument {
            name: tensor.name.clone(),
            shape: [h, w, c],
            format: tensor.format,
            step: tensor.step,
        }
    }

    fn tensor(&self) -> Result<Tensor, ArtifactError> {
        let [h, w, c] = self.shape;
        let bits = match self.format {
            Format::Unsigned { bits } | Format::Signed { bits } => bits,
            Format::Accumulator => 16,
        };
        // The rest is Model::check's; this much is needed to speak of a format's range at all.
        if bits == 0 || bits > 16 {
            return Err(ArtifactError::Metadata(format!("tensor {:?} has {bits}-bit codes", self.name)));
        }
        Ok(Tensor { name: self.name.clone(), shape: Shape { h, w, c }, format: self.format, step: self.step })
    }
}

impl Document {
    /// The model; structurally sound, not yet checked.
    pub(super) fn model(&self, lists: &mut Reader) -> Result<Model, ArtifactError> {
        let tensors = self.tensors.iter().map(TensorDocument::tensor).collect::<Result<Vec<_>, _>>()?;
        let nodes = nodes::decode(&self.nodes, &tensors, lists)?;
        let (name, input, output) = (self.name.clone(), self.input.clone(), self.output.clone());
        Ok(Model { name, input, tensors, nodes, output })
    }

    /// The certificate of a checked model.
    pub(super) fn certificate(
        &self,
        model: &Model,
        lists: &mut Reader,
    ) -> Result<Certificate, ArtifactError> {
        let samples = self.certificate.inputs.len() as u64;
        let input = model.tensor(model.input.tensor);
        let signed = matches!(input.format, Format::Signed { .. });
        let mut inputs = Vec::with_capacity(self.certificate.inputs.len());
        for document in &self.certificate.inputs {
            inputs.push(match document {
                InputDocument::Seed(seed) => GoldenInput::Seed(*seed),
                InputDocument::Stored => {
                    let bytes: Vec<u8> = lists.take("certificate.inputs", input.shape.len() as u64)?;
                    let widen = |byte: u8| if signed { i32::from(byte as i8) } else { i32::from(byte) };
                    GoldenInput::Codes(bytes.into_iter().map(widen).collect())
                }
            });
        }
        let hashed = if samples > 0 { model.tensors.len() as u64 } else { 0 };
        let bytes: Vec<u8> = lists.take("certificate.hashes", hashed * 32)?;
        let hashes = bytes.as_chunks::<32>().0.to_vec();
        let codes = model.output_shape().len();
        let flat: Vec<i32> = lists.take("certificate.outputs", samples.saturating_mul(codes as u64))?;
        let outputs = flat.chunks_exact(codes).map(<[i32]>::to_vec).collect();
        Ok(Certificate { inputs, hashes, outputs })
    }

    pub(super) fn into_provenance(self) -> Provenance {
        self.provenance
    }
}

/// Writes a checked certificate's lists.
pub(super) fn encode_certificate(
    certificate: &Certificate,
    model: &Model,
    lists: &mut Writer,
) -> CertificateDocument {
    debug_assert!(certificate.check(model).is_ok());
    let mut inputs = Vec::with_capacity(certificate.inputs.len());
    for input in &certificate.inputs {
        inputs.push(match input {
            GoldenInput::Seed(seed) => InputDocument::Seed(*seed),
            GoldenInput::Codes(codes) => {
                lists.put("certificate.inputs", codes.iter().map(|&code| code as u8));
                InputDocument::Stored
            }
        });
    }
    lists.put("certificate.hashes", certificate.hashes.iter().flatten().copied());
    lists.put("certificate.outputs", certificate.outputs.iter().flatten().copied());
    CertificateDocument { inputs }
}
