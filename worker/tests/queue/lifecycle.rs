//! Workers that are killed, drained, cancelled, and jobs that fail: what is left behind.

use std::fs;
use std::time::{Duration, Instant};

use dyadic_store::job::{Job, JobState};
use dyadic_store::spec::JobSpec;
use dyadic_store::testing::overwrite_settings;
use rustix::process::Signal;

use crate::bench::{Bench, in_training, long, weights};

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_s_job_ends_with_the_same_bits_on_another() {
    let bench = Bench::new().await;
    let undisturbed = bench.submit(long()).await;
    let first = bench.worker("first");
    let undisturbed = bench.until(undisturbed, "undisturbed", |j| j.state == JobState::Succeeded).await;

    let disturbed = bench.submit(long()).await;
    let before = bench.until(disturbed, "in training", in_training).await;
    first.signal(Signal::KILL);
    drop(first);
    let _second = bench.worker("second");
    let after = bench.until(disturbed, "resumed", |j| j.state == JobState::Succeeded).await;

    assert_eq!(weights(&after), weights(&undisturbed));
    assert!(after.fence > before.fence, "another claim finished it");
    assert_eq!(after.worker.as_deref(), Some("second"));
    let (a, b) = (undisturbed.artifact.0.expect("made"), after.artifact.0.expect("made"));
    assert_eq!(a.sha256, b.sha256, "the same job gives the same file");
    assert_eq!(b.version, 2, "each success is the next version of its name");
    let log = bench.store.log(disturbed, 0, 1000).await.expect("readable");
    assert!(format!("{log:?}").contains("resuming at step"), "the second worker went on from a checkpoint");
}

/// Threads differ, so that nothing can be resumed, and every worker but the last is killed: each must begin anew, say so,
/// and have checkpoints of its own, by which the stall before is forgiven.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_starts_over_on_other_arithmetic_gets_new_checkpoints_and_no_stall_adds_up() {
    let bench = Bench::new().await;
    let id = bench.submit(JobSpec { threads: None, epochs: 144, ..long() }).await;
    let threads = |count| [("OMP_NUM_THREADS", count)];
    let mut far = 0;
    for (fence, count) in [(1, "1"), (2, "2"), (3, "1"), (4, "2")] {
        let worker = bench.worker_in(&format!("{count} threads, run {fence}"), &threads(count));
        if fence == 1 {
            let halfway = |j: &Job| in_training(j) && j.progress_done * 2 > j.progress_total;
            far = bench.until(id, "far in training", halfway).await.checkpoint_step.expect("it has one");
        } else {
            let own = |j: &Job| {
                j.fence == fence && in_training(j) && j.stalls == 0 && j.checkpoint_step < Some(far)
            };
            bench.until(id, "a checkpoint of its own", own).await;
        }
        worker.signal(Signal::KILL);
        drop(worker);
        bench.until(id, "given up", |j| j.state == JobState::Queued).await;
    }
    let _last = bench.worker_in("last", &threads("1"));
    bench.until(id, "succeeded", |j| j.state == JobState::Succeeded).await;

    let log = format!("{:?}", bench.store.log(id, 0, 10_000).await.expect("readable"));
    assert_eq!(log.matches("starting over from step 0").count(), 4, "{log}");
    assert!(log.contains("the result would not be bit-identical"), "{log}");
    assert!(!log.contains("was not written"), "{log}");
}

/// What was lost is said, and only the work is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_checkpoint_costs_its_work_and_not_the_job() {
    let bench = Bench::new().await;
    let id = bench.submit(JobSpec { epochs: 24, ..long() }).await;
    let first = bench.worker("first");
    bench.until(id, "in training", in_training).await;
    first.signal(Signal::KILL);
    drop(first);
    let job = bench.until(id, "given up", |j| j.state == JobState::Queued).await;
    let checkpoint = job.checkpoint_sha256.expect("it has one").to_string();
    let path = bench.folder.path().join("blobs").join(&checkpoint[..2]).join(&checkpoint[2..]);
    fs::write(path, b"").expect("writable");
    let _second = bench.worker("second");
    bench.until(id, "succeeded", |j| j.state == JobState::Succeeded).await;
    let log = format!("{:?}", bench.store.log(id, 0, 10_000).await.expect("readable"));
    assert!(log.contains("starting over from step 0") && log.contains("is damaged"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_slept_through_its_lease_stops_and_leaves_no_trace() {
    let bench = Bench::new().await;
    let id = bench.submit(long()).await;
    let sleeper = bench.worker("sleeper");
    bench.until(id, "in training", in_training).await;
    sleeper.signal(Signal::STOP);
    let _heir = bench.worker("heir");
    let by_heir = |j: &Job| j.worker.as_deref() == Some("heir");
    bench.until(id, "claimed by another", |j| by_heir(j) && j.state == JobState::Running).await;
    sleeper.signal(Signal::CONT);
    let job = bench.until(id, "finished", |j| j.state == JobState::Succeeded).await;
    assert!(by_heir(&job), "the one with the later fence publishes");
    assert_eq!(job.artifact.0.expect("made").version, 1, "and nobody else does");

    let log = bench.folder.path().join("sleeper.log");
    let began = Instant::now();
    while !fs::read_to_string(&log).expect("readable").contains("the lease is another's") {
        assert!(began.elapsed() < Duration::from_secs(60), "the sleeper never noticed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let after = bench.job(id).await;
    assert_eq!((after.state, after.fence), (JobState::Succeeded, job.fence));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_worker_gives_its_job_back_without_spending_an_attempt() {
    let bench = Bench::new().await;
    let id = bench.submit(long()).await;
    let mut worker = bench.worker("drained");
    bench.until(id, "in training", in_training).await;
    worker.signal(Signal::TERM);
    assert!(worker.ended(), "a drain ends the process in good order");
    let job = bench.job(id).await;
    assert_eq!((job.state, job.attempts, job.stalls), (JobState::Queued, 0, 0));
    assert!(job.checkpoint_step.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_job_is_cancelled_by_the_next_heartbeat_and_leaves_no_artifact() {
    let bench = Bench::new().await;
    let id = bench.submit(long()).await;
    let _worker = bench.worker("cancelled");
    bench.until(id, "running", |j| j.state == JobState::Running && j.phase == "train").await;
    bench.store.cancel(None, id, "tests").await.expect("cancellable");
    let job = bench.until(id, "cancelled", |j| j.state == JobState::Cancelled).await;
    assert!(job.artifact.0.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_cannot_work_fails_in_words_and_the_worker_goes_on() {
    let bench = Bench::new().await;
    let mut wrong = long();
    wrong.normalization.mean = vec![0.5; 3];
    wrong.normalization.std = vec![0.25; 3];
    let wrong = bench.submit(wrong).await;
    let right = bench.submit(JobSpec { epochs: 1, ..long() }).await;
    let _worker = bench.worker("patient");
    let job = bench.until(wrong, "failed", |j| j.state == JobState::Failed).await;
    assert_eq!((job.error_code.as_deref(), job.error_retryable), (Some("invalid"), Some(false)));
    assert!(job.error_message.is_some_and(|m| m.contains("normalization")));
    let job = bench.until(right, "succeeded", |j| j.state == JobState::Succeeded).await;
    let metrics = bench.store.last_metrics(right).await.expect("readable");
    for name in ["float/accuracy", "accuracy", "epoch/accuracy"] {
        assert!(metrics.iter().any(|m| m.name == name), "no metric {name}");
    }
    let summary = job.artifact.0.expect("made").summary;
    let accuracy = metrics.iter().find(|m| m.name == "accuracy").map(|m| m.value);
    assert_eq!(summary["accuracy"].as_f64(), accuracy);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_settings_are_not_understood_fails_in_words_and_the_worker_goes_on() {
    let bench = Bench::new().await;
    let later = bench.submit(long()).await;
    overwrite_settings(&bench.url, later, r#"{"method": "of a later version"}"#).await;
    let right = bench.submit(JobSpec { epochs: 1, ..long() }).await;
    let _worker = bench.worker("older");
    let job = bench.until(later, "failed", |j| j.state == JobState::Failed).await;
    assert_eq!((job.error_code.as_deref(), job.error_retryable), (Some("unreadable"), Some(false)));
    assert!(job.error_message.is_some_and(|m| m.contains("of a later version")));
    bench.until(right, "succeeded", |j| j.state == JobState::Succeeded).await;
}

/// Nothing but the lease's end is lost by a worker that is killed once calibration is over.
#[tokio::test(flavor = "multi_thread")]
async fn calibration_is_done_once() {
    let bench = Bench::new().await;
    let id = bench.submit(JobSpec { epochs: 12, ..long() }).await;
    let first = bench.worker("first");
    bench.until(id, "calibrated", |j| j.checkpoint_step.is_some()).await;
    first.signal(Signal::KILL);
    drop(first);
    let _second = bench.worker("second");
    bench.until(id, "succeeded", |j| j.state == JobState::Succeeded).await;
    let log = format!("{:?}", bench.store.log(id, 0, 10_000).await.expect("readable"));
    assert!(log.contains("resuming at step"), "{log}");
    assert_eq!(log.matches("float network:").count(), 1, "{log}");
}
