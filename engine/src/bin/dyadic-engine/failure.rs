//! Why a command failed, and with which exit code.

use std::path::{Path, PathBuf};

use dyadic_engine::certificate::Mismatch;
use dyadic_engine::{ArtifactError, EngineError, RunError};

/// A failed command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Standard output cannot be written.
    #[error("standard output: {0}")]
    Output(#[from] std::io::Error),
    /// The file is not an artifact.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// The artifact's model cannot be run here.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The execution is not exact, or nothing proves it.
    #[error("NOT VERIFIED: {0}")]
    Verification(#[from] Mismatch<RunError>),
    /// The reference itself computes something else.
    #[error("NOT VERIFIED: reference: {0}")]
    Reference(String),
    /// The input does not fit.
    #[error("input: {0}")]
    Input(String),
    /// The engine refused the input.
    #[error("input: {0}")]
    Run(#[from] RunError),
}

impl Failure {
    /// A file's error.
    pub(crate) fn file(path: &Path, source: std::io::Error) -> Self {
        Failure::File { path: path.to_owned(), source }
    }

    /// The process's exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Failure::File { .. } | Failure::Output(_) => 1,
            Failure::Artifact(_) | Failure::Engine(_) => 3,
            Failure::Verification(_) | Failure::Reference(_) => 4,
            Failure::Input(_) | Failure::Run(_) => 5,
        }
    }
}
