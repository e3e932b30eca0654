//! Models, datasets, served versions, tokens.

use dyadic_store::ErrorKind;
use dyadic_store::job::JobState;
use dyadic_store::queue::Retry;
use dyadic_store::registry::{NewDataset, PageFilter, Role};

use crate::fixture::{Fixture, digest, kind, new_dataset, new_model};

#[tokio::test]
async fn the_same_bytes_under_a_name_are_the_revision_that_is_there() {
    let fixture = Fixture::new().await;
    let (first, existed) = fixture.store.add_model(&new_model("lenet")).await.unwrap();
    assert_eq!((first.id, existed), (fixture.model, true));
    assert_eq!((first.files, first.main_file.as_str()), (new_model("lenet").files, "m.onnx"));
    assert_eq!((first.info["macs"].as_u64(), first.tags["kind"].as_str()), (Some(7), "cnn"));

    let mut other = new_model("lenet");
    other.files.pop();
    let (second, existed) = fixture.store.add_model(&other).await.unwrap();
    assert!(!existed && second.id > fixture.model);
    assert_eq!(fixture.store.model(Some("ada"), "lenet").await.unwrap().id, second.id);
    let by_id = fixture.store.model(None, &fixture.model.to_string()).await.unwrap();
    assert_eq!(by_id.id, fixture.model);
    assert_eq!(kind(fixture.store.model(Some("bob"), "lenet").await), ErrorKind::NotFound);

    let (same, existed) = fixture.store.add_dataset(&new_dataset("digits")).await.unwrap();
    assert_eq!((same.id, existed), (fixture.dataset, true));
    let other = NewDataset { labels: vec![], ..new_dataset("digits") };
    let (second, existed) = fixture.store.add_dataset(&other).await.unwrap();
    assert!(!existed);
    assert_eq!(fixture.store.dataset(Some("ada"), "digits").await.unwrap(), second);
}

#[tokio::test]
async fn lists_are_paged_newest_first() {
    let fixture = Fixture::new().await;
    for name in ["a", "b", "c"] {
        fixture.store.add_model(&new_model(name)).await.unwrap();
        fixture.store.add_dataset(&new_dataset(name)).await.unwrap();
    }
    let mut filter = PageFilter { owner: Some("ada".to_owned()), limit: 2, ..PageFilter::default() };
    let page = fixture.store.models(&filter).await.unwrap();
    assert_eq!(page.iter().map(|m| m.name.as_str()).collect::<Vec<_>>(), ["c", "b"]);
    filter.before = Some(page[1].id);
    let page = fixture.store.models(&filter).await.unwrap();
    assert_eq!(page.iter().map(|m| m.name.as_str()).collect::<Vec<_>>(), ["a", "lenet"]);
    let filter = PageFilter { name: Some("b".to_owned()), limit: 9, ..PageFilter::default() };
    assert_eq!(fixture.store.models(&filter).await.unwrap().len(), 1);
    assert_eq!(fixture.store.datasets(&filter).await.unwrap()[0].name, "b");
}

#[tokio::test]
async fn what_an_unfinished_job_uses_cannot_be_deleted() {
    let fixture = Fixture::new().await;
    let held = fixture.running().await;
    assert_eq!(kind(fixture.store.delete_model(None, fixture.model).await), ErrorKind::Precondition);
    assert_eq!(kind(fixture.store.delete_dataset(None, fixture.dataset).await), ErrorKind::Precondition);
    fixture.complete(held).await.unwrap();
    assert_eq!(kind(fixture.store.delete_model(Some("bob"), fixture.model).await), ErrorKind::NotFound);
    fixture.store.delete_model(Some("ada"), fixture.model).await.unwrap();
    fixture.store.delete_dataset(None, fixture.dataset).await.unwrap();
    let job = fixture.job(held.job).await;
    assert_eq!((job.model_id, job.model_name.as_str(), job.dataset_id), (None, "lenet", None));
    let again = Retry { of: held.job, by: "ada", from_checkpoint: false, plan: None };
    assert_eq!(kind(fixture.store.retry(None, &again, 9).await), ErrorKind::Precondition);
    assert_eq!(kind(fixture.store.delete_model(None, fixture.model).await), ErrorKind::NotFound);
}

#[tokio::test]
async fn latest_follows_the_newest_until_promoted_or_rolled_back() {
    let fixture = Fixture::new().await;
    assert_eq!(kind(fixture.store.served_model(None, "lenet").await), ErrorKind::NotFound);
    for _ in 0..3 {
        fixture.in_state(JobState::Succeeded).await;
    }
    let model = fixture.store.served_model(Some("ada"), "lenet").await.unwrap();
    assert_eq!(model.versions.iter().map(|v| v.version).collect::<Vec<_>>(), [3, 2, 1]);
    assert_eq!((model.latest(), model.pinned), (Some(3), None));
    assert_eq!(model.versions[0].summary["accuracy"], 0.9);

    assert_eq!(fixture.store.rollback(None, "lenet", false).await.unwrap().latest(), Some(2));
    assert_eq!(fixture.store.rollback(None, "lenet", false).await.unwrap().latest(), Some(1));
    assert_eq!(kind(fixture.store.rollback(None, "lenet", false).await), ErrorKind::Precondition);
    assert_eq!(fixture.store.promote(None, "lenet", 3, false).await.unwrap().latest(), Some(3));
    assert_eq!(kind(fixture.store.promote(None, "lenet", 4, false).await), ErrorKind::NotFound);
    assert_eq!(kind(fixture.store.promote(Some("bob"), "lenet", 1, false).await), ErrorKind::NotFound);

    fixture.store.set_aside(model.versions[1].artifact, "its bytes fail their hash").await.unwrap();
    assert_eq!(fixture.store.rollback(None, "lenet", false).await.unwrap().latest(), Some(1));
    assert_eq!(kind(fixture.store.promote(None, "lenet", 2, false).await), ErrorKind::Precondition);
    assert_eq!(fixture.store.served_models(None, None, 9).await.unwrap().len(), 1);
    assert_eq!(fixture.store.served_models(None, Some("lenet"), 9).await.unwrap(), []);
}

#[tokio::test]
async fn a_revoked_token_is_no_token() {
    let fixture = Fixture::new().await;
    let token = fixture.store.create_token("ada", Role::Submit, digest("secret")).await.unwrap();
    assert_eq!(fixture.store.find_token(digest("secret")).await.unwrap(), Some(token.clone()));
    assert_eq!(fixture.store.find_token(digest("guess")).await.unwrap(), None);
    assert_eq!(
        kind(fixture.store.create_token("b", Role::Infer, digest("secret")).await),
        ErrorKind::Conflict
    );
    fixture.store.revoke_token(token.id).await.unwrap();
    let listed = fixture.store.tokens().await.unwrap();
    fixture.store.revoke_token(token.id).await.unwrap();
    assert!(listed[0].revoked_at.is_some());
    assert_eq!(fixture.store.tokens().await.unwrap(), listed);
    assert_eq!(fixture.store.find_token(digest("secret")).await.unwrap(), None);
    assert_eq!(kind(fixture.store.revoke_token(fixture.model).await), ErrorKind::NotFound);
}
