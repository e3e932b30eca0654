//! Pushing datasets: whole, in pieces, and wrongly.

use dyadic_proto::v1 as pb;
use dyadic_proto::v1::download_dataset_response::Part as DownloadPart;
use dyadic_proto::v1::upload_dataset_request::Part;
use sha2::{Digest, Sha256};
use tokio_stream::StreamExt;
use tonic::{Code, Status};

use crate::harness::Harness;

/// A tar of these files.
pub(crate) fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_path(name).unwrap();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append(&header, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

fn idx(sizes: &[usize], data: impl Iterator<Item = u8>) -> Vec<u8> {
    let head = [0, 0, 8, sizes.len() as u8].into_iter();
    head.chain(sizes.iter().flat_map(|&size| (size as u32).to_be_bytes())).chain(data).collect()
}

/// Square gray images as IDX files, their labels in turns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Digits {
    pub(crate) train: usize,
    pub(crate) test: usize,
    pub(crate) side: usize,
    pub(crate) highest: usize,
}

impl Digits {
    /// What the fixtures' LeNet takes, one batch of it.
    pub(crate) const GOOD: Self = Digits { train: 128, test: 10, side: 20, highest: 9 };

    pub(crate) fn tar(self) -> Vec<u8> {
        let images = |count| {
            let pixels = (0..count * self.side * self.side).map(|i| (i * 7 % 256) as u8);
            idx(&[count, self.side, self.side], pixels)
        };
        let labels =
            |count| idx(&[count], (0..count).map(|i| ((self.highest + i) % (self.highest + 1)) as u8));
        tar_of(&[
            ("t10k-images-idx3-ubyte", &images(self.test)),
            ("t10k-labels-idx1-ubyte", &labels(self.test)),
            ("train-images-idx3-ubyte", &images(self.train)),
            ("train-labels-idx1-ubyte", &labels(self.train)),
        ])
    }
}

/// Two images of so many pixels.
pub(crate) fn tar(size: usize) -> Vec<u8> {
    let pixels = || (0..size).map(|i| (i * 7 % 256) as u8);
    let (images, labels) = (idx(&[1, 1, size], pixels()), idx(&[1], [9].into_iter()));
    tar_of(&[
        ("t10k-images-idx3-ubyte", &images),
        ("t10k-labels-idx1-ubyte", &labels),
        ("train-images-idx3-ubyte", &images),
        ("train-labels-idx1-ubyte", &labels),
    ])
}

/// Pushes a tar whole, without splits and labels.
pub(crate) async fn push(
    server: &Harness,
    name: &str,
    format: &str,
    tar: &[u8],
) -> Result<pb::UploadDatasetResponse, Status> {
    let header = pb::UploadDatasetHeader {
        name: name.into(),
        format: pb::DatasetFormat::of_word(format).into(),
        tar: Some(pb::FileHeader {
            name: format!("{name}.tar"),
            size_bytes: tar.len() as u64,
            sha256: Sha256::digest(tar).to_vec(),
        }),
        ..pb::UploadDatasetHeader::default()
    };
    let pieces = (0..tar.len()).step_by(1 << 20).map(|at| chunk(tar, at, tar.len().min(at + (1 << 20))));
    send(server, std::iter::once(Part::Header(header)).chain(pieces).collect()).await
}

pub(crate) fn header(tar: &[u8], offset: usize) -> Part {
    Part::Header(pb::UploadDatasetHeader {
        name: "mnist".into(),
        format: pb::DatasetFormat::Idx.into(),
        labels: (0..10).map(|digit| digit.to_string()).collect(),
        tar: Some(pb::FileHeader {
            name: "mnist.tar".into(),
            size_bytes: tar.len() as u64,
            sha256: Sha256::digest(tar).to_vec(),
        }),
        offset: offset as u64,
        ..pb::UploadDatasetHeader::default()
    })
}

pub(crate) fn chunk(tar: &[u8], from: usize, to: usize) -> Part {
    Part::Chunk(pb::FileChunk { file: 0, offset: from as u64, data: tar[from..to].to_vec().into() })
}

pub(crate) async fn send(server: &Harness, parts: Vec<Part>) -> Result<pb::UploadDatasetResponse, Status> {
    let messages: Vec<_> =
        parts.into_iter().map(|part| pb::UploadDatasetRequest { part: Some(part) }).collect();
    server.datasets().upload(tokio_stream::iter(messages)).await.map(tonic::Response::into_inner)
}

async fn offset(server: &Harness, tar: &[u8]) -> (usize, bool) {
    let request = pb::UploadOffsetRequest { sha256: Sha256::digest(tar).to_vec() };
    let answer = server.datasets().upload_offset(request).await.unwrap().into_inner();
    (answer.offset as usize, answer.complete)
}

#[tokio::test]
async fn an_upload_that_broke_goes_on_where_it_ended() {
    let server = Harness::start().await;
    let tar = tar(5000);
    assert_eq!(offset(&server, &tar).await, (0, false));
    let status = send(&server, vec![header(&tar, 0), chunk(&tar, 0, 4000)]).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{}", status.message());
    assert_eq!(offset(&server, &tar).await, (4000, false));
    let status = send(&server, vec![header(&tar, 0), chunk(&tar, 0, 4000)]).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{}", status.message());
    let parts = vec![header(&tar, 4000), chunk(&tar, 4000, 9000), chunk(&tar, 9000, tar.len())];
    let answer = send(&server, parts).await.unwrap();
    assert!(!answer.existed);
    assert_eq!(server.spooled_files(), 0);
    let dataset = answer.dataset.unwrap();
    assert_eq!((dataset.format(), dataset.labels.len()), (pb::DatasetFormat::Idx, 10));

    // All of it is there: only the header needs to be sent.
    assert_eq!(offset(&server, &tar).await, (tar.len(), true));
    let again = send(&server, vec![header(&tar, tar.len())]).await.unwrap();
    assert!(again.existed);
    assert_eq!(again.dataset.unwrap().id, dataset.id);

    assert_eq!(download(&server).await, tar);
}

/// The newest data set as it comes back.
pub(crate) async fn download(server: &Harness) -> Vec<u8> {
    let request = pb::DownloadDatasetRequest { dataset: "mnist".into() };
    let mut parts = server.datasets().download(request).await.unwrap().into_inner();
    let (mut bytes, mut declared) = (Vec::new(), 0);
    while let Some(message) = parts.message().await.unwrap() {
        match message.part.unwrap() {
            DownloadPart::Header(header) => declared = header.size_bytes,
            DownloadPart::Chunk(chunk) => bytes.extend_from_slice(&chunk.data),
        }
    }
    assert_eq!(bytes.len() as u64, declared);
    bytes
}

#[tokio::test]
async fn pushing_again_heals_a_damaged_data_set() {
    let server = Harness::start().await;
    let tar = tar(5000);
    let whole = || vec![header(&tar, 0), chunk(&tar, 0, tar.len())];
    send(&server, whole()).await.unwrap();
    let name = dyadic_store::blob::Digest::from(<[u8; 32]>::from(Sha256::digest(&tar))).to_string();
    let blob = server.folder().join("blobs").join(&name[..2]).join(&name[2..]);

    // Cut short: that is seen at once.
    std::fs::write(&blob, &tar[..100]).unwrap();
    assert_eq!(offset(&server, &tar).await, (0, false));
    send(&server, whole()).await.unwrap();
    assert!(download(&server).await == tar);

    // Of the right size: it is seen when it is read, and then wanted.
    let mut damaged = tar.clone();
    damaged[700] ^= 1;
    std::fs::write(&blob, &damaged).unwrap();
    assert_eq!(offset(&server, &tar).await, (tar.len(), true));
    let status = send(&server, vec![header(&tar, tar.len())]).await.unwrap_err();
    assert_eq!(status.code(), Code::DataLoss, "{}", status.message());
    assert_eq!(offset(&server, &tar).await, (0, false));
    assert!(send(&server, whole()).await.unwrap().existed);
    assert!(download(&server).await == tar);
    assert_eq!(offset(&server, &tar).await, (tar.len(), true));
}

/// A client that is gone before the answer comes: what it sent is stored, or can be gone on from; never is it lost.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_whose_client_leaves_after_the_last_chunk_is_not_lost() {
    let server = Harness::start().await;
    for delay in [0, 10, 40, 120] {
        let tar = tar((8 << 20) + delay as usize);
        let mut parts = vec![header(&tar, 0)];
        parts
            .extend((0..tar.len()).step_by(1 << 20).map(|at| chunk(&tar, at, tar.len().min(at + (1 << 20)))));
        let sent = std::sync::Arc::new(tokio::sync::Notify::new());
        let last = sent.clone();
        let messages = parts.into_iter().map(|part| pb::UploadDatasetRequest { part: Some(part) });
        let messages = tokio_stream::iter(messages).chain(futures::stream::poll_fn(move |_| {
            last.notify_one();
            std::task::Poll::Ready(None)
        }));
        let mut client = server.datasets();
        let call = tokio::spawn(async move { client.upload(messages).await });
        sent.notified().await;
        tokio::time::sleep(std::time::Duration::from_millis(delay)).await;
        call.abort();
        drop(call.await);
        // What the server did to the end it has done by then.
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        let (received, complete) = offset(&server, &tar).await;
        assert!(
            received > 0,
            "after {delay} ms the client left, and nothing is there of {} bytes",
            tar.len()
        );
        let rest = if received == tar.len() { vec![] } else { vec![chunk(&tar, received, tar.len())] };
        let parts = [vec![header(&tar, received)], rest].concat();
        send(&server, parts).await.unwrap_or_else(|status| panic!("{delay} ms, {complete}: {status}"));
        assert!(download(&server).await == tar);
        let left = std::fs::read_dir(server.folder().join("blobs")).unwrap().filter_map(Result::ok);
        let left: Vec<_> = left.map(|entry| entry.file_name()).filter(|name| name.len() > 2).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[tokio::test]
async fn another_owners_bytes_must_be_sent_again() {
    let server = Harness::start().await;
    let tar = tar(100);
    send(&server, vec![header(&tar, 0), chunk(&tar, 0, tar.len())]).await.unwrap();
    let ann = server.token("ann", pb::Role::Submit).await;
    let mut ann = server.datasets_as(&ann);
    let request = pb::UploadOffsetRequest { sha256: Sha256::digest(&tar).to_vec() };
    assert!(!ann.upload_offset(request).await.unwrap().into_inner().complete);
    let message = pb::UploadDatasetRequest { part: Some(header(&tar, tar.len())) };
    let status = ann.upload(tokio_stream::once(message)).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    let request = pb::GetDatasetRequest { dataset: "mnist".into() };
    assert_eq!(ann.get(request).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn bytes_that_are_wrong_are_refused_and_forgotten() {
    let server = Harness::start().await;
    let tar = tar(700);
    let mut other = tar.clone();
    other[600] ^= 1;
    let rubbish = vec![7; 2048];
    let unsafe_tar = {
        let mut bytes = tar.clone();
        bytes[..4].copy_from_slice(b"../x");
        bytes
    };
    let cases = [
        ("other bytes", vec![header(&tar, 0), chunk(&other, 0, other.len())]),
        ("no tar", vec![header(&rubbish, 0), chunk(&rubbish, 0, 2048)]),
        (
            "a path that points elsewhere",
            vec![header(&unsafe_tar, 0), chunk(&unsafe_tar, 0, unsafe_tar.len())],
        ),
        ("a gap", vec![header(&tar, 0), chunk(&tar, 1, 100)]),
        ("too much", vec![header(&tar, 0), chunk(&[tar.clone(), vec![0]].concat(), 0, tar.len() + 1)]),
        ("a chunk first", vec![chunk(&tar, 0, 100)]),
    ];
    for (name, parts) in cases {
        let status = send(&server, parts).await.expect_err(name);
        assert_eq!(status.code(), Code::InvalidArgument, "{name}: {}", status.message());
    }
    assert_eq!(offset(&server, &tar).await, (0, false));
    send(&server, vec![header(&tar, 0), chunk(&tar, 0, tar.len())]).await.unwrap();
}
