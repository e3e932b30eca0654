//! Why a file was refused.

use std::collections::HashMap;
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
    #[error("not supported: {}", text(.0))]
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

/// What is not supported about one operator for one reason, with every node that it is true of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The operator; empty if the whole model is meant.
    pub op: String,
    /// The operator's domain; empty for ONNX's own.
    pub domain: String,
    /// What is not supported about it.
    pub reason: String,
    /// The nodes' names in the order they run; none if the whole model is meant.
    pub nodes: Vec<String>,
}

impl Unsupported {
    /// The same by operator and reason: what is true of the whole model first, then the operators that most nodes have.
    pub fn grouped(items: &[Self]) -> Vec<Group> {
        let mut places = HashMap::new();
        let mut counts: HashMap<(&str, &str), usize> = HashMap::new();
        let mut groups: Vec<Group> = Vec::new();
        for Self { node, op, domain, reason } in items {
            let place = *places.entry((domain, op, reason)).or_insert_with(|| {
                let nodes = Vec::new();
                groups.push(Group { op: op.clone(), domain: domain.clone(), reason: reason.clone(), nodes });
                groups.len() - 1
            });
            if let (Some(node), Some(group)) = (node, groups.get_mut(place)) {
                group.nodes.push(node.clone());
                *counts.entry((domain, op)).or_insert(0) += 1;
            }
        }
        let count = |group: &Group| {
            counts.get(&(group.domain.as_str(), group.op.as_str())).copied().unwrap_or_default()
        };
        // Operators with equally many nodes stay apart by their names.
        groups.sort_by_cached_key(|group| {
            let (of_operator, own) = (count(group), group.nodes.len());
            let rank = |count: usize| std::cmp::Reverse(count);
            (own > 0, rank(of_operator), group.domain.clone(), group.op.clone(), rank(own))
        });
        groups
    }
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
        let Self { node, op, domain, reason } = self;
        let Some(node) = node else { return f.write_str(reason) };
        write!(f, "node `{}` ({}): {reason}", short(node), qualified(domain, op))
    }
}

/// The operator, how many nodes, the reason, and the first few names.
impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { op, domain, reason, nodes } = self;
        let op = qualified(domain, op);
        match nodes.as_slice() {
            [] => f.write_str(reason),
            [node] => write!(f, "node `{}` ({op}): {reason}", short(node)),
            nodes => {
                write!(f, "{} nodes ({op}): {reason}: ", nodes.len())?;
                let shown: Vec<String> =
                    nodes.iter().take(SHOWN).map(|node| format!("`{}`", short(node))).collect();
                f.write_str(&shown.join(", "))?;
                match nodes.len().saturating_sub(SHOWN) {
                    0 => Ok(()),
                    more => write!(f, " and {more} more"),
                }
            }
        }
    }
}

/// Names that a message gives of each group; the list itself is whole.
const SHOWN: usize = 3;

/// Longest name in a message, in characters.
const MAX_NAME: usize = 200;

fn short(name: &str) -> String {
    match name.char_indices().nth(MAX_NAME) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

fn qualified(domain: &str, op: &str) -> String {
    if domain.is_empty() { op.to_owned() } else { format!("{domain}.{op}") }
}

fn text(items: &[Unsupported]) -> String {
    Unsupported::grouped(items).iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
