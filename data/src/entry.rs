//! One file of a dataset: on disk, in the middle of a tar, or listed in a manifest and fetched or not.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::read::GzDecoder;
use sha2::{Digest as _, Sha256};

use crate::dataset::hex;
use crate::error::{DataError, Result};
use crate::manifest::Listed;

/// The most that is read of one file, unpacked.
pub(crate) const FILE_LIMIT: u64 = 1 << 30;

/// A file of a dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its path inside the dataset's tar: relative, `/` between the parts.
    pub name: String,
    /// The file that holds its bytes.
    path: PathBuf,
    /// Where in that file they begin.
    start: u64,
    /// How many they are.
    pub size_bytes: u64,
    /// What a manifest says that it is.
    listed: Option<Arc<Listed>>,
}

impl Entry {
    /// A file of its own.
    ///
    /// # Errors
    /// [`DataError`] if it is not there or no regular file.
    pub fn file(path: &Path, name: impl Into<String>) -> Result<Self> {
        let meta = std::fs::metadata(path).map_err(DataError::io(path))?;
        if !meta.is_file() {
            return Err(DataError::unusable(path.display(), "is not a file"));
        }
        Ok(Self::within(path, name, 0, meta.len()))
    }

    /// A file that a manifest lists; nobody knows yet where it is.
    pub(crate) fn listed(name: impl Into<String>, listed: &Arc<Listed>) -> Self {
        let entry = Self::within(Path::new(""), name, 0, listed.size_bytes);
        Entry { listed: Some(Arc::clone(listed)), ..entry }
    }

    /// The same file, at this path.
    pub(crate) fn at(self, path: PathBuf) -> Self {
        Entry { path, ..self }
    }

    /// What a manifest says of it.
    pub(crate) fn claim(&self) -> Option<&Arc<Listed>> {
        self.listed.as_ref()
    }

    /// The folder that the name is below; none for what is no file of its own.
    pub fn root(&self) -> Option<PathBuf> {
        let below = Path::new(&self.name).components().count();
        if self.start != 0 || !self.path.ends_with(&self.name) {
            return None;
        }
        self.path.ancestors().nth(below).map(Path::to_owned)
    }

    /// `size_bytes` from `start` on, inside another file.
    pub(crate) fn within(path: &Path, name: impl Into<String>, start: u64, size_bytes: u64) -> Self {
        Entry { name: name.into(), path: path.to_owned(), start, size_bytes, listed: None }
    }

    pub(crate) fn renamed(self, name: &str) -> Self {
        Entry { name: name.to_owned(), ..self }
    }

    /// What messages call it: its path, or its name where it lies in a tar.
    pub fn shown(&self) -> String {
        // Inside a tar a header comes first.
        if self.start != 0 || self.listed.is_some() {
            self.name.clone()
        } else {
            self.path.display().to_string()
        }
    }

    /// Its bytes as they are, from `position` on.
    pub(crate) fn raw(&self, position: u64) -> io::Result<Window> {
        if self.path.as_os_str().is_empty() {
            return Err(io::Error::other("it is listed in a manifest and has not been fetched"));
        }
        let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", self.path.display()));
        let file = File::open(&self.path).map_err(named)?;
        let mut window = Window { file, start: self.start, size: self.size_bytes, at: 0 };
        window.seek(SeekFrom::Start(position)).map_err(named)?;
        Ok(window)
    }

    /// Its bytes, unpacked if its name ends in `.gz`; reading past [`FILE_LIMIT`] is an error.
    pub(crate) fn open(&self) -> Result<Content> {
        if self.size_bytes > FILE_LIMIT {
            return Err(DataError::malformed(
                self.shown(),
                format!("{} bytes; up to {FILE_LIMIT} are read", self.size_bytes),
            ));
        }
        let raw = self.raw(0).map_err(|source| DataError::Io { path: self.shown(), source })?;
        let reader = BufReader::with_capacity(1 << 16, raw);
        let reader: Box<dyn Read> = if self.is_packed() {
            Box::new(BufReader::new(GzDecoder::new(reader)))
        } else {
            Box::new(reader)
        };
        Ok(Content { reader, left: FILE_LIMIT, shown: self.shown() })
    }

    /// Whether its bytes are gzip's.
    fn is_packed(&self) -> bool {
        Path::new(&self.name).extension().is_some_and(|ending| ending == "gz")
    }

    /// Its first bytes, at most so many.
    pub(crate) fn head(&self, most: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open()?.take(most).read_to_end(&mut bytes).map_err(|e| broken(&self.shown(), e))?;
        Ok(bytes)
    }

    /// All its bytes, if they are at most `limit`.
    pub(crate) fn read(&self, limit: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let content = self.open()?;
        content.take(limit + 1).read_to_end(&mut bytes).map_err(|e| broken(&self.shown(), e))?;
        if bytes.len() as u64 > limit {
            return Err(DataError::malformed(self.shown(), format!("it is larger than {limit} bytes")));
        }
        self.check(&bytes)?;
        Ok(bytes)
    }

    /// Holds the bytes against what a manifest says of them.
    fn check(&self, bytes: &[u8]) -> Result<()> {
        let Some(listed) = &self.listed else { return Ok(()) };
        if bytes.len() as u64 == listed.size_bytes && hex(Sha256::new_with_prefix(bytes)) == listed.sha256 {
            return Ok(());
        }
        Err(DataError::hinted(
            self.shown(),
            "it has changed since the manifest was made: its bytes have another hash",
            "make a new manifest and push it",
        ))
    }
}

/// A part of a file, as if it were one.
#[derive(Debug)]
pub(crate) struct Window {
    file: File,
    start: u64,
    size: u64,
    at: u64,
}

impl Read for Window {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = self.size.saturating_sub(self.at).min(buffer.len() as u64) as usize;
        let n = self.file.read(&mut buffer[..most])?;
        self.at += n as u64;
        Ok(n)
    }
}

impl Seek for Window {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
        };
        let place = at.and_then(|at| at.checked_add(self.start)).ok_or(io::ErrorKind::InvalidInput)?;
        self.file.seek(SeekFrom::Start(place))?;
        self.at = place - self.start;
        Ok(self.at)
    }
}

/// A file's content while it is read.
pub(crate) struct Content {
    reader: Box<dyn Read>,
    left: u64,
    shown: String,
}

impl Content {
    /// The next bytes, all of them; `what` says what they should be.
    pub(crate) fn fill(&mut self, buffer: &mut [u8], what: &str) -> Result<()> {
        let shown = self.shown.clone();
        self.read_exact(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => DataError::malformed(&shown, format!("it ends before {what}")),
            _ => broken(&shown, error),
        })
    }

    /// Refuses bytes after the last one.
    pub(crate) fn end(&mut self, what: &str) -> Result<()> {
        match self.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(DataError::malformed(&self.shown, format!("more bytes follow after {what}"))),
            Err(error) => Err(broken(&self.shown, error)),
        }
    }
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.reader.read(buffer)?;
        self.left = self.left.checked_sub(n as u64).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("it unpacks to more than {FILE_LIMIT} bytes"))
        })?;
        Ok(n)
    }
}

/// Bytes that cannot be unpacked are the file's fault, all else the disk's.
fn broken(shown: &str, source: io::Error) -> DataError {
    match source.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof => {
            DataError::malformed(shown, source)
        }
        _ => DataError::Io { path: shown.to_owned(), source },
    }
}
