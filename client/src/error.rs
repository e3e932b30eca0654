//! What goes wrong, as people read it and as scripts see it: a message, what to do next, an exit code.

use std::fmt;
use std::path::Path;

use dyadic_proto::v1::Refusal;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::output::refusal;

/// The kinds that scripts can tell apart; the number is the process's exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The job, or what was asked for, failed.
    Failed = 1,
    /// The command line, or a file it names, is not usable.
    Usage = 2,
    /// No such model, dataset, job, version or token.
    NotFound = 3,
    /// No or a wrong token, or its role does not allow this.
    Denied = 4,
    /// No server there, or it cannot answer now: trying again later may help.
    Unavailable = 5,
    /// The server looked at the request and refused it.
    Refused = 6,
    /// A size, quota or queue limit.
    Exhausted = 7,
    /// The job was cancelled.
    Cancelled = 8,
    /// Ctrl-C.
    Interrupted = 130,
}

/// The table shown by `dyadic --help`.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
    0  done
    1  the job or the operation failed
    2  the command line, or a file it names, is not usable
    3  not found
    4  unauthenticated, or the token's role does not allow it
    5  server unavailable or too slow: try again later
    6  the server refused the request (invalid, unsupported, conflicting)
    7  over a limit (size, quota, full queue)
    8  the job was cancelled
  130  interrupted";

/// An error with its exit code and, where there is one, advice.
#[derive(Debug)]
pub(crate) struct CliError {
    pub(crate) kind: Kind,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    /// What stands against a request, where the server says so field by field.
    pub(crate) reasons: Vec<Reason>,
    /// Everything that the server refuses about a model; shown below the message.
    pub(crate) refusals: Vec<Refusal>,
}

/// One thing that stands against a request.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Reason {
    /// The field of the request.
    pub(crate) field: String,
    /// What is wrong with it.
    pub(crate) description: String,
}

/// What every command returns.
pub(crate) type Result<T, E = CliError> = std::result::Result<T, E>;

impl CliError {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        CliError { kind, message: message.into(), hint: None, reasons: Vec::new(), refusals: Vec::new() }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Kind::Failed, message)
    }

    /// The server's reply has not the form that the protocol promises.
    pub(crate) fn protocol(message: impl fmt::Display) -> Self {
        Self::new(Kind::Failed, format!("the server's reply is not what the protocol promises: {message}"))
            .hint("check that client and server are of the same version: `dyadic --version`, `dyadic-server --version`")
    }

    pub(crate) fn file(path: &Path, error: impl fmt::Display) -> Self {
        Self::usage(format!("{}: {error}", path.display()))
    }

    /// A valid model, named `name`, that cannot be quantized.
    pub(crate) fn refused(name: &str, refusals: Vec<Refusal>) -> Self {
        let summary = refusal::summary(&refusals);
        let error = Self::new(Kind::Refused, format!("{name} cannot be quantized: {summary}"));
        let hint = if refusals.iter().any(|refusal| !refusal.nodes.is_empty()) {
            "build the network without these and export it again; --json lists every node"
        } else {
            "change the network and export it again"
        };
        CliError { refusals, ..error }.hint(hint)
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<Status> for CliError {
    fn from(status: Status) -> Self {
        let (kind, hint) = match status.code() {
            Code::NotFound => (Kind::NotFound, list_of(status.message())),
            Code::Unauthenticated => (
                Kind::Denied,
                Some(
                    "give a token with --token or DYADIC_TOKEN; on the server's own machine --data DIR finds it in DIR/token",
                ),
            ),
            Code::PermissionDenied => {
                (Kind::Denied, Some("ask an admin: `dyadic token create NAME --role submit`"))
            }
            Code::Unavailable => (
                Kind::Unavailable,
                Some("is the server up, and is --server right? `dyadic up` starts one here"),
            ),
            Code::DeadlineExceeded => (Kind::Unavailable, Some("the server is too slow just now; try again")),
            Code::InvalidArgument | Code::FailedPrecondition | Code::AlreadyExists | Code::OutOfRange => {
                (Kind::Refused, None)
            }
            Code::Unimplemented => (Kind::Refused, None),
            Code::ResourceExhausted => {
                (Kind::Exhausted, Some("make it smaller, or wait until what is queued is done"))
            }
            Code::Cancelled => (Kind::Cancelled, None),
            Code::DataLoss => {
                (Kind::Failed, Some("the stored bytes are damaged: push the model or run the job again"))
            }
            Code::Ok | Code::Unknown | Code::Aborted | Code::Internal => {
                (Kind::Failed, Some("the server's log tells the cause"))
            }
        };
        let message = match (status.message().is_empty(), source_of(&status)) {
            (false, Some(source)) if status.code() == Code::Unavailable => {
                format!("{}: {source}", status.message())
            }
            (false, _) => status.message().to_owned(),
            (true, _) => status.code().description().to_owned(),
        };
        let reasons = reasons(&status);
        let message = match reasons.len() {
            0 | 1 => message,
            n => format!("the server refused this for {n} reasons"),
        };
        CliError { hint: hint.map(str::to_owned), reasons, ..Self::new(kind, message) }
    }
}

/// The command that lists what was not found, by the server's words.
fn list_of(message: &str) -> Option<&'static str> {
    let lists = [
        ("no model ", "`dyadic model list` shows what is there"),
        ("no dataset ", "`dyadic dataset list` shows what is there"),
        ("no job ", "`dyadic job list` shows what is there"),
        ("no experiment ", "`dyadic runs experiments` shows what is there"),
        ("no token ", "`dyadic token list` shows what is there"),
        ("no served model ", "`dyadic model served` shows what is there"),
        ("no version ", "`dyadic model versions NAME` shows what is there"),
        ("no artifact ", "`dyadic model versions NAME` shows what is there"),
        ("unknown model ", "`dyadic model served` shows what is there"),
        ("model ", "`dyadic model versions NAME` shows what is there"),
    ];
    lists.into_iter().find(|(begins, _)| message.starts_with(begins)).map(|(_, list)| list)
}

/// What the server says field by field.
fn reasons(status: &Status) -> Vec<Reason> {
    let violations = status.get_details_bad_request().map(|details| details.field_violations);
    let reason = |v: tonic_types::FieldViolation| Reason { field: v.field, description: v.description };
    violations.into_iter().flatten().map(reason).collect()
}

/// The innermost cause: the transport wraps "Connection refused" several times.
fn source_of(status: &Status) -> Option<String> {
    let mut source = std::error::Error::source(status)?;
    while let Some(inner) = source.source() {
        source = inner;
    }
    Some(source.to_string())
}

impl From<dyadic_data::DataError> for CliError {
    fn from(error: dyadic_data::DataError) -> Self {
        CliError { hint: error.hint(), ..Self::usage(error.to_string()) }
    }
}

impl From<std::io::Error> for CliError {
    fn from(error: std::io::Error) -> Self {
        Self::failed(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_refusal_has_its_own_exit_code() {
        let code = |c: Code| CliError::from(Status::new(c, "x")).kind as i32;
        assert_eq!(code(Code::Internal), 1);
        assert_eq!(code(Code::NotFound), 3);
        assert_eq!(code(Code::Unauthenticated), 4);
        assert_eq!(code(Code::PermissionDenied), 4);
        assert_eq!(code(Code::Unavailable), 5);
        assert_eq!(code(Code::InvalidArgument), 6);
        assert_eq!(code(Code::Unimplemented), 6);
        assert_eq!(code(Code::ResourceExhausted), 7);
        assert_eq!(code(Code::Cancelled), 8);
    }

    #[test]
    fn what_is_not_found_is_looked_for_in_its_own_list() {
        let hint = |message: &str| CliError::from(Status::not_found(message)).hint.unwrap_or_default();
        for (message, list) in [
            ("no model \"a\"", "`dyadic model list`"),
            ("no job \"a\"", "`dyadic job list`"),
            ("no experiment \"a\"", "`dyadic runs experiments`"),
            ("no served model \"a\"", "`dyadic model served`"),
            ("unknown model \"a\"", "`dyadic model served`"),
            ("model \"a\" has no version 3", "`dyadic model versions NAME`"),
        ] {
            assert!(hint(message).starts_with(list), "{message}: {}", hint(message));
        }
        assert_eq!(hint("it is not there"), "");
    }

    #[test]
    fn the_help_lists_the_codes_that_are_used() {
        for kind in
            [Kind::Failed, Kind::Usage, Kind::NotFound, Kind::Denied, Kind::Unavailable, Kind::Refused]
        {
            assert!(EXIT_CODES.contains(&format!("{:>5}  ", kind as i32)));
        }
    }
}
