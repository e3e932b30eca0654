//! Why a dataset or an image cannot be used, in words for whoever has it before them.

use std::fmt::Display;
use std::io;
use std::path::Path;

use crate::split::Split;

/// What every reader returns.
pub(crate) type Result<T, E = DataError> = std::result::Result<T, E>;

/// Why a dataset cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file or folder cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// Where.
        path: String,
        /// The cause.
        source: io::Error,
    },
    /// No known format's files are there.
    #[error("{path} holds no dataset of a known format")]
    Unknown {
        /// What was searched.
        path: String,
    },
    /// Some of a format's files are there, others are not.
    #[error("{folder} lacks {missing}")]
    Incomplete {
        /// Where the others are.
        folder: String,
        /// What is not there.
        missing: String,
    },
    /// A file does not hold what its name promises.
    #[error("{file}: {reason}")]
    Malformed {
        /// The file.
        file: String,
        /// Expected and actual.
        reason: String,
    },
    /// What is there is sound, and cannot be used all the same.
    #[error("{path}: {reason}")]
    Unusable {
        /// What it is about.
        path: String,
        /// Why.
        reason: String,
        /// What to do; may be empty.
        hint: String,
    },
    /// The dataset has no such split.
    #[error("there is no split '{asked}'; the dataset has {known}")]
    NoSplit {
        /// The split that was asked for.
        asked: Split,
        /// Those that are there.
        known: String,
    },
}

impl DataError {
    pub(crate) fn io(path: &Path) -> impl Fn(io::Error) -> DataError + '_ {
        move |source| DataError::Io { path: path.display().to_string(), source }
    }

    pub(crate) fn malformed(file: impl Display, reason: impl Display) -> Self {
        DataError::Malformed { file: file.to_string(), reason: reason.to_string() }
    }

    pub(crate) fn unusable(path: impl Display, reason: impl Display) -> Self {
        DataError::Unusable { path: path.to_string(), reason: reason.to_string(), hint: String::new() }
    }

    pub(crate) fn hinted(path: impl Display, reason: impl Display, hint: impl Display) -> Self {
        DataError::Unusable { path: path.to_string(), reason: reason.to_string(), hint: hint.to_string() }
    }

    /// What to do about it, where there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            DataError::Unknown { .. } => Some(crate::format::known()),
            DataError::Incomplete { .. } => {
                Some("the other files of this dataset are there; is a download incomplete?".into())
            }
            DataError::Unusable { hint, .. } => (!hint.is_empty()).then(|| hint.clone()),
            DataError::Io { .. } | DataError::Malformed { .. } | DataError::NoSplit { .. } => None,
        }
    }
}
