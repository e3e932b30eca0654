//! Submitting, claiming, fencing, completing, cancelling, retrying.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use dyadic_store::ErrorKind;
use dyadic_store::blob::BlobStore;
use dyadic_store::history::JobFilter;
use dyadic_store::job::{JobState, Lease, LogLine, NewJob};
use dyadic_store::notice::{Notice, Topic};
use dyadic_store::queue::{NewMetric, Retry};

use crate::collecting::collector;
use crate::fixture::{Fixture, LEASE, ROOM, digest, failure, kind, outcome, worker};

#[tokio::test]
async fn the_same_key_with_the_same_request_is_the_same_job() {
    let fixture = Fixture::new().await;
    let job = NewJob { idempotency_key: Some("k".to_owned()), ..fixture.new_job() };
    let first = fixture.store.submit(&job, ROOM).await.unwrap();
    let again = fixture.store.submit(&job, ROOM).await.unwrap();
    assert_eq!((first.existed, again.existed), (false, true));
    assert_eq!(first.job.id, again.job.id);
    assert_eq!(first.job.tags["colour"], "blue");
    assert_eq!(first.job.settings.known().unwrap().epochs, 3);

    let other = NewJob { spec: serde_json::json!({"epochs": 4}), ..job.clone() };
    assert_eq!(kind(fixture.store.submit(&other, ROOM).await), ErrorKind::Conflict);
    let of_bob = NewJob { owner: "bob".to_owned(), served_name: "bobs".to_owned(), ..job };
    assert!(!fixture.store.submit(&of_bob, ROOM).await.unwrap().existed);
}

#[tokio::test]
async fn submitters_racing_with_one_key_make_one_job() {
    let fixture = Fixture::new().await;
    let job = NewJob { idempotency_key: Some("k".to_owned()), ..fixture.new_job() };
    let all = futures::future::join_all((0..8).map(|_| fixture.store.submit(&job, ROOM))).await;
    let all: Vec<_> = all.into_iter().map(Result::unwrap).collect();
    assert!(all.iter().all(|s| s.job.id == all[0].job.id));
    assert_eq!(all.iter().filter(|s| !s.existed).count(), 1);
}

#[tokio::test]
async fn what_cannot_be_submitted_is_told_apart() {
    let fixture = Fixture::new().await;
    let job = fixture.new_job();
    let gone = NewJob { model: fixture.dataset, ..job.clone() };
    assert_eq!(kind(fixture.store.submit(&gone, ROOM).await), ErrorKind::NotFound);
    let gone = NewJob { dataset: fixture.model, ..job.clone() };
    assert_eq!(kind(fixture.store.submit(&gone, ROOM).await), ErrorKind::NotFound);
    fixture.submit().await;
    let stolen = NewJob { owner: "bob".to_owned(), ..job.clone() };
    assert_eq!(kind(fixture.store.submit(&stolen, ROOM).await), ErrorKind::Conflict);
    assert_eq!(kind(fixture.store.submit(&job, 1).await), ErrorKind::Exhausted);
    assert_eq!(fixture.store.queue_depth().await.unwrap(), (1, 0));
}

#[tokio::test]
async fn claims_go_by_priority_then_age_and_only_to_the_capable() {
    let fixture = Fixture::new().await;
    let submit = async |priority, requires: &[&str]| {
        let requires = requires.iter().map(ToString::to_string).collect();
        let job = NewJob { priority, requires, ..fixture.new_job() };
        fixture.store.submit(&job, ROOM).await.unwrap().job.id
    };
    let (old, new) = (submit(0, &[]).await, submit(0, &["cpu"]).await);
    let (urgent, cuda) = (submit(5, &[]).await, submit(9, &["cuda", "cpu"]).await);
    for expected in [urgent, old, new] {
        let (lease, job) = fixture.store.claim(&worker("w1"), LEASE).await.unwrap().unwrap();
        assert_eq!((lease.job, lease.fence, job.id), (expected, 1, expected));
        assert_eq!((job.state, job.worker.as_deref(), job.attempts), (JobState::Running, Some("w1"), 1));
    }
    assert_eq!(fixture.store.claim(&worker("w1"), LEASE).await.unwrap(), None);
    let mut capable = worker("w2");
    capable.capabilities.push("cuda".to_owned());
    assert_eq!(fixture.store.claim(&capable, LEASE).await.unwrap().unwrap().0.job, cuda);
}

#[tokio::test]
async fn racing_workers_never_get_the_same_job() {
    let fixture = Fixture::new().await;
    for _ in 0..5 {
        fixture.submit().await;
    }
    let (fixture, claims) = (&fixture, 0..20);
    let won = futures::future::join_all(
        claims.map(|i| async move { fixture.store.claim(&worker(&format!("w{i}")), LEASE).await.unwrap() }),
    )
    .await;
    let mut jobs: Vec<_> = won.into_iter().flatten().map(|(lease, _)| lease.job).collect();
    jobs.sort();
    jobs.dedup();
    assert_eq!(jobs.len(), 5);
}

#[tokio::test]
async fn stale_worker_cannot_publish_nor_change_anything() {
    let fixture = Fixture::new().await;
    let stale = fixture.running().await;
    fixture.store.give_back(stale).await.unwrap();
    let held = fixture.claim().await;
    assert_eq!((held.job, held.fence), (stale.job, stale.fence + 1));
    let before = fixture.job(held.job).await;

    let metric = [NewMetric { name: "loss".to_owned(), step: 1, value: 1.0 }];
    let line = [LogLine { level: "info".to_owned(), message: "hello".to_owned() }];
    assert_eq!(kind(fixture.heartbeat(stale, 5).await), ErrorKind::LeaseLost);
    assert_eq!(kind(fixture.store.checkpoint(stale, digest("c"), 1, 1).await), ErrorKind::LeaseLost);
    assert_eq!(kind(fixture.store.append_metrics(stale, &metric).await), ErrorKind::LeaseLost);
    assert_eq!(kind(fixture.store.append_log(stale, &line).await), ErrorKind::LeaseLost);
    assert_eq!(kind(fixture.complete(stale).await), ErrorKind::LeaseLost);
    assert_eq!(kind(fixture.store.fail(stale, &failure(true)).await), ErrorKind::LeaseLost);
    assert_eq!(kind(fixture.store.give_back(stale).await), ErrorKind::LeaseLost);
    assert_eq!(kind(fixture.store.acknowledge_cancel(stale).await), ErrorKind::LeaseLost);
    assert_eq!(fixture.job(held.job).await, before);
    assert_eq!(fixture.store.last_metrics(held.job).await.unwrap(), []);

    fixture.complete(held).await.unwrap();
    assert_eq!(fixture.store.completed_by(stale).await.unwrap(), None);
}

#[tokio::test]
async fn a_heartbeat_extends_the_lease_and_tells_of_progress_once() {
    let fixture = Fixture::new().await;
    let held = fixture.running().await;
    fixture.expire_leases().await;
    assert!(!fixture.heartbeat(held, 3).await.unwrap());
    assert!(!fixture.heartbeat(held, 3).await.unwrap());
    let job = fixture.job(held.job).await;
    assert_eq!((job.phase.as_str(), job.progress_done, job.progress_total), ("train", 3, 10));
    assert!(job.lease_expires_at.unwrap() > Utc::now() + TimeDelta::seconds(30));
    let events = fixture.store.events(held.job, 0, 100).await.unwrap();
    let of_progress =
        |e: &&dyadic_store::history::Event| matches!(e.kind, dyadic_store::history::EventKind::Progress(_));
    assert_eq!(events.iter().filter(of_progress).count(), 1);
}

#[tokio::test]
async fn a_job_completes_exactly_once_with_one_artifact_and_one_version() {
    let fixture = Fixture::new().await;
    let held = fixture.running().await;
    fixture.store.checkpoint(held, digest("checkpoint"), 10, 5).await.unwrap();
    let attempts = futures::future::join_all((0..6).map(|_| fixture.complete(held))).await;
    let published: Vec<_> = attempts.iter().filter_map(|a| a.as_ref().ok()).collect();
    assert_eq!(published.len(), 1);
    assert_eq!(fixture.store.completed_by(held).await.unwrap().as_ref(), Some(published[0]));

    let job = fixture.job(held.job).await;
    let artifact = job.artifact.0.unwrap();
    assert_eq!((job.state, artifact.version, artifact.sha256), (JobState::Succeeded, 1, digest("artifact")));
    assert_eq!((artifact.id, job.checkpoint_sha256), (published[0].artifact, None));
    assert_eq!(kind(fixture.heartbeat(held, 1).await), ErrorKind::LeaseLost);

    let next = fixture.running().await;
    assert_eq!(fixture.complete(next).await.unwrap().version, 2);
}

#[tokio::test]
async fn a_success_of_deleted_bytes_waits_until_they_are_stored_again() {
    let fixture = Fixture::new().await;
    let held = fixture.running().await;
    fixture.store.touch_blob(outcome().sha256, 99).await.unwrap();
    fixture.sql("UPDATE blob SET touched_at = now() - interval '2 days'").await.unwrap();
    let mut collector = collector(&fixture.store).await;
    let marked = collector.mark(Duration::from_secs(86400), 100).await.unwrap();
    assert_eq!(marked, [outcome().sha256]);
    assert_eq!(kind(fixture.complete(held).await), ErrorKind::Unavailable);
    assert_eq!(kind(fixture.store.checkpoint(held, outcome().sha256, 99, 1).await), ErrorKind::Unavailable);
    assert_eq!(fixture.job(held.job).await.state, JobState::Running);
    let folder = tempfile::tempdir().unwrap();
    let blobs = BlobStore::local(folder.path()).unwrap();
    assert!(collector.remove(&blobs, outcome().sha256).await.unwrap());
    fixture.complete(held).await.unwrap();
}

#[tokio::test]
async fn cancelling_never_leaves_an_artifact() {
    let fixture = Fixture::new().await;
    let queued = fixture.submit().await;
    assert_eq!(fixture.store.cancel(Some("ada"), queued.id, "ada").await.unwrap().state, JobState::Cancelled);
    assert_eq!(fixture.store.cancel(Some("ada"), queued.id, "ada").await.unwrap().state, JobState::Cancelled);
    assert_eq!(kind(fixture.store.cancel(Some("bob"), queued.id, "bob").await), ErrorKind::NotFound);

    let held = fixture.running().await;
    assert_eq!(kind(fixture.store.acknowledge_cancel(held).await), ErrorKind::LeaseLost);
    let job = fixture.store.cancel(None, held.job, "root").await.unwrap();
    assert_eq!((job.state, job.cancel_requested), (JobState::Running, true));
    assert!(fixture.heartbeat(held, 1).await.unwrap());
    assert_eq!(kind(fixture.complete(held).await), ErrorKind::Precondition);
    fixture.store.acknowledge_cancel(held).await.unwrap();
    let job = fixture.job(held.job).await;
    assert_eq!((job.state, job.artifact.0), (JobState::Cancelled, None));

    let done = fixture.in_state(JobState::Succeeded).await;
    assert_eq!(kind(fixture.store.cancel(None, done, "ada").await), ErrorKind::Precondition);
}

#[tokio::test]
async fn a_race_of_cancel_and_complete_has_one_winner() {
    let fixture = Fixture::new().await;
    for _ in 0..20 {
        let held = fixture.running().await;
        let (completed, cancelled) =
            tokio::join!(fixture.complete(held), fixture.store.cancel(None, held.job, "ada"));
        let job = fixture.job(held.job).await;
        assert_eq!(completed.is_ok(), job.artifact.0.is_some());
        match job.state {
            JobState::Succeeded => assert_eq!(kind(cancelled), ErrorKind::Precondition),
            JobState::Running => {
                assert!(cancelled.is_ok() && job.cancel_requested);
                assert_eq!(kind(completed), ErrorKind::Precondition);
                fixture.store.acknowledge_cancel(held).await.unwrap();
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn whoever_ends_a_run_that_is_to_be_cancelled_cancels_it() {
    let fixture = Fixture::new().await;
    let fail = async |held: Lease| fixture.store.fail(held, &failure(true)).await;
    let give_back = async |held: Lease| fixture.store.give_back(held).await;
    let held = fixture.running().await;
    fixture.store.cancel(None, held.job, "ada").await.unwrap();
    fail(held).await.unwrap();
    assert_eq!(fixture.job(held.job).await.state, JobState::Cancelled);
    let held = fixture.running().await;
    fixture.store.cancel(None, held.job, "ada").await.unwrap();
    give_back(held).await.unwrap();
    assert_eq!(fixture.job(held.job).await.state, JobState::Cancelled);
}

#[tokio::test]
async fn retryable_failures_back_off_and_end_when_stalls_are_used_up() {
    let fixture = Fixture::new().await;
    let id = fixture.submit().await.id;
    for (stalls, least) in [(1, 10.0), (2, 20.0)] {
        let held = fixture.claim().await;
        fixture.store.fail(held, &failure(true)).await.unwrap();
        let job = fixture.job(id).await;
        assert_eq!((job.state, job.stalls), (JobState::Queued, stalls));
        let wait = (job.run_at - Utc::now()).as_seconds_f64();
        assert!((least - 5.0..least * 1.25 + 1.0).contains(&wait), "{wait} s after stall {stalls}");
        assert_eq!(fixture.store.claim(&worker("w1"), LEASE).await.unwrap(), None);
        fixture.pass_backoffs().await;
    }
    let held = fixture.claim().await;
    fixture.store.fail(held, &failure(true)).await.unwrap();
    let job = fixture.job(id).await;
    assert_eq!((job.state, job.attempts, job.error_code.as_deref()), (JobState::Failed, 3, Some("io")));
}

#[tokio::test]
async fn a_checkpoint_forgives_stalls_and_never_goes_back() {
    let fixture = Fixture::new().await;
    let id = fixture.submit().await.id;
    for _ in 0..2 {
        fixture.store.fail(fixture.claim().await, &failure(true)).await.unwrap();
        fixture.pass_backoffs().await;
    }
    let held = fixture.claim().await;
    fixture.store.checkpoint(held, digest("c7"), 10, 7).await.unwrap();
    assert_eq!(fixture.job(id).await.stalls, 0);
    assert_eq!(kind(fixture.store.checkpoint(held, digest("c6"), 10, 6).await), ErrorKind::Precondition);
    let job = fixture.job(id).await;
    assert_eq!((job.checkpoint_sha256, job.checkpoint_step), (Some(digest("c7")), Some(7)));
}

/// Rows as a newer program might have written them.
#[tokio::test]
async fn settings_that_cannot_be_read_break_neither_a_page_nor_a_claim() {
    let fixture = Fixture::new().await;
    let (newer, unreadable, sound) =
        (fixture.submit().await.id, fixture.submit().await.id, fixture.submit().await.id);
    for (id, settings) in [(newer, "settings || '{\"newer\": 1}'"), (unreadable, "'{\"method\": \"later\"}'")]
    {
        fixture.sql(&format!("UPDATE job SET settings = {settings} WHERE id = '{id}'")).await.unwrap();
    }
    let page = fixture.store.jobs(&JobFilter { limit: 10, ..JobFilter::default() }).await.unwrap();
    assert_eq!(page.iter().map(|job| job.id).collect::<Vec<_>>(), [sound, unreadable, newer]);
    assert_eq!(page[1].settings.known(), None);
    assert_eq!(page[2].settings.known().map(|settings| settings.epochs), Some(3));
    let comparison = fixture.store.compare(None, &[newer, unreadable]).await.unwrap();
    assert!(comparison.differing.contains(&"method".to_owned()));
    for (id, word) in [(newer, "newer"), (unreadable, "later")] {
        let (held, job) = fixture.store.claim(&worker("w1"), LEASE).await.unwrap().unwrap();
        assert_eq!((held.job, job.id), (id, id));
        let reason = job.settings.runnable().unwrap_err().to_string();
        assert!(reason.contains(word), "{reason}");
    }
}

#[tokio::test]
async fn a_run_that_starts_over_has_checkpoints_again_and_stalls_are_forgiven() {
    let fixture = Fixture::new().await;
    let first = fixture.running().await;
    fixture.store.checkpoint(first, digest("c9"), 10, 9).await.unwrap();
    fixture.store.fail(first, &failure(true)).await.unwrap();
    fixture.pass_backoffs().await;
    let held = fixture.claim().await;
    let blobs = fixture.store.blob_usage().await.unwrap();
    for step in [0, 8] {
        let refused = fixture.store.announce_checkpoint(held, digest("c8"), 10, step).await;
        assert_eq!(kind(refused), ErrorKind::Precondition);
    }
    assert_eq!(
        kind(fixture.store.announce_checkpoint(first, digest("c8"), 10, 20).await),
        ErrorKind::LeaseLost
    );
    assert_eq!(fixture.store.blob_usage().await.unwrap(), blobs, "what is refused is not even announced");

    assert_eq!(kind(fixture.store.start_over(first).await), ErrorKind::LeaseLost);
    assert_eq!(fixture.job(held.job).await.checkpoint_step, Some(9), "a stale worker gives nothing up");
    fixture.store.start_over(held).await.unwrap();
    let job = fixture.job(held.job).await;
    assert_eq!((job.checkpoint_sha256, job.checkpoint_step, job.stalls), (None, None, 1));
    fixture.store.announce_checkpoint(held, digest("c1"), 10, 1).await.unwrap();
    fixture.store.checkpoint(held, digest("c1"), 10, 1).await.unwrap();
    let job = fixture.job(held.job).await;
    assert_eq!((job.checkpoint_sha256, job.checkpoint_step, job.stalls), (Some(digest("c1")), Some(1), 0));
}

#[tokio::test]
async fn giving_back_spends_no_attempt_and_a_permanent_error_ends_at_once() {
    let fixture = Fixture::new().await;
    let held = fixture.running().await;
    fixture.store.give_back(held).await.unwrap();
    let job = fixture.job(held.job).await;
    assert_eq!((job.state, job.attempts, job.stalls), (JobState::Queued, 0, 0));
    let held = fixture.claim().await;
    fixture.store.fail(held, &failure(false)).await.unwrap();
    let job = fixture.job(held.job).await;
    assert_eq!((job.state, job.error_retryable), (JobState::Failed, Some(false)));
}

fn again(held: Lease, from_checkpoint: bool) -> Retry<'static> {
    Retry { of: held.job, by: "ada", from_checkpoint, plan: Some("version = 1 # again") }
}

#[tokio::test]
async fn a_retry_is_a_new_job_that_may_go_on_from_the_checkpoint() {
    let fixture = Fixture::new().await;
    let held = fixture.running().await;
    assert_eq!(kind(fixture.store.retry(None, &again(held, false), ROOM).await), ErrorKind::Precondition);
    fixture.store.checkpoint(held, digest("c"), 10, 4).await.unwrap();
    fixture.store.fail(held, &failure(false)).await.unwrap();
    assert_eq!(kind(fixture.store.retry(None, &again(held, false), 0).await), ErrorKind::Exhausted);

    let fresh = fixture.store.retry(Some("ada"), &again(held, false), ROOM).await.unwrap();
    let resumed = fixture.store.retry(Some("ada"), &again(held, true), ROOM).await.unwrap();
    assert_eq!((fresh.retry_of, fresh.state, fresh.fence), (Some(held.job), JobState::Queued, 0));
    assert_eq!((fresh.checkpoint_step, resumed.checkpoint_step), (None, Some(4)));
    assert_eq!((resumed.checkpoint_sha256, resumed.tags["colour"].as_str()), (Some(digest("c")), "blue"));
    assert_eq!(fixture.job(held.job).await.state, JobState::Failed);
    let plan = |id| fixture.store.plan_of(None, id);
    assert_eq!(plan(held.job).await.unwrap().as_deref(), Some("version = 1"));
    assert_eq!(plan(fresh.id).await.unwrap().as_deref(), Some("version = 1 # again"));
    assert_eq!(kind(fixture.store.plan_of(Some("bob"), fresh.id).await), ErrorKind::NotFound);

    let done = fixture.claim().await;
    fixture.complete(done).await.unwrap();
    assert_eq!(kind(fixture.store.retry(None, &again(done, true), ROOM).await), ErrorKind::Precondition);
}

#[tokio::test]
async fn listeners_hear_of_the_queue_of_jobs_and_of_versions() {
    let fixture = Fixture::new().await;
    let topics = [Topic::Queue, Topic::Job, Topic::Served];
    let mut listener = fixture.store.listen(&topics).await.unwrap();
    let id = fixture.in_state(JobState::Succeeded).await;
    let mut heard = Vec::new();
    while heard.len() < 5 {
        heard.push(listener.next_within(Duration::from_secs(20)).await.expect("a notice"));
    }
    for (notice, count) in
        [(Notice::Queued, 1), (Notice::Job(id), 3), (Notice::Served("lenet".to_owned()), 1)]
    {
        assert_eq!(heard.iter().filter(|&n| *n == notice).count(), count, "{heard:?}");
    }
    assert_eq!(listener.next_within(Duration::from_millis(10)).await, None);
}
