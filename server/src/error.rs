//! The one place where errors become status codes.
//!
//! The code tells a program what to do; the message tells a person what is wrong. Of internal errors the caller learns an
//! opaque id, and the log the cause.

use std::error::Error as StdError;

use dyadic_data::DataError;
use dyadic_engine::ArtifactError;
use dyadic_graph::{ErrorKind as ImportKind, ImportError};
use dyadic_plan::Refusal;
use dyadic_store::blob::BlobError;
use dyadic_store::{ErrorKind as StoreKind, StoreError};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use crate::auth::AuthError;
use crate::infer::{InferError, LoadError};
use crate::upload::UploadError;

/// Longest message, in bytes: it travels in a trailer, and clients take few KiB of those.
const MAX_MESSAGE: usize = 2048;

/// Everything that a call can be answered with instead of a result.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// No token, a bad one, or one that is good for less.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// An upload that breaks its rules.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// An ONNX file that cannot become a network.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// Layers that cannot be quantized, all of them.
    #[error("the network cannot be quantized: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Plan(Vec<Refusal>),
    /// A dataset's files.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Everything that stands against a request, all at once.
    #[error("{}", listed(.0))]
    Refused(Vec<Reason>),
    /// An artifact that cannot be served.
    #[error("the artifact: {0}")]
    Artifact(#[from] LoadError),
    /// An inference request.
    #[error(transparent)]
    Infer(#[from] InferError),
    /// The database, or what it knows.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Stored bytes.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// A field of a request is wrong.
    #[error("{field}: {reason}")]
    Field {
        /// Its name, as in the .proto file.
        field: String,
        /// What is wrong.
        reason: String,
    },
    /// Something that does not exist, or is another owner's.
    #[error("no {what} {name:?}")]
    NotFound {
        /// What kind of thing.
        what: &'static str,
        /// How it was asked for.
        name: String,
    },
    /// Not possible in the state that things are in.
    #[error("{0}")]
    Precondition(String),
    /// A cap is reached.
    #[error("{0}")]
    Exhausted(String),
    /// The caller's stream broke.
    #[error("{0}")]
    Stream(Status),
    /// Too many calls at once.
    #[error("too many calls at once; try again")]
    Overloaded,
    /// The server is about to stop.
    #[error("the server is draining; try another one, or this one later")]
    Draining,
    /// The caller's deadline, or the server's longest time for a call.
    #[error("the deadline passed")]
    DeadlineExceeded,
    /// Anything else.
    #[error("internal error")]
    Internal(#[source] Box<dyn StdError + Send + Sync>),
}

/// Something that stands against a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The request's field, as in the .proto file.
    pub field: String,
    /// What is wrong with it, and what would do.
    pub description: String,
}

impl Reason {
    /// A reason.
    pub fn new(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self { field: field.into(), description: description.into() }
    }
}

/// All reasons in one line.
fn listed(reasons: &[Reason]) -> String {
    let one = |reason: &Reason| format!("{}: {}", reason.field, reason.description);
    reasons.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// Most bytes of reasons as details: with the message they must stay below the 16 KiB of headers that clients take.
const MAX_DETAILS: usize = 6144;

/// The status of reasons: the message has all of them in one line, the details each with its field.
fn refused(code: Code, message: String, reasons: Vec<Reason>) -> Status {
    let (mut used, all) = (0, reasons.len());
    let fits = |reason: &Reason| {
        used += reason.field.len() + reason.description.len();
        used <= MAX_DETAILS
    };
    let violation = |Reason { field, description }| FieldViolation::new(field, description);
    let mut violations: Vec<_> = reasons.into_iter().take_while(fits).map(violation).collect();
    if violations.len() < all {
        let more = format!("{} more reasons do not fit into this answer", all - violations.len());
        violations.push(FieldViolation::new("", more));
    }
    Status::with_error_details(code, message, ErrorDetails::with_bad_request(violations))
}

impl ApiError {
    /// An error that is nobody's fault but ours.
    pub fn internal(cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Internal(cause.into())
    }

    /// A wrong field.
    pub fn field(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Field { field: field.into(), reason: reason.into() }
    }

    /// The status code; tests/server/errors.rs walks the table.
    pub fn code(&self) -> Code {
        match self {
            Self::Auth(error) => auth(*error),
            Self::Upload(error) => upload(error),
            Self::Import(error) => match error.kind() {
                ImportKind::Malformed => Code::InvalidArgument,
                ImportKind::Unsupported => Code::Unimplemented,
                ImportKind::TooLarge => Code::ResourceExhausted,
            },
            // Valid, like an operator that is not supported.
            Self::Plan(_) => Code::Unimplemented,
            Self::Data(DataError::Io { source, .. }) => io(source),
            Self::Artifact(error) => artifact(error),
            Self::Infer(error) => infer(error),
            Self::Store(error) => store(error),
            Self::Blob(error) => blob(error),
            Self::Data(_) | Self::Refused(_) | Self::Field { .. } => Code::InvalidArgument,
            Self::NotFound { .. } => Code::NotFound,
            Self::Precondition(_) => Code::FailedPrecondition,
            Self::Exhausted(_) => Code::ResourceExhausted,
            Self::Stream(status) => crate::layers::status::corrected(status.code()),
            Self::Overloaded | Self::Draining => Code::Unavailable,
            Self::DeadlineExceeded => Code::DeadlineExceeded,
            Self::Internal(_) => Code::Internal,
        }
    }

    /// What is said instead of a storage error whose own words are for the log.
    fn concealed(&self) -> Option<&'static str> {
        match self {
            Self::Store(error @ StoreError::Database { .. }) => match error.kind() {
                StoreKind::Unavailable => Some("the database is away; try again"),
                StoreKind::Exhausted => Some("the database has no space left"),
                StoreKind::DataLoss => Some("what the database holds cannot be read"),
                StoreKind::Conflict => Some("it is there already"),
                StoreKind::Precondition => Some("not possible in the state that things are in"),
                StoreKind::Invalid => Some("a value that cannot be stored"),
                StoreKind::NotFound => Some("it is not there"),
                StoreKind::LeaseLost | StoreKind::Internal => None,
            },
            Self::Blob(BlobError::Store(_)) => Some("the blob store is away; try again"),
            _ => None,
        }
    }

    /// The status that the caller gets.
    pub fn into_status(self) -> Status {
        let code = self.code();
        if let Self::Stream(status) = &self {
            return Status::new(code, shorten(status.message()));
        }
        if let Some(message) = self.concealed() {
            tracing::warn!(?code, cause = chain(&self), "storage failed");
            return Status::new(code, message);
        }
        if matches!(code, Code::Internal) {
            let id = uuid::Uuid::new_v4().simple().to_string();
            tracing::error!(error_id = id, cause = chain(&self), "internal error");
            return Status::new(code, format!("internal error {id}; the server's log has the cause"));
        }
        let message = self.to_string();
        if message.len() > MAX_MESSAGE {
            tracing::info!(?code, message, "long message");
        }
        match self {
            Self::Refused(reasons) => refused(code, shorten(&message), reasons),
            _ => Status::new(code, shorten(&message)),
        }
    }
}

fn auth(error: AuthError) -> Code {
    match error {
        AuthError::Missing | AuthError::Invalid => Code::Unauthenticated,
        AuthError::Forbidden { .. } => Code::PermissionDenied,
        AuthError::Unavailable => Code::Unavailable,
    }
}

fn upload(error: &UploadError) -> Code {
    match error {
        UploadError::NoHeader
        | UploadError::SecondHeader
        | UploadError::EmptyMessage
        | UploadError::FileCount { .. }
        | UploadError::Name { .. }
        | UploadError::DuplicateName(_)
        | UploadError::HashLength { .. }
        | UploadError::WrongFile { .. }
        | UploadError::Gap { .. }
        | UploadError::Overrun { .. }
        | UploadError::Truncated { .. }
        | UploadError::HashMismatch { .. }
        | UploadError::Tar(_) => Code::InvalidArgument,
        UploadError::WrongOffset { .. } => Code::FailedPrecondition,
        UploadError::TooLarge { .. } => Code::ResourceExhausted,
        UploadError::Busy => Code::Aborted,
        UploadError::Damaged => Code::DataLoss,
        UploadError::Idle(_) => Code::DeadlineExceeded,
        UploadError::Io(error) => io(error),
    }
}

fn io(error: &std::io::Error) -> Code {
    match error.kind() {
        std::io::ErrorKind::StorageFull
        | std::io::ErrorKind::QuotaExceeded
        | std::io::ErrorKind::FileTooLarge => Code::ResourceExhausted,
        _ => Code::Internal,
    }
}

fn store(error: &StoreError) -> Code {
    match error.kind() {
        StoreKind::NotFound => Code::NotFound,
        StoreKind::Conflict => Code::AlreadyExists,
        StoreKind::Precondition | StoreKind::LeaseLost => Code::FailedPrecondition,
        StoreKind::Exhausted => Code::ResourceExhausted,
        StoreKind::Unavailable => Code::Unavailable,
        StoreKind::DataLoss => Code::DataLoss,
        StoreKind::Invalid => Code::InvalidArgument,
        StoreKind::Internal => Code::Internal,
    }
}

fn blob(error: &BlobError) -> Code {
    match error {
        // Only what is on record is ever asked for.
        BlobError::NotFound(_) | BlobError::Damaged { .. } => Code::DataLoss,
        BlobError::TooLarge { .. } => Code::ResourceExhausted,
        BlobError::Url { .. } => Code::Internal,
        BlobError::Io(error) => io(error),
        BlobError::Store(_) => Code::Unavailable,
    }
}

fn artifact(error: &LoadError) -> Code {
    match error {
        LoadError::Artifact(ArtifactError::NewerFormat { .. }) => Code::FailedPrecondition,
        LoadError::TooLarge { .. } | LoadError::TooMuchToReplay { .. } => Code::ResourceExhausted,
        LoadError::Threads(_) => Code::Internal,
        LoadError::Artifact(_) | LoadError::Engine(_) | LoadError::Certificate(_) => Code::InvalidArgument,
    }
}

fn infer(error: &InferError) -> Code {
    match error {
        InferError::Request(_) => Code::InvalidArgument,
        InferError::Unsupported(_) => Code::Unimplemented,
        InferError::UnknownModel(_) | InferError::UnknownVersion { .. } => Code::NotFound,
        InferError::NotReady { .. }
        | InferError::QueueFull { .. }
        | InferError::QueueTimeout { .. }
        | InferError::Unloaded(_) => Code::Unavailable,
        // Waiting does not help.
        InferError::NotLive { .. } => Code::FailedPrecondition,
        InferError::Deadline => Code::DeadlineExceeded,
        InferError::Engine(_) => Code::Internal,
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        error.into_status()
    }
}

/// An error and what caused it, in one line.
fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// Cuts a message to what a trailer carries. Other than printable ASCII counts three bytes: it is percent-encoded.
fn shorten(message: &str) -> String {
    let mut used = 0;
    for (position, character) in message.char_indices() {
        let plain = (' '..='~').contains(&character) && character != '%';
        used += if plain { 1 } else { 3 * character.len_utf8() };
        if used > MAX_MESSAGE {
            return format!("{}... ({} more bytes)", &message[..position], message.len() - position);
        }
    }
    message.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_of_an_internal_error_stays_here() {
        let status = ApiError::internal("password of the database is 1234").into_status();
        assert_eq!(status.code(), Code::Internal);
        assert!(!status.message().contains("1234"));
        let disk = UploadError::Io(std::io::Error::other("/var/secret"));
        assert!(!ApiError::from(disk).into_status().message().contains("secret"));
    }

    #[test]
    fn messages_fit_into_a_trailer() {
        for text in ["x".repeat(9000), "é".repeat(9000), "%".repeat(9000), "名\n".repeat(3000)] {
            let short = shorten(&text);
            let encoded: usize = short
                .chars()
                .map(|c| if (' '..='~').contains(&c) && c != '%' { 1 } else { 3 * c.len_utf8() })
                .sum();
            assert!(encoded <= MAX_MESSAGE + 32, "{encoded}");
        }
        assert_eq!(shorten("short"), "short");
    }
}
