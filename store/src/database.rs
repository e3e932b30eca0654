//! The connection to PostgreSQL, with limits that keep a stuck statement from holding locks.

mod digest;

use std::str::FromStr;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};

use crate::error::{Result, StoreError};

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations");

/// How long a call waits for a connection, seconds.
const ACQUIRE_SECS: u64 = 5;

/// Everything in PostgreSQL: the queue, the history and the registry. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) pool: PgPool,
    options: PgConnectOptions,
}

impl Store {
    /// Connects, with at most 10 connections.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for a bad URL; `Unavailable` if there is no database.
    pub async fn connect(url: &str) -> Result<Self> {
        Self::connect_with(url, 10).await
    }

    /// Connects, with at most `connections` connections.
    ///
    /// # Errors
    /// See [`Store::connect`].
    pub async fn connect_with(url: &str, connections: u32) -> Result<Self> {
        let options = options(url)?;
        let pool = pool_options(connections).connect_with(options.clone()).await?;
        Ok(Self { pool, options })
    }

    /// As [`Store::connect_with`], but waits for no connection: the database may be away now.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for a bad URL.
    pub fn connect_lazy(url: &str, connections: u32) -> Result<Self> {
        let options = options(url)?;
        Ok(Self { pool: pool_options(connections).connect_lazy_with(options.clone()), options })
    }

    /// Brings the tables up to date; several servers may do so at once.
    ///
    /// # Errors
    /// [`StoreError::Migrate`], also if the tables are newer than this program.
    pub async fn migrate(&self) -> Result<()> {
        // Its own connection: migrations may take longer than statements may.
        let options = self.options.clone().options([("statement_timeout", "0")]);
        let mut connection = PgConnection::connect_with(&options).await?;
        MIGRATIONS.run(&mut connection).await?;
        connection.close().await?;
        Ok(())
    }

    pub(crate) fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// `Unavailable` if not.
    pub async fn ping(&self) -> Result<()> {
        sqlx::query("SELECT 1").execute(&self.pool).await?;
        Ok(())
    }

    /// Closes all connections once they are idle.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Makes a login for workers, or changes its password: it may run and end jobs, but not submit them, change what
    /// they ask for, or read tokens.
    ///
    /// # Errors
    /// `Internal` if we may not make roles.
    pub async fn create_worker_role(&self, name: &str, password: &str) -> Result<()> {
        let (statements,): (Vec<String>,) = sqlx::query_as(include_str!("database/worker_role.sql"))
            .bind(name)
            .bind(password)
            .fetch_one(&self.pool)
            .await?;
        let mut transaction = self.pool.begin().await?;
        for statement in statements {
            // Made by the database's own format() with %I and %L.
            sqlx::query(AssertSqlSafe(statement)).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(())
    }
}

fn options(url: &str) -> Result<PgConnectOptions> {
    if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
        return Err(StoreError::Invalid("the database URL must begin with postgresql://".to_owned()));
    }
    let options =
        PgConnectOptions::from_str(url).map_err(|e| StoreError::Invalid(format!("database URL: {e}")))?;
    let limits = [("statement_timeout", "5s"), ("idle_in_transaction_session_timeout", "10s")];
    Ok(options.application_name("dyadic").options(limits))
}

fn pool_options(connections: u32) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(connections.max(1))
        .acquire_timeout(Duration::from_secs(ACQUIRE_SECS))
}
