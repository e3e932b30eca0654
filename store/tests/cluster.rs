//! The private cluster: starts, answers, keeps its data over a restart, and leaves nothing running.

use std::path::Path;
use std::process::{Command, Stdio};

use dyadic_store::cluster::Cluster;
use sqlx::{Connection, PgConnection};

async fn value(cluster: &Cluster, sql: &'static str) -> i32 {
    let mut connection =
        PgConnection::connect(&cluster.url("postgres")).await.expect("a ready cluster accepts");
    sqlx::query_scalar(sql).fetch_one(&mut connection).await.expect("a sound query")
}

#[tokio::test]
async fn a_cluster_keeps_its_data_and_leaves_no_server_behind() {
    let folder =
        tempfile::Builder::new().prefix("dyadic cluster ").tempdir_in("/tmp").expect("a temporary folder");
    let cluster = Cluster::start(folder.path()).expect("PostgreSQL is installed");
    value(&cluster, "WITH made AS (SELECT 1) SELECT 1 FROM made").await;
    let mut connection =
        PgConnection::connect(&cluster.url("postgres")).await.expect("a ready cluster accepts");
    sqlx::query("CREATE TABLE kept AS SELECT 42 AS answer")
        .execute(&mut connection)
        .await
        .expect("a sound statement");
    drop(connection);
    drop(cluster);
    assert!(!folder.path().join("data/postmaster.pid").exists(), "the server has ended");

    let cluster = Cluster::start(folder.path()).expect("it starts again on its folder");
    assert_eq!(value(&cluster, "SELECT answer FROM kept").await, 42);
}

/// Where the process that is to be killed starts its cluster; in that process only.
const TO_BE_KILLED: &str = "DYADIC_TEST_FIRST_START";

#[test]
fn a_first_start_that_is_killed_does_not_keep_the_next_from_starting() {
    if let Some(folder) = std::env::var_os(TO_BE_KILLED) {
        drop(Cluster::start(Path::new(&folder)));
        return;
    }
    let folder =
        tempfile::Builder::new().prefix("dyadic-cluster-").tempdir_in("/tmp").expect("a temporary folder");
    let mut first = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "a_first_start_that_is_killed_does_not_keep_the_next_from_starting"])
        .env(TO_BE_KILLED, folder.path())
        .stdout(Stdio::null())
        .spawn()
        .expect("it starts");
    // Once initdb has begun to write, and long before it ends.
    while !begun(folder.path()) {
        assert!(first.try_wait().expect("our child").is_none(), "it ended before it could be killed");
        std::thread::yield_now();
    }
    first.kill().expect("our child");
    first.wait().expect("our child");
    let cluster = Cluster::start(folder.path()).expect("nothing of the first start is in its way");
    drop(cluster);
    assert!(folder.path().join("data/PG_VERSION").exists());
}

/// Whether a cluster's version file is somewhere below: the first file that initdb writes.
fn begun(folder: &Path) -> bool {
    let mut entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.any(|entry| entry.path().join("PG_VERSION").exists())
}

#[test]
fn a_path_too_long_for_a_socket_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let long = folder.path().join("x".repeat(100));
    let error = Cluster::start(&long).expect_err("107 bytes is the limit");
    assert!(error.to_string().contains("too long"), "{error}");
}
