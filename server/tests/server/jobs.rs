//! Submitting, watching, cancelling, retrying; and the history.

use std::time::Duration;

use dyadic_proto::v1 as pb;
use dyadic_proto::v1::job_event::Event;
use dyadic_store::job::{Failure, LogLine, Progress};
use dyadic_store::queue::NewMetric;
use tonic::Code;

use crate::harness::Harness;

async fn spec(server: &Harness) -> pb::JobSpec {
    // Registers what the spec refers to.
    let id = server.submitted("other").await;
    let job = server.jobs().get(pb::GetJobRequest { id: id.to_string() }).await.unwrap().into_inner();
    server.jobs().cancel(pb::CancelJobRequest { id: id.to_string() }).await.unwrap();
    let resolved = job.resolved.unwrap();
    pb::JobSpec { model: resolved.model, dataset: resolved.dataset, ..pb::JobSpec::default() }
}

fn request(spec: pb::JobSpec, key: &str) -> pb::SubmitJobRequest {
    pb::SubmitJobRequest { spec: Some(spec), idempotency_key: key.to_owned() }
}

fn metric(name: &str, step: u64, value: f64) -> NewMetric {
    NewMetric { name: name.to_owned(), step, value }
}

/// Events until the stream ends.
async fn events(server: &Harness, id: &str, after: u64) -> Vec<pb::JobEvent> {
    let watch = pb::WatchJobRequest { id: id.to_owned(), after };
    let mut stream = server.jobs().watch(watch).await.unwrap().into_inner();
    let mut events = Vec::new();
    while let Some(event) = stream.message().await.unwrap() {
        events.push(event);
    }
    events
}

fn states(events: &[pb::JobEvent]) -> Vec<pb::JobState> {
    let state = |event: &pb::JobEvent| match &event.event {
        Some(Event::State(change)) => Some(change.to()),
        _ => None,
    };
    events.iter().filter_map(state).collect()
}

#[tokio::test]
async fn a_submitted_job_shows_every_default() {
    let server = Harness::start().await;
    let spec = spec(&server).await;
    let job = server.jobs().submit(request(spec.clone(), "")).await.unwrap().into_inner().job.unwrap();
    assert_eq!(job.state(), pb::JobState::Queued);
    let resolved = job.resolved.unwrap();
    assert_eq!((resolved.method(), resolved.bits, resolved.epochs), (pb::Method::Aptq, Some(2), Some(20)));
    assert_eq!((resolved.served_name.as_str(), resolved.experiment.as_str()), ("m", "default"));
    let splits = resolved.splits.unwrap();
    assert_eq!((splits.train.as_str(), splits.eval.as_str()), ("train", "test"));
}

#[tokio::test]
async fn the_same_key_with_another_request_is_refused() {
    let server = Harness::start().await;
    let spec = spec(&server).await;
    let first = server.jobs().submit(request(spec.clone(), "k")).await.unwrap().into_inner();
    let again = server.jobs().submit(request(spec.clone(), "k")).await.unwrap().into_inner();
    assert!(!first.existed && again.existed);
    assert_eq!(first.job.unwrap().id, again.job.unwrap().id);
    let other = pb::JobSpec { epochs: Some(3), ..spec };
    let status = server.jobs().submit(request(other, "k")).await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists);
}

#[tokio::test]
async fn specs_that_cannot_run_are_refused() {
    let server = Harness::start().await;
    let good = spec(&server).await;
    let splits = pb::Splits { train: "train".into(), eval: "holdout".into() };
    let cases = [
        (Code::NotFound, pb::JobSpec { model: "nobody".into(), ..good.clone() }),
        (Code::NotFound, pb::JobSpec { dataset: "nobody".into(), ..good.clone() }),
        (Code::InvalidArgument, pb::JobSpec { model: String::new(), ..good.clone() }),
        (Code::InvalidArgument, pb::JobSpec { bits: Some(7), ..good.clone() }),
        (Code::InvalidArgument, pb::JobSpec { method: 42, ..good.clone() }),
        (Code::InvalidArgument, pb::JobSpec { priority: Some(101), ..good.clone() }),
        (Code::InvalidArgument, pb::JobSpec { served_name: "a/b".into(), ..good.clone() }),
        (Code::InvalidArgument, pb::JobSpec { experiment: "..".into(), ..good.clone() }),
        (Code::InvalidArgument, pb::JobSpec { splits: Some(splits), ..good.clone() }),
    ];
    for (code, case) in cases {
        let status = server.jobs().submit(request(case.clone(), "")).await.unwrap_err();
        assert_eq!(status.code(), code, "{case:?}: {}", status.message());
    }
    let nothing = pb::SubmitJobRequest::default();
    assert_eq!(server.jobs().submit(nothing).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_full_queue_turns_jobs_away() {
    let server = Harness::start_with(&["--max-queued-jobs", "1"]).await;
    let spec = spec(&server).await;
    server.jobs().submit(request(spec.clone(), "")).await.unwrap();
    let status = server.jobs().submit(request(spec, "")).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
}

#[tokio::test]
async fn a_watch_tells_all_and_goes_on_from_any_number() {
    let server = Harness::start().await;
    let job = server.submitted("watched").await;
    let id = job.to_string();
    let live = {
        let watch = pb::WatchJobRequest { id: id.clone(), after: 0 };
        let mut stream = server.jobs().watch(watch).await.unwrap().into_inner();
        tokio::spawn(async move {
            let mut events = Vec::new();
            while let Some(event) = stream.message().await.unwrap() {
                events.push(event);
            }
            events
        })
    };
    let (lease, _) = server.claim().await;
    let progress = Progress { phase: "train".into(), done: 1, total: 2 };
    server.store.heartbeat(lease, Duration::from_secs(60), &progress).await.unwrap();
    server
        .store
        .append_metrics(lease, &[metric("epoch/loss", 1, 0.5), metric("epoch/nan", 1, f64::NAN)])
        .await
        .unwrap();
    let line = LogLine { level: "info".into(), message: "half way".into() };
    server.store.append_log(lease, &[line]).await.unwrap();
    server.complete(lease, b"an artifact").await;

    let live = tokio::time::timeout(Duration::from_secs(60), live).await.unwrap().unwrap();
    let after = events(&server, &id, 0).await;
    // As text: NaN is not equal to itself.
    assert_eq!(format!("{live:?}"), format!("{after:?}"));
    use pb::JobState::{Queued, Running, Succeeded};
    assert_eq!(states(&live), [Queued, Running, Succeeded]);
    assert!(live.windows(2).all(|pair| pair[0].number < pair[1].number));
    assert!(
        live.iter().any(|event| matches!(&event.event, Some(Event::Log(line)) if line.message == "half way"))
    );
    assert!(live.iter().any(|event| matches!(&event.event, Some(Event::Progress(p)) if p.phase == "train")));
    assert!(live.iter().any(|event| matches!(&event.event, Some(Event::Metrics(m)) if m.metrics.len() == 2)));
    let Some(Event::State(end)) = &live.last().unwrap().event else { panic!("{live:?}") };
    assert_eq!(end.artifact.as_ref().unwrap().version, 1);
    for event in &live {
        let rest = events(&server, &id, event.number).await;
        let expected: Vec<_> = live.iter().filter(|other| other.number > event.number).cloned().collect();
        assert_eq!(format!("{rest:?}"), format!("{expected:?}"), "after {}", event.number);
    }
}

#[tokio::test]
async fn a_drain_ends_watches() {
    let server = Harness::start().await;
    let id = server.submitted("watched").await.to_string();
    let watch = pb::WatchJobRequest { id, after: 0 };
    let mut stream = server.jobs().watch(watch).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_some());
    server.drain();
    assert_eq!(stream.message().await.unwrap_err().code(), Code::Unavailable);
    server.stop().await;
}

#[tokio::test]
async fn cancelled_and_failed_jobs_can_be_retried_and_others_not() {
    let server = Harness::start().await;
    let id = server.submitted("m").await.to_string();
    let retry = |id: &str| pb::RetryJobRequest { id: id.to_owned(), from_checkpoint: false };
    let cancel = |id: &str| pb::CancelJobRequest { id: id.to_owned() };
    assert_eq!(server.jobs().retry(retry(&id)).await.unwrap_err().code(), Code::FailedPrecondition);
    let cancelled = server.jobs().cancel(cancel(&id)).await.unwrap().into_inner();
    assert_eq!(cancelled.state(), pb::JobState::Cancelled);
    let second = server.jobs().retry(retry(&id)).await.unwrap().into_inner();
    assert_eq!(second.retry_of, id);

    let (lease, _) = server.claim().await;
    let running = server.jobs().cancel(cancel(&second.id)).await.unwrap().into_inner();
    assert!(running.cancel_requested && running.state() == pb::JobState::Running);
    server.store.acknowledge_cancel(lease).await.unwrap();
    let third = server.jobs().retry(retry(&second.id)).await.unwrap().into_inner();

    let (lease, _) = server.claim().await;
    let failure = Failure { code: "diverged".into(), message: "the loss is NaN".into(), retryable: false };
    server.store.fail(lease, &failure).await.unwrap();
    let failed = server.jobs().get(pb::GetJobRequest { id: third.id.clone() }).await.unwrap().into_inner();
    assert_eq!(failed.state(), pb::JobState::Failed);
    assert_eq!(failed.error.unwrap().code, "diverged");
    assert_eq!(server.jobs().cancel(cancel(&third.id)).await.unwrap_err().code(), Code::FailedPrecondition);
    let from_checkpoint = pb::RetryJobRequest { id: third.id, from_checkpoint: true };
    assert_eq!(server.jobs().retry(from_checkpoint).await.unwrap_err().code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn another_owners_job_is_not_found() {
    let server = Harness::start().await;
    let id = server.submitted("m").await.to_string();
    let ann = server.token("ann", pb::Role::Submit).await;
    let mut ann = server.jobs_as(&ann);
    for id in [id.as_str(), "0198c0de-0000-7000-8000-000000000000", "no id"] {
        assert_eq!(ann.get(pb::GetJobRequest { id: id.into() }).await.unwrap_err().code(), Code::NotFound);
        assert_eq!(
            ann.cancel(pb::CancelJobRequest { id: id.into() }).await.unwrap_err().code(),
            Code::NotFound
        );
        let watch = pb::WatchJobRequest { id: id.into(), after: 0 };
        assert_eq!(ann.watch(watch).await.unwrap_err().code(), Code::NotFound);
    }
    assert!(ann.list(pb::ListJobsRequest::default()).await.unwrap().into_inner().jobs.is_empty());
}

#[tokio::test]
async fn listings_come_in_pages_newest_first() {
    let server = Harness::start().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.insert(0, server.submitted("m").await.to_string());
    }
    let mut seen = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = pb::ListJobsRequest { page_size: 2, page_token, ..Default::default() };
        let page = server.jobs().list(request).await.unwrap().into_inner();
        seen.extend(page.jobs.into_iter().map(|job| job.id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, ids);
    let running = pb::ListJobsRequest { states: vec![pb::JobState::Running.into()], ..Default::default() };
    assert!(server.jobs().list(running).await.unwrap().into_inner().jobs.is_empty());
    for wrong in [
        pb::ListJobsRequest { page_token: "x".into(), ..Default::default() },
        pb::ListJobsRequest { id_prefix: "019x".into(), ..Default::default() },
        pb::ListJobsRequest { id_prefix: "0".repeat(33), ..Default::default() },
        pb::ListJobsRequest { id_prefix: "-".into(), ..Default::default() },
    ] {
        assert_eq!(
            server.jobs().list(wrong.clone()).await.unwrap_err().code(),
            Code::InvalidArgument,
            "{wrong:?}"
        );
    }
}

#[tokio::test]
async fn listings_go_by_the_beginning_of_an_id_and_by_tags() {
    let server = Harness::start().await;
    let mut ids = Vec::new();
    for name in ["a", "b", "c"] {
        let id = server.submitted("m").await.to_string();
        let tag = |key: &str, value: &str| pb::Tag { key: key.into(), value: value.into() };
        let set = vec![tag("name", name), tag("kind", "test")];
        let set = pb::SetTagsRequest { job_id: id.clone(), set, remove: vec![] };
        server.experiments().set_tags(set).await.unwrap();
        ids.push(id);
    }
    let list = async |id_prefix: &str, tags: &[(&str, &str)]| -> Vec<String> {
        let tags =
            tags.iter().map(|&(key, value)| pb::Tag { key: key.into(), value: value.into() }).collect();
        let request = pb::ListJobsRequest { id_prefix: id_prefix.into(), tags, ..Default::default() };
        server.jobs().list(request).await.unwrap().into_inner().jobs.into_iter().map(|job| job.id).collect()
    };
    assert_eq!(list("0", &[]).await.len(), 3);
    assert_eq!(list(&ids[1], &[]).await, [ids[1].clone()]);
    // All but the last digits, which no two ids share.
    assert_eq!(list(&ids[1][..30], &[]).await, [ids[1].clone()]);
    assert_eq!(list("f", &[]).await, [""; 0]);
    assert_eq!(list("", &[("kind", "test")]).await.len(), 3);
    assert_eq!(list("", &[("kind", "test"), ("name", "b")]).await, [ids[1].clone()]);
    assert_eq!(list("", &[("name", "test")]).await, [""; 0]);
}

#[tokio::test]
async fn runs_are_compared_queried_tagged_and_exported() {
    let server = Harness::start().await;
    let base = spec(&server).await;
    let mut ids = Vec::new();
    for (bits, accuracy) in [(3, 0.91), (4, 0.92)] {
        let method = pb::Method::Apq.into();
        let spec = pb::JobSpec { method, bits: Some(bits), experiment: "widths".into(), ..base.clone() };
        let job = server.jobs().submit(request(spec, "")).await.unwrap().into_inner().job.unwrap();
        let (lease, _) = server.claim().await;
        let metrics = [
            metric("epoch/accuracy", 1, 0.5),
            metric("epoch/accuracy", 2, accuracy),
            metric("layer/conv1/zeros", 9, 0.4),
        ];
        server.store.append_metrics(lease, &metrics).await.unwrap();
        server.complete(lease, format!("artifact {bits}").as_bytes()).await;
        ids.push(job.id);
    }
    let mut history = server.experiments();
    let compared = history
        .compare(pb::CompareRequest { job_ids: ids.clone(), plans: false })
        .await
        .unwrap()
        .into_inner();
    assert!(compared.differing.contains(&"bits".to_owned()), "{:?}", compared.differing);
    assert!(!compared.differing.contains(&"epochs".to_owned()));
    let last = compared.runs[1].last.iter().find(|metric| metric.name == "epoch/accuracy").unwrap();
    assert_eq!((last.step, last.value), (2, 0.92));
    assert_eq!(compared.runs[0].layers[0].layer, "conv1");
    assert_eq!(compared.runs[0].layers[0].values["zeros"], 0.4);

    let query =
        pb::QueryMetricsRequest { job_id: ids[0].clone(), prefix: "epoch/".into(), ..Default::default() };
    let series = history.query_metrics(query).await.unwrap().into_inner().series;
    assert_eq!((series.len(), series[0].points.len()), (1, 2));

    let tag = |key: &str, value: &str| pb::Tag { key: key.into(), value: value.into() };
    let set = pb::SetTagsRequest {
        job_id: ids[0].clone(),
        set: vec![tag("best", "yes"), tag("note", "a b")],
        remove: vec![],
    };
    assert_eq!(history.set_tags(set).await.unwrap().into_inner().tags.len(), 2);
    let remove = pb::SetTagsRequest { job_id: ids[0].clone(), set: vec![], remove: vec!["note".into()] };
    assert_eq!(history.set_tags(remove).await.unwrap().into_inner().tags, [tag("best", "yes")]);

    let listed = history.list(pb::ListExperimentsRequest::default()).await.unwrap().into_inner().experiments;
    let widths = listed.iter().find(|experiment| experiment.name == "widths").unwrap();
    assert_eq!((widths.runs, widths.succeeded), (2, 2));

    let export = pb::ExportRequest { experiment: "widths".into(), job_ids: vec![] };
    let mut stream = history.export(export).await.unwrap().into_inner();
    let mut text = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        text.extend_from_slice(&message.data);
    }
    let lines: Vec<serde_json::Value> = text
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    assert_eq!(lines.iter().filter(|line| line.get("run").is_some()).count(), 2);
    assert_eq!(lines.iter().filter(|line| line.get("metric").is_some()).count(), 6);
    let nothing = pb::ExportRequest { experiment: "nobody".into(), job_ids: vec![] };
    let mut stream = history.export(nothing).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap_err().code(), Code::NotFound);
}
