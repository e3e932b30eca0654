//! What can go wrong while quantizing, and whether trying again may help.

/// A failed quantization.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The ONNX bundle cannot be imported.
    #[error("the model cannot be imported: {0}")]
    Import(#[from] dyadic_graph::ImportError),
    /// The network holds something that cannot be quantized.
    #[error(transparent)]
    Unsupported(#[from] dyadic_plan::Refusal),
    /// Layers that cannot be quantized.
    #[error("the network cannot be quantized: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Refused(Vec<dyadic_plan::Refusal>),
    /// The dataset cannot be read.
    #[error("the dataset cannot be used: {0}")]
    Data(#[from] crate::data::DataError),
    /// Dataset and network do not fit together, or a setting is out of range.
    #[error("{0}")]
    Invalid(String),
    /// The loss or a parameter became NaN or infinite, or grew without bound.
    #[error("training diverged: {what} at step {step}; try a lower learning rate than {learning_rate}")]
    Diverged {
        /// What was seen.
        what: String,
        /// Optimizer step.
        step: u64,
        /// The configured peak rate.
        learning_rate: f64,
    },
    /// The training graph and the engine disagree: a fault of ours, never of the input.
    #[error("the engine and the training graph differ first at '{node}' on image {image}: {detail}")]
    NotExact {
        /// First differing node.
        node: String,
        /// Index of the image.
        image: usize,
        /// Expected and actual.
        detail: String,
    },
    /// A filter's sums could pass 32 bits.
    #[error("layer '{layer}': |acc| may reach {bound}, past 2^31; quantize it to fewer bits")]
    Overflow {
        /// The layer.
        layer: String,
        /// The proven bound.
        bound: u64,
    },
    /// A checkpoint does not belong to this job or is damaged.
    #[error("the checkpoint cannot be resumed: {0}")]
    Checkpoint(String),
    /// The finished model failed the engine's own checks.
    #[error("the integer network is not valid: {0}")]
    Model(String),
    /// libtorch refused an operation (often: out of memory).
    #[error("libtorch: {0}")]
    Torch(#[from] tch::TchError),
    /// Reading or writing failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// The cause.
        source: std::io::Error,
    },
    /// The observer asked to stop (cancelled, draining or the lease was lost).
    #[error("stopped before the end")]
    Stopped,
}

impl WorkerError {
    /// Whether the same job may succeed when run again unchanged.
    pub fn is_retryable(&self) -> bool {
        matches!(self, WorkerError::Torch(_) | WorkerError::Io { .. } | WorkerError::Stopped)
    }

    /// A short stable code for the job's record.
    pub fn code(&self) -> &'static str {
        match self {
            WorkerError::Import(_) => "model_import",
            WorkerError::Unsupported(_) | WorkerError::Refused(_) => "model_unsupported",
            WorkerError::Data(_) => "dataset",
            WorkerError::Invalid(_) => "invalid",
            WorkerError::Diverged { .. } => "diverged",
            WorkerError::NotExact { .. } => "not_exact",
            WorkerError::Overflow { .. } => "overflow",
            WorkerError::Checkpoint(_) => "checkpoint",
            WorkerError::Model(_) => "model_invalid",
            WorkerError::Torch(_) => "libtorch",
            WorkerError::Io { .. } => "io",
            WorkerError::Stopped => "stopped",
        }
    }
}
