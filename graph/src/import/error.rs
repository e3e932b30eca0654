//! Why a file was refused.

use std::fmt;

/// A file that cannot become a [`Network`](crate::network::Network).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The bytes are not an ONNX protobuf message.
    #[error("not an ONNX file: {0}")]
    NotOnnx(String),
    /// The graph contradicts itself or the ONNX specification.
    #[error("malformed graph: {0}")]
    Graph(String),
    /// One node contradicts itself, its operands or the ONNX specification.
    #[error("malformed node `{node}` ({op}): {reason}")]
    Node {
        /// The node's name, or its first output's where it has none.
        node: String,
        /// Its operator.
        op: String,
        /// What is wrong.
        reason: String,
    },
    /// A constant's shape, data or values are wrong.
    #[error("malformed constant `{tensor}`: {reason}")]
    Constant {
        /// The constant's name.
        tensor: String,
        /// What is wrong.
        reason: String,
    },
    /// A constant's data lies in a side file that is missing, badly named or too short.
    #[error("constant `{tensor}`, side file `{file}`: {reason}")]
    SideFile {
        /// The constant's name.
        tensor: String,
        /// The file's name as the model gives it.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// A cap is passed.
    #[error("{what} would be {actual}, over the limit of {limit}")]
    TooLarge {
        /// What is counted, with its unit.
        what: String,
        /// How much there is (saturating).
        actual: u64,
        /// How much there may be.
        limit: u64,
    },
    /// Valid ONNX that this version cannot represent; everything found is listed.
    #[error("not supported: {}", list(.0))]
    Unsupported(Vec<Unsupported>),
}

/// One thing that is valid but not supported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsupported {
    /// The node's name, or its first output's where it has none; absent if the whole model is meant.
    pub node: Option<String>,
    /// Its operator; empty if the whole model is meant.
    pub op: String,
    /// The operator's domain; empty for ONNX's own.
    pub domain: String,
    /// What is not supported about it.
    pub reason: String,
}

/// The class of an [`ImportError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The file is wrong.
    Malformed,
    /// The file is right, but beyond what can be represented.
    Unsupported,
    /// The file passes a cap.
    TooLarge,
}

impl ImportError {
    /// The class of the error, which decides what a caller answers.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotOnnx(_)
            | Self::Graph(_)
            | Self::Node { .. }
            | Self::Constant { .. }
            | Self::SideFile { .. } => ErrorKind::Malformed,
            Self::TooLarge { .. } => ErrorKind::TooLarge,
            Self::Unsupported(_) => ErrorKind::Unsupported,
        }
    }
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(node) = &self.node else { return f.write_str(&self.reason) };
        let separator = if self.domain.is_empty() { "" } else { "." };
        write!(f, "node `{node}` ({}{separator}{}): {}", self.domain, self.op, self.reason)
    }
}

fn list(items: &[Unsupported]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
