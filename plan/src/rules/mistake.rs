//! What is wrong with settings or with a plan's text, each with the place where it stands.

use std::fmt;

/// Most mistakes that are told at once.
pub(super) const MAX_MISTAKES: usize = 100;

/// Longest line, in bytes, whose characters are counted.
const LONGEST_LINE: usize = 4096;

/// Where something stands in a text; both count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The character in the line; in a line of more than 4096 bytes, the byte.
    pub column: usize,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The setting that it concerns, as a job's specification calls it; `plan` for a plan's text.
    pub field: &'static str,
    /// Where it stands in the plan's text.
    pub place: Option<Place>,
    /// What is wrong, and what would do.
    pub what: String,
}

/// All that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct Mistakes(pub Vec<Mistake>);

/// The same places in the order of the text.
pub(super) struct Lines {
    /// First byte of each line.
    starts: Vec<usize>,
}

impl Lines {
    pub(super) fn of(text: &str) -> Self {
        Lines { starts: std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect() }
    }

    /// The place of a byte.
    pub(super) fn place(&self, text: &str, byte: usize) -> Place {
        let line = self.starts.partition_point(|&start| start <= byte).max(1);
        let start = self.starts.get(line - 1).copied().unwrap_or(0);
        let before = match text.get(start..byte) {
            Some(before) if before.len() <= LONGEST_LINE => before.chars().count(),
            _ => byte.saturating_sub(start),
        };
        Place { line, column: before + 1 }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Some(place) => write!(f, "{place}: {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}
