//! Checks an uploaded bundle by importing it, and keeps what users ask about it.

use std::sync::Arc;

use dyadic_graph::network::{Network, ValueId};
use dyadic_graph::{Group, ImportError, Unsupported};
use dyadic_proto::v1 as pb;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::error::ApiError;
use crate::upload::{FileSpecs, Spool};

/// What is known of a float model; stored with it as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Summary {
    input: Tensor,
    output: Tensor,
    macs: u64,
    parameters: u64,
    layers: Vec<Layer>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Tensor {
    name: String,
    shape: Vec<i64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Layer {
    name: String,
    op: String,
    shape: Vec<i64>,
    parameters: u64,
    macs: u64,
}

/// Longest name or reason in an answer, in characters: names come from the file.
const MAX_TEXT: usize = 1000;

/// Imports bundles on blocking threads, few at a time: an import takes memory several times the bundle's size.
#[derive(Debug, Clone)]
pub(crate) struct Inspector(Arc<Semaphore>);

impl Inspector {
    pub(crate) fn new(at_once: usize) -> Self {
        Self(Arc::new(Semaphore::new(at_once.max(1))))
    }

    /// Imports the bundle whose files lie in `spools`, the ONNX file first.
    pub(crate) async fn inspect(&self, files: &FileSpecs, spools: &[Spool]) -> Result<Summary, ApiError> {
        let _permit = self.0.acquire().await.map_err(ApiError::internal)?;
        let mut contents = Vec::with_capacity(spools.len());
        for (file, spool) in files.as_slice().iter().zip(spools) {
            contents.push((file.name.clone(), spool.read().await?));
        }
        let imported = tokio::task::spawn_blocking(move || {
            let mut files = contents.iter().map(|(name, bytes)| (name.clone(), bytes.as_slice()));
            let (_, model) = files.next().unwrap_or_default();
            dyadic_graph::import_bytes(model, files).map(|network| Summary::of(&network))
        });
        Ok(imported.await.map_err(ApiError::internal)??)
    }
}

/// All refusals, if that is what the error is.
pub(crate) fn refusals(error: &ApiError) -> Option<Vec<pb::Refusal>> {
    match error {
        ApiError::Import(ImportError::Unsupported(list)) => {
            Some(Unsupported::grouped(list).into_iter().map(refusal).collect())
        }
        _ => None,
    }
}

fn refusal(Group { op, domain, reason, nodes }: Group) -> pb::Refusal {
    pb::Refusal {
        operator: bounded(op),
        domain: bounded(domain),
        reason: bounded(reason),
        nodes: nodes.into_iter().map(bounded).collect(),
    }
}

fn bounded(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(MAX_TEXT) {
        text.truncate(end);
        text.push('…');
    }
    text
}

impl Summary {
    fn of(network: &Network) -> Self {
        let shape = |id: ValueId| network.shape(id).iter().map(|&extent| extent as i64).collect::<Vec<_>>();
        let tensor = |id: ValueId| Tensor {
            name: network.values.get(id.0).map(|value| value.name.clone()).unwrap_or_default(),
            shape: shape(id),
        };
        let layers = network.layers.iter().map(|layer| Layer {
            name: layer.name.clone(),
            op: layer.op.name().to_owned(),
            shape: shape(layer.output),
            parameters: layer.parameters(),
            macs: layer.macs(network),
        });
        Self {
            input: tensor(network.input),
            output: tensor(network.output),
            macs: network.macs(),
            parameters: network.parameters(),
            layers: layers.collect(),
        }
    }

    /// Fills in what a model's message says about its network.
    pub(crate) fn fill(self, model: &mut pb::Model) {
        let tensor = |tensor: Tensor| pb::TensorInfo {
            name: tensor.name,
            datatype: "FP32".to_owned(),
            shape: tensor.shape,
        };
        model.input = Some(tensor(self.input));
        model.output = Some(tensor(self.output));
        model.macs = self.macs;
        model.parameters = self.parameters;
        model.layers = self
            .layers
            .into_iter()
            .map(|Layer { name, op, shape, parameters, macs }| pb::LayerInfo {
                name,
                op,
                shape,
                parameters,
                macs,
            })
            .collect();
    }
}
