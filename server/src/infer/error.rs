//! Why an inference request was not answered.

use dyadic_engine::ArtifactError;
use dyadic_engine::EngineError;

/// A request that cannot be answered, or a version that cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum InferError {
    /// Something about the request is wrong.
    #[error("{0}")]
    Request(String),
    /// Something that the protocol has and this server does not.
    #[error("{0} is not supported")]
    Unsupported(String),
    /// No such name.
    #[error("unknown model {0:?}")]
    UnknownModel(String),
    /// No such version of the name.
    #[error("model {model:?} has no version {version}")]
    UnknownVersion {
        /// Served name.
        model: String,
        /// Version asked for.
        version: u64,
    },
    /// Known, but not ready.
    #[error("model {model:?} is not ready: {reason}")]
    NotReady {
        /// Served name.
        model: String,
        /// Why.
        reason: String,
    },
    /// Its versions are kept, and none was let live.
    #[error(
        "model {model:?} has no live version: the gate keeps what it has. `dyadic model promote {model} {version}` makes \
         version {version} live, and a request may name it"
    )]
    NotLive {
        /// Served name.
        model: String,
        /// Its newest version.
        version: u64,
    },
    /// The queue holds as many requests as it may.
    #[error("model {model:?} has {limit} requests waiting, which is the limit")]
    QueueFull {
        /// Served name.
        model: String,
        /// Most requests.
        limit: usize,
    },
    /// It waited too long.
    #[error("the request waited {waited_ms} ms in the queue of model {model:?}")]
    QueueTimeout {
        /// Served name.
        model: String,
        /// How long it waited.
        waited_ms: u64,
    },
    /// The caller's deadline passed while it waited.
    #[error("the deadline passed before the request ran")]
    Deadline,
    /// The version was unloaded while the request waited.
    #[error("model {0:?} was unloaded")]
    Unloaded(String),
    /// The engine failed on a request that was checked.
    #[error("the engine failed: {0}")]
    Engine(String),
}

/// Why a version cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Its file cannot be read as an artifact.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// No engine for it.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// It computes something else than its certificate says.
    #[error("it does not compute what its certificate says: {0}")]
    Certificate(String),
    /// A sample does not fit into the largest message.
    #[error("one sample has {sample_bytes} bytes; the largest message has {limit}")]
    TooLarge {
        /// Bytes of one FP32 sample.
        sample_bytes: usize,
        /// The server's message limit.
        limit: usize,
    },
    /// Replaying its certificate would take too long.
    #[error(
        "replaying its certificate takes {macs} multiply-accumulates; {limit} are allowed: give it fewer golden inputs"
    )]
    TooMuchToReplay {
        /// Of all golden inputs.
        macs: u64,
        /// The most.
        limit: u64,
    },
    /// The threads that run it cannot be started.
    #[error("threads cannot be started: {0}")]
    Threads(#[from] std::io::Error),
}
