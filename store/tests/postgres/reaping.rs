//! When leases are taken away, and when not.

use std::time::{Duration, Instant};

use dyadic_store::job::{JobState, Progress};
use dyadic_store::queue::{Reaped, Reaper};
use dyadic_store::{ErrorKind, Store};

use crate::fixture::{Fixture, LEASE, digest, failure, kind};

const LEASE_SECS: u64 = 60;

/// A reaper that has polled for a whole lease, and the moment of its next poll.
async fn patient(store: &Store) -> (Reaper, Instant) {
    let (mut reaper, mut now) = (Reaper::new(LEASE_SECS), Instant::now());
    for _ in 0..LEASE_SECS / 5 {
        assert_eq!(reaper.tick(store, now).await.unwrap(), []);
        now += Duration::from_secs(5);
    }
    (reaper, now)
}

#[tokio::test]
async fn nothing_is_reaped_before_one_full_lease_of_own_polls() {
    let fixture = Fixture::new().await;
    let held = fixture.running().await;
    fixture.expire_leases().await;
    let (mut reaper, now) = patient(&fixture.store).await;
    assert_eq!(fixture.job(held.job).await.state, JobState::Running);
    let reaped = reaper.tick(&fixture.store, now).await.unwrap();
    assert_eq!(reaped, [Reaped { job: held.job, state: JobState::Queued }]);
    assert_eq!(kind(fixture.heartbeat(held, 1).await), ErrorKind::LeaseLost);
}

#[tokio::test]
async fn a_living_worker_is_not_reaped() {
    let fixture = Fixture::new().await;
    let (mut reaper, now) = patient(&fixture.store).await;
    let held = fixture.running().await;
    assert_eq!(reaper.tick(&fixture.store, now).await.unwrap(), []);
    fixture.heartbeat(held, 1).await.unwrap();
    assert_eq!(reaper.tick(&fixture.store, now + Duration::from_secs(5)).await.unwrap(), []);
}

#[tokio::test]
async fn a_failed_poll_or_a_long_gap_begins_the_wait_anew() {
    let fixture = Fixture::new().await;
    fixture.running().await;
    fixture.expire_leases().await;

    let (mut reaper, now) = patient(&fixture.store).await;
    let away = Store::connect_lazy("postgresql://dyadic@localhost/none?host=/nonexistent", 1).unwrap();
    assert_eq!(kind(reaper.tick(&away, now).await), ErrorKind::Unavailable);
    assert_eq!(reaper.tick(&fixture.store, now).await.unwrap(), []);

    let (mut reaper, now) = patient(&fixture.store).await;
    let late = now + Duration::from_secs(LEASE_SECS);
    assert_eq!(reaper.tick(&fixture.store, late).await.unwrap(), []);
    let mut later = late;
    while later < late + Duration::from_secs(LEASE_SECS) {
        assert_eq!(reaper.tick(&fixture.store, later).await.unwrap(), []);
        later += Duration::from_secs(5);
    }
    assert_eq!(reaper.tick(&fixture.store, later).await.unwrap().len(), 1);
}

#[tokio::test]
async fn the_first_reap_requeues_at_once_and_used_up_stalls_fail() {
    let fixture = Fixture::new().await;
    let (mut reaper, now) = patient(&fixture.store).await;
    let held = fixture.running().await;
    fixture.store.checkpoint(held, digest("c"), 10, 5).await.unwrap();
    fixture.expire_leases().await;
    reaper.tick(&fixture.store, now).await.unwrap();

    // No backoff was passed by hand: it can be claimed now, and goes on from its checkpoint.
    let second = fixture.claim().await;
    assert_eq!((second.job, second.fence), (held.job, 2));
    assert_eq!(fixture.job(held.job).await.checkpoint_step, Some(5));
    fixture.expire_leases().await;
    reaper.tick(&fixture.store, now).await.unwrap();
    let job = fixture.job(held.job).await;
    assert_eq!((job.state, job.stalls), (JobState::Queued, 2));
    assert!(job.run_at > chrono::Utc::now() + chrono::TimeDelta::seconds(10));

    fixture.pass_backoffs().await;
    fixture.claim().await;
    fixture.expire_leases().await;
    let reaped = reaper.tick(&fixture.store, now).await.unwrap();
    assert_eq!(reaped, [Reaped { job: held.job, state: JobState::Failed }]);
    let job = fixture.job(held.job).await;
    assert_eq!((job.error_code.as_deref(), job.attempts), (Some("stalled"), 3));
    let message = job.error_message.unwrap();
    assert!(
        message.contains("run 3 of at most 3 that ended early since the checkpoint at step 5"),
        "{message}"
    );
}

/// There is no checkpoint before the end of calibration: it is no stall to be killed while it advances.
#[tokio::test]
async fn workers_that_die_while_calibration_advances_do_not_fail_the_job_as_stalled() {
    let fixture = Fixture::new().await;
    let (mut reaper, now) = patient(&fixture.store).await;
    let id = fixture.submit().await.id;
    let calibrating = async |held, done| {
        let progress = Progress { phase: "calibrate".to_owned(), done, total: 10_000 };
        fixture.store.heartbeat(held, LEASE, &progress).await.unwrap();
    };
    for interruption in 1..30 {
        let held = fixture.claim().await;
        calibrating(held, 250).await;
        fixture.expire_leases().await;
        assert_eq!(
            reaper.tick(&fixture.store, now).await.unwrap(),
            [Reaped { job: id, state: JobState::Queued }]
        );
        let job = fixture.job(id).await;
        assert_eq!(job.stalls, 0);
        let message = job.error_message.unwrap();
        assert!(
            message.contains(&format!("after 250 of 10000; interruption {interruption} of at most 30")),
            "{message}"
        );
        if interruption < 4 {
            assert!(job.run_at <= chrono::Utc::now(), "it runs again at once");
        }
        fixture.pass_backoffs().await;
    }
    // Not without end: whatever kills it there may be the job's own doing.
    let held = fixture.claim().await;
    calibrating(held, 250).await;
    fixture.expire_leases().await;
    assert_eq!(
        reaper.tick(&fixture.store, now).await.unwrap(),
        [Reaped { job: id, state: JobState::Failed }]
    );
}

#[tokio::test]
async fn a_worker_that_dies_before_calibration_advances_has_stalled_and_a_checkpoint_forgives_all() {
    let fixture = Fixture::new().await;
    let (mut reaper, now) = patient(&fixture.store).await;
    let id = fixture.submit().await.id;
    for (phase, done, stalls) in [("float", 5, 0), ("calibrate", 5, 0), ("calibrate", 0, 1), ("train", 7, 2)]
    {
        let held = fixture.claim().await;
        let progress = Progress { phase: phase.to_owned(), done, total: 10 };
        fixture.store.heartbeat(held, LEASE, &progress).await.unwrap();
        fixture.expire_leases().await;
        reaper.tick(&fixture.store, now).await.unwrap();
        assert_eq!(fixture.job(id).await.stalls, stalls);
        fixture.pass_backoffs().await;
    }
    let message = fixture.job(id).await.error_message.unwrap();
    assert!(message.contains("run 2 of at most 3 that ended early before any checkpoint"), "{message}");
    let held = fixture.claim().await;
    fixture.store.checkpoint(held, digest("after calibration"), 10, 0).await.unwrap();
    assert_eq!(fixture.job(id).await.stalls, 0);
}

#[tokio::test]
async fn a_running_job_shows_no_error_of_a_run_before() {
    let fixture = Fixture::new().await;
    let id = fixture.submit().await.id;
    fixture.store.fail(fixture.claim().await, &failure(true)).await.unwrap();
    assert!(fixture.job(id).await.error_code.is_some(), "why it waits");
    fixture.pass_backoffs().await;
    fixture.claim().await;
    let job = fixture.job(id).await;
    assert_eq!((job.error_code, job.error_message, job.error_retryable), (None, None, None));
}

#[tokio::test]
async fn a_silent_job_that_is_to_be_cancelled_is_cancelled() {
    let fixture = Fixture::new().await;
    let (mut reaper, now) = patient(&fixture.store).await;
    let held = fixture.running().await;
    fixture.store.cancel(None, held.job, "ada").await.unwrap();
    fixture.expire_leases().await;
    let reaped = reaper.tick(&fixture.store, now).await.unwrap();
    assert_eq!(reaped, [Reaped { job: held.job, state: JobState::Cancelled }]);
}

#[tokio::test]
async fn several_reapers_reap_each_job_once() {
    let fixture = Fixture::new().await;
    for _ in 0..10 {
        fixture.submit().await;
    }
    for _ in 0..10 {
        fixture.claim().await;
    }
    fixture.expire_leases().await;
    let (mut a, now) = patient(&fixture.store).await;
    let mut b = a.clone();
    let (a, b) = tokio::join!(a.tick(&fixture.store, now), b.tick(&fixture.store, now));
    assert_eq!(a.unwrap().len() + b.unwrap().len(), 10);
}
