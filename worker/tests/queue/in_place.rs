//! Jobs over pictures that a manifest lists: only where the worker may read, only what is as it was.

use std::fs;

use dyadic_store::job::{Job, JobState};
use dyadic_store::spec::JobSpec;
use dyadic_worker::data::{Manifest, Source, manifest};

use crate::bench::{Bench, long};
use crate::pictures::bitmap;

fn failure(job: &Job) -> String {
    format!("{:?} {:?}", job.error_code, job.error_message)
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_are_read_where_they_are_if_the_worker_may_and_they_have_not_changed() {
    let bench = Bench::new().await;
    let photos = bench.folder.path().join("photos");
    for (split, count) in [("train", 40), ("test", 10)] {
        for (class, tint) in [("bottom", 3), ("top", 40)] {
            let folder = photos.join(split).join(class);
            fs::create_dir_all(&folder).expect("made");
            for n in 0..count {
                fs::write(folder.join(format!("{n}.bmp")), bitmap(20, 20 + n, tint + n)).expect("written");
            }
        }
    }
    let listed =
        Manifest::of(&Source::open(&photos).expect("a dataset"), None, &mut |_| ()).expect("listable");
    let mut text = Vec::new();
    listed.write(&mut text).expect("written");
    let dataset = bench.dataset("photos", "image-folder", &[(manifest::NAME, &text)]).await;
    let spec = JobSpec {
        epochs: 1,
        preprocess: Some(serde_json::json!({"crop": [20, 20], "color": "gray"})),
        labels: vec!["top".into(), "bottom".into()],
        ..long()
    };
    let submit = || bench.submit_over(dataset, &["in-place"], spec.clone());
    let job = submit().await;
    // Nobody without such a place takes it, and whoever has another says so.
    let idle = bench.worker("idle");
    let elsewhere = bench.folder.path().join("elsewhere");
    fs::create_dir_all(&elsewhere).expect("made");
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    assert_eq!(bench.job(job).await.state, JobState::Queued);
    drop(idle);
    let place = |path: &std::path::Path| path.to_str().expect("UTF-8").to_owned();
    let other = bench.worker_in("other", &[("DYADIC_WORKER_DATA", &place(&elsewhere))]);
    let refused = bench.until(job, "refused", |j| j.state == JobState::Failed).await;
    assert!(
        failure(&refused).contains("may read below") && failure(&refused).contains("dataset_place"),
        "{}",
        failure(&refused)
    );
    drop(other);
    let both = format!("s3://bucket/photos, {}", place(bench.folder.path()));
    let right = bench.worker_in("right", &[("DYADIC_WORKER_DATA", &both)]);
    let done = submit().await;
    let done = bench.until(done, "in place", |j| j.state == JobState::Succeeded).await;
    assert_eq!(done.artifact.0.expect("made").summary["images"], 20);
    // Of the same size, but another picture.
    fs::write(photos.join("train/top/7.bmp"), bitmap(20, 27, 99)).expect("written");
    let changed = submit().await;
    let changed = bench.until(changed, "changed", |j| j.state == JobState::Failed).await;
    assert!(
        failure(&changed).contains("7.bmp") && failure(&changed).contains("has changed"),
        "{}",
        failure(&changed)
    );
    drop(right);
}
