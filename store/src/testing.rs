//! A private cluster for a test binary and a fresh, empty database for each test; and disks that can be filled.
//!
//! The cluster starts with the first call and ends with the process. Without PostgreSQL the tests fail and say what to
//! install: they are never skipped.

mod disk;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::{fs, process};

use sqlx::{Connection, PgConnection};

pub use disk::{Filled, SmallDisk, with_own_mounts};

use crate::cluster::Cluster;

/// An empty database.
#[derive(Debug, Clone)]
pub struct Database {
    url: String,
}

impl Database {
    /// Its connection URL.
    pub fn url(&self) -> &str {
        &self.url
    }
}

static CLUSTER: Mutex<Option<Cluster>> = Mutex::new(None);
static COUNT: AtomicU32 = AtomicU32::new(0);
const PREFIX: &str = "dyadic-test-";

/// A new database in this process's cluster.
///
/// # Panics
/// If PostgreSQL is not installed or refuses: the message says what to do.
pub async fn database() -> Database {
    let (admin, url) = {
        let mut cluster = CLUSTER.lock().unwrap_or_else(PoisonError::into_inner);
        let cluster = cluster.get_or_insert_with(start);
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        (cluster.url("postgres"), (cluster.url(&name), name))
    };
    let (url, name) = url;
    let mut connection = PgConnection::connect(&admin).await.expect("the cluster has just become ready");
    // The name is made of a constant and a number.
    let statement = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
    sqlx::query(statement).execute(&mut connection).await.expect("a fresh name");
    Database { url }
}

/// Puts other settings into a submitted job, as another version of the program might have written them.
///
/// # Panics
/// If there is no such job, or the text is no JSON.
pub async fn overwrite_settings(url: &str, job: uuid::Uuid, settings: &str) {
    let mut connection = PgConnection::connect(url).await.expect("the database is there");
    let statement = sqlx::query("UPDATE job SET settings = $2::jsonb WHERE id = $1").bind(job).bind(settings);
    let done = statement.execute(&mut connection).await.expect("the settings are JSON");
    assert_eq!(done.rows_affected(), 1, "there is no job {job}");
}

fn start() -> Cluster {
    let base = std::env::temp_dir();
    remove_leftovers(&base);
    let folder = base.join(format!("{PREFIX}{}", process::id()));
    // Tests need no durability, and many connections.
    let settings = ["fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=300"];
    Cluster::start_with(&folder, &settings).unwrap_or_else(|error| panic!("{error}"))
}

/// Removes clusters of processes that have ended.
fn remove_leftovers(base: &Path) {
    let Ok(entries) = fs::read_dir(base) else { return };
    for path in entries.filter_map(|e| e.ok().map(|e| e.path())) {
        let pid = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_prefix(PREFIX));
        let ended = pid.is_some_and(|pid| !PathBuf::from("/proc").join(pid).exists());
        // The server of a process that ended a moment ago may still be writing.
        if ended && !path.join("data/postmaster.pid").exists() {
            let _ = fs::remove_dir_all(path);
        }
    }
}
