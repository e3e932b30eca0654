//! Uploading, listing, fetching and deleting float models.

use dyadic_proto::v1 as pb;
use dyadic_proto::v1::download_response::Part as DownloadPart;
use dyadic_proto::v1::upload_model_request::Part;
use sha2::{Digest, Sha256};
use tonic::{Code, Status};

use crate::harness::Harness;

/// A bundle of PyTorch's default exporter: the model and its side file.
fn bundle() -> Vec<(&'static str, Vec<u8>)> {
    ["lenet_relu_dynamo20.onnx", "lenet_relu_dynamo20.onnx.data"].map(|name| (name, fixture(name))).to_vec()
}

pub(crate) fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/../graph/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn file(name: &str, bytes: &[u8]) -> pb::FileHeader {
    pb::FileHeader {
        name: name.to_owned(),
        size_bytes: bytes.len() as u64,
        sha256: Sha256::digest(bytes).to_vec(),
    }
}

fn header(name: &str, files: &[(&str, Vec<u8>)]) -> Part {
    Part::Header(pb::UploadModelHeader {
        name: name.to_owned(),
        files: files.iter().map(|(name, bytes)| file(name, bytes)).collect(),
        ..pb::UploadModelHeader::default()
    })
}

fn chunk(file: u32, offset: u64, data: &[u8]) -> Part {
    Part::Chunk(pb::FileChunk { file, offset, data: data.to_vec().into() })
}

fn chunks(files: &[(&str, Vec<u8>)], size: usize) -> Vec<Part> {
    let of_file = |(index, (_, bytes)): (usize, &(&str, Vec<u8>))| {
        let at = |(i, data): (usize, &[u8])| chunk(index as u32, (i * size) as u64, data);
        bytes.chunks(size).enumerate().map(at).collect::<Vec<_>>()
    };
    files.iter().enumerate().flat_map(of_file).collect()
}

/// A whole upload, as a good client sends it.
pub(crate) fn upload(name: &str, files: &[(&str, Vec<u8>)]) -> Vec<Part> {
    std::iter::once(header(name, files)).chain(chunks(files, 4000)).collect()
}

pub(crate) async fn send(server: &Harness, parts: Vec<Part>) -> Result<pb::UploadModelResponse, Status> {
    let messages = parts.into_iter().map(|part| pb::UploadModelRequest { part: Some(part) });
    server
        .models()
        .upload(tokio_stream::iter(messages.collect::<Vec<_>>()))
        .await
        .map(tonic::Response::into_inner)
}

#[tokio::test]
async fn a_pushed_bundle_comes_back_as_it_was() {
    let server = Harness::start().await;
    let answer = send(&server, upload("lenet", &bundle())).await.unwrap();
    assert!(!answer.existed);
    let model = answer.model.unwrap();
    assert_eq!((model.name.as_str(), model.owner.as_str()), ("lenet", "local"));
    assert_eq!(model.files.len(), 2);
    assert!(model.macs > 0 && model.parameters > 0 && !model.layers.is_empty());
    assert_eq!(model.output.as_ref().unwrap().shape, [10]);

    let request = pb::DownloadModelRequest { model: model.id.clone() };
    let mut parts = server.models().download(request).await.unwrap().into_inner();
    let Some(DownloadPart::Header(header)) = parts.message().await.unwrap().unwrap().part else {
        panic!("no header")
    };
    let mut files = vec![Vec::new(); header.files.len()];
    while let Some(message) = parts.message().await.unwrap() {
        let Some(DownloadPart::Chunk(chunk)) = message.part else { panic!("a second header") };
        let file = &mut files[chunk.file as usize];
        assert_eq!(chunk.offset, file.len() as u64);
        file.extend_from_slice(&chunk.data);
    }
    for ((name, bytes), (declared, received)) in bundle().iter().zip(header.files.iter().zip(&files)) {
        assert_eq!((declared.name.as_str(), received), (*name, bytes));
    }
}

#[tokio::test]
async fn the_same_bundle_again_is_the_same_model() {
    let server = Harness::start().await;
    let first = send(&server, upload("lenet", &bundle())).await.unwrap();
    let again = send(&server, upload("lenet", &bundle())).await.unwrap();
    assert!(again.existed);
    assert_eq!(first.model.unwrap().id, again.model.unwrap().id);
    let other = vec![("lenet_relu_script16_one.onnx", fixture("lenet_relu_script16_one.onnx"))];
    let other = send(&server, upload("lenet", &other)).await.unwrap();
    assert!(!other.existed);
    let got = server.models().get(pb::GetModelRequest { model: "lenet".into() }).await.unwrap().into_inner();
    assert_eq!(got.id, other.model.unwrap().id);
    let listed = server.models().list(pb::ListModelsRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.models.len(), 2);
    assert_eq!(listed.models[0].id, got.id);
    let request = pb::ListModelsRequest { page_size: 1, ..Default::default() };
    let page = server.models().list(request).await.unwrap().into_inner();
    assert_eq!(page.models.len(), 1);
    let request =
        pb::ListModelsRequest { page_size: 1, page_token: page.next_page_token, ..Default::default() };
    let page = server.models().list(request).await.unwrap().into_inner();
    assert_eq!(page.models.len(), 1);
    assert!(page.next_page_token.is_empty());
    assert_eq!(page.models[0].id, listed.models[1].id);
}

#[tokio::test]
async fn streams_that_break_the_rules_are_refused() {
    let server = Harness::start().await;
    let files = bundle();
    let good = || upload("lenet", &files);
    let with = |change: &dyn Fn(&mut Vec<Part>)| {
        let mut parts = good();
        change(&mut parts);
        parts
    };
    let renamed = |name: &str| {
        let mut files = bundle();
        let bytes = files.pop().unwrap().1;
        let parts = [(files[0].0, files[0].1.clone()), (name, bytes)];
        upload("lenet", &parts)
    };
    let mut torn = bundle();
    torn[1].1[5000] ^= 1;
    let cases: Vec<(&str, Vec<Part>)> = vec![
        ("nothing", vec![]),
        ("a chunk first", with(&|parts| drop(parts.remove(0)))),
        ("a second header", with(&|parts| parts.insert(1, header("lenet", &bundle())))),
        ("a chunk left out", with(&|parts| drop(parts.remove(2)))),
        ("a chunk twice", with(&|parts| parts.insert(2, chunk(0, 0, &files[0].1[..3004])))),
        ("the end left out", with(&|parts| drop(parts.pop()))),
        ("a chunk more", with(&|parts| parts.push(chunk(1, files[1].1.len() as u64, b"x")))),
        ("an unknown file", with(&|parts| parts.push(chunk(2, 0, b"x")))),
        ("other bytes", std::iter::once(header("lenet", &files)).chain(chunks(&torn, 4000)).collect()),
        ("no files", vec![header("lenet", &[])]),
        ("an empty name", upload("", &files)),
        ("a name that points elsewhere", upload("../lenet", &files)),
        ("a file that points elsewhere", renamed("../weights")),
        ("a file with a slash", renamed("a/b")),
        ("a file with NUL", renamed("a\0b")),
        ("a file with a line feed", renamed("a\nb")),
        ("two files of one name", upload("lenet", &[files[0].clone(), files[0].clone()])),
        ("a side file missing", upload("lenet", &files[..1])),
        ("a side file under another name", renamed("weights.bin")),
        ("not ONNX", upload("lenet", &[("m.onnx", b"hello, world".to_vec())])),
        ("an empty file", upload("lenet", &[("m.onnx", vec![])])),
        ("half a file", upload("lenet", &[("m.onnx", files[0].1[..1500].to_vec())])),
    ];
    for (name, parts) in cases {
        let status = send(&server, parts).await.expect_err(name);
        assert_eq!(status.code(), Code::InvalidArgument, "{name}: {}", status.message());
    }
    let empty = vec![pb::UploadModelRequest { part: None }];
    let status = server.models().upload(tokio_stream::iter(empty)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(
        server.models().list(pb::ListModelsRequest::default()).await.unwrap().into_inner().models.len(),
        0
    );
    assert_eq!(server.spooled_files(), 0);
}

#[tokio::test]
async fn every_node_that_is_not_supported_is_named_at_once() {
    let server = Harness::start().await;
    let mut bytes = fixture("lenet_tanh_script13.onnx");
    let places: Vec<usize> = (0..bytes.len() - 4).filter(|&at| &bytes[at..at + 4] == b"Tanh").collect();
    for at in places {
        bytes[at..at + 4].copy_from_slice(b"Sinh");
    }
    let status = send(&server, upload("lenet", &[("m.onnx", bytes)])).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented, "{}", status.message());
    let message = status.message();
    assert!(message.contains("2 nodes (Sinh)") || message.contains("4 nodes (Sinh)"), "{message}");
}

/// A model of a chain of operators that no version knows, one a name.
fn refused(names: &[String]) -> Vec<u8> {
    let field = |number: u8, bytes: &[u8]| {
        let mut length = bytes.len();
        let mut coded = vec![(number << 3) | 2];
        while length >= 0x80 {
            coded.push(length as u8 | 0x80);
            length >>= 7;
        }
        coded.push(length as u8);
        [coded, bytes.to_vec()].concat()
    };
    let value = |index: usize| format!("v{index}").into_bytes();
    let info = |name: &[u8]| {
        let shape: Vec<u8> = [1, 3, 8, 8].iter().flat_map(|&extent| field(1, &[0x08, extent])).collect();
        let tensor = [vec![0x08, 1], field(2, &shape)].concat();
        [field(1, name), field(2, &field(1, &tensor))].concat()
    };
    let node = |(index, name): (usize, &String)| {
        let parts =
            [(1, value(index)), (2, value(index + 1)), (3, name.clone().into_bytes()), (4, b"Sinh".to_vec())];
        field(1, &parts.iter().flat_map(|(number, bytes)| field(*number, bytes)).collect::<Vec<_>>())
    };
    let mut graph: Vec<u8> = names.iter().enumerate().flat_map(node).collect();
    graph.extend(field(11, &info(&value(0))));
    graph.extend(field(12, &info(&value(names.len()))));
    [vec![0x08, 8], field(7, &graph), field(8, &[0x10, 28])].concat()
}

#[tokio::test]
async fn thousands_of_refusals_travel_whole_and_nothing_is_kept() {
    let server = Harness::start().await;
    let names: Vec<String> =
        (0..9000).map(|index| format!("/features/features.{index}/block/act/Sinh é")).collect();
    let files = [("m.onnx", refused(&names))];
    let mut parts = upload("wide", &files);
    let status = send(&server, upload("wide", &files)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    assert!(status.message().contains("9000 nodes (Sinh)") && status.message().len() < 2048, "{status:?}");
    if let Part::Header(header) = &mut parts[0] {
        header.list_refusals = true;
    }
    let answer = send(&server, parts).await.unwrap();
    assert!(answer.model.is_none() && !answer.existed);
    let [refusal] = answer.refusals.as_slice() else { panic!("{} refusals", answer.refusals.len()) };
    assert_eq!((refusal.operator.as_str(), refusal.domain.as_str()), ("Sinh", ""));
    assert!(!refusal.reason.is_empty());
    assert_eq!(refusal.nodes, names);
    let listed = server.models().list(pb::ListModelsRequest::default()).await.unwrap().into_inner();
    assert!(listed.models.is_empty());
    assert_eq!(server.spooled_files(), 0);
}

#[tokio::test]
async fn only_what_is_valid_is_answered_with_refusals() {
    let server = Harness::start().await;
    let mut parts = upload("lenet", &bundle()[..1]);
    if let Part::Header(header) = &mut parts[0] {
        header.list_refusals = true;
    }
    assert_eq!(send(&server, parts).await.unwrap_err().code(), Code::InvalidArgument);
    let mut parts = upload("lenet", &bundle());
    if let Part::Header(header) = &mut parts[0] {
        header.list_refusals = true;
    }
    let answer = send(&server, parts).await.unwrap();
    assert!(answer.model.is_some() && answer.refusals.is_empty());
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_it_is_sent() {
    let server = Harness::start().await;
    let huge = Part::Header(pb::UploadModelHeader {
        name: "huge".into(),
        files: vec![pb::FileHeader { name: "m.onnx".into(), size_bytes: 1 << 50, sha256: vec![0; 32] }],
        ..pb::UploadModelHeader::default()
    });
    assert_eq!(send(&server, vec![huge]).await.unwrap_err().code(), Code::ResourceExhausted);
    let message = pb::FileChunk { file: 0, offset: 0, data: vec![0; 17 << 20].into() };
    let status = send(&server, vec![Part::Chunk(message)]).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{}", status.message());
}

#[tokio::test]
async fn a_deleted_model_is_gone() {
    let server = Harness::start().await;
    let id = send(&server, upload("lenet", &bundle())).await.unwrap().model.unwrap().id;
    server.models().delete(pb::DeleteModelRequest { model: id.clone() }).await.unwrap();
    for name in [id.as_str(), "lenet", "nobody", "0198c0de-0000-7000-8000-000000000000"] {
        let status = server.models().get(pb::GetModelRequest { model: name.into() }).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound, "{name}");
    }
}

#[tokio::test]
async fn another_owners_model_is_not_found() {
    let server = Harness::start().await;
    let id = send(&server, upload("lenet", &bundle())).await.unwrap().model.unwrap().id;
    let token = server.token("ann", pb::Role::Submit).await;
    let mut ann = server.models_as(&token);
    for name in [id.as_str(), "lenet"] {
        let status = ann.get(pb::GetModelRequest { model: name.into() }).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound);
        let status = ann.delete(pb::DeleteModelRequest { model: name.into() }).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound);
    }
    assert!(ann.list(pb::ListModelsRequest::default()).await.unwrap().into_inner().models.is_empty());
}
