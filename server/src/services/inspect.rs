//! Checks an uploaded bundle by importing it, and keeps what users ask about it.

use std::sync::Arc;

use dyadic_graph::network::{Network, ValueId};
use dyadic_graph::{Group, ImportError, Unsupported};
use dyadic_proto::v1 as pb;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::planning;
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

/// What a network reads and gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extents {
    /// Channels, height, width.
    pub(crate) input: [usize; 3],
    /// Values of its output.
    pub(crate) outputs: usize,
}

impl Extents {
    /// Those in a stored summary; none if it is another version's, or the network reads no images.
    pub(crate) fn of(info: &serde_json::Value) -> Option<Self> {
        let Summary { input, output, .. } = serde_json::from_value(info.clone()).ok()?;
        let sizes = |tensor: &Tensor| -> Option<Vec<usize>> {
            tensor.shape.iter().map(|&extent| usize::try_from(extent).ok()).collect()
        };
        let outputs = sizes(&output)?.into_iter().try_fold(1, usize::checked_mul)?;
        // A series is an image of one row.
        Some(Self { input: dyadic_graph::network::image(&sizes(&input)?)?, outputs })
    }
}

/// Imports bundles on blocking threads, few at a time: an import takes memory several times the bundle's size.
#[derive(Debug, Clone)]
pub(crate) struct Inspector(Arc<Semaphore>);

impl Inspector {
    pub(crate) fn new(at_once: usize) -> Self {
        Self(Arc::new(Semaphore::new(at_once.max(1))))
    }

    /// Imports the bundle whose files lie in `spools`, the ONNX file first.
    pub(crate) async fn inspect(&self, files: &FileSpecs, spools: &[Spool]) -> Result<Summary, ApiError> {
        let permit = self.place().await?;
        let mut contents = Vec::with_capacity(spools.len());
        for (file, spool) in files.as_slice().iter().zip(spools) {
            contents.push((file.name.clone(), spool.read().await?));
        }
        let imported = tokio::task::spawn_blocking(move || -> Result<Summary, ApiError> {
            // Held to the end of the import, also when nobody waits for it any more.
            let _permit = permit;
            let mut files = contents.iter().map(|(name, bytes)| (name.clone(), bytes.as_slice()));
            let (_, model) = files.next().unwrap_or_default();
            let network = dyadic_graph::import_bytes(model, files)?;
            planning::check(&network)?;
            Ok(Summary::of(&network))
        });
        imported.await.map_err(ApiError::internal)?
    }

    /// Takes a place among the imports that run at once, for as long as the permit lives.
    pub(crate) async fn place(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        self.0.clone().acquire_owned().await.map_err(ApiError::internal)
    }
}

/// All refusals, if that is what the error is.
pub(crate) fn refusals(error: &ApiError) -> Option<Vec<pb::Refusal>> {
    match error {
        ApiError::Import(ImportError::Unsupported(list)) => {
            Some(Unsupported::grouped(list).into_iter().map(refusal).collect())
        }
        ApiError::Plan(layers) => Some(of_layers(layers)),
        _ => None,
    }
}

/// Layers that no default job can quantize, by reason.
fn of_layers(layers: &[dyadic_plan::Refusal]) -> Vec<pb::Refusal> {
    let mut groups: Vec<pb::Refusal> = Vec::new();
    for dyadic_plan::Refusal { layer, reason, rule: _ } in layers {
        let (layer, reason) = (bounded(layer.clone()), bounded(reason.clone()));
        match groups.iter_mut().find(|group| group.reason == reason) {
            Some(group) => group.nodes.push(layer),
            None => groups.push(pb::Refusal {
                operator: "layer".to_owned(),
                domain: String::new(),
                reason,
                nodes: vec![layer],
            }),
        }
    }
    groups
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
