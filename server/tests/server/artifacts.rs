//! Artifacts that were made elsewhere: pushed, proven, served, removed.

use dyadic_engine::artifact::{Accuracy, Provenance};
use dyadic_engine::certificate::GoldenInput;
use dyadic_engine::testing::resnet20;
use dyadic_engine::{Artifact, Certificate};
use dyadic_proto::inference;
use dyadic_proto::v1 as pb;
use dyadic_proto::v1::upload_artifact_request::Part;
use sha2::{Digest, Sha256};
use tokio_stream::StreamExt;
use tonic::{Code, Status};

use crate::harness::{Harness, artifact};

/// An artifact that says this of itself.
fn measured(seed: u64, float: Option<f64>, quantized: Option<f64>) -> Vec<u8> {
    let model = resnet20(seed, 2);
    let certificate = Certificate::make(&model, vec![GoldenInput::Seed(7)]).unwrap();
    let accuracy = Accuracy { float, quantized, images: Some(200) };
    let provenance =
        Provenance { model_sha256: Some("ab".repeat(32)), accuracy: Some(accuracy), ..Provenance::default() };
    Artifact { model: model.try_into().unwrap(), provenance, certificate }.to_bytes().unwrap()
}

fn header(name: &str, bytes: &[u8], offset: usize, promote: &str) -> Part {
    Part::Header(pb::UploadArtifactHeader {
        name: name.into(),
        file: Some(pb::FileHeader {
            name: "a.safetensors".into(),
            size_bytes: bytes.len() as u64,
            sha256: Sha256::digest(bytes).to_vec(),
        }),
        offset: offset as u64,
        promote: promote.into(),
    })
}

fn chunk(bytes: &[u8], from: usize, to: usize) -> Part {
    Part::Chunk(pb::FileChunk { file: 0, offset: from as u64, data: bytes[from..to].to_vec().into() })
}

async fn send(server: &Harness, parts: Vec<Part>) -> Result<pb::UploadArtifactResponse, Status> {
    let messages = parts.into_iter().map(|part| pb::UploadArtifactRequest { part: Some(part) });
    Ok(server.served().upload(tokio_stream::iter(messages.collect::<Vec<_>>())).await?.into_inner())
}

async fn push(server: &Harness, bytes: &[u8], promote: &str) -> Result<pb::UploadArtifactResponse, Status> {
    send(server, vec![header("net", bytes, 0, promote), chunk(bytes, 0, bytes.len())]).await
}

async fn remove(server: &Harness, versions: &[u64], force: bool) -> Result<pb::RemoveServedResponse, Status> {
    let request =
        pb::RemoveServedRequest { name: "net".into(), versions: versions.to_vec(), force, dry_run: false };
    Ok(server.served().remove(request).await?.into_inner())
}

/// The sha256 that the version which answers for the name announces.
async fn latest(server: &Harness) -> Result<String, Status> {
    let request = inference::ModelConfigRequest { name: "net".into(), version: String::new() };
    let config = server.inference().model_config(request).await?.into_inner().config.unwrap();
    Ok(config.parameters["artifact_sha256"].string_value.clone())
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

#[tokio::test]
async fn an_artifact_that_was_made_elsewhere_is_served_and_pushed_once() {
    let server = Harness::start().await;
    let bytes = measured(1, Some(0.9), Some(0.88));
    let pushed = push(&server, &bytes, "").await.unwrap();
    assert_eq!((pushed.version, pushed.existed), (1, false));
    let model = pushed.model.unwrap();
    let version = &model.versions[0];
    assert_eq!((version.job_id.as_str(), version.held.as_str()), ("", ""));
    assert_eq!((version.accuracy, version.float_accuracy), (Some(0.88), Some(0.9)));
    server.until_ready("net", 1).await;
    assert_eq!(latest(&server).await.unwrap(), hex(&bytes));
    let again = push(&server, &bytes, "").await.unwrap();
    assert_eq!((again.version, again.existed), (1, true));
    assert_eq!(server.spooled_files(), 0);

    let summary = server.store.served_model(None, "net").await.unwrap().versions.remove(0).summary;
    assert_eq!(summary["images"], 200);
    assert_eq!(summary["provenance"]["model_sha256"], "ab".repeat(32));
    // A job's version follows it, and every list copes with both.
    server.publish("net", &resnet20(2, 2)).await;
    let listed = server.served().list(pb::ListServedModelsRequest::default()).await.unwrap().into_inner();
    let jobs: Vec<bool> = listed.models[0].versions.iter().map(|v| v.job_id.is_empty()).collect();
    assert_eq!(jobs, [false, true]);
    let asked = pb::download_artifact_request::Artifact::Served(pb::ServedVersionName {
        name: "net".into(),
        version: 1,
    });
    let request = pb::DownloadArtifactRequest { artifact: Some(asked) };
    let mut parts = server.served().download(request).await.unwrap().into_inner();
    let mut came = Vec::new();
    while let Some(message) = parts.next().await {
        if let Some(pb::download_response::Part::Chunk(chunk)) = message.unwrap().part {
            came.extend_from_slice(&chunk.data);
        }
    }
    assert_eq!(came, bytes);
}

#[tokio::test]
async fn the_gate_judges_what_an_artifact_says_of_itself() {
    let server = Harness::start().await;
    let far = measured(1, Some(0.9), Some(0.5));
    let held = push(&server, &far, "").await.unwrap().model.unwrap();
    assert_eq!(held.versions[0].held, "50.0 % is 40.0 points below its float network's 90.0 %");
    server.until_ready("net", 1).await;
    assert_eq!(latest(&server).await.unwrap_err().code(), Code::FailedPrecondition);
    let unmeasured = artifact(&resnet20(3, 2));
    assert_eq!(push(&server, &unmeasured, "").await.unwrap().model.unwrap().versions[0].held, "");
    let asked = push(&server, &measured(4, Some(0.9), Some(0.9)), "never").await.unwrap();
    assert_eq!(asked.model.unwrap().versions[0].held, "promote is never");
    assert_eq!(push(&server, &far, "sometimes").await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn what_the_engine_cannot_prove_is_refused_with_its_reason() {
    let server = Harness::start().await;
    let good = artifact(&resnet20(1, 2));
    let model = resnet20(1, 2);
    let unproven = Artifact {
        model: model.clone().try_into().unwrap(),
        provenance: Provenance::default(),
        certificate: Certificate::default(),
    };
    let other = Certificate::make(&resnet20(2, 2), vec![GoldenInput::Seed(7)]).unwrap();
    let lying = Artifact {
        model: model.clone().try_into().unwrap(),
        provenance: Provenance::default(),
        certificate: other,
    };
    let many = (0..3500).map(GoldenInput::Seed).collect::<Vec<_>>();
    let certificate = Certificate::make(&model, vec![GoldenInput::Seed(7)]).unwrap();
    let outputs = vec![certificate.outputs[0].clone(); many.len()];
    let long = Certificate { inputs: many, hashes: certificate.hashes, outputs };
    let long =
        Artifact { model: model.try_into().unwrap(), provenance: Provenance::default(), certificate: long };
    let cases: [(Vec<u8>, Code, &str); 6] = [
        (b"no artifact at all".to_vec(), Code::InvalidArgument, "safetensors"),
        (good[..good.len() - 1].to_vec(), Code::InvalidArgument, "the artifact: "),
        (unproven.to_bytes().unwrap(), Code::InvalidArgument, "no golden inputs"),
        (lying.to_bytes().unwrap(), Code::InvalidArgument, "certificate"),
        (long.to_bytes().unwrap(), Code::ResourceExhausted, "multiply-accumulates"),
        (measured(1, Some(90.0), Some(0.5)), Code::InvalidArgument, "float accuracy is 90"),
    ];
    for (bytes, code, word) in cases {
        let refused = push(&server, &bytes, "").await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
        assert!(refused.message().contains(word), "{refused}");
    }
    let name = header("../net", &good, 0, "");
    assert_eq!(send(&server, vec![name]).await.unwrap_err().code(), Code::InvalidArgument);
    let huge = Part::Header(pb::UploadArtifactHeader {
        name: "net".into(),
        file: Some(pb::FileHeader { name: "a".into(), size_bytes: u64::MAX, sha256: vec![0; 32] }),
        ..Default::default()
    });
    assert_eq!(send(&server, vec![huge]).await.unwrap_err().code(), Code::ResourceExhausted);
    assert_eq!(server.spooled_files(), 0, "nothing of it is kept");
    let none = server.served().get(pb::GetServedModelRequest { name: "net".into() }).await.unwrap_err();
    assert_eq!(none.code(), Code::NotFound);
}

#[tokio::test]
async fn a_push_that_broke_goes_on_where_it_ended() {
    let server = Harness::start().await;
    let bytes = artifact(&resnet20(1, 2));
    let half = bytes.len() / 2;
    let broken = send(&server, vec![header("net", &bytes, 0, ""), chunk(&bytes, 0, half)]).await;
    assert_eq!(broken.unwrap_err().code(), Code::InvalidArgument);
    let request = pb::UploadOffsetRequest { sha256: Sha256::digest(&bytes).to_vec() };
    let there = server.served().upload_offset(request).await.unwrap().into_inner();
    assert_eq!((there.offset as usize, there.complete), (half, false));
    let wrong = send(&server, vec![header("net", &bytes, 0, ""), chunk(&bytes, 0, half)]).await;
    assert_eq!(wrong.unwrap_err().code(), Code::FailedPrecondition);
    let rest = vec![header("net", &bytes, half, ""), chunk(&bytes, half, bytes.len())];
    assert_eq!(send(&server, rest).await.unwrap().version, 1);
}

#[tokio::test]
async fn a_name_is_its_owners_alone() {
    let server = Harness::start().await;
    let bytes = artifact(&resnet20(1, 2));
    push(&server, &bytes, "").await.unwrap();
    let bob = server.served_as(&server.token("bob", pb::Role::Submit).await);
    let parts = [header("net", &bytes, 0, ""), chunk(&bytes, 0, bytes.len())];
    let messages = parts.map(|part| pb::UploadArtifactRequest { part: Some(part) });
    let refused = bob.clone().upload(tokio_stream::iter(messages)).await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists);
    let request = pb::RemoveServedRequest { name: "net".into(), force: true, ..Default::default() };
    assert_eq!(bob.clone().remove(request).await.unwrap_err().code(), Code::NotFound);
    let unpin = pb::UnpinRequest { name: "net".into(), dry_run: false };
    assert_eq!(bob.clone().unpin(unpin).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn what_is_removed_is_served_no_more_and_its_run_says_so() {
    let server = Harness::start().await;
    let first = artifact(&resnet20(1, 2));
    push(&server, &first, "").await.unwrap();
    server.until_ready("net", 1).await;
    let job = server.publish("net", &resnet20(2, 2)).await;
    server.until_ready("net", 2).await;
    let refused = remove(&server, &[2], false).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("promote another"), "{refused}");
    assert_eq!(remove(&server, &[7], true).await.unwrap_err().code(), Code::NotFound);

    let other = server.replica().await;
    other.until_ready("net", 2).await;
    let removed = remove(&server, &[2], true).await.unwrap();
    assert_eq!((removed.removed, removed.model.unwrap().latest), (vec![2], 1));
    assert_eq!(latest(&server).await.unwrap(), hex(&first));
    let gone = inference::ModelReadyRequest { name: "net".into(), version: "2".into() };
    while other.inference().model_ready(gone.clone()).await.is_ok() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(latest(&other).await.unwrap(), hex(&first));
    let run = server.jobs().get(pb::GetJobRequest { id: job.to_string() }).await.unwrap().into_inner();
    let made = run.artifact.unwrap();
    assert_eq!(
        (run.state, made.version, made.removed_at.is_some()),
        (pb::JobState::Succeeded.into(), 2, true)
    );
    let asked = pb::download_artifact_request::Artifact::JobId(job.to_string());
    let request = pb::DownloadArtifactRequest { artifact: Some(asked) };
    assert_eq!(server.served().download(request).await.unwrap_err().code(), Code::FailedPrecondition);

    let whole = remove(&server, &[], true).await.unwrap();
    assert_eq!((whole.removed, whole.model), (vec![1], None));
    assert_eq!(latest(&server).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(push(&server, &first, "").await.unwrap().version, 3, "numbers are not used again");
}
