//! ONNX import: from untrusted bytes to a [`Network`], or one error that names all that stands in the way.
//!
//! The stages: [`onnx::budget`] bounds what decoding may take; `structure` checks names and order; `lower`
//! turns nodes into layers while it folds constants and shape arithmetic. Functions that several nodes spell
//! out are found before (`spelled`) and after it (`forms`), selections of channels are joined (`selection`),
//! and what is left over is pruned. Memory stays within a small multiple of the bundle's size, nothing
//! recurses over the graph, and no input panics.

mod attributes;
mod constant;
mod error;
mod lower;
mod operator;
mod spelled;
mod structure;

use std::collections::BTreeMap;

use prost::Message;

pub use error::{ErrorKind, Group, ImportError, Unsupported};
pub use operator::{Attribute, OPERATORS, OPSETS, Operator, Version};

use crate::network::{Layer, Network};
use crate::onnx::{self, ModelProto};

/// Most nodes in a graph.
pub const MAX_NODES: u64 = 100_000;

/// Most elements in one value that flows between layers, for one sample.
pub const MAX_VALUE_ELEMENTS: u64 = 1 << 28;

/// Decoding may take this many bytes a byte of the file, and [`DECODE_ALLOWANCE`].
const DECODE_FACTOR: u64 = 16;
const DECODE_ALLOWANCE: u64 = 1 << 20;

/// An ONNX file and the side files that it may name.
#[derive(Debug, Clone, Default)]
pub struct Bundle<'a> {
    /// The `.onnx` file.
    pub model: &'a [u8],
    /// Side files by exact base name, such as `m.onnx.data`. Those that the model does not name are ignored.
    pub files: BTreeMap<String, &'a [u8]>,
}

/// Reads a bundle's network.
pub fn import(bundle: &Bundle<'_>) -> Result<Network, ImportError> {
    let length = bundle.model.len() as u64;
    let decoded = onnx::budget::decoded_bytes(bundle.model)
        .ok_or_else(|| ImportError::NotOnnx("the bytes are not a protobuf message".to_owned()))?;
    let limit = length.saturating_mul(DECODE_FACTOR).saturating_add(DECODE_ALLOWANCE);
    if decoded > limit {
        return Err(ImportError::TooLarge {
            what: "the decoded file in bytes".to_owned(),
            actual: decoded,
            limit,
        });
    }
    let model = ModelProto::decode(bundle.model).map_err(|error| ImportError::NotOnnx(error.to_string()))?;
    let graph =
        model.graph.as_ref().ok_or_else(|| ImportError::NotOnnx("the model has no graph".to_owned()))?;
    let nodes = graph.node.len() as u64;
    if nodes > MAX_NODES {
        return Err(ImportError::TooLarge {
            what: "the graph in nodes".to_owned(),
            actual: nodes,
            limit: MAX_NODES,
        });
    }
    let structure = structure::Structure::read(graph)?;
    let spelled = spelled::gelus(&structure, &bundle.files);
    let structure = structure.with(&spelled);
    let mut network = lower::lower(&model, graph, &structure, bundle)?;
    network.name_functions();
    network.fold_constants();
    network.join_selections();
    network.prune();
    network.check().map_err(ImportError::Graph)?;
    let overflow = |layer: &&Layer| !layer.op.is_finite();
    let overflowing: Vec<Unsupported> = network.layers.iter().filter(overflow).map(overflowed).collect();
    if overflowing.is_empty() { Ok(network) } else { Err(ImportError::Unsupported(overflowing)) }
}

/// A layer whose weights are finite in the file, but not once its factors are multiplied in.
fn overflowed(layer: &Layer) -> Unsupported {
    Unsupported {
        node: Some(layer.name.clone()),
        op: layer.op.name().to_owned(),
        domain: String::new(),
        reason: "its weights overflow".to_owned(),
    }
}

/// [`import`] for files that are at hand one by one.
pub fn import_bytes<'a, S: Into<String>>(
    model: &'a [u8],
    side_files: impl IntoIterator<Item = (S, &'a [u8])>,
) -> Result<Network, ImportError> {
    let files = side_files.into_iter().map(|(name, bytes)| (name.into(), bytes)).collect();
    import(&Bundle { model, files })
}
