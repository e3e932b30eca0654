//! The gate: what goes live by itself, what is kept, and what "latest" means then.

use dyadic_store::history::{EventKind, JobFilter};
use dyadic_store::job::{NewJob, Outcome, Published};
use dyadic_store::queue::Retry;
use dyadic_store::registry::{Promote, ServedModel};
use dyadic_store::{ErrorKind, Store};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::fixture::{Fixture, ROOM, digest, kind};

/// A success with this summary, of a job that asks this of the gate.
async fn succeed(fixture: &Fixture, promote: Promote, summary: Value) -> Published {
    let job = NewJob { promote, ..fixture.new_job() };
    fixture.store.submit(&job, ROOM).await.unwrap();
    let held = fixture.claim().await;
    let outcome = Outcome { sha256: digest("artifact"), size_bytes: 99, summary };
    fixture.store.complete(held, &outcome).await.unwrap()
}

fn measured(float: f64, engine: f64) -> Value {
    json!({"float_accuracy": float, "accuracy": engine, "closeness_db": -3.0})
}

async fn served(fixture: &Fixture) -> ServedModel {
    fixture.store.served_model(None, "lenet").await.unwrap()
}

#[tokio::test]
async fn a_result_far_below_its_float_network_is_kept_and_not_live() {
    let fixture = Fixture::new().await;
    let good = succeed(&fixture, Promote::default(), measured(0.905, 0.89)).await;
    assert_eq!((good.version, good.held), (1, None));
    let bad = succeed(&fixture, Promote::default(), measured(0.905, 0.621)).await;
    let reason = "62.1 % is 28.4 points below its float network's 90.5 %";
    assert_eq!((bad.version, bad.held.as_deref()), (2, Some(reason)));

    let model = served(&fixture).await;
    assert_eq!((model.latest(), model.versions.len()), (Some(1), 2));
    assert_eq!(model.versions[0].held.as_deref(), Some(reason));
    let promoted = fixture.store.promote(None, "lenet", 2, false).await.unwrap();
    assert_eq!((promoted.latest(), promoted.pinned), (Some(2), Some(2)));
    assert_eq!(promoted.versions[0].held, None);
    // Promoted once, it is live, pinned or not.
    let unpinned = fixture.store.unpin(None, "lenet", false).await.unwrap();
    assert_eq!((unpinned.latest(), unpinned.pinned), (Some(2), None));
}

#[tokio::test]
async fn the_gate_does_what_the_job_asks() {
    let fixture = Fixture::new().await;
    let unmeasured =
        |decibels: f64| json!({"accuracy": null, "float_accuracy": null, "closeness_db": decibels});
    let usual = Promote::default();
    let cases = [
        (usual, measured(0.90, 0.85), true),
        (usual, measured(0.90, 0.849), false),
        (usual, measured(0.10, 0.15), true),
        (usual, measured(1.0, 0.0), false),
        (Promote::Within(0.0), measured(0.9, 0.9), true),
        (Promote::Within(0.0), measured(0.9, 0.899), false),
        (Promote::Within(28.5), measured(0.905, 0.621), true),
        (Promote::Always, measured(0.9, 0.0), true),
        (Promote::Never, measured(0.9, 0.9), false),
        (usual, unmeasured(12.0), true),
        (usual, unmeasured(-0.5), false),
        (Promote::Within(100.0), unmeasured(-0.5), false),
        (Promote::Always, unmeasured(-0.5), true),
        (usual, json!({"agreement": 0.95, "closeness_db": 9.0}), true),
        (usual, json!({"agreement": 0.94, "closeness_db": 9.0}), false),
        (usual, json!({"agreement": 1.0, "closeness_db": -1.0}), false),
        (Promote::Within(20.0), json!({"agreement": 0.81}), true),
        (Promote::Always, json!({"agreement": 0.0}), true),
        (usual, json!({"float_accuracy": 0.9, "accuracy": 0.89, "agreement": 0.5}), true),
        (usual, json!({"accuracy": 0.9}), true),
        (usual, json!({}), true),
        (usual, json!("not an object"), true),
    ];
    for (promote, summary, live) in cases {
        let published = succeed(&fixture, promote, summary.clone()).await;
        assert_eq!(published.held.is_none(), live, "{promote}: {summary}: {:?}", published.held);
    }
}

#[tokio::test]
async fn a_name_whose_only_version_is_held_has_no_latest() {
    let fixture = Fixture::new().await;
    succeed(&fixture, Promote::Never, measured(0.9, 0.9)).await;
    assert_eq!(served(&fixture).await.latest(), None);
    assert_eq!(kind(fixture.store.rollback(None, "lenet", false).await), ErrorKind::Precondition);
    assert_eq!(fixture.store.unpin(None, "lenet", false).await.unwrap().latest(), None);
    assert_eq!(fixture.store.promote(None, "lenet", 1, false).await.unwrap().latest(), Some(1));
}

#[tokio::test]
async fn rollback_passes_over_what_is_held() {
    let fixture = Fixture::new().await;
    for promote in [Promote::Always, Promote::Never, Promote::Always] {
        succeed(&fixture, promote, json!({})).await;
    }
    assert_eq!(served(&fixture).await.latest(), Some(3));
    assert_eq!(fixture.store.rollback(None, "lenet", false).await.unwrap().latest(), Some(1));
}

#[tokio::test]
async fn a_dry_run_answers_what_would_be_and_changes_nothing() {
    let fixture = Fixture::new().await;
    for promote in [Promote::Always, Promote::Always, Promote::Never] {
        succeed(&fixture, promote, json!({})).await;
    }
    let before = served(&fixture).await;
    let would = fixture.store.promote(None, "lenet", 3, true).await.unwrap();
    assert_eq!((would.pinned, would.versions[0].held.as_deref()), (Some(3), None));
    assert_eq!(fixture.store.rollback(None, "lenet", true).await.unwrap().pinned, Some(1));
    assert_eq!(kind(fixture.store.promote(None, "lenet", 9, true).await), ErrorKind::NotFound);
    assert_eq!(served(&fixture).await, before);
    let pinned = fixture.store.rollback(None, "lenet", false).await.unwrap();
    assert_eq!(fixture.store.unpin(None, "lenet", true).await.unwrap().pinned, None);
    assert_eq!(served(&fixture).await, pinned);
    assert_eq!(kind(fixture.store.unpin(Some("bob"), "lenet", false).await), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_success_tells_in_its_event_that_it_is_not_the_latest_and_why() {
    let fixture = Fixture::new().await;
    let reasons = async |fixture: &Fixture| {
        let newest = JobFilter { limit: 1, ..JobFilter::default() };
        let job = fixture.store.jobs(&newest).await.unwrap().remove(0);
        let events = fixture.store.events(job.id, 0, 100).await.unwrap();
        let EventKind::State { reason, .. } = events.last().unwrap().kind.clone() else {
            panic!("the last event is the success");
        };
        (reason, job)
    };
    succeed(&fixture, Promote::default(), json!({})).await;
    assert_eq!(reasons(&fixture).await.0, "");
    succeed(&fixture, Promote::Never, json!({})).await;
    let (reason, job) = reasons(&fixture).await;
    assert_eq!(reason, "kept, not live: promote is never");
    assert_eq!(job.promote.as_deref(), Some("never"));
    assert_eq!(job.artifact.0.unwrap().held.as_deref(), Some("promote is never"));
    fixture.store.promote(None, "lenet", 1, false).await.unwrap();
    succeed(&fixture, Promote::Within(2.5), json!({})).await;
    let (reason, job) = reasons(&fixture).await;
    assert_eq!(reason, "not the latest: lenet is pinned to version 1");
    assert_eq!(job.promote.as_deref(), Some("within:2.5"));
    assert_eq!(job.artifact.0.unwrap().pinned, Some(1));
    let again = Retry { of: job.id, by: "ada", from_checkpoint: false, plan: None };
    let again = fixture.store.retry(None, &again, ROOM).await.unwrap();
    assert_eq!(again.promote.as_deref(), Some("within:2.5"));
}

#[tokio::test]
async fn a_success_and_a_promotion_at_once_leave_one_answer() {
    let fixture = Fixture::new().await;
    succeed(&fixture, Promote::Always, json!({})).await;
    let other = Store::connect(&fixture.url).await.unwrap();
    for round in 2..=12 {
        fixture.store.submit(&fixture.new_job(), ROOM).await.unwrap();
        let held = fixture.claim().await;
        let outcome = Outcome { sha256: digest("artifact"), size_bytes: 99, summary: measured(0.9, 0.1) };
        let (published, moved) = tokio::join!(fixture.store.complete(held, &outcome), async {
            if round % 2 == 0 {
                other.promote(None, "lenet", 1, false).await
            } else {
                other.unpin(None, "lenet", false).await
            }
        });
        let (published, moved) = (published.unwrap(), moved.unwrap());
        assert_eq!((published.version, published.held.is_some()), (round, true));
        assert_eq!(moved.latest(), Some(1), "what the gate holds is never the latest");
        assert_eq!(served(&fixture).await, other.served_model(None, "lenet").await.unwrap());
        assert_eq!(served(&fixture).await.latest(), Some(1));
    }
}

/// A database as it was before there was a gate, with one job in each state that the gate concerns.
const BEFORE: &str = "
    INSERT INTO blob (sha256, size_bytes) VALUES (sha256('a'), 1), (sha256('b'), 1), (sha256('m'), 1);
    INSERT INTO model (id, owner, name, digest, main_file, info)
        VALUES ('00000000-0000-7000-8000-000000000001', 'ada', 'lenet', sha256('m'), 'm.onnx', '{}');
    INSERT INTO dataset (id, owner, name, digest, format, splits, labels, file_name, sha256, size_bytes)
        VALUES ('00000000-0000-7000-8000-000000000002', 'ada', 'd', sha256('m'), 'idx', '[]', '{}', 'd.tar', sha256('m'), 1);
    INSERT INTO experiment (owner, name) VALUES ('ada', 'e');
    INSERT INTO served_model (name, owner) VALUES ('lenet', 'ada');
    INSERT INTO job (id, owner, experiment, model_id, model_name, dataset_id, dataset_name, train_split, eval_split,
                     served_name, spec, settings, request_hash, changed_by)
        SELECT ('00000000-0000-7000-8000-00000000001' || n)::uuid, 'ada', 'e', '00000000-0000-7000-8000-000000000001', 'lenet',
               '00000000-0000-7000-8000-000000000002', 'd', 'train', 'test', 'lenet', '{}', '{}', sha256('m'), 'ada'
          FROM generate_series(1, 3) AS n;
    UPDATE job SET state = 'running', fence = 1, worker = 'w', lease_expires_at = now() WHERE id::text < '00000000-0000-7000-8000-000000000013';
    UPDATE job SET state = 'succeeded', lease_expires_at = NULL, finished_at = now() WHERE state = 'running';
    INSERT INTO artifact (id, job_id, fence, sha256, size_bytes, summary) VALUES
        ('00000000-0000-7000-8000-000000000021', '00000000-0000-7000-8000-000000000011', 1, sha256('a'), 1,
         '{\"float_accuracy\": 0.9, \"accuracy\": 0.01}'),
        ('00000000-0000-7000-8000-000000000022', '00000000-0000-7000-8000-000000000012', 1, sha256('b'), 1, '{}');
    UPDATE served_model SET newest = 2;
    INSERT INTO model_version (name, version, artifact_id) VALUES
        ('lenet', 1, '00000000-0000-7000-8000-000000000021'), ('lenet', 2, '00000000-0000-7000-8000-000000000022');
";

#[tokio::test]
async fn a_database_from_before_the_gate_comes_up_with_every_version_live() {
    let database = dyadic_store::testing::database().await;
    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    sqlx::migrate!("../migrations").run_to(5, &mut connection).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(BEFORE)).execute(&mut connection).await.unwrap();
    let store = Store::connect(database.url()).await.unwrap();
    store.migrate().await.unwrap();
    let model = store.served_model(None, "lenet").await.unwrap();
    assert_eq!((model.latest(), model.pinned, model.versions.len()), (Some(2), None, 2));
    assert!(model.versions.iter().all(|version| version.held.is_none() && version.job.is_some()));
    assert_eq!(store.rollback(None, "lenet", false).await.unwrap().latest(), Some(1));
    // A job that waited meanwhile meets the gate as if it had asked for nothing.
    let (held, job) =
        store.claim(&crate::fixture::worker("w"), crate::fixture::LEASE).await.unwrap().unwrap();
    assert_eq!(job.promote, None);
    let outcome = Outcome { sha256: digest("c"), size_bytes: 1, summary: measured(0.9, 0.2) };
    assert!(store.complete(held, &outcome).await.unwrap().held.is_some());
    // Bytes that old versions refer to stay.
    let mut collector = store.collector().await.unwrap().expect("nobody else collects");
    let gone = collector.mark(std::time::Duration::ZERO, 9).await.unwrap();
    assert_eq!(gone, []);
}
