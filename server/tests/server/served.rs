//! Versions of served names: loading by themselves, promote, rollback, download, and damage.

use std::time::Duration;

use dyadic_engine::testing::resnet20;
use dyadic_proto::inference;
use dyadic_proto::v1 as pb;
use dyadic_proto::v1::download_artifact_request::Artifact;
use dyadic_proto::v1::download_response::Part;
use tonic::Code;

use crate::harness::{Harness, artifact};

async fn latest(server: &Harness) -> String {
    let request = inference::ModelConfigRequest { name: "net".into(), version: String::new() };
    let config = server.inference().model_config(request).await.unwrap().into_inner().config.unwrap();
    config.parameters["artifact_sha256"].string_value.clone()
}

#[tokio::test]
async fn promote_and_rollback_move_what_latest_means() {
    let server = Harness::start().await;
    let mut hashes = Vec::new();
    for version in 1..=3 {
        server.publish("net", &resnet20(version, 2)).await;
        server.until_ready("net", version).await;
        hashes.push(latest(&server).await);
    }
    let mut served = server.served();
    let name = || "net".to_owned();
    let rolled_back =
        served.rollback(pb::RollbackRequest { name: name(), dry_run: false }).await.unwrap().into_inner();
    assert_eq!((rolled_back.latest, rolled_back.pinned), (2, 2));
    assert_eq!(latest(&server).await, hashes[1]);
    let promoted = served
        .promote(pb::PromoteRequest { name: name(), version: 1, dry_run: false })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(promoted.latest, 1);
    assert_eq!(latest(&server).await, hashes[0]);
    let nothing_before =
        served.rollback(pb::RollbackRequest { name: name(), dry_run: false }).await.unwrap_err();
    assert_eq!(nothing_before.code(), Code::FailedPrecondition);
    let unknown =
        served.promote(pb::PromoteRequest { name: name(), version: 9, dry_run: false }).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    let got = served.get(pb::GetServedModelRequest { name: name() }).await.unwrap().into_inner();
    assert_eq!(got.versions.iter().map(|version| version.version).collect::<Vec<_>>(), [3, 2, 1]);
    assert_eq!(got.versions[0].accuracy, Some(0.75));
    assert!(got.versions.iter().all(|version| version.state() == pb::ServedState::Ready));
}

#[tokio::test]
async fn the_old_latest_answers_until_the_new_one_is_loaded() {
    let server = Harness::start_with(&["--loaded-versions", "1"]).await;
    let mut hashes = Vec::new();
    for version in 1..=2 {
        server.publish("net", &resnet20(version, 2)).await;
        server.until_ready("net", version).await;
        hashes.push(latest(&server).await);
    }
    while state(&server, "1").await != "UNAVAILABLE" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    server
        .served()
        .promote(pb::PromoteRequest { name: "net".into(), version: 1, dry_run: false })
        .await
        .unwrap();
    // Never without an answer on the way.
    while latest(&server).await != hashes[0] {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(state(&server, "2").await, "READY");
}

async fn state(server: &Harness, version: &str) -> String {
    let index = inference::RepositoryIndexRequest::default();
    let models = server.inference().repository_index(index).await.unwrap().into_inner().models;
    models.into_iter().find(|model| model.version == version).unwrap().state
}

#[tokio::test]
async fn an_artifact_comes_back_by_job_and_by_version() {
    let server = Harness::start().await;
    let model = resnet20(1, 2);
    let job = server.publish("net", &model).await;
    let by_job = Artifact::JobId(job.to_string());
    let by_version = Artifact::Served(pb::ServedVersionName { name: "net".into(), version: 0 });
    for asked in [by_job, by_version] {
        let request = pb::DownloadArtifactRequest { artifact: Some(asked) };
        let mut parts = server.served().download(request).await.unwrap().into_inner();
        let mut bytes = Vec::new();
        while let Some(message) = parts.message().await.unwrap() {
            match message.part.unwrap() {
                Part::Header(header) => assert_eq!(header.files[0].name, "net-v1.safetensors"),
                Part::Chunk(chunk) => bytes.extend_from_slice(&chunk.data),
            }
        }
        assert_eq!(bytes, artifact(&model));
    }
    let queued = server.submitted("net").await;
    let request = pb::DownloadArtifactRequest { artifact: Some(Artifact::JobId(queued.to_string())) };
    assert_eq!(server.served().download(request).await.unwrap_err().code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn what_is_no_artifact_is_unavailable_with_its_reason() {
    let server = Harness::start().await;
    server.submitted("net").await;
    let (lease, _) = server.claim().await;
    server.complete(lease, b"no artifact at all").await;
    for _ in 0..200 {
        let index = inference::RepositoryIndexRequest::default();
        let models = server.inference().repository_index(index).await.unwrap().into_inner().models;
        if models.iter().any(|model| model.state == "UNAVAILABLE" && !model.reason.is_empty()) {
            let ready = inference::ModelReadyRequest { name: "net".into(), version: "1".into() };
            assert!(!server.inference().model_ready(ready).await.unwrap().into_inner().ready);
            let request = inference::ModelInferRequest { model_name: "net".into(), ..Default::default() };
            assert_eq!(server.inference().model_infer(request).await.unwrap_err().code(), Code::Unavailable);
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("it never became unavailable");
}

#[tokio::test]
async fn damaged_bytes_are_data_loss_and_set_aside() {
    let server = Harness::start().await;
    server.publish("net", &resnet20(1, 2)).await;
    server.until_ready("net", 1).await;
    let sha256 = server.store.served_model(None, "net").await.unwrap().versions[0].sha256.to_string();
    let path = server.folder().join("blobs").join(&sha256[..2]).join(&sha256[2..]);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let asked = Artifact::Served(pb::ServedVersionName { name: "net".into(), version: 1 });
    let request = pb::DownloadArtifactRequest { artifact: Some(asked) };
    assert_eq!(server.served().download(request.clone()).await.unwrap_err().code(), Code::DataLoss);
    assert!(server.store.served_model(None, "net").await.unwrap().versions[0].set_aside.is_some());
    assert_eq!(server.served().download(request).await.unwrap_err().code(), Code::FailedPrecondition);
}
