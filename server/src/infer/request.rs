//! From a ModelInfer request to what the batcher runs. Every rule that a client can break has its own message.

use std::collections::HashMap;

use bytes::Bytes;
use dyadic_proto::inference::infer_parameter::ParameterChoice;
use dyadic_proto::inference::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use dyadic_proto::inference::{InferParameter, InferTensorContents, ModelInferRequest};

use super::InferError;
use super::batcher::Samples;
use super::loaded::Signature;

/// Levels of `priority`; 1 is the highest.
pub const PRIORITY_LEVELS: u64 = 3;

/// The level of a request that names none.
pub const DEFAULT_PRIORITY: u64 = 2;

type Parameters = HashMap<String, InferParameter>;

/// A request that passed all checks.
#[derive(Debug, PartialEq)]
pub struct Decoded {
    /// Input values.
    pub samples: Samples,
    /// Samples, 1 ..= the largest batch.
    pub batch: usize,
    /// 1 ..= [`PRIORITY_LEVELS`].
    pub priority: u64,
    /// Longest time in the queue, in µs, if the request says.
    pub timeout_us: Option<u64>,
    /// Of the output: its k greatest values as text, instead of all.
    pub classification: Option<usize>,
}

/// Checks a request against a version's signature.
pub fn decode(request: ModelInferRequest, signature: &Signature) -> Result<Decoded, InferError> {
    let (priority, timeout_us) = scheduling(&request.parameters)?;
    let classification = requested_output(&request.outputs, signature)?;
    let (tensor, raw) = only_input(request.inputs, request.raw_input_contents, signature)?;
    if tensor.parameters.contains_key("shared_memory_region") {
        return Err(InferError::Unsupported("shared memory".to_owned()));
    }
    let kind = Kind::of(&tensor, signature)?;
    let (batch, elements) = batch_of(&tensor, &kind.dims(signature), signature.max_batch)?;
    let samples = match (raw, tensor.contents) {
        (Some(raw), None) => kind.raw(&tensor.name, raw, elements)?,
        (None, Some(contents)) => kind.typed(&tensor.name, contents, elements)?,
        (Some(_), Some(_)) => {
            return refuse(format!("input {:?} has both raw and typed contents", tensor.name));
        }
        (None, None) => return refuse(format!("input {:?} has no contents", tensor.name)),
    };
    if let Samples::Floats(values) = &samples
        && let Some(index) = values.iter().position(|value| !value.is_finite())
    {
        let value = values.get(index).copied().unwrap_or(f32::NAN);
        return refuse(format!("input {:?}: element {index} is {value}", tensor.name));
    }
    Ok(Decoded { samples, batch, priority, timeout_us, classification })
}

/// The request's priority and queue time-out; refuses unknown `triton_` keys and passes over other unknown ones.
fn scheduling(parameters: &Parameters) -> Result<(u64, Option<u64>), InferError> {
    let mut priority = DEFAULT_PRIORITY;
    let mut timeout_us = None;
    for (key, parameter) in parameters {
        let choice = parameter.parameter_choice.as_ref();
        match key.as_str() {
            "priority" => match natural(choice) {
                Some(0) => {}
                Some(level) => priority = level.min(PRIORITY_LEVELS),
                None => return refuse("parameter \"priority\" must be an integer, 0 or greater".to_owned()),
            },
            "timeout" => match natural(choice) {
                Some(0) => {}
                Some(us) => timeout_us = Some(us),
                None => {
                    return refuse(
                        "parameter \"timeout\" must be an integer, in µs, 0 or greater".to_owned(),
                    );
                }
            },
            "triton_enable_empty_final_response" if matches!(choice, Some(ParameterChoice::BoolParam(_))) => {
            }
            "triton_enable_empty_final_response" => {
                return refuse(format!("parameter {key:?} must be a boolean"));
            }
            _ if key.starts_with("triton_") => {
                return refuse(format!("parameter {key:?} is reserved and unknown"));
            }
            _ => {}
        }
    }
    Ok((priority, timeout_us))
}

fn natural(choice: Option<&ParameterChoice>) -> Option<u64> {
    match choice? {
        ParameterChoice::Int64Param(value) => u64::try_from(*value).ok(),
        ParameterChoice::Uint64Param(value) => Some(*value),
        _ => None,
    }
}

/// What is asked of the only output: all of it, or its k greatest values.
fn requested_output(
    outputs: &[InferRequestedOutputTensor],
    signature: &Signature,
) -> Result<Option<usize>, InferError> {
    if let Some(unknown) = outputs.iter().find(|output| output.name != signature.output) {
        return refuse(format!("unknown output {:?}; the model has {:?}", unknown.name, signature.output));
    }
    let [output] = outputs else {
        if outputs.is_empty() {
            return Ok(None);
        }
        return refuse(format!("output {:?} is requested {} times", signature.output, outputs.len()));
    };
    if output.parameters.contains_key("shared_memory_region") {
        return Err(InferError::Unsupported("shared memory".to_owned()));
    }
    let Some(parameter) = output.parameters.get("classification") else { return Ok(None) };
    match natural(parameter.parameter_choice.as_ref()) {
        Some(k) if k > 0 => Ok(Some(usize::try_from(k).unwrap_or(usize::MAX))),
        _ => refuse("parameter \"classification\" must be an integer greater than 0".to_owned()),
    }
}

fn only_input(
    mut inputs: Vec<InferInputTensor>,
    mut raw: Vec<Bytes>,
    signature: &Signature,
) -> Result<(InferInputTensor, Option<Bytes>), InferError> {
    if let Some(unknown) = inputs.iter().find(|input| input.name != signature.input) {
        return refuse(format!("unknown input {:?}; the model has {:?}", unknown.name, signature.input));
    }
    if inputs.len() > 1 {
        return refuse(format!("input {:?} comes {} times", signature.input, inputs.len()));
    }
    let Some(tensor) = inputs.pop() else {
        return refuse(format!("input {:?} is missing", signature.input));
    };
    if raw.len() > 1 {
        return refuse(format!("{} raw contents come for 1 input", raw.len()));
    }
    Ok((tensor, raw.pop()))
}

/// How the input comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Floats,
    Bytes,
}

impl Kind {
    fn of(tensor: &InferInputTensor, signature: &Signature) -> Result<Self, InferError> {
        match tensor.datatype.as_str() {
            "FP32" => Ok(Self::Floats),
            "UINT8" if signature.normalization.is_some() => Ok(Self::Bytes),
            "UINT8" => refuse(format!(
                "input {:?} takes FP32 only: the model has no normalization for 8-bit images",
                tensor.name
            )),
            other => {
                let also = if signature.normalization.is_some() { " or UINT8" } else { "" };
                refuse(format!("input {:?} has datatype {other:?}; FP32{also} is needed", tensor.name))
            }
        }
    }

    /// One sample's shape.
    fn dims(self, signature: &Signature) -> Vec<i64> {
        match self {
            Self::Floats => signature.input_dims(),
            Self::Bytes => signature.bytes_dims(),
        }
    }

    fn raw(self, name: &str, raw: Bytes, elements: usize) -> Result<Samples, InferError> {
        let size = match self {
            Self::Floats => 4,
            Self::Bytes => 1,
        };
        let expected = elements.saturating_mul(size);
        if raw.len() != expected {
            return refuse(format!("input {name:?} has {} raw bytes; its shape needs {expected}", raw.len()));
        }
        Ok(match self {
            Self::Floats => {
                let (words, _) = raw.as_chunks::<4>();
                Samples::Floats(words.iter().map(|word| f32::from_le_bytes(*word)).collect())
            }
            Self::Bytes => Samples::Bytes(raw.into()),
        })
    }

    fn typed(
        self,
        name: &str,
        contents: InferTensorContents,
        elements: usize,
    ) -> Result<Samples, InferError> {
        let used = used_fields(&contents);
        let field = match self {
            Self::Floats => "fp32_contents",
            Self::Bytes => "uint_contents",
        };
        if let Some(other) = used.iter().find(|used| **used != field) {
            return refuse(format!("input {name:?} has {other}; its datatype comes in {field}"));
        }
        let count = match self {
            Self::Floats => contents.fp32_contents.len(),
            Self::Bytes => contents.uint_contents.len(),
        };
        if count != elements {
            return refuse(format!("input {name:?} has {count} elements; its shape needs {elements}"));
        }
        match self {
            Self::Floats => Ok(Samples::Floats(contents.fp32_contents)),
            Self::Bytes => {
                let narrow = contents.uint_contents.iter().map(|&value| u8::try_from(value));
                match narrow.collect::<Result<_, _>>() {
                    Ok(bytes) => Ok(Samples::Bytes(bytes)),
                    Err(_) => refuse(format!("input {name:?} has an element over 255")),
                }
            }
        }
    }
}

fn used_fields(contents: &InferTensorContents) -> Vec<&'static str> {
    let fields = [
        ("bool_contents", contents.bool_contents.is_empty()),
        ("int_contents", contents.int_contents.is_empty()),
        ("int64_contents", contents.int64_contents.is_empty()),
        ("uint_contents", contents.uint_contents.is_empty()),
        ("uint64_contents", contents.uint64_contents.is_empty()),
        ("fp32_contents", contents.fp32_contents.is_empty()),
        ("fp64_contents", contents.fp64_contents.is_empty()),
        ("bytes_contents", contents.bytes_contents.is_empty()),
    ];
    fields.into_iter().filter(|(_, empty)| !empty).map(|(name, _)| name).collect()
}

/// The batch and the number of elements that a shape stands for.
fn batch_of(tensor: &InferInputTensor, dims: &[i64], max_batch: usize) -> Result<(usize, usize), InferError> {
    let name = &tensor.name;
    // An axis of one position says nothing: a series may come as an image of one row, and the other way round.
    let extents = |shape: &[i64]| shape.iter().copied().filter(|&extent| extent != 1).collect::<Vec<_>>();
    let alike = |sample: &[i64]| {
        sample == dims || (2..=3).contains(&sample.len()) && extents(sample) == extents(dims)
    };
    let Some((&batch, sample)) = tensor.shape.split_first().filter(|(_, sample)| alike(sample)) else {
        return refuse(format!(
            "input {name:?} has shape {:?}; [batch, {}] is needed",
            tensor.shape,
            dims.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        ));
    };
    let batch = usize::try_from(batch).unwrap_or(0);
    if !(1..=max_batch).contains(&batch) {
        let asked = tensor.shape.first().copied().unwrap_or(0);
        return refuse(format!("input {name:?} has a batch of {asked}; 1 to {max_batch} are allowed"));
    }
    // The sample's shape is the model's own, so the product is small.
    let elements =
        sample.iter().fold(batch, |product, &extent| product.saturating_mul(extent.max(0) as usize));
    Ok((batch, elements))
}

fn refuse<T>(reason: String) -> Result<T, InferError> {
    Err(InferError::Request(reason))
}
