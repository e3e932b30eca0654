//! Plans: at a push, at a submission, and for those who ask.

use dyadic_proto::v1 as pb;
use tonic::Code;

use crate::harness::Harness;
use crate::models::{fixture, send, upload};

/// It has an average pool whose padding does not count, and a clip below zero.
const ODDS: &str = "odds_script13.onnx";

async fn plan(server: &Harness, spec: pb::JobSpec) -> pb::PlanJobResponse {
    server.jobs().plan(pb::PlanJobRequest { spec: Some(spec) }).await.unwrap().into_inner()
}

/// The reasons that odds are refused for, whoever says them.
fn assert_odds(text: &str) {
    assert!(text.contains("padding does not count"), "{text}");
    assert!(text.contains("a clip to -0.5"), "{text}");
}

#[tokio::test]
async fn a_push_that_no_job_could_quantize_is_refused_with_every_reason() {
    let server = Harness::start().await;
    let status = send(&server, upload("odds", &[("m.onnx", fixture(ODDS))])).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented, "{}", status.message());
    assert_odds(status.message());
    let listed = server.models().list(pb::ListModelsRequest::default()).await.unwrap().into_inner();
    assert!(listed.models.is_empty());
}

#[tokio::test]
async fn a_doomed_job_is_refused_and_not_queued() {
    let server = Harness::start().await;
    server.submitted("other").await;
    server.model("odds", fixture(ODDS)).await;
    let spec = pb::JobSpec { model: "odds".into(), dataset: "d".into(), ..pb::JobSpec::default() };
    let request = pb::SubmitJobRequest { spec: Some(spec.clone()), idempotency_key: String::new() };
    let status = server.jobs().submit(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{}", status.message());
    assert_odds(status.message());
    let jobs = server.jobs().list(pb::ListJobsRequest::default()).await.unwrap().into_inner().jobs;
    assert_eq!(jobs.len(), 1);

    let answer = plan(&server, spec).await;
    assert!(answer.toml.is_empty() && answer.units.is_empty());
    let reasons: Vec<String> = answer.refusals.into_iter().map(|r| r.reason).collect();
    assert_odds(&reasons.join("; "));
}

#[tokio::test]
async fn a_plan_says_what_a_job_would_do_and_queues_nothing() {
    let server = Harness::start().await;
    server.model("lenet", fixture("lenet_relu_script16_one.onnx")).await;
    let spec = pb::JobSpec { model: "lenet".into(), ..pb::JobSpec::default() };
    let ternary = plan(&server, spec.clone()).await;
    assert_eq!(ternary.toml, plan(&server, spec.clone()).await.toml);
    assert!(ternary.toml.starts_with("version = 1\n") && ternary.toml.contains("[[layer]]"));
    let total = ternary.total.unwrap();
    let sum = |of: fn(&pb::PlannedUnit) -> u64| ternary.units.iter().map(of).sum::<u64>();
    assert_eq!((total.bytes, total.macs), (sum(|unit| unit.bytes), sum(|unit| unit.macs)));
    assert_eq!(total.shift_adds, sum(|unit| unit.shift_adds));
    let weighted: Vec<_> = ternary.units.iter().filter(|unit| unit.bits.is_some()).collect();
    let bits: Vec<_> = weighted.iter().filter_map(|unit| unit.bits).collect();
    assert_eq!(bits, [8, 2, 2, 2, 8]);
    assert_eq!(weighted[4].writes, "i32");
    assert_eq!(ternary.resolved.unwrap().bits, Some(2));

    // The settings of the job are those of the plan.
    let wide = pb::JobSpec { method: pb::Method::Apq.into(), bits: Some(5), strict: Some(true), ..spec };
    let wide = plan(&server, wide).await;
    assert!(wide.units.iter().filter_map(|unit| unit.bits).all(|bits| bits == 5));
    let jobs = server.jobs().list(pb::ListJobsRequest::default()).await.unwrap().into_inner().jobs;
    assert!(jobs.is_empty());
}

#[tokio::test]
async fn a_plan_of_what_is_not_there_or_not_allowed_is_refused() {
    let server = Harness::start().await;
    server.model("lenet", fixture("lenet_relu_script16_one.onnx")).await;
    let spec = |model: &str| pb::JobSpec { model: model.into(), ..pb::JobSpec::default() };
    let ann = server.token("ann", pb::Role::Submit).await;
    let cases = [
        (server.jobs(), Some(spec("nobody")), Code::NotFound),
        (server.jobs(), Some(spec("")), Code::InvalidArgument),
        (server.jobs(), Some(pb::JobSpec { bits: Some(7), ..spec("lenet") }), Code::InvalidArgument),
        (server.jobs(), None, Code::InvalidArgument),
        (server.jobs_as(&ann), Some(spec("lenet")), Code::NotFound),
    ];
    for (mut jobs, spec, code) in cases {
        let status = jobs.plan(pb::PlanJobRequest { spec: spec.clone() }).await.unwrap_err();
        assert_eq!(status.code(), code, "{spec:?}: {}", status.message());
    }
}
