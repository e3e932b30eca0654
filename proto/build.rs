//! Compiles the .proto files with protox (no protoc needed) into `OUT_DIR`.

use std::error::Error;
use std::path::PathBuf;

use prost::Message;

const FILES: [&str; 8] = [
    "dyadic/v1/common.proto",
    "dyadic/v1/dataset.proto",
    "dyadic/v1/experiment.proto",
    "dyadic/v1/job.proto",
    "dyadic/v1/model.proto",
    "dyadic/v1/token.proto",
    "inference/grpc_service.proto",
    "inference/model_config.proto",
];

/// Fields whose bytes are handed on without a copy.
const SHARED_BYTES: [&str; 4] = [
    ".dyadic.v1.FileChunk.data",
    ".dyadic.v1.ExportResponse.data",
    ".inference.ModelInferRequest.raw_input_contents",
    ".inference.ModelInferResponse.raw_output_contents",
];

/// Messages that are also kept as JSON, as they came.
const RECORDED: [&str; 7] = [
    ".dyadic.v1.ActivationBits",
    ".dyadic.v1.JobSpec",
    ".dyadic.v1.Normalization",
    ".dyadic.v1.Preprocess",
    ".dyadic.v1.Size",
    ".dyadic.v1.Splits",
    ".dyadic.v1.Tag",
];

fn main() -> Result<(), Box<dyn Error>> {
    for file in FILES {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    let mut builder = tonic_prost_build::configure().emit_rerun_if_changed(false);
    for field in SHARED_BYTES {
        builder = builder.bytes(field);
    }
    for message in RECORDED {
        builder = builder.type_attribute(message, "#[derive(serde::Serialize)]");
    }
    builder.compile_fds(descriptors)?;
    Ok(())
}
