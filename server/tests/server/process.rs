//! The program itself: its own database, its port file, its drain; and what holds for every call.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use dyadic_proto::inference as pb;
use dyadic_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use dyadic_proto::v1::{ListJobsRequest, Role};
use tokio::process::Command;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::harness::{Harness, NORMALIZED};

#[tokio::test]
async fn the_program_brings_its_own_database_and_drains_on_sigterm() {
    let dir = tempfile::tempdir().unwrap();
    // As root the database runs as another user, who must be able to come here.
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o711)).unwrap();
    let path = |name: &str| dir.path().join(name);
    let mut program = Command::new(env!("CARGO_BIN_EXE_dyadic-server"))
        .args(["--listen", "127.0.0.1:0", "--data-dir"])
        .arg(path("data"))
        .arg("--private-database")
        .arg(path("data/database"))
        .arg("--port-file")
        .arg(path("port"))
        .env_remove("DATABASE_URL")
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let address = loop {
        if let Ok(address) = std::fs::read_to_string(path("port")) {
            break address;
        }
        assert!(program.try_wait().unwrap().is_none(), "it ended");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{address}"))
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut client = GrpcInferenceServiceClient::new(channel);
    assert!(client.server_ready(pb::ServerReadyRequest {}).await.unwrap().into_inner().ready);
    assert!(std::fs::read_to_string(path("data/database/url")).unwrap().starts_with("postgres"));
    let mode = std::fs::metadata(path("data")).unwrap().permissions().mode();
    assert_eq!(mode & 0o066, 0, "{mode:o}");
    let pid = rustix::process::Pid::from_raw(program.id().unwrap().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let status = tokio::time::timeout(Duration::from_secs(60), program.wait()).await.unwrap().unwrap();
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn the_program_refuses_to_be_exposed() {
    let output = Command::new(env!("CARGO_BIN_EXE_dyadic-server"))
        .args(["--listen", "0.0.0.0:0", "--database-url", "postgres://nowhere/none"])
        .output()
        .await
        .unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("--insecure"));
}

#[tokio::test]
async fn a_draining_server_takes_no_calls_but_says_so() {
    let server = Harness::start().await;
    let mut health = HealthClient::new(server.channel());
    let request = || HealthCheckRequest { service: String::new() };
    let status = health.check(request()).await.unwrap().into_inner().status();
    assert_eq!(status, tonic_health::pb::health_check_response::ServingStatus::Serving);
    server.drain();
    // The connection may be refused by now, which says the same.
    let code = server.jobs().list(ListJobsRequest::default()).await.unwrap_err().code();
    assert_eq!(code, Code::Unavailable);
}

#[tokio::test]
async fn calls_over_the_limit_are_turned_away() {
    let server = Harness::start_with(&["--max-calls", "0"]).await;
    let status = server.jobs().list(ListJobsRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let mut open = GrpcInferenceServiceClient::new(server.channel());
    assert!(open.server_live(pb::ServerLiveRequest {}).await.unwrap().into_inner().live);
}

#[tokio::test]
async fn the_request_id_comes_back() {
    let server = Harness::start().await;
    for (given, kept) in [("mine-17", true), ("two words", false)] {
        let mut request = Request::new(ListJobsRequest::default());
        request.metadata_mut().insert("x-request-id", given.parse().unwrap());
        let answer = server.jobs().list(request).await.unwrap();
        let id = answer.metadata().get("x-request-id").unwrap().to_str().unwrap();
        assert_eq!(id == given, kept, "{id}");
    }
}

#[tokio::test]
async fn without_the_database_known_tokens_and_inference_go_on() {
    let server = Harness::serving().await;
    let known = server.token("i", Role::Infer).await;
    let fresh = server.token("j", Role::Infer).await;
    let ready = || pb::ModelReadyRequest { name: NORMALIZED.into(), version: String::new() };
    let mut known = server.inference_as(&known);
    assert!(known.model_ready(ready()).await.unwrap().into_inner().ready);
    server.store.close().await;
    assert!(known.model_ready(ready()).await.unwrap().into_inner().ready);
    let code = server.inference_as(&fresh).model_ready(ready()).await.unwrap_err().code();
    assert_eq!(code, Code::Unavailable);
    let code = server.jobs().list(ListJobsRequest::default()).await.unwrap_err().code();
    assert_eq!(code, Code::Unavailable);
}

#[tokio::test]
async fn callers_without_a_token_get_the_role_that_was_chosen() {
    let server = Harness::start_with(&["--anonymous", "infer"]).await;
    let mut nobody = GrpcInferenceServiceClient::new(server.channel());
    nobody.server_metadata(pb::ServerMetadataRequest {}).await.unwrap();
    let mut jobs = dyadic_proto::v1::job_service_client::JobServiceClient::new(server.channel());
    assert_eq!(jobs.list(ListJobsRequest::default()).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn tls_keeps_strangers_out() {
    let fixture = |name: &str| format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
    let (cert, key) = (fixture("test-only.crt"), fixture("test-only.key"));
    let server = Harness::start_with(&["--tls-cert", &cert, "--tls-key", &key]).await;
    let authority = tonic::transport::Certificate::from_pem(std::fs::read(cert).unwrap());
    let tls = tonic::transport::ClientTlsConfig::new().ca_certificate(authority).domain_name("localhost");
    let endpoint = tonic::transport::Endpoint::from_shared(format!("https://{}", server.address())).unwrap();
    let channel = endpoint.tls_config(tls).unwrap().connect().await.unwrap();
    let mut client = GrpcInferenceServiceClient::new(channel);
    assert!(client.server_live(pb::ServerLiveRequest {}).await.unwrap().into_inner().live);
    // The harness's own channel speaks no TLS.
    let mut plain = GrpcInferenceServiceClient::new(server.channel());
    plain.server_live(pb::ServerLiveRequest {}).await.unwrap_err();
}
