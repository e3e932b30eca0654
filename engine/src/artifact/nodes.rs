//! Nodes to lists and JSON, and back. The lists are read in node order, so the JSON needs no offsets.

use serde::{Deserialize, Serialize};

use super::ArtifactError;
use super::container::{Reader, Writer};
use crate::model::{Model, Node, Tensor, TensorId};
use crate::operation::{Document, Site};

/// A node's JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NodeDocument {
    name: String,
    inputs: Vec<TensorId>,
    output: TensorId,
    op: Document,
}

/// Writes a checked model's nodes.
pub(super) fn encode(model: &Model, lists: &mut Writer) -> Result<Vec<NodeDocument>, ArtifactError> {
    let document = |node: &Node| {
        let op = node.op.operation().encode(lists)?;
        Ok(NodeDocument { name: node.name.clone(), inputs: node.inputs.clone(), output: node.output, op })
    };
    model.nodes.iter().map(document).collect()
}

/// Reads the nodes of a file whose tensors are known but not yet checked.
pub(super) fn decode(
    documents: &[NodeDocument],
    tensors: &[Tensor],
    lists: &mut Reader,
) -> Result<Vec<Node>, ArtifactError> {
    let node = |document: &NodeDocument| {
        let NodeDocument { name, inputs, output, op } = document;
        let op = op.decode(&site(document, tensors)?, lists)?;
        Ok(Node { name: name.clone(), inputs: inputs.clone(), output: *output, op })
    };
    documents.iter().map(node).collect()
}

/// The tensors of a node, at least one of which is read.
fn site<'t>(document: &NodeDocument, tensors: &'t [Tensor]) -> Result<Site<'t>, ArtifactError> {
    let missing = || {
        let name = &document.name;
        ArtifactError::Metadata(format!("node {name:?} names a tensor that does not exist"))
    };
    let find = |id: &TensorId| tensors.get(id.0 as usize).ok_or_else(missing);
    let inputs = document.inputs.iter().map(find).collect::<Result<Vec<_>, _>>()?;
    if inputs.is_empty() {
        return Err(ArtifactError::Metadata(format!("node {:?} reads no tensor", document.name)));
    }
    Ok(Site { inputs, output: find(&document.output)? })
}
