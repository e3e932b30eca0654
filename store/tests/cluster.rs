//! The private cluster: starts, answers, keeps its data over a restart, and leaves nothing running.

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

#[test]
fn a_path_too_long_for_a_socket_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let long = folder.path().join("x".repeat(100));
    let error = Cluster::start(&long).expect_err("107 bytes is the limit");
    assert!(error.to_string().contains("too long"), "{error}");
}
