//! Artifacts that were pushed, and versions that are given up.

use std::time::Duration;

use dyadic_store::job::JobState;
use dyadic_store::registry::{NewArtifact, Promote, Pushed, Removal};
use dyadic_store::{ErrorKind, Result};
use serde_json::{Value, json};

use crate::collecting::collector;
use crate::fixture::{Fixture, digest, kind};

async fn push(
    fixture: &Fixture,
    owner: &str,
    bytes: &str,
    promote: Promote,
    summary: Value,
) -> Result<Pushed> {
    let artifact = NewArtifact {
        owner: owner.to_owned(),
        served_name: "lenet".to_owned(),
        sha256: digest(bytes),
        size_bytes: 7,
        summary,
        promote,
    };
    fixture.store.add_artifact(&artifact).await
}

fn removal(versions: &[u64], force: bool) -> Removal {
    Removal { name: "lenet".to_owned(), versions: versions.to_vec(), force, dry_run: false }
}

/// What a collection takes now.
async fn collected(fixture: &Fixture) -> Vec<dyadic_store::blob::Digest> {
    collector(&fixture.store).await.mark(Duration::ZERO, 99).await.unwrap()
}

#[tokio::test]
async fn a_pushed_artifact_is_a_version_without_a_job_and_meets_the_gate() {
    let fixture = Fixture::new().await;
    let far = json!({"float_accuracy": 0.9, "accuracy": 0.5});
    let first = push(&fixture, "ada", "a", Promote::default(), far.clone()).await.unwrap();
    assert_eq!((first.version, first.existed, first.model.latest()), (1, false, None));
    assert_eq!((first.model.versions[0].job, first.model.versions[0].held.is_some()), (None, true));
    let second = push(&fixture, "ada", "b", Promote::Always, far.clone()).await.unwrap();
    assert_eq!((second.version, second.model.latest()), (2, Some(2)));
    let again = push(&fixture, "ada", "a", Promote::Always, far).await.unwrap();
    assert_eq!((again.version, again.existed), (1, true));
    assert!(again.model.versions[1].held.is_some(), "pushing again promotes nothing");
    assert_eq!(kind(push(&fixture, "bob", "c", Promote::Always, json!({})).await), ErrorKind::Conflict);
    // Jobs go on where pushes ended, and the other way round.
    let job = fixture.in_state(JobState::Succeeded).await;
    assert_eq!(fixture.job(job).await.artifact.0.unwrap().version, 3);
    let model = fixture.store.served_model(None, "lenet").await.unwrap();
    assert_eq!(model.versions[0].job, Some(job));
}

#[tokio::test]
async fn pushing_the_same_bytes_at_once_makes_one_version() {
    let fixture = Fixture::new().await;
    let one = || push(&fixture, "ada", "a", Promote::Always, json!({}));
    let (a, b, c, d) = tokio::join!(one(), one(), one(), one());
    let all = [a.unwrap(), b.unwrap(), c.unwrap(), d.unwrap()];
    assert!(all.iter().all(|pushed| pushed.version == 1));
    assert_eq!(all.iter().filter(|pushed| !pushed.existed).count(), 1);
}

#[tokio::test]
async fn removing_a_version_frees_its_bytes_and_never_its_number() {
    let fixture = Fixture::new().await;
    for bytes in ["a", "b", "c"] {
        push(&fixture, "ada", bytes, Promote::Always, json!({})).await.unwrap();
    }
    assert_eq!(collected(&fixture).await, []);
    assert_eq!(
        kind(fixture.store.remove_versions(Some("bob"), &removal(&[1], true)).await),
        ErrorKind::NotFound
    );
    assert_eq!(kind(fixture.store.remove_versions(None, &removal(&[1, 9], true)).await), ErrorKind::NotFound);
    assert_eq!(
        kind(fixture.store.remove_versions(None, &removal(&[1, 3], false)).await),
        ErrorKind::Precondition
    );
    let dry = Removal { dry_run: true, ..removal(&[1, 2], false) };
    let would = fixture.store.remove_versions(None, &dry).await.unwrap();
    assert_eq!((would.versions, would.left.unwrap().versions.len()), (vec![2, 1], 1));
    assert_eq!(fixture.store.served_model(None, "lenet").await.unwrap().versions.len(), 3);

    let removed = fixture.store.remove_versions(Some("ada"), &removal(&[3], true)).await.unwrap();
    assert_eq!((removed.versions, removed.left.unwrap().latest()), (vec![3], Some(2)));
    assert_eq!(collected(&fixture).await, [digest("c")]);
    assert_eq!(kind(fixture.store.promote(None, "lenet", 3, false).await), ErrorKind::NotFound);
    let next = push(&fixture, "ada", "d", Promote::Always, json!({})).await.unwrap();
    assert_eq!(next.version, 4);
    let all = fixture.store.remove_versions(None, &removal(&[], true)).await.unwrap();
    assert_eq!((all.versions, all.left), (vec![4, 2, 1], None));
    assert_eq!(kind(fixture.store.served_model(None, "lenet").await), ErrorKind::NotFound);
    assert_eq!(fixture.store.served_models(None, None, 9).await.unwrap(), []);
    assert_eq!(kind(push(&fixture, "bob", "e", Promote::Always, json!({})).await), ErrorKind::Conflict);
    assert_eq!(push(&fixture, "ada", "f", Promote::Always, json!({})).await.unwrap().version, 5);
}

#[tokio::test]
async fn bytes_that_something_else_refers_to_outlive_a_removal() {
    let fixture = Fixture::new().await;
    let first = fixture.in_state(JobState::Succeeded).await;
    let second = fixture.in_state(JobState::Succeeded).await;
    fixture.store.remove_versions(None, &removal(&[1], false)).await.unwrap();
    assert_eq!(collected(&fixture).await, [], "both versions have the same bytes");
    fixture.store.remove_versions(None, &removal(&[2], true)).await.unwrap();
    assert_eq!(collected(&fixture).await, [digest("artifact")]);
    for (job, version) in [(first, 1), (second, 2)] {
        let made = fixture.job(job).await.artifact.0.expect("the run's record stays");
        assert_eq!((made.version, made.removed_at.is_some()), (version, true));
        assert_eq!(made.summary["accuracy"], 0.9);
    }
}

#[tokio::test]
async fn removing_what_is_pinned_unpins() {
    let fixture = Fixture::new().await;
    for bytes in ["a", "b", "c"] {
        push(&fixture, "ada", bytes, Promote::Always, json!({})).await.unwrap();
    }
    fixture.store.promote(None, "lenet", 1, false).await.unwrap();
    assert_eq!(
        kind(fixture.store.remove_versions(None, &removal(&[1], false)).await),
        ErrorKind::Precondition
    );
    let left = fixture.store.remove_versions(None, &removal(&[1], true)).await.unwrap().left.unwrap();
    assert_eq!((left.pinned, left.latest()), (None, Some(3)));
}

#[tokio::test]
async fn a_removal_and_a_promotion_of_one_version_leave_no_latest_that_is_gone() {
    let fixture = Fixture::new().await;
    for round in 0..10 {
        let keep = push(&fixture, "ada", &format!("keep {round}"), Promote::Always, json!({})).await.unwrap();
        let last = push(&fixture, "ada", &format!("last {round}"), Promote::Always, json!({})).await.unwrap();
        let (one, all) = (removal(&[keep.version], false), removal(&[], true));
        let (removed, promoted) = tokio::join!(
            fixture.store.remove_versions(None, &one),
            fixture.store.promote(None, "lenet", keep.version, false)
        );
        let left = fixture.store.served_model(None, "lenet").await.unwrap();
        match (removed, promoted) {
            (Ok(_), Err(error)) => {
                assert_eq!(error.kind(), ErrorKind::NotFound);
                assert_eq!((left.pinned, left.latest()), (None, Some(last.version)));
            }
            (Err(error), Ok(_)) => {
                assert_eq!(error.kind(), ErrorKind::Precondition);
                assert_eq!(left.latest(), Some(keep.version));
            }
            other => panic!("one of them comes first: {other:?}"),
        }
        fixture.store.remove_versions(None, &all).await.unwrap();
    }
}
