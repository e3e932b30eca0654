//! Jobs whose blobs lie on a disk that fills up: a success has its whole artifact, and no job is lost.

use std::fs;
use std::time::Duration;

use dyadic_store::blob::Digest;
use dyadic_store::job::{Job, JobState};
use dyadic_store::spec::JobSpec;
use dyadic_store::testing::{SmallDisk, with_own_mounts};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustix::process::Signal;
use tokio::time::sleep;

use crate::bench::{Bench, in_training, long};

/// Bytes of the disk: room for inputs, artifact and the checkpoints of a run.
const DISK: usize = 64 << 20;

/// When the disk is filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// While checkpoints are written.
    Checkpoint,
    /// The same, and the worker is killed meanwhile.
    CheckpointAndKill,
    /// Shortly before the artifact is published.
    Publish,
}

/// Everything but models and datasets goes, so that each run writes its own anew.
async fn forget_results(bench: &Bench, disk: &SmallDisk, keep: &[Digest]) {
    for folder in fs::read_dir(disk.folder().join("blobs")).expect("listable").filter_map(Result::ok) {
        for blob in fs::read_dir(folder.path()).into_iter().flatten().filter_map(Result::ok) {
            let name = format!("{}{}", folder.file_name().display(), blob.file_name().display());
            let digest: Digest = name.parse().expect("blobs are named by their digest");
            if !keep.contains(&digest) {
                bench.blobs.delete(&digest).await.expect("removable");
            }
        }
    }
}

fn near_its_end(job: &Job) -> bool {
    let far = job.phase == "train" && job.progress_done * 10 > job.progress_total * 7;
    far || matches!(job.phase.as_str(), "evaluate" | "export")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_delays_jobs_and_never_makes_an_artifact_that_is_not_whole() {
    if !with_own_mounts("full_disk::a_full_disk_delays_jobs_and_never_makes_an_artifact_that_is_not_whole") {
        return;
    }
    let mut disk = None;
    let place = |folder: &std::path::Path| {
        disk.insert(SmallDisk::mount(&folder.join("disk"), DISK)).folder().join("blobs")
    };
    let bench = Bench::with_blobs(place).await;
    let disk = disk.expect("mounted above");
    let inputs = bench.inputs().await;
    let mut worker = bench.worker("undisturbed");
    let id = bench.submit(JobSpec { epochs: 72, ..long() }).await;
    let expected = bench.until(id, "undisturbed", |j| j.state == JobState::Succeeded).await;
    let expected = expected.artifact.0.expect("a success has an artifact").sha256;

    let mut random = StdRng::seed_from_u64(11);
    for (number, moment) in [Moment::Publish, Moment::Checkpoint, Moment::CheckpointAndKill, Moment::Publish]
        .into_iter()
        .enumerate()
    {
        forget_results(&bench, &disk, &inputs).await;
        let id = bench.submit(JobSpec { epochs: 72, ..long() }).await;
        bench.until(id, "in training", in_training).await;
        if moment == Moment::Publish {
            bench.until(id, "near its end", near_its_end).await;
        }
        sleep(Duration::from_millis(random.random_range(0..500))).await;
        let filled = disk.fill_but(random.random_range(0..3) * 4096);
        sleep(Duration::from_millis(random.random_range(1500..3000))).await;
        if moment == Moment::CheckpointAndKill {
            worker.signal(Signal::KILL);
            worker = bench.worker(&format!("after moment {number}"));
        }
        let job = bench.job(id).await;
        if let Some(made) = &job.artifact.0 {
            let whole = bench.blobs.get(&made.sha256, u64::MAX).await;
            assert!(whole.is_ok(), "{moment:?}: the job succeeded on a full disk, but: {whole:?}");
        }
        drop(filled);
        let job = bench.until(id, "succeeded", |j| j.state == JobState::Succeeded).await;
        let made = job.artifact.0.expect("a success has an artifact");
        assert_eq!(made.sha256, expected, "{moment:?}: other bits than undisturbed");
        bench.blobs.get(&made.sha256, u64::MAX).await.expect("the artifact is whole");
    }
}
