//! Collecting what nothing references, beside publishers and other collectors.

use std::time::Duration;

use dyadic_store::blob::{BlobError, BlobStore, Digest};
use dyadic_store::job::JobState;
use dyadic_store::registry::{CollectError, Collector, NewModel};
use dyadic_store::{ErrorKind, Store};

use crate::fixture::{Fixture, digest, kind, new_dataset, new_model};

const DAY: Duration = Duration::from_secs(86400);

async fn age_blobs(fixture: &Fixture) {
    fixture.sql("UPDATE blob SET touched_at = now() - interval '2 days'").await.unwrap();
}

/// The collector, once the one before has let go.
pub(crate) async fn collector(store: &Store) -> Collector {
    for _ in 0..200 {
        if let Some(collector) = store.collector().await.unwrap() {
            return collector;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("somebody keeps the right to collect");
}

fn blobs() -> (tempfile::TempDir, BlobStore) {
    let folder = tempfile::tempdir().unwrap();
    let blobs = BlobStore::local(folder.path()).unwrap();
    (folder, blobs)
}

#[tokio::test]
async fn only_old_unreferenced_blobs_are_collected() {
    let fixture = Fixture::new().await;
    let (_folder, blobs) = blobs();
    let held = fixture.running().await;
    fixture.store.checkpoint(held, digest("checkpoint"), 10, 1).await.unwrap();
    fixture.in_state(JobState::Succeeded).await;
    fixture.store.touch_blob(digest("old"), 5).await.unwrap();
    age_blobs(&fixture).await;
    fixture.store.touch_blob(digest("fresh"), 5).await.unwrap();
    let mut collector = collector(&fixture.store).await;
    assert_eq!(collector.mark(DAY, 100).await.unwrap(), [digest("old")]);
    assert_eq!(collector.mark(DAY, 100).await.unwrap(), [digest("old")], "again, in case the collector died");
    assert!(!collector.remove(&blobs, digest("fresh")).await.unwrap(), "it is not marked");
    assert!(collector.remove(&blobs, digest("old")).await.unwrap());
    assert_eq!(collector.mark(DAY, 100).await.unwrap(), [] as [Digest; 0]);
    let (count, bytes) = fixture.store.blob_usage().await.unwrap();
    assert_eq!((count, bytes), (6, 2 * 1000 + 5000 + 10 + 99 + 5));

    fixture.complete(held).await.unwrap();
    age_blobs(&fixture).await;
    let mut marked = collector.mark(DAY, 100).await.unwrap();
    marked.sort();
    let mut expected = [digest("checkpoint"), digest("fresh")];
    expected.sort();
    assert_eq!(marked, expected, "a success no longer needs its checkpoint");
}

#[tokio::test]
async fn a_publisher_that_finds_bytes_being_deleted_begins_again() {
    let fixture = Fixture::new().await;
    let (_folder, blobs) = blobs();
    let model = new_model("later");
    let shared = NewModel { files: model.files[..1].to_vec(), ..model.clone() };
    fixture.store.touch_blob(model.files[0].sha256, 1000).await.unwrap();
    age_blobs(&fixture).await;
    let mut collector = collector(&fixture.store).await;
    assert_eq!(collector.mark(DAY, 100).await.unwrap(), [model.files[0].sha256]);
    assert_eq!(kind(fixture.store.touch_blob(model.files[0].sha256, 1000).await), ErrorKind::Unavailable);
    assert_eq!(kind(fixture.store.add_model(&model).await), ErrorKind::Unavailable);
    assert_eq!(kind(fixture.store.add_model(&shared).await), ErrorKind::Unavailable);
    assert_eq!(kind(fixture.store.model(None, "later").await), ErrorKind::NotFound);
    assert!(collector.remove(&blobs, model.files[0].sha256).await.unwrap());
    fixture.store.add_model(&model).await.unwrap();
}

#[tokio::test]
async fn collector_and_publishers_racing_never_lose_referenced_bytes() {
    let fixture = Fixture::new().await;
    let (_folder, blobs) = blobs();
    let mut collector = collector(&fixture.store).await;
    for round in 0..20 {
        let dataset = new_dataset(&format!("race {round}"));
        fixture.store.touch_blob(dataset.sha256, 5000).await.unwrap();
        age_blobs(&fixture).await;
        let (marked, added) = tokio::join!(collector.mark(DAY, 100), fixture.store.add_dataset(&dataset));
        let collected = marked.unwrap().contains(&dataset.sha256);
        assert_eq!(collected, added.is_err(), "round {round}");
        if collected {
            collector.remove(&blobs, dataset.sha256).await.unwrap();
        }
    }
}

/// One collector is held up between its list and the bytes, and loses its right; another one collects the same bytes, and
/// they are pushed again.
#[tokio::test]
async fn a_collector_that_was_held_up_deletes_nothing_that_was_stored_again_since() {
    let fixture = Fixture::new().await;
    let (_folder, blobs) = blobs();
    let bytes = b"stored, collected, stored again";
    let mut dataset = new_dataset("again");
    (dataset.sha256, dataset.size_bytes) = (Digest::of(bytes), bytes.len() as u64);
    fixture.store.touch_blob(dataset.sha256, dataset.size_bytes).await.unwrap();
    blobs.put_bytes(&bytes[..]).await.unwrap();
    age_blobs(&fixture).await;

    let mut held_up = collector(&fixture.store).await;
    let list = held_up.mark(DAY, 100).await.unwrap();
    assert_eq!(list, [dataset.sha256]);
    assert!(fixture.store.collector().await.unwrap().is_none(), "one at a time");
    fixture
        .sql(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted \
              AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        )
        .await
        .unwrap();
    let mut other = collector(&fixture.store).await;
    for digest in other.mark(DAY, 100).await.unwrap() {
        assert!(other.remove(&blobs, digest).await.unwrap());
    }
    assert!(matches!(blobs.get(&dataset.sha256, 100).await, Err(BlobError::NotFound(_))));
    fixture.store.touch_blob(dataset.sha256, dataset.size_bytes).await.unwrap();
    blobs.put_bytes(&bytes[..]).await.unwrap();
    fixture.store.add_dataset(&dataset).await.unwrap();

    for digest in list {
        let stopped = held_up.remove(&blobs, digest).await;
        assert!(matches!(stopped, Err(CollectError::Store(_))), "{stopped:?}");
    }
    assert_eq!(blobs.get(&dataset.sha256, 100).await.unwrap().as_ref(), bytes);
    for digest in [dataset.sha256] {
        assert!(!other.remove(&blobs, digest).await.unwrap(), "it is not marked any more");
    }
}
