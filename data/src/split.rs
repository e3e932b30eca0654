//! The parts that a dataset can have.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A part of a dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Images to learn from.
    Train,
    /// Images to choose settings by.
    Validation,
    /// Images to measure on.
    Test,
}

impl Split {
    /// All of them.
    pub const ALL: [Split; 3] = [Split::Train, Split::Validation, Split::Test];

    /// What they are called, the first name of each being its own.
    pub(crate) const NAMES: [(&str, Split); 5] = [
        ("train", Split::Train),
        ("validation", Split::Validation),
        ("valid", Split::Validation),
        ("val", Split::Validation),
        ("test", Split::Test),
    ];

    /// `train`, `validation` or `test`.
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Validation => "validation",
            Split::Test => "test",
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is none of theirs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is none of train, validation and test")]
pub struct UnknownSplit(pub String);

impl FromStr for Split {
    type Err = UnknownSplit;

    fn from_str(name: &str) -> Result<Self, UnknownSplit> {
        let found = Split::NAMES.into_iter().find(|(known, _)| *known == name);
        found.map(|(_, split)| split).ok_or_else(|| UnknownSplit(name.to_owned()))
    }
}
