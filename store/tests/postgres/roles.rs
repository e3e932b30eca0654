//! What a worker's login may and may not do; connecting and migrating.

use dyadic_store::job::{JobState, LogLine, Progress, Tags};
use dyadic_store::notice::Topic;
use dyadic_store::queue::NewMetric;
use dyadic_store::registry::Role;
use dyadic_store::{ErrorKind, Store};
use sqlx::{Connection, PgConnection};

use crate::fixture::{Fixture, LEASE, ROOM, digest, failure, kind, outcome, worker};

/// The fixture's database as a worker sees it. Roles belong to the whole cluster: each test takes its own.
async fn as_worker(fixture: &Fixture, role: &str) -> Store {
    fixture.store.create_worker_role(role, "it's \"secret\"").await.unwrap();
    let url = fixture.url.replacen("dyadic@", &format!("{role}@"), 1);
    assert_ne!(url, fixture.url);
    Store::connect(&url).await.unwrap()
}

#[tokio::test]
async fn a_worker_can_do_its_work() {
    let fixture = Fixture::new().await;
    let store = as_worker(&fixture, "worker_that_works").await;
    for _ in 0..4 {
        fixture.submit().await;
    }
    store.listen(&[Topic::Queue]).await.unwrap();
    let claim = async || store.claim(&worker("w"), LEASE).await.unwrap().unwrap();
    let (held, job) = claim().await;
    store.model(None, &job.model_id.unwrap().to_string()).await.unwrap();
    store.dataset(None, &job.dataset_id.unwrap().to_string()).await.unwrap();
    store.heartbeat(held, LEASE, &Progress { phase: "train".to_owned(), done: 1, total: 2 }).await.unwrap();
    for value in [1.0, 2.0] {
        let metric = NewMetric { name: "loss".to_owned(), step: 1, value };
        store.append_metrics(held, &[metric]).await.unwrap();
    }
    store.append_log(held, &[LogLine { level: "info".to_owned(), message: "hi".to_owned() }]).await.unwrap();
    for step in [1, 2] {
        store.touch_blob(digest("c"), 1).await.unwrap();
        store.checkpoint(held, digest("c"), 1, step).await.unwrap();
    }
    let published = store.complete(held, &outcome()).await.unwrap();
    assert_eq!(store.completed_by(held).await.unwrap(), Some(published));
    let (held, _) = claim().await;
    store.give_back(held).await.unwrap();
    let (held, _) = claim().await;
    store.fail(held, &failure(true)).await.unwrap();
    let (held, _) = claim().await;
    fixture.store.cancel(None, held.job, "ada").await.unwrap();
    store.acknowledge_cancel(held).await.unwrap();
    assert_eq!(fixture.job(held.job).await.state, JobState::Cancelled);
}

#[tokio::test]
async fn a_worker_can_do_nothing_else() {
    let fixture = Fixture::new().await;
    let held = fixture.running().await;
    let store = as_worker(&fixture, "worker_that_errs").await;
    let denied = |result: Result<(), dyadic_store::StoreError>, what: &str| {
        let error = result.expect_err(what).to_string();
        assert!(error.contains("permission denied"), "{what}: {error}");
    };
    denied(store.submit(&fixture.new_job(), ROOM).await.map(drop), "submit");
    denied(store.cancel(None, held.job, "w").await.map(drop), "cancel");
    denied(store.tokens().await.map(drop), "read tokens");
    denied(store.create_token("w", Role::Admin, digest("t")).await.map(drop), "make a token");
    denied(store.delete_model(None, fixture.model).await, "delete a model");
    let mut collector = store.collector().await.unwrap().expect("nobody else collects");
    denied(collector.mark(std::time::Duration::ZERO, 9).await.map(drop), "collect blobs");
    denied(store.create_worker_role("another", "x").await, "make a role");
    assert_eq!(kind(store.migrate().await), ErrorKind::Internal);
    fixture.complete(held).await.unwrap();
    denied(store.promote(None, "lenet", 1, false).await.map(drop), "promote");
    denied(store.set_tags(None, held.job, &Tags::new(), &[]).await.map(drop), "tag");
}

#[tokio::test]
async fn making_the_worker_role_again_changes_nothing_but_its_password() {
    let fixture = Fixture::new().await;
    fixture.store.create_worker_role("worker; twice", "one").await.unwrap();
    fixture.store.create_worker_role("worker; twice", "two").await.unwrap();
}

#[tokio::test]
async fn several_servers_may_migrate_at_once_and_again() {
    let database = dyadic_store::testing::database().await;
    let store = Store::connect(database.url()).await.unwrap();
    let (a, b, c) = tokio::join!(store.migrate(), store.migrate(), store.migrate());
    a.and(b).and(c).unwrap();
    store.migrate().await.unwrap();
    store.ping().await.unwrap();
}

#[tokio::test]
async fn an_absent_database_is_unavailable_and_a_bad_url_is_invalid() {
    let absent = "postgresql://dyadic@localhost/none?host=/nonexistent";
    assert_eq!(kind(Store::connect(absent).await), ErrorKind::Unavailable);
    assert_eq!(kind(Store::connect("mysql://x").await), ErrorKind::Invalid);
}

#[tokio::test]
async fn a_statement_that_waits_too_long_for_a_lock_gives_up() {
    let fixture = Fixture::new().await;
    let mut blocker = PgConnection::connect(&fixture.url).await.unwrap();
    let mut transaction = blocker.begin().await.unwrap();
    sqlx::query("LOCK TABLE job").execute(&mut *transaction).await.unwrap();
    assert_eq!(kind(fixture.store.queue_depth().await), ErrorKind::Unavailable);
    transaction.rollback().await.unwrap();
    assert_eq!(fixture.store.queue_depth().await.unwrap(), (0, 0));
}

#[tokio::test]
async fn heartbeats_write_no_index() {
    let fixture = Fixture::new().await;
    for column in ["lease_expires_at", "progress_done", "progress_total", "phase"] {
        let indexes =
            format!("SELECT FROM pg_indexes WHERE tablename = 'job' AND indexdef LIKE '%{column}%'");
        assert_eq!(fixture.sql(&indexes).await.unwrap(), 0, "{column}");
    }
}
