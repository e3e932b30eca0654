//! Which files belong to an ONNX file: those that its tensors name as their external data.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use prost::Message;

use crate::error::{CliError, Result};

/// Largest ONNX file that protobuf allows.
const MAX_BYTES: u64 = 2 << 30;

// The parts of onnx.proto on the way to a tensor's external data; all else is skipped while decoding.

#[derive(Clone, PartialEq, Message)]
struct Model {
    #[prost(int64, tag = "1")]
    ir_version: i64,
    #[prost(message, optional, tag = "7")]
    graph: Option<Graph>,
}

#[derive(Clone, PartialEq, Message)]
struct Graph {
    #[prost(message, repeated, tag = "1")]
    node: Vec<Node>,
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<Tensor>,
}

#[derive(Clone, PartialEq, Message)]
struct Node {
    #[prost(message, repeated, tag = "5")]
    attribute: Vec<Attribute>,
}

#[derive(Clone, PartialEq, Message)]
struct Attribute {
    #[prost(message, optional, tag = "5")]
    t: Option<Tensor>,
    #[prost(message, repeated, tag = "10")]
    tensors: Vec<Tensor>,
}

#[derive(Clone, PartialEq, Message)]
struct Tensor {
    #[prost(message, repeated, tag = "13")]
    external_data: Vec<Entry>,
    /// 1 means external.
    #[prost(int32, tag = "14")]
    data_location: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

/// The ONNX file and its side files, as (path, name in the bundle), the ONNX file first.
pub(super) fn files(onnx: &Path) -> Result<Vec<(PathBuf, String)>> {
    let size = std::fs::metadata(onnx).map_err(|e| CliError::file(onnx, e))?.len();
    if size > MAX_BYTES {
        return Err(CliError::file(onnx, "is larger than the 2 GiB that an ONNX file can have"));
    }
    let bytes = std::fs::read(onnx).map_err(|e| CliError::file(onnx, e))?;
    let named = locations(&bytes).ok_or_else(|| {
        CliError::file(onnx, "is not an ONNX file")
            .hint("in PyTorch: torch.onnx.export(model.eval(), (example,), \"m.onnx\")")
    })?;
    let name = onnx
        .file_name()
        .and_then(|n| n.to_str())
        .ok_or_else(|| CliError::file(onnx, "has no usable name"))?;
    let mut files = vec![(onnx.to_owned(), name.to_owned())];
    let folder = onnx.parent().unwrap_or(Path::new(""));
    for side in named {
        if side.is_empty() || side.contains(['/', '\\']) || side == ".." {
            return Err(CliError::file(
                onnx,
                format!("names the side file {side:?}, which is not beside it"),
            )
            .hint("load and save it with onnx.save_model(..., location=\"m.onnx.data\")"));
        }
        let path = folder.join(&side);
        if !path.is_file() {
            return Err(CliError::file(onnx, format!("needs the side file {side}, which is not beside it"))
                .hint(format!(
                    "copy {side} into {}",
                    if folder == Path::new("") { Path::new(".") } else { folder }.display()
                )));
        }
        files.push((path, side));
    }
    Ok(files)
}

/// Names of side files in alphabetical order; none if the bytes are no ONNX model.
fn locations(bytes: &[u8]) -> Option<BTreeSet<String>> {
    let graph = Model::decode(bytes).ok()?.graph?;
    let attributes = graph.node.iter().flat_map(|n| &n.attribute);
    let tensors = graph.initializer.iter().chain(attributes.flat_map(|a| a.t.iter().chain(&a.tensors)));
    let external = tensors.filter(|t| t.data_location == 1).flat_map(|t| &t.external_data);
    Some(external.filter(|e| e.key == "location").map(|e| e.value.clone()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn onnx(location: &str) -> Vec<u8> {
        let entry = Entry { key: "location".into(), value: location.into() };
        let tensor = Tensor { external_data: vec![entry], data_location: 1 };
        let graph = Graph { node: vec![], initializer: vec![tensor.clone(), tensor] };
        Model { ir_version: 8, graph: Some(graph) }.encode_to_vec()
    }

    #[test]
    fn side_files_come_along_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("m.onnx");
        std::fs::write(&file, onnx("m.onnx.data")).unwrap();
        assert!(files(&file).unwrap_err().message.contains("needs the side file m.onnx.data"));
        std::fs::write(dir.path().join("m.onnx.data"), [0; 4]).unwrap();
        let names: Vec<String> = files(&file).unwrap().into_iter().map(|f| f.1).collect();
        assert_eq!(names, ["m.onnx", "m.onnx.data"]);
    }

    #[test]
    fn a_model_cannot_make_us_send_files_from_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("m.onnx");
        for location in ["../secret", "/etc/passwd", "..", ""] {
            std::fs::write(&file, onnx(location)).unwrap();
            assert!(files(&file).unwrap_err().message.contains("not beside it"), "{location}");
        }
    }

    #[test]
    fn other_files_are_no_onnx() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("m.onnx");
        for bytes in [&b""[..], b"PK\x03\x04 a zip", b"plain text"] {
            std::fs::write(&file, bytes).unwrap();
            assert!(files(&file).unwrap_err().message.contains("is not an ONNX file"));
        }
        assert!(files(&dir.path().join("none.onnx")).is_err());
    }
}
