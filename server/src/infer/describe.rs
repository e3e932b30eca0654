//! What ModelMetadata and ModelConfig say about a version.

use std::collections::HashMap;

use dyadic_proto::inference::model_config::SchedulingChoice;
use dyadic_proto::inference::model_metadata_response::TensorMetadata;
use dyadic_proto::inference::model_version_policy::{Latest, PolicyChoice};
use dyadic_proto::inference::{
    DataType, ModelConfig, ModelDynamicBatching, ModelInput, ModelInstanceGroup, ModelMetadataResponse,
    ModelOutput, ModelParameter, ModelQueuePolicy, ModelTransactionPolicy, ModelVersionPolicy, model_input,
    model_instance_group, model_queue_policy,
};

use super::loaded::Loaded;
use super::request::{DEFAULT_PRIORITY, PRIORITY_LEVELS};

/// The platform that clients are told.
pub const PLATFORM: &str = "dyadic_shift_add";

/// Metadata: shapes begin with the batch axis, −1.
pub fn metadata(loaded: &Loaded, ready_versions: &[u64]) -> ModelMetadataResponse {
    let signature = &loaded.signature;
    let tensor = |name: &str, dims: Vec<i64>| TensorMetadata {
        name: name.to_owned(),
        datatype: "FP32".to_owned(),
        shape: std::iter::once(-1).chain(dims).collect(),
    };
    ModelMetadataResponse {
        name: loaded.name.clone(),
        versions: ready_versions.iter().map(ToString::to_string).collect(),
        platform: PLATFORM.to_owned(),
        inputs: vec![tensor(&signature.input, signature.input_dims())],
        outputs: vec![tensor(&signature.output, signature.output_dims())],
    }
}

/// Configuration: dims leave the batch axis out.
pub fn config(loaded: &Loaded) -> ModelConfig {
    let signature = &loaded.signature;
    let dims = signature.input_dims();
    let format = if dims.len() == 3 { model_input::Format::Nchw } else { model_input::Format::None };
    ModelConfig {
        name: loaded.name.clone(),
        platform: PLATFORM.to_owned(),
        backend: "dyadic".to_owned(),
        version_policy: Some(ModelVersionPolicy {
            policy_choice: Some(PolicyChoice::Latest(Latest {
                num_versions: u32::try_from(loaded.limits.loaded_versions).unwrap_or(u32::MAX),
            })),
        }),
        max_batch_size: i32::try_from(signature.max_batch).unwrap_or(i32::MAX),
        input: vec![ModelInput {
            name: signature.input.clone(),
            data_type: DataType::TypeFp32.into(),
            format: format.into(),
            dims,
            ..ModelInput::default()
        }],
        output: vec![ModelOutput {
            name: signature.output.clone(),
            data_type: DataType::TypeFp32.into(),
            dims: signature.output_dims(),
            ..ModelOutput::default()
        }],
        instance_group: vec![ModelInstanceGroup {
            name: format!("{}_0", loaded.name),
            kind: model_instance_group::Kind::Cpu.into(),
            count: i32::try_from(loaded.limits.infer_threads()).unwrap_or(i32::MAX),
            ..ModelInstanceGroup::default()
        }],
        parameters: parameters(loaded),
        model_transaction_policy: Some(ModelTransactionPolicy { decoupled: false }),
        scheduling_choice: Some(SchedulingChoice::DynamicBatching(batching(loaded))),
        ..ModelConfig::default()
    }
}

fn batching(loaded: &Loaded) -> ModelDynamicBatching {
    ModelDynamicBatching {
        priority_levels: PRIORITY_LEVELS,
        default_priority_level: DEFAULT_PRIORITY,
        default_queue_policy: Some(ModelQueuePolicy {
            timeout_action: model_queue_policy::TimeoutAction::Reject.into(),
            default_timeout_microseconds: loaded.limits.infer_queue_ms.saturating_mul(1000),
            allow_timeout_override: true,
            max_queue_size: u32::try_from(loaded.limits.infer_queue).unwrap_or(u32::MAX),
        }),
        ..ModelDynamicBatching::default()
    }
}

/// What the protocol has no field for. With `uint8_input`, the same input also takes UINT8 of that shape; the value of byte v
/// in channel c is `(v/255 − mean[c]) / std[c]`. `preprocess` is what a picture becomes those bytes by.
fn parameters(loaded: &Loaded) -> HashMap<String, ModelParameter> {
    let signature = &loaded.signature;
    let mut texts = vec![("artifact_sha256", crate::upload::hex(&loaded.sha256))];
    texts.push(("kernel", loaded.batcher.engine().kernel_name().to_owned()));
    if let Some(normalization) = &signature.normalization {
        let shape: Vec<i64> = std::iter::once(-1).chain(signature.bytes_dims()).collect();
        texts.push(("uint8_input", serde_json::json!(shape).to_string()));
        texts.push(("mean", serde_json::json!(normalization.mean).to_string()));
        texts.push(("std", serde_json::json!(normalization.std).to_string()));
    }
    if let Some(preprocess) = &signature.preprocess {
        texts.push(("preprocess", preprocess.to_string()));
    }
    if !signature.labels.is_empty() {
        texts.push(("labels", serde_json::json!(signature.labels).to_string()));
    }
    texts.into_iter().map(|(key, string_value)| (key.to_owned(), ModelParameter { string_value })).collect()
}
