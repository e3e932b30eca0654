//! From the engine's values to a ModelInfer response: always raw contents, in the order of the outputs.

use dyadic_engine::model::Shape;
use dyadic_proto::inference::ModelInferResponse;
use dyadic_proto::inference::model_infer_response::InferOutputTensor;

use super::classification::classify;
use super::loaded::Loaded;

/// The answer to a request with this id, for `batch` samples of values as the engine gives them (NHWC).
pub fn encode(
    loaded: &Loaded,
    id: String,
    values: Vec<f32>,
    batch: usize,
    classification: Option<usize>,
) -> ModelInferResponse {
    let signature = &loaded.signature;
    let values = channel_first(values, signature.output_shape);
    let (datatype, dims, raw) = if let Some(k) = classification {
        let (raw, k) = classify(&values, batch, k, &signature.labels);
        ("BYTES", vec![k as i64], raw)
    } else {
        let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        ("FP32", signature.output_dims(), raw)
    };
    let shape = std::iter::once(batch as i64).chain(dims).collect();
    ModelInferResponse {
        model_name: loaded.name.clone(),
        model_version: loaded.version.to_string(),
        id,
        outputs: vec![InferOutputTensor {
            name: signature.output.clone(),
            datatype: datatype.to_owned(),
            shape,
            ..InferOutputTensor::default()
        }],
        raw_output_contents: vec![raw.into()],
        ..ModelInferResponse::default()
    }
}

fn channel_first(values: Vec<f32>, shape: Shape) -> Vec<f32> {
    let (pixels, channels) = (shape.h as usize * shape.w as usize, shape.c as usize);
    if pixels <= 1 {
        return values;
    }
    let mut turned = Vec::with_capacity(values.len());
    for sample in values.chunks_exact(shape.len()) {
        for channel in 0..channels {
            turned.extend(sample.iter().skip(channel).step_by(channels));
        }
    }
    turned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_become_channel_first() {
        let shape = Shape { h: 1, w: 2, c: 3 };
        let values = (0..12u8).map(f32::from).collect();
        let turned = channel_first(values, shape);
        assert_eq!(turned, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0, 6.0, 9.0, 7.0, 10.0, 8.0, 11.0]);
    }
}
