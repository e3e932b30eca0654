//! Why an upload was refused.

use std::io;

/// An upload that breaks its rules, or that cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// A chunk came first, or nothing at all.
    #[error("the stream must begin with a header")]
    NoHeader,
    /// A second header came.
    #[error("a second header came")]
    SecondHeader,
    /// A message with neither header nor chunk.
    #[error("a message holds neither a header nor a chunk")]
    EmptyMessage,
    /// The header declares no file, or more than one where there is one.
    #[error("the header declares {actual} files; {expected}")]
    FileCount {
        /// How many.
        actual: usize,
        /// How many it should be, in words.
        expected: String,
    },
    /// A name that could point elsewhere or cannot be shown.
    #[error("{what} {name:?}: {reason}")]
    Name {
        /// What is named.
        what: &'static str,
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Two files of one name.
    #[error("two files are named {0:?}")]
    DuplicateName(String),
    /// A sha256 is 32 bytes.
    #[error("file {file:?}: a sha256 has 32 bytes, not {actual}")]
    HashLength {
        /// The file.
        file: String,
        /// Bytes given.
        actual: usize,
    },
    /// Over the cap.
    #[error("{actual} bytes are declared; the limit is {limit}")]
    TooLarge {
        /// Declared bytes of all files.
        actual: u64,
        /// The cap.
        limit: u64,
    },
    /// A chunk for a file that is not the next.
    #[error("a chunk is for file {actual}; file {expected} is next")]
    WrongFile {
        /// Index given.
        actual: u32,
        /// Index of the file that is not complete yet.
        expected: usize,
    },
    /// A chunk that does not go on where the last one ended.
    #[error("file {file:?}: a chunk starts at {actual}; {expected} bytes are here")]
    Gap {
        /// The file.
        file: String,
        /// Offset given.
        actual: u64,
        /// Offset that goes on.
        expected: u64,
    },
    /// More bytes than declared.
    #[error("file {file:?}: a chunk ends at {end}; {declared} bytes are declared")]
    Overrun {
        /// The file.
        file: String,
        /// Where the chunk would end.
        end: u64,
        /// Declared bytes.
        declared: u64,
    },
    /// The stream ended too early.
    #[error("file {file:?}: the stream ended after {received} of {declared} bytes")]
    Truncated {
        /// The first file that is not complete.
        file: String,
        /// Bytes received.
        received: u64,
        /// Bytes declared.
        declared: u64,
    },
    /// Other bytes than declared.
    #[error("file {file:?}: the sha256 is {actual}, declared is {declared}")]
    HashMismatch {
        /// The file.
        file: String,
        /// Of what came.
        actual: String,
        /// From the header.
        declared: String,
    },
    /// A header's offset that is not what is here.
    #[error("the header goes on from {actual}; {expected} bytes are here: ask UploadOffset")]
    WrongOffset {
        /// Offset in the header.
        actual: u64,
        /// Bytes here.
        expected: u64,
    },
    /// A dataset that is not a plain tar.
    #[error("the tar: {0}")]
    Tar(String),
    /// Another upload of the same bytes is under way.
    #[error("the same bytes are being uploaded right now")]
    Busy,
    /// What was pushed before is not whole any more.
    #[error("the bytes that were pushed before are damaged; push them again, and they are replaced")]
    Damaged,
    /// Nothing came for too long.
    #[error("nothing came for {0} seconds")]
    Idle(u64),
    /// The disk failed or is full.
    #[error("the upload cannot be kept: {0}")]
    Io(#[from] io::Error),
}

/// A hash for people.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from_digit(u32::from(half), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
