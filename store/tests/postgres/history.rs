//! Lists, events, metrics, comparisons, tags.

use dyadic_store::ErrorKind;
use dyadic_store::history::{EventKind, JobFilter, MetricsQuery};
use dyadic_store::job::{JobState, LogLine, NewJob, Tags};
use dyadic_store::queue::NewMetric;

use crate::fixture::{Fixture, ROOM, kind};

fn metric(name: &str, step: u64, value: f64) -> NewMetric {
    NewMetric { name: name.to_owned(), step, value }
}

#[tokio::test]
async fn pages_cover_all_jobs_once_newest_first() {
    let fixture = Fixture::new().await;
    let mut submitted = Vec::new();
    for _ in 0..7 {
        submitted.push(fixture.submit().await.id);
    }
    let mut filter = JobFilter { limit: 3, ..JobFilter::default() };
    let mut listed = Vec::new();
    loop {
        let page = fixture.store.jobs(&filter).await.unwrap();
        let Some(last) = page.last() else { break };
        filter.before = Some(last.id);
        listed.extend(page.iter().map(|job| job.id));
    }
    submitted.reverse();
    assert_eq!(listed, submitted);
}

#[tokio::test]
async fn lists_go_by_owner_state_and_experiment() {
    let fixture = Fixture::new().await;
    let done = fixture.in_state(JobState::Succeeded).await;
    let failed = fixture.in_state(JobState::Failed).await;
    let other = NewJob {
        owner: "bob".to_owned(),
        experiment: "wide".to_owned(),
        served_name: "bobs".to_owned(),
        ..fixture.new_job()
    };
    let bobs = fixture.store.submit(&other, ROOM).await.unwrap().job.id;
    let d = || JobFilter { limit: 10, ..JobFilter::default() };
    let text = |text: &str| Some(text.to_owned());
    let cases = [
        (d(), vec![bobs, failed, done]),
        (JobFilter { owner: text("ada"), ..d() }, vec![failed, done]),
        (JobFilter { states: vec![JobState::Succeeded, JobState::Queued], ..d() }, vec![bobs, done]),
        (JobFilter { experiment: text("wide"), ..d() }, vec![bobs]),
        (JobFilter { experiment: text("wide"), owner: text("ada"), ..d() }, vec![]),
    ];
    for (filter, expected) in cases {
        let ids: Vec<_> = fixture.store.jobs(&filter).await.unwrap().iter().map(|job| job.id).collect();
        assert_eq!(ids, expected, "{filter:?}");
    }
    assert_eq!(kind(fixture.store.job(Some("ada"), bobs).await), ErrorKind::NotFound);

    let all = fixture.store.experiments(None, None, 10).await.unwrap();
    let counts: Vec<_> =
        all.iter().map(|e| (e.owner.as_str(), e.name.as_str(), e.runs, e.succeeded)).collect();
    assert_eq!(counts, [("ada", "default", 2, 1), ("bob", "wide", 1, 0)]);
    assert_eq!(fixture.store.experiments(None, Some(("ada", "default")), 10).await.unwrap(), all[1..]);
    assert_eq!(fixture.store.experiments(Some("ada"), None, 10).await.unwrap(), all[..1]);
}

#[tokio::test]
async fn a_resumed_run_measures_again_without_doubles() {
    let fixture = Fixture::new().await;
    let held = fixture.running().await;
    let batch =
        [metric("loss", 1, 1.0), metric("loss", 2, 0.5), metric("loss", 2, 0.4), metric("epoch/acc", 0, 0.1)];
    fixture.store.append_metrics(held, &batch).await.unwrap();
    fixture.store.give_back(held).await.unwrap();
    let held = fixture.claim().await;
    fixture.store.append_metrics(held, &[metric("loss", 2, 0.3), metric("loss", 3, f64::NAN)]).await.unwrap();

    let series = fixture.store.metrics(held.job, &MetricsQuery::default()).await.unwrap();
    assert_eq!(series.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["epoch/acc", "loss"]);
    let loss: Vec<_> = series[1].points.iter().map(|p| (p.step, p.value)).collect();
    assert_eq!(loss[..2], [(1, 1.0), (2, 0.3)]);
    assert!(loss[2].0 == 3 && loss[2].1.is_nan());
    let last = fixture.store.last_metrics(held.job).await.unwrap();
    assert_eq!(
        last.iter().map(|p| (p.name.as_str(), p.step)).collect::<Vec<_>>(),
        [("epoch/acc", 0), ("loss", 3)]
    );
}

#[tokio::test]
async fn series_are_chosen_by_name_and_thinned_to_their_ends() {
    let fixture = Fixture::new().await;
    let held = fixture.running().await;
    let batch: Vec<_> = (0..1000).map(|step| metric("layer/a", step, step as f64)).collect();
    fixture.store.append_metrics(held, &batch).await.unwrap();
    fixture.store.append_metrics(held, &[metric("loss", 1, 1.0)]).await.unwrap();
    let query = MetricsQuery { prefix: "layer/".to_owned(), max_points: 10, ..MetricsQuery::default() };
    let series = fixture.store.metrics(held.job, &query).await.unwrap();
    assert_eq!(series.len(), 1);
    let steps: Vec<u64> = series[0].points.iter().map(|p| p.step).collect();
    assert!(steps.len() <= 11 && steps[0] == 0 && steps[steps.len() - 1] == 999, "{steps:?}");
    let query = MetricsQuery { names: vec!["loss".to_owned()], ..MetricsQuery::default() };
    assert_eq!(fixture.store.metrics(held.job, &query).await.unwrap().len(), 1);

    let mut exported = Vec::new();
    loop {
        let after = exported.last().map(|p: &dyadic_store::job::MetricPoint| (p.name.as_str(), p.step));
        let page = fixture.store.metric_page(held.job, after, 300).await.unwrap();
        if page.is_empty() {
            break;
        }
        exported.extend(page);
    }
    assert_eq!(exported.len(), 1001);
}

#[tokio::test]
async fn a_watcher_sees_metrics_and_lines_in_their_order() {
    let fixture = Fixture::new().await;
    let held = fixture.running().await;
    let line = |text: &str| LogLine { level: "info".to_owned(), message: text.to_owned() };
    fixture.store.append_log(held, &[line("first"), line("sec\0ond")]).await.unwrap();
    fixture.store.append_metrics(held, &[metric("b", 1, f64::INFINITY), metric("a", 1, 0.5)]).await.unwrap();
    fixture.store.append_log(held, &[line("third")]).await.unwrap();
    let events = fixture.store.events(held.job, 0, 100).await.unwrap();
    let told: Vec<String> = events
        .iter()
        .map(|event| match &event.kind {
            EventKind::State { to, .. } => to.name().to_owned(),
            EventKind::Log(line) => line.message.clone(),
            EventKind::Metrics(points) => {
                points.iter().map(|p| format!("{}={}", p.name, p.value)).collect::<Vec<_>>().join(" ")
            }
            EventKind::Progress(progress) => format!("{progress:?}"),
        })
        .collect();
    assert_eq!(told, ["queued", "running", "first", "second", "b=NaN a=0.5", "third"]);
    let lines = fixture.store.log(held.job, events[2].number, 10).await.unwrap();
    assert_eq!(lines, [events[3].clone(), events[5].clone()]);
}

#[tokio::test]
async fn a_comparison_names_what_differs() {
    let fixture = Fixture::new().await;
    let a = fixture.running().await;
    fixture.store.append_metrics(a, &[metric("acc", 1, 0.5), metric("acc", 2, 0.75)]).await.unwrap();
    let mut job = fixture.new_job();
    job.settings.epochs = 9;
    job.settings.activation_bits.other = 7;
    let b = fixture.store.submit(&job, ROOM).await.unwrap().job.id;
    let comparison = fixture.store.compare(Some("ada"), &[a.job, b]).await.unwrap();
    assert_eq!(comparison.differing, ["activation_bits.other", "epochs"]);
    assert_eq!(comparison.runs[1].spec["epochs"], "9");
    assert_eq!(comparison.runs[0].spec["model"], "lenet");
    assert_eq!(comparison.runs[0].last[0].value, 0.75);
    assert_eq!(kind(fixture.store.compare(Some("bob"), &[a.job]).await), ErrorKind::NotFound);
}

#[tokio::test]
async fn tags_are_set_replaced_and_removed() {
    let fixture = Fixture::new().await;
    let job = fixture.submit().await.id;
    let set = [("colour".to_owned(), "red".to_owned()), ("size".to_owned(), "9".to_owned())].into();
    assert_eq!(fixture.store.set_tags(None, job, &set, &["size".to_owned()]).await.unwrap(), set);
    let left = fixture.store.set_tags(Some("ada"), job, &Tags::new(), &["colour".to_owned()]).await.unwrap();
    assert_eq!(left, [("size".to_owned(), "9".to_owned())].into());
    assert_eq!(kind(fixture.store.set_tags(Some("bob"), job, &set, &[]).await), ErrorKind::NotFound);
}
