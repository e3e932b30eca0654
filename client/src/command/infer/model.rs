//! What the server says about a served model's input.

use std::collections::HashMap;

use dyadic_data::Preprocess;
use dyadic_proto::inference::{ModelConfigRequest, ModelMetadataRequest, ModelParameter};
use dyadic_proto::v1::Normalization;

use crate::connect::Connection;
use crate::error::{CliError, Result};

/// A served model as its own words describe it.
#[derive(Debug, Clone)]
pub(super) struct ServedModel {
    pub(super) name: String,
    /// Version to ask for; empty means the latest.
    pub(super) version_asked: String,
    /// Name of the only input.
    pub(super) input: String,
    /// One sample as floats: channels, height, width.
    pub(super) dims: Vec<usize>,
    /// One sample as bytes: height, width, channels; none if it takes no bytes.
    pub(super) bytes_dims: Option<Vec<usize>>,
    pub(super) normalization: Option<Normalization>,
    /// What a picture becomes its input by; none if it must have the size already.
    pub(super) preprocess: Option<Preprocess>,
    pub(super) labels: Vec<String>,
    pub(super) max_batch: usize,
}

impl ServedModel {
    pub(super) async fn fetch(connection: &Connection, name: &str, version: Option<u64>) -> Result<Self> {
        let version_asked = version.map(|v| v.to_string()).unwrap_or_default();
        let request = ModelMetadataRequest { name: name.to_owned(), version: version_asked.clone() };
        let metadata = connection.inference().model_metadata(request).await?.into_inner();
        let [input] = &metadata.inputs[..] else {
            return Err(CliError::usage(format!(
                "{name} has {} inputs; one is supported here",
                metadata.inputs.len()
            )));
        };
        let request = ModelConfigRequest { name: name.to_owned(), version: version_asked.clone() };
        let config =
            connection.inference().model_config(request).await?.into_inner().config.unwrap_or_default();
        let bytes_dims = parameter(&config.parameters, "uint8_input", |v: Vec<i64>| dims(v.get(1..)?))?;
        let mean = parameter(&config.parameters, "mean", Some)?;
        let std = parameter(&config.parameters, "std", Some)?;
        Ok(ServedModel {
            name: name.to_owned(),
            version_asked,
            input: input.name.clone(),
            dims: input
                .shape
                .get(1..)
                .and_then(dims)
                .ok_or_else(|| CliError::protocol(format!("input shape {:?}", input.shape)))?,
            bytes_dims,
            normalization: mean.zip(std).map(|(mean, std)| Normalization { mean, std }),
            preprocess: parameter(&config.parameters, "preprocess", Some)?,
            labels: parameter(&config.parameters, "labels", Some)?.unwrap_or_default(),
            max_batch: usize::try_from(config.max_batch_size).unwrap_or(1).max(1),
        })
    }

    pub(super) fn takes_bytes(&self) -> bool {
        self.bytes_dims.is_some()
    }

    /// Elements of one sample.
    pub(super) fn elements(&self) -> usize {
        self.dims.iter().product()
    }

    pub(super) fn channels(&self) -> usize {
        self.dims.first().copied().unwrap_or(0)
    }
}

/// Sizes, all positive and their product small enough to hold.
fn dims(shape: &[i64]) -> Option<Vec<usize>> {
    let dims: Vec<usize> =
        shape.iter().map(|&d| usize::try_from(d).ok().filter(|&d| d > 0)).collect::<Option<_>>()?;
    let size = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
    (!dims.is_empty() && size <= 1 << 28).then_some(dims)
}

/// A parameter that is JSON; none if it is not there.
fn parameter<T: for<'a> serde::Deserialize<'a>, U>(
    parameters: &HashMap<String, ModelParameter>,
    name: &str,
    convert: impl FnOnce(T) -> Option<U>,
) -> Result<Option<U>> {
    let Some(text) = parameters.get(name) else { return Ok(None) };
    let value = serde_json::from_str(&text.string_value).ok().and_then(convert);
    value.map(Some).ok_or_else(|| CliError::protocol(format!("parameter {name} is {}", text.string_value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_json_or_absent() {
        let of = |text: &str| -> HashMap<String, ModelParameter> {
            [("mean".to_owned(), ModelParameter { string_value: text.into() })].into()
        };
        let floats = |m: &_| parameter(m, "mean", Some::<Vec<f32>>);
        assert_eq!(floats(&of("[0.5,1]")).unwrap(), Some(vec![0.5, 1.0]));
        assert_eq!(parameter(&of("[]"), "std", Some::<Vec<f32>>).unwrap(), None);
        assert!(floats(&of("half")).is_err());
    }

    #[test]
    fn impossible_shapes_are_refused() {
        assert_eq!(dims(&[3, 32, 32]), Some(vec![3, 32, 32]));
        for shape in [&[][..], &[-1], &[0, 3], &[i64::MAX, 2], &[1 << 20, 1 << 20]] {
            assert_eq!(dims(shape), None);
        }
    }
}
