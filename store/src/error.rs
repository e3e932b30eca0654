//! What can go wrong between us and the database, by what the caller can do about it.

use sqlx::error::{DatabaseError, ErrorKind as Violation};

/// What the caller can do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// It does not exist, or is another owner's.
    NotFound,
    /// Something else is there under that name or key.
    Conflict,
    /// Not possible in the state that things are in.
    Precondition,
    /// The job is no longer this worker's: stop working on it.
    LeaseLost,
    /// A cap is reached, or the disk is full.
    Exhausted,
    /// The database is away or busy: try again.
    Unavailable,
    /// What is stored cannot be read.
    DataLoss,
    /// A value that the database cannot hold.
    Invalid,
    /// Our mistake.
    Internal,
}

/// Why a call of the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It does not exist, or is another owner's.
    #[error("no {what} {name:?}")]
    NotFound {
        /// What kind of thing.
        what: &'static str,
        /// How it was asked for.
        name: String,
    },
    /// Something else is there under that name or key.
    #[error("{0}")]
    Conflict(String),
    /// Not possible in the state that things are in.
    #[error("{0}")]
    Precondition(String),
    /// The job is no longer this worker's: stop working on it.
    #[error("the lease on job {job} is lost: claim {fence} no longer holds it")]
    LeaseLost {
        /// The job.
        job: uuid::Uuid,
        /// The worker's claim.
        fence: u64,
    },
    /// A cap is reached.
    #[error("{0}")]
    Exhausted(String),
    /// A blob that is being deleted: wait, write its bytes again and publish again.
    #[error("stored bytes {0} are being deleted; write them again")]
    BlobDeleting(String),
    /// A value that cannot be stored.
    #[error("{0}")]
    Invalid(String),
    /// What the database says.
    #[error("the database: {source}")]
    Database {
        /// What can be done about it.
        kind: ErrorKind,
        /// The cause.
        source: sqlx::Error,
    },
    /// The tables cannot be brought up to date.
    #[error("the database cannot be brought up to date: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
}

/// What calls of the store return.
pub type Result<T> = std::result::Result<T, StoreError>;

impl StoreError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Conflict(_) => ErrorKind::Conflict,
            Self::Precondition(_) => ErrorKind::Precondition,
            Self::LeaseLost { .. } => ErrorKind::LeaseLost,
            Self::Exhausted(_) => ErrorKind::Exhausted,
            Self::BlobDeleting(_) => ErrorKind::Unavailable,
            Self::Invalid(_) => ErrorKind::Invalid,
            Self::Database { kind, .. } => *kind,
            Self::Migrate(sqlx::migrate::MigrateError::Execute(error)) => classify(error),
            Self::Migrate(_) => ErrorKind::Internal,
        }
    }

    /// Whether the same call may succeed later, with nothing else changed.
    pub fn is_retryable(&self) -> bool {
        self.kind() == ErrorKind::Unavailable
    }

    pub(crate) fn not_found(what: &'static str, name: impl std::fmt::Display) -> Self {
        Self::NotFound { what, name: name.to_string() }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(source: sqlx::Error) -> Self {
        Self::Database { kind: classify(&source), source }
    }
}

fn classify(error: &sqlx::Error) -> ErrorKind {
    match error {
        sqlx::Error::Database(error) => classify_reported(error.as_ref()),
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        // A connection that broke in the middle of a message.
        | sqlx::Error::Protocol(_) => ErrorKind::Unavailable,
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => ErrorKind::DataLoss,
        sqlx::Error::RowNotFound => ErrorKind::NotFound,
        sqlx::Error::Encode(_) => ErrorKind::Invalid,
        _ => ErrorKind::Internal,
    }
}

/// By SQLSTATE: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn classify_reported(error: &dyn DatabaseError) -> ErrorKind {
    match error.kind() {
        Violation::UniqueViolation => return ErrorKind::Conflict,
        Violation::ForeignKeyViolation | Violation::CheckViolation => return ErrorKind::Precondition,
        _ => {}
    }
    let code = error.code().unwrap_or_default();
    let class = code.get(..2).unwrap_or_default();
    match (class, code.as_ref()) {
        (_, "53100") => ErrorKind::Exhausted,
        // Connection lost; too little of something; shutting down, cancelled by a time-out; deadlock; read-only standby.
        ("08" | "53" | "57" | "40", _) | (_, "55P03" | "25006") => ErrorKind::Unavailable,
        // Unreadable pages and indexes.
        (_, "XX001" | "XX002") => ErrorKind::DataLoss,
        ("22", _) => ErrorKind::Invalid,
        _ => ErrorKind::Internal,
    }
}
