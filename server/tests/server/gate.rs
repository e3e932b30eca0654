//! The gate over the API: what is kept but not live, and how "latest" moves.

use std::time::Duration;

use dyadic_engine::testing::resnet20;
use dyadic_proto::inference;
use dyadic_proto::v1 as pb;
use tonic::Code;

use crate::harness::{Harness, SAMPLE, float_bytes, float_sample};

const NAME: &str = "net";

/// An inference request for one image.
fn request(server_version: &str) -> inference::ModelInferRequest {
    let input = inference::model_infer_request::InferInputTensor {
        name: String::new(),
        datatype: "FP32".into(),
        shape: vec![1, 3, 32, 32],
        ..Default::default()
    };
    let image = float_sample(0);
    assert_eq!(image.len(), SAMPLE);
    inference::ModelInferRequest {
        model_name: NAME.into(),
        model_version: server_version.into(),
        inputs: vec![input],
        raw_input_contents: vec![float_bytes(&image).into()],
        ..Default::default()
    }
}

/// The version that answers.
async fn answers(server: &Harness, version: &str) -> Result<String, tonic::Status> {
    let mut request = request(version);
    let asked = inference::ModelMetadataRequest { name: NAME.into(), version: version.into() };
    let metadata = server.inference().model_metadata(asked).await?.into_inner();
    request.inputs[0].name.clone_from(&metadata.inputs[0].name);
    Ok(server.inference().model_infer(request).await?.into_inner().model_version)
}

/// Waits until this server gives that version to requests that name none.
async fn until_latest(server: &Harness, version: &str) {
    for _ in 0..600 {
        if answers(server, "").await.is_ok_and(|answered| answered == version) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("version {version} did not become the latest");
}

async fn model(server: &Harness) -> pb::ServedModel {
    server.served().get(pb::GetServedModelRequest { name: NAME.into() }).await.unwrap().into_inner()
}

async fn outcome(server: &Harness, job: uuid::Uuid) -> (pb::Job, pb::StateChange) {
    let id = job.to_string();
    let job = server.jobs().get(pb::GetJobRequest { id: id.clone() }).await.unwrap().into_inner();
    let watch = pb::WatchJobRequest { id, after: 0 };
    let mut stream = server.jobs().watch(watch).await.unwrap().into_inner();
    let mut last = None;
    while let Some(event) = stream.message().await.unwrap() {
        last = Some(event);
    }
    let Some(pb::job_event::Event::State(change)) = last.unwrap().event else { panic!("a state ends it") };
    (job, change)
}

#[tokio::test]
async fn a_bad_success_is_kept_and_the_good_version_goes_on_to_answer() {
    let server = Harness::start().await;
    server.publish_judged(NAME, &resnet20(1, 2), "", (0.9, 0.89)).await;
    server.until_ready(NAME, 1).await;
    let job = server.publish_judged(NAME, &resnet20(2, 2), "", (0.905, 0.621)).await;
    server.until_ready(NAME, 2).await;
    assert_eq!(answers(&server, "").await.unwrap(), "1");
    assert_eq!(answers(&server, "2").await.unwrap(), "2", "by its number");

    let reason = "62.1 % is 28.4 points below its float network's 90.5 %";
    let (job, change) = outcome(&server, job).await;
    assert_eq!(job.artifact.unwrap().held, reason);
    assert_eq!(job.resolved.unwrap().promote, "within:5");
    assert_eq!(change.reason, format!("kept, not live: {reason}"));
    assert_eq!(change.artifact.unwrap().held, reason);
    let listed = model(&server).await;
    assert_eq!((listed.latest, listed.versions[0].held.as_str()), (1, reason));
    assert_eq!(listed.versions[0].float_accuracy, Some(0.905));

    let promote = pb::PromoteRequest { name: NAME.into(), version: 2, dry_run: false };
    assert_eq!(server.served().promote(promote).await.unwrap().into_inner().latest, 2);
    assert_eq!(answers(&server, "").await.unwrap(), "2");
    let unpin = pb::UnpinRequest { name: NAME.into(), dry_run: false };
    let unpinned = server.served().unpin(unpin).await.unwrap().into_inner();
    assert_eq!((unpinned.latest, unpinned.pinned), (2, 0));
}

#[tokio::test]
async fn a_name_whose_first_version_is_held_says_how_to_promote() {
    let server = Harness::start().await;
    server.publish_judged(NAME, &resnet20(1, 2), "never", (0.9, 0.9)).await;
    server.until_ready(NAME, 1).await;
    let refused = answers(&server, "").await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("`dyadic model promote net 1`"), "{refused}");
    let ready = inference::ModelReadyRequest { name: NAME.into(), version: String::new() };
    assert!(!server.inference().model_ready(ready).await.unwrap().into_inner().ready);
    assert_eq!(answers(&server, "1").await.unwrap(), "1");
    assert_eq!(model(&server).await.latest, 0);
    let download = pb::DownloadArtifactRequest {
        artifact: Some(pb::download_artifact_request::Artifact::Served(pb::ServedVersionName {
            name: NAME.into(),
            version: 0,
        })),
    };
    assert_eq!(server.served().download(download).await.unwrap_err().code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn the_live_version_stays_loaded_however_many_are_held_after_it() {
    let server = Harness::start_with(&["--loaded-versions", "1"]).await;
    server.publish(NAME, &resnet20(1, 2)).await;
    for version in 2..=3 {
        server.publish_judged(NAME, &resnet20(version, 2), "never", (0.9, 0.9)).await;
        server.until_ready(NAME, version).await;
    }
    server.until_ready(NAME, 1).await;
    assert_eq!(answers(&server, "").await.unwrap(), "1");
}

#[tokio::test]
async fn after_a_rollback_a_success_is_not_the_latest_until_it_is_unpinned() {
    let server = Harness::start().await;
    for version in 1..=2 {
        server.publish(NAME, &resnet20(version, 2)).await;
        server.until_ready(NAME, version).await;
    }
    let dry = pb::RollbackRequest { name: NAME.into(), dry_run: true };
    let would = server.served().rollback(dry).await.unwrap().into_inner();
    assert_eq!((would.latest, would.pinned), (1, 1));
    assert_eq!((model(&server).await.pinned, answers(&server, "").await.unwrap().as_str()), (0, "2"));
    server.served().rollback(pb::RollbackRequest { name: NAME.into(), dry_run: false }).await.unwrap();
    let job = server.publish(NAME, &resnet20(3, 2)).await;
    server.until_ready(NAME, 3).await;
    let (job, change) = outcome(&server, job).await;
    let made = job.artifact.unwrap();
    assert_eq!((made.pinned, made.held.as_str()), (1, ""));
    assert_eq!(change.reason, "not the latest: net is pinned to version 1");
    assert_eq!(answers(&server, "").await.unwrap(), "1");
    let unpin = |dry_run| pb::UnpinRequest { name: NAME.into(), dry_run };
    assert_eq!(server.served().unpin(unpin(true)).await.unwrap().into_inner().latest, 3);
    assert_eq!(answers(&server, "").await.unwrap(), "1");
    assert_eq!(server.served().unpin(unpin(false)).await.unwrap().into_inner().latest, 3);
    assert_eq!(answers(&server, "").await.unwrap(), "3");
}

#[tokio::test]
async fn what_is_asked_of_the_gate_is_checked_at_submit() {
    let server = Harness::start().await;
    let id = server.submitted(NAME).await.to_string();
    let resolved = server.jobs().get(pb::GetJobRequest { id }).await.unwrap().into_inner().resolved.unwrap();
    for wrong in ["sometimes", "within:", "within:-1", "within:101", "WITHIN:5"] {
        let spec = pb::JobSpec { promote: wrong.into(), ..resolved.clone() };
        let request = pb::SubmitJobRequest { spec: Some(spec), idempotency_key: String::new() };
        let refused = server.jobs().submit(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{wrong}");
        assert!(refused.message().contains("promote: "), "{refused}");
    }
}

#[tokio::test]
async fn two_servers_on_one_database_agree_about_what_is_live() {
    let server = Harness::start().await;
    server.publish(NAME, &resnet20(1, 2)).await;
    server.until_ready(NAME, 1).await;
    let other = server.replica().await;
    until_latest(&other, "1").await;
    server.publish_judged(NAME, &resnet20(2, 2), "", (0.9, 0.1)).await;
    server.until_ready(NAME, 2).await;
    other.until_ready(NAME, 2).await;
    assert_eq!(answers(&other, "").await.unwrap(), "1");
    let promote = pb::PromoteRequest { name: NAME.into(), version: 2, dry_run: false };
    server.served().promote(promote).await.unwrap();
    until_latest(&other, "2").await;
    other.served().rollback(pb::RollbackRequest { name: NAME.into(), dry_run: false }).await.unwrap();
    until_latest(&server, "1").await;
    server.served().unpin(pb::UnpinRequest { name: NAME.into(), dry_run: false }).await.unwrap();
    until_latest(&other, "2").await;
    assert_eq!(model(&server).await, model(&other).await);
}
