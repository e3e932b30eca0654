//! ModelInfer and its neighbours: every datatype, way of bringing contents, and mistake.

use dyadic_proto::inference as pb;
use dyadic_proto::inference::infer_parameter::ParameterChoice;
use dyadic_proto::inference::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use tonic::Code;

use crate::harness::{Harness, NORMALIZED, PLAIN, SAMPLE, float_bytes, float_sample, image_sample};

/// A good request for `batch` float samples.
fn floats(model: &str, batch: usize) -> pb::ModelInferRequest {
    let values: Vec<f32> = (0..batch).flat_map(float_sample).collect();
    pb::ModelInferRequest {
        model_name: model.to_owned(),
        id: "id-7".to_owned(),
        inputs: vec![input("FP32", &[batch as i64, 3, 32, 32])],
        raw_input_contents: vec![float_bytes(&values).into()],
        ..pb::ModelInferRequest::default()
    }
}

/// A good request for `batch` images.
fn images(batch: usize) -> pb::ModelInferRequest {
    let bytes: Vec<u8> = (0..batch).flat_map(image_sample).collect();
    pb::ModelInferRequest {
        model_name: NORMALIZED.to_owned(),
        inputs: vec![input("UINT8", &[batch as i64, 32, 32, 3])],
        raw_input_contents: vec![bytes.into()],
        ..pb::ModelInferRequest::default()
    }
}

fn input(datatype: &str, shape: &[i64]) -> InferInputTensor {
    InferInputTensor {
        name: "input".to_owned(),
        datatype: datatype.to_owned(),
        shape: shape.to_vec(),
        ..InferInputTensor::default()
    }
}

fn output(name: &str) -> InferRequestedOutputTensor {
    InferRequestedOutputTensor { name: name.to_owned(), ..InferRequestedOutputTensor::default() }
}

fn parameter(choice: ParameterChoice) -> pb::InferParameter {
    pb::InferParameter { parameter_choice: Some(choice) }
}

fn typed(contents: pb::InferTensorContents) -> impl Fn(&mut pb::ModelInferRequest) {
    move |request| {
        request.raw_input_contents.clear();
        request.inputs[0].contents = Some(contents.clone());
    }
}

fn values(answer: &pb::ModelInferResponse) -> Vec<f32> {
    let (words, rest) = answer.raw_output_contents[0].as_chunks::<4>();
    assert!(rest.is_empty());
    words.iter().map(|word| f32::from_le_bytes(*word)).collect()
}

#[tokio::test]
async fn answers_are_the_engines_own_bit_for_bit() {
    let server = Harness::serving().await;
    let mut client = server.inference();
    for batch in [1, 2, 8] {
        let answer = client.model_infer(floats(NORMALIZED, batch)).await.unwrap().into_inner();
        let input: Vec<f32> = (0..batch).flat_map(float_sample).collect();
        assert_eq!(values(&answer), server.engine_floats(NORMALIZED, &input), "{batch}");
        assert_eq!(answer.id, "id-7");
        assert_eq!(answer.model_version, "1");
        assert_eq!(answer.outputs.len(), 1);
        assert_eq!(answer.outputs[0].shape, [batch as i64, 10]);
        assert_eq!(answer.outputs[0].datatype, "FP32");
        assert!(answer.outputs[0].contents.is_none());

        let answer = client.model_infer(images(batch)).await.unwrap().into_inner();
        let input: Vec<u8> = (0..batch).flat_map(image_sample).collect();
        assert_eq!(values(&answer), server.engine_bytes(NORMALIZED, &input), "{batch}");
    }
}

#[tokio::test]
async fn every_byte_value_gives_the_same_as_its_float() {
    let server = Harness::serving().await;
    let mut client = server.inference();
    let (mean, std) = server.normalization();
    // 12 images of 3072 bytes hold every value in every channel many times.
    let mut request = images(12);
    let bytes: Vec<u8> = (0..12 * SAMPLE).map(|i| ((i / 3) * 7 + i % 3) as u8).collect();
    request.raw_input_contents = vec![bytes.clone().into()];
    let from_bytes = client.model_infer(request).await.unwrap().into_inner();
    let mut planes = Vec::new();
    for image in bytes.chunks_exact(SAMPLE) {
        for channel in 0..3 {
            planes.extend(
                image
                    .iter()
                    .skip(channel)
                    .step_by(3)
                    .map(|&v| (f32::from(v) / 255.0 - mean[channel]) / std[channel]),
            );
        }
    }
    let mut request = floats(NORMALIZED, 12);
    request.raw_input_contents = vec![float_bytes(&planes).into()];
    let from_floats = client.model_infer(request).await.unwrap().into_inner();
    assert_eq!(from_bytes.raw_output_contents, from_floats.raw_output_contents);
}

#[tokio::test]
async fn typed_contents_mean_the_same_as_raw_ones() {
    let server = Harness::serving().await;
    let mut client = server.inference();
    let raw = client.model_infer(floats(NORMALIZED, 1)).await.unwrap().into_inner();
    let mut request = floats(NORMALIZED, 1);
    typed(pb::InferTensorContents { fp32_contents: float_sample(0), ..Default::default() })(&mut request);
    assert_eq!(
        client.model_infer(request).await.unwrap().into_inner().raw_output_contents,
        raw.raw_output_contents
    );

    let raw = client.model_infer(images(1)).await.unwrap().into_inner();
    let mut request = images(1);
    let wide = image_sample(0).into_iter().map(u32::from).collect();
    typed(pb::InferTensorContents { uint_contents: wide, ..Default::default() })(&mut request);
    assert_eq!(
        client.model_infer(request).await.unwrap().into_inner().raw_output_contents,
        raw.raw_output_contents
    );
}

/// A mistake: what to change in a good float request, and the code that must come.
type Mistake = (&'static str, Code, Box<dyn Fn(&mut pb::ModelInferRequest)>);

fn mistake(name: &'static str, code: Code, change: impl Fn(&mut pb::ModelInferRequest) + 'static) -> Mistake {
    (name, code, Box::new(change))
}

fn wrong_names() -> Vec<Mistake> {
    use Code::{InvalidArgument, NotFound};
    vec![
        mistake("unknown model", NotFound, |r| r.model_name = "nobody".into()),
        mistake("empty model", NotFound, |r| r.model_name.clear()),
        mistake("unknown version", NotFound, |r| r.model_version = "99".into()),
        mistake("version 0", InvalidArgument, |r| r.model_version = "0".into()),
        mistake("negative version", InvalidArgument, |r| r.model_version = "-1".into()),
        mistake("version in words", InvalidArgument, |r| r.model_version = "latest".into()),
        mistake("no input", InvalidArgument, |r| r.inputs.clear()),
        mistake("unknown input", InvalidArgument, |r| r.inputs[0].name = "data".into()),
        mistake("input twice", InvalidArgument, |r| r.inputs.push(r.inputs[0].clone())),
        mistake("extra input", InvalidArgument, |r| {
            r.inputs.push(InferInputTensor { name: "more".into(), ..r.inputs[0].clone() });
        }),
        mistake("unknown output", InvalidArgument, |r| r.outputs = vec![output("logits2")]),
        mistake("output twice", InvalidArgument, |r| r.outputs = vec![output("logits"), output("logits")]),
    ]
}

fn wrong_shapes() -> Vec<Mistake> {
    use Code::InvalidArgument;
    let shape =
        |shape: &'static [i64]| move |r: &mut pb::ModelInferRequest| r.inputs[0].shape = shape.to_vec();
    vec![
        mistake("no shape", InvalidArgument, shape(&[])),
        mistake("no batch axis", InvalidArgument, shape(&[3, 32, 32])),
        mistake("batch 0", InvalidArgument, shape(&[0, 3, 32, 32])),
        mistake("batch −1", InvalidArgument, shape(&[-1, 3, 32, 32])),
        mistake("batch over the largest", InvalidArgument, shape(&[65, 3, 32, 32])),
        mistake("batch beyond all", InvalidArgument, shape(&[i64::MAX, 3, 32, 32])),
        mistake("batch that overflows", InvalidArgument, shape(&[i64::MIN, 3, 32, 32])),
        mistake("channel-last floats", InvalidArgument, shape(&[2, 32, 32, 3])),
        mistake("another size", InvalidArgument, shape(&[2, 3, 64, 16])),
        mistake("an axis more", InvalidArgument, shape(&[2, 3, 32, 32, 1])),
        mistake("−1 for an axis", InvalidArgument, shape(&[2, 3, -1, 32])),
    ]
}

fn wrong_contents() -> Vec<Mistake> {
    use Code::InvalidArgument;
    let datatype =
        |name: &'static str| move |r: &mut pb::ModelInferRequest| r.inputs[0].datatype = name.into();
    let raw = |bytes: usize| {
        move |r: &mut pb::ModelInferRequest| r.raw_input_contents = vec![vec![0; bytes].into()]
    };
    let contents = |count: usize| pb::InferTensorContents {
        fp32_contents: vec![0.5; count],
        ..pb::InferTensorContents::default()
    };
    let first = |value: f32| {
        move |r: &mut pb::ModelInferRequest| {
            let mut values: Vec<f32> = (0..2).flat_map(float_sample).collect();
            values[1234] = value;
            r.raw_input_contents = vec![float_bytes(&values).into()];
        }
    };
    let mut cases = vec![
        mistake("no contents", InvalidArgument, |r| r.raw_input_contents.clear()),
        mistake("one byte less", InvalidArgument, raw(2 * 4 * SAMPLE - 1)),
        mistake("one byte more", InvalidArgument, raw(2 * 4 * SAMPLE + 1)),
        mistake("empty raw contents", InvalidArgument, raw(0)),
        mistake("raw contents twice", InvalidArgument, |r| {
            r.raw_input_contents.push(r.raw_input_contents[0].clone());
        }),
        mistake("raw and typed", InvalidArgument, move |r| r.inputs[0].contents = Some(contents(2 * SAMPLE))),
        mistake("too few elements", InvalidArgument, typed(contents(2 * SAMPLE - 1))),
        mistake("too many elements", InvalidArgument, typed(contents(2 * SAMPLE + 1))),
        mistake("empty typed contents", InvalidArgument, typed(contents(0))),
        mistake("elements of another type", InvalidArgument, {
            typed(pb::InferTensorContents { fp64_contents: vec![0.0; 2 * SAMPLE], ..Default::default() })
        }),
        mistake("elements of two types", InvalidArgument, {
            typed(pb::InferTensorContents { bool_contents: vec![true], ..contents(2 * SAMPLE) })
        }),
        mistake("NaN", InvalidArgument, first(f32::NAN)),
        mistake("infinity", InvalidArgument, first(f32::NEG_INFINITY)),
        mistake("images with a float's shape", InvalidArgument, datatype("UINT8")),
    ];
    for name in [
        "", "fp32", "BOOL", "INT8", "INT16", "INT32", "INT64", "UINT16", "UINT32", "UINT64", "FP16", "BF16",
        "FP64", "BYTES",
    ] {
        cases.push(mistake(name, InvalidArgument, datatype(name)));
    }
    cases
}

fn wrong_parameters() -> Vec<Mistake> {
    use Code::{InvalidArgument, Unimplemented};
    use ParameterChoice::{BoolParam, Int64Param, StringParam};
    let with = |key: &'static str, choice: ParameterChoice| {
        move |r: &mut pb::ModelInferRequest| {
            r.parameters.insert(key.to_owned(), parameter(choice.clone()));
        }
    };
    let of_output = |key: &'static str, choice: ParameterChoice| {
        move |r: &mut pb::ModelInferRequest| {
            let mut output = output("logits");
            output.parameters.insert(key.to_owned(), parameter(choice.clone()));
            r.outputs = vec![output];
        }
    };
    vec![
        mistake("priority in words", InvalidArgument, with("priority", StringParam("1".into()))),
        mistake("negative priority", InvalidArgument, with("priority", Int64Param(-1))),
        mistake("negative time-out", InvalidArgument, with("timeout", Int64Param(-1))),
        mistake("empty final response as text", InvalidArgument, {
            with("triton_enable_empty_final_response", StringParam("true".into()))
        }),
        mistake("unknown triton_ key", InvalidArgument, with("triton_secret", BoolParam(true))),
        mistake("classification 0", InvalidArgument, of_output("classification", Int64Param(0))),
        mistake("negative classification", InvalidArgument, of_output("classification", Int64Param(-1))),
        mistake(
            "classification in words",
            InvalidArgument,
            of_output("classification", StringParam("3".into())),
        ),
        mistake("output in shared memory", Unimplemented, {
            of_output("shared_memory_region", StringParam("region".into()))
        }),
        mistake("input in shared memory", Unimplemented, |r| {
            let region = parameter(StringParam("region".into()));
            r.inputs[0].parameters.insert("shared_memory_region".into(), region);
            r.raw_input_contents.clear();
        }),
    ]
}

#[tokio::test]
async fn every_mistake_in_a_request_has_its_code() {
    let server = Harness::serving().await;
    let mut client = server.inference();
    client.model_infer(floats(NORMALIZED, 2)).await.unwrap();
    let cases = [wrong_names(), wrong_shapes(), wrong_contents(), wrong_parameters()];
    for (name, code, change) in cases.iter().flatten() {
        let mut request = floats(NORMALIZED, 2);
        change(&mut request);
        let status = client.model_infer(request).await.expect_err(name);
        assert_eq!(status.code(), *code, "{name}: {}", status.message());
        assert!(!status.message().is_empty() && status.message().len() < 2200, "{name}");
    }
}

#[tokio::test]
async fn images_are_for_models_with_a_normalization_only() {
    let server = Harness::serving().await;
    let mut client = server.inference();
    let mut request = images(1);
    request.model_name = PLAIN.to_owned();
    let status = client.model_infer(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{}", status.message());
    let mut request = images(1);
    let mut wide: Vec<u32> = image_sample(0).into_iter().map(u32::from).collect();
    wide[9] = 256;
    typed(pb::InferTensorContents { uint_contents: wide, ..Default::default() })(&mut request);
    assert_eq!(client.model_infer(request).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn parameters_that_are_allowed_change_nothing() {
    use ParameterChoice::{BoolParam, DoubleParam, Int64Param, Uint64Param};
    let server = Harness::serving().await;
    let mut client = server.inference();
    let plain = client.model_infer(floats(PLAIN, 1)).await.unwrap().into_inner();
    let cases = [
        ("priority", Int64Param(1)),
        ("priority", Uint64Param(900)),
        ("priority", Uint64Param(0)),
        ("timeout", Int64Param(5_000_000)),
        ("timeout", Int64Param(0)),
        ("triton_enable_empty_final_response", BoolParam(true)),
        ("sequence_length", DoubleParam(1.5)),
    ];
    for (key, choice) in cases {
        let mut request = floats(PLAIN, 1);
        request.parameters.insert(key.to_owned(), parameter(choice));
        let answer = client.model_infer(request).await.unwrap().into_inner();
        assert_eq!(answer.raw_output_contents, plain.raw_output_contents, "{key}");
    }
}

#[tokio::test]
async fn descriptions_agree_with_each_other() {
    let server = Harness::serving().await;
    let mut client = server.inference();
    for (name, images) in [(NORMALIZED, true), (PLAIN, false)] {
        let request = pb::ModelMetadataRequest { name: name.into(), version: String::new() };
        let metadata = client.model_metadata(request).await.unwrap().into_inner();
        let request = pb::ModelConfigRequest { name: name.into(), version: "1".into() };
        let config = client.model_config(request).await.unwrap().into_inner().config.unwrap();
        assert_eq!(metadata.inputs[0].shape, [-1, 3, 32, 32]);
        assert_eq!(metadata.outputs[0].shape, [-1, 10]);
        assert_eq!(config.input[0].dims, [3, 32, 32]);
        assert_eq!(config.input[0].format(), pb::model_input::Format::Nchw);
        assert_eq!(config.output[0].dims, [10]);
        assert_eq!(config.max_batch_size, 64);
        assert_eq!(metadata.platform, config.platform);
        assert_eq!(config.parameters.contains_key("uint8_input"), images, "{name}");
    }
}

#[tokio::test]
async fn statistics_count_requests_samples_and_batches() {
    let server = Harness::serving().await;
    let mut client = server.inference();
    for batch in [1, 3] {
        client.model_infer(floats(PLAIN, batch)).await.unwrap();
    }
    let mut wrong = floats(PLAIN, 1);
    wrong.inputs[0].datatype = "INT8".into();
    client.model_infer(wrong).await.unwrap_err();
    let request = pb::ModelStatisticsRequest { name: PLAIN.into(), version: String::new() };
    let statistics = client.model_statistics(request).await.unwrap().into_inner().model_stats;
    let [one] = statistics.as_slice() else { panic!("{statistics:?}") };
    assert_eq!((one.inference_count, one.execution_count), (4, 2));
    let stats = one.inference_stats.unwrap();
    assert_eq!(stats.success.unwrap().count, 2);
    assert_eq!(stats.fail.unwrap().count, 1);
    assert_eq!(stats.queue.unwrap().count, 2);
    assert_eq!(one.batch_stats.iter().map(|batch| batch.batch_size).collect::<Vec<_>>(), [1, 3]);
}

#[tokio::test]
async fn what_does_not_work_is_neither_announced_nor_pretended() {
    let server = Harness::serving().await;
    let mut client = server.inference();
    let extensions =
        client.server_metadata(pb::ServerMetadataRequest {}).await.unwrap().into_inner().extensions;
    for absent in ["system_shared_memory", "cuda_shared_memory", "trace", "logging"] {
        assert!(!extensions.iter().any(|extension| extension == absent));
    }
    let code = |status: tonic::Status| status.code();
    let cases = [
        client.trace_setting(pb::TraceSettingRequest::default()).await.map(|_| ()).map_err(code),
        client.log_settings(pb::LogSettingsRequest::default()).await.map(|_| ()).map_err(code),
        client
            .cuda_shared_memory_status(pb::CudaSharedMemoryStatusRequest::default())
            .await
            .map(|_| ())
            .map_err(code),
        client
            .repository_model_unload(pb::RepositoryModelUnloadRequest::default())
            .await
            .map(|_| ())
            .map_err(code),
    ];
    assert_eq!(cases, [Err(Code::Unimplemented); 4]);
    let elsewhere = pb::RepositoryIndexRequest { repository_name: "other".into(), ready: false };
    assert_eq!(client.repository_index(elsewhere).await.unwrap_err().code(), Code::Unimplemented);
}

#[tokio::test]
async fn loading_by_hand_says_whether_the_name_is_ready() {
    let server = Harness::serving().await;
    let mut client = server.inference();
    let mut load = async |name: &str, repository: &str, parameter: Option<&str>| {
        let parameters = parameter.map(|key| (key.to_owned(), pb::ModelRepositoryParameter::default()));
        let request = pb::RepositoryModelLoadRequest {
            repository_name: repository.into(),
            model_name: name.into(),
            parameters: parameters.into_iter().collect(),
        };
        client.repository_model_load(request).await.map_or_else(|status| status.code(), |_| Code::Ok)
    };
    assert_eq!(load(PLAIN, "", None).await, Code::Ok);
    assert_eq!(load("nothing", "", None).await, Code::NotFound);
    assert_eq!(load(PLAIN, "elsewhere", None).await, Code::Unimplemented);
    assert_eq!(load(PLAIN, "", Some("config")).await, Code::Unimplemented);
}
