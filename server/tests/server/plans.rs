//! Plans: at a push, at a submission, and for those who ask.

use dyadic_proto::v1 as pb;
use tonic::Code;
use tonic_types::StatusExt;

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
    assert!(ternary.toml.starts_with("version = 1\n") && ternary.toml.contains("[outcome]"));
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

/// The job, as it is after its submission.
async fn submit(server: &Harness, plan: &str) -> Result<pb::Job, tonic::Status> {
    let (model, dataset, plan) = ("m".into(), "d".into(), plan.into());
    let spec = pb::JobSpec { model, dataset, plan, ..pb::JobSpec::default() };
    let request = pb::SubmitJobRequest { spec: Some(spec), idempotency_key: String::new() };
    Ok(server.jobs().submit(request).await?.into_inner().job.unwrap())
}

/// The whole plan of a run.
async fn kept(server: &Harness, id: &str) -> pb::JobPlan {
    let request = pb::CompareRequest { job_ids: vec![id.to_owned()], plans: true };
    server.experiments().compare(request).await.unwrap().into_inner().runs.remove(0).plan.unwrap()
}

#[tokio::test]
async fn a_printed_plan_is_edited_used_again_kept_with_the_run_and_compared() {
    let server = Harness::start().await;
    let plain = server.submitted("m").await.to_string();
    let spec = pb::JobSpec { model: "m".into(), ..pb::JobSpec::default() };
    let printed = plan(&server, spec.clone()).await;
    assert_eq!(kept(&server, &plain).await.toml, printed.toml);

    // Used as it is, it is the same job.
    let same = submit(&server, &printed.toml).await.unwrap();
    assert_eq!((same.resolved.unwrap().plan, same.rules), (String::new(), 0));

    let layer = printed.units.iter().filter(|unit| unit.bits == Some(2)).nth(1).unwrap().name.clone();
    let rule =
        format!("[layers]\n\"{layer}\" = {{ method = \"apq\", bits = 4, input_bits = 7 }}\n\n[outcome]");
    let edited = printed.toml.replace("[outcome]", &rule);
    let planned = plan(&server, pb::JobSpec { plan: edited.clone(), ..spec.clone() }).await;
    let unit = planned.units.iter().find(|unit| unit.name == layer).unwrap();
    assert_eq!((unit.weights.as_str(), unit.reads[0].as_str()), ("two-term 4 l2", "u7"));

    let job = submit(&server, &edited).await.unwrap();
    let resolved = job.resolved.unwrap();
    assert_eq!((job.rules, resolved.bits), (1, Some(2)));
    let run = kept(&server, &job.id).await;
    assert_eq!((&run.toml, &run.units), (&planned.toml, &planned.units));
    assert_eq!(run.total, planned.total);
    // What the job shows, and what was kept of it, makes the same plan again.
    let [model, dataset] = ["m", "d"].map(String::from);
    let again = plan(&server, pb::JobSpec { model, dataset, ..resolved.clone() }).await;
    assert_eq!((&again.toml, &again.resolved.unwrap().plan), (&run.toml, &resolved.plan));
    assert_eq!(plan(&server, pb::JobSpec { plan: run.toml.clone(), ..spec }).await.toml, run.toml);

    let job_ids = vec![plain, job.id.clone()];
    let compared = server.experiments().compare(pb::CompareRequest { job_ids, plans: false }).await.unwrap();
    let compared = compared.into_inner();
    let found = compared.layers.iter().find(|found| found.name == layer).unwrap();
    assert!(found.planned[0].starts_with("sign-split 2 angle, u"), "{found:?}");
    assert!(found.planned[1].starts_with("two-term 4 l2, u7 → "), "{found:?}");
    assert!(compared.layers.iter().all(|layer| layer.planned[0] != layer.planned[1]));
    assert!(compared.layers.len() < planned.units.len() && compared.differing.is_empty(), "{compared:?}");
    assert!(compared.runs.iter().all(|run| run.plan.is_none()));

    let listed = server.jobs().list(pb::ListJobsRequest::default()).await.unwrap().into_inner().jobs;
    assert_eq!((listed[0].rules, listed[0].resolved.as_ref().unwrap().plan.as_str()), (1, ""));
    assert_eq!(listed[2].id, compared.runs[0].job.as_ref().unwrap().id);
}

#[tokio::test]
async fn all_mistakes_of_a_plan_and_of_the_data_are_told_at_once() {
    let server = Harness::start().await;
    server.submitted("m").await;
    let text = "version = 1\n[layers]\n\"/conv1/Cnv\" = { bits = 4 }\n\"*\" = { codebook = \"two-trem\" }\n\
                \"*Conv*\" = { bits = 9 }\n";
    let spec = pb::JobSpec {
        model: "m".into(),
        dataset: "d".into(),
        plan: text.into(),
        batch_size: Some(5000),
        bits: Some(2),
        ..pb::JobSpec::default()
    };
    let request = pb::SubmitJobRequest { spec: Some(spec.clone()), idempotency_key: String::new() };
    let refused = server.jobs().submit(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let violations = refused.get_details_bad_request().unwrap().field_violations;
    let fields: Vec<&str> = violations.iter().map(|violation| violation.field.as_str()).collect();
    assert_eq!(fields, ["plan", "plan", "batch_size", "plan"], "{violations:?}");
    assert!(violations[0].description.starts_with("line 4, column 20: \"two-trem\""), "{violations:?}");
    let unmatched = &violations[3].description;
    assert!(unmatched.contains("line 3, column 1") && unmatched.contains("the nearest are '"), "{unmatched}");

    let asked = server.jobs().plan(pb::PlanJobRequest { spec: Some(spec.clone()) }).await.unwrap_err();
    assert_eq!(asked.get_details_bad_request().unwrap().field_violations.len(), 3);

    // What can be read and matches nothing is refused, too.
    let slip = "version = 1\n[layers]\n\"/conv1/Cnv\" = { bits = 4 }\n";
    let answer = plan(&server, pb::JobSpec { plan: slip.into(), ..spec.clone() }).await;
    assert_eq!(answer.refusals[0].layer, "/conv1/Cnv");
    assert!(submit(&server, slip).await.is_err());

    // What the flags say otherwise than the text.
    let text = "version = 1\n[defaults]\nweights = { codebook = \"two-term\" }\n";
    let contrary = pb::JobSpec { plan: text.into(), ..spec };
    let asked = server.jobs().plan(pb::PlanJobRequest { spec: Some(contrary) }).await.unwrap_err();
    assert!(asked.message().starts_with("bits: line 3, column 11: the plan says two-term 4 l2"), "{asked:?}");
    let jobs = server.jobs().list(pb::ListJobsRequest::default()).await.unwrap().into_inner().jobs;
    assert_eq!(jobs.len(), 1);
}

#[tokio::test]
async fn a_retry_is_checked_and_planned_like_a_submission() {
    let server = Harness::start().await;
    let id = server.submitted("m").await;
    let old = server.store.job(None, id).await.unwrap();
    // As an earlier version queued it: nobody had looked at its settings.
    let settings = old.settings.known().unwrap().clone();
    let doomed = dyadic_store::job::NewJob {
        owner: old.owner,
        experiment: old.experiment,
        model: old.model_id.unwrap(),
        dataset: old.dataset_id.unwrap(),
        train_split: old.train_split,
        eval_split: "validation".into(),
        served_name: old.served_name,
        spec: serde_json::json!({}),
        settings: dyadic_store::spec::JobSpec { batch_size: 5000, ..settings },
        requires: vec![],
        priority: 0,
        max_stalls: 3,
        promote: dyadic_store::registry::Promote::default(),
        idempotency_key: None,
        tags: old.tags,
        plan: None,
    };
    let doomed = server.store.submit(&doomed, 10).await.unwrap().job.id.to_string();
    let retry = |id: &str| pb::RetryJobRequest { id: id.to_owned(), from_checkpoint: false };
    for id in [&id.to_string(), &doomed] {
        server.jobs().cancel(pb::CancelJobRequest { id: id.clone() }).await.unwrap();
    }
    let refused = server.jobs().retry(retry(&doomed)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{}", refused.message());
    let violations = refused.get_details_bad_request().unwrap().field_violations;
    let fields: Vec<&str> = violations.iter().map(|violation| violation.field.as_str()).collect();
    assert_eq!(fields, ["splits.eval", "batch_size"]);

    let again = server.jobs().retry(retry(&id.to_string())).await.unwrap().into_inner();
    assert_eq!(kept(&server, &again.id).await.toml, kept(&server, &id.to_string()).await.toml);
    // A job from before plans were kept is shown and compared without one.
    let request = pb::CompareRequest { job_ids: vec![doomed, again.id], plans: true };
    let compared = server.experiments().compare(request).await.unwrap().into_inner();
    assert!(compared.runs[0].plan.is_none() && compared.layers.is_empty());
}
