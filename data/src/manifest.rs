//! Datasets that stay where they are: a text with each picture's name, size, hash and extents, over a folder or an S3 prefix
//! that workers see. It travels in place of the pictures, and says of each what it must be.
//!
//! The first line is `{"dyadic_manifest":1,"base":"/data/photos"}`, or `s3://bucket/prefix`; every other is a picture's,
//! `{"name":"train/cat/1.jpg","size":20481,"sha256":"…","shape":[480,640,3]}`: its path below the base, its bytes, and
//! height, width and channels, or `null` where its header could not be read.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read as _, Write};
use std::path::{Component, Path};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::dataset::hex;
use crate::entry::Entry;
use crate::error::{DataError, Result};
use crate::picture::Picture;
use crate::source::Source;

/// What a manifest is called in a dataset's tar.
pub const NAME: &str = "dyadic-manifest.jsonl";
/// The form that is read and written.
const VERSION: u32 = 1;
/// The longest line, bytes.
const LINE_LIMIT: u64 = 8 << 10;
/// The most pictures: what is kept of each takes some hundred bytes, and whoever pushes a manifest chooses their number.
const FILES_LIMIT: usize = 1 << 21;
/// The most pixels that a picture may claim.
const PIXELS_LIMIT: usize = 1 << 28;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    dyadic_manifest: u32,
    base: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    name: String,
    size: u64,
    sha256: String,
    shape: Option<[usize; 3]>,
}

/// What a manifest says of a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its bytes.
    pub size_bytes: u64,
    /// Their SHA-256, 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// Height, width and channels; none where its header could not be read.
    pub shape: Option<[usize; 3]>,
}

/// The pictures of a dataset, and where they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    base: String,
    files: BTreeMap<String, Arc<Listed>>,
}

impl Manifest {
    /// No picture yet, over an absolute folder or `s3://bucket/prefix`.
    ///
    /// # Errors
    /// If the base is neither.
    pub fn new(base: &str) -> Result<Self> {
        let trimmed = base.trim_end_matches('/');
        let sound = match trimmed.strip_prefix("s3://") {
            Some(rest) => {
                let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                !bucket.is_empty() && (prefix.is_empty() || is_plain(prefix))
            }
            None => trimmed.strip_prefix('/').is_some_and(is_plain),
        };
        if !sound {
            return Err(DataError::hinted(
                "manifest",
                format!("'{base}' is no place that workers could see"),
                "give an absolute path without '..', or s3://bucket/prefix",
            ));
        }
        Ok(Manifest { base: trimmed.to_owned(), files: BTreeMap::new() })
    }

    /// All pictures of an image folder; over the folder itself if no base is given. `told` is given the bytes of each as it is
    /// done.
    ///
    /// # Errors
    /// If the source is no image folder on disk, or a file cannot be read.
    pub fn of(source: &Source, base: Option<&str>, told: &mut dyn FnMut(u64)) -> Result<Self> {
        let root = source.entries().first().and_then(Entry::root).filter(|_| source.format().is_of_folders());
        let Some(root) = root else {
            return Err(DataError::hinted(
                source.format().title(),
                "has no pictures in files of their own",
                "a manifest lists the pictures of an image folder; push other datasets as they are",
            ));
        };
        let root = root.canonicalize().map_err(DataError::io(&root))?;
        let own =
            root.to_str().ok_or_else(|| DataError::unusable(root.display(), "its path is not UTF-8"))?;
        let mut manifest = Manifest::new(base.unwrap_or(own))?;
        for entry in source.entries() {
            manifest.add(&entry.name, entry)?;
            told(entry.size_bytes);
        }
        Ok(manifest)
    }

    /// Takes a picture in, reading all of it.
    ///
    /// # Errors
    /// If it cannot be read or its name cannot stand below the base; a header that makes no sense is noted, not an error.
    pub fn add(&mut self, name: &str, file: &Entry) -> Result<()> {
        if !is_plain(name) {
            return Err(DataError::unusable(file.shown(), format!("'{name}' is no plain relative path")));
        }
        let (mut hash, mut size_bytes) = (Sha256::new(), 0);
        let mut content = file.open()?;
        let mut buffer = vec![0; 1 << 16];
        loop {
            let read = content.read(&mut buffer);
            let n = read.map_err(|source| DataError::Io { path: file.shown(), source })?;
            if n == 0 {
                break;
            }
            hash.update(&buffer[..n]);
            size_bytes += n as u64;
        }
        let shape = match Picture::shape(file) {
            Ok(shape) => Some(shape),
            Err(DataError::Malformed { .. }) => None,
            Err(error) => return Err(error),
        };
        self.files.insert(name.to_owned(), Arc::new(Listed { size_bytes, sha256: hex(hash), shape }));
        Ok(())
    }

    /// The folder or S3 prefix that the names are below.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The pictures by name, sorted.
    pub fn files(&self) -> &BTreeMap<String, Arc<Listed>> {
        &self.files
    }

    /// Bytes of all pictures.
    pub fn size_bytes(&self) -> u64 {
        self.files.values().map(|listed| listed.size_bytes).sum()
    }

    /// Writes the text; equal manifests give equal bytes.
    ///
    /// # Errors
    /// What the writer says.
    pub fn write(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let mut line = |value: serde_json::Result<String>| writeln!(out, "{}", value?);
        line(serde_json::to_string(&Head { dyadic_manifest: VERSION, base: self.base.clone() }))?;
        for (name, Listed { size_bytes, sha256, shape }) in self.files.iter().map(|(n, l)| (n, l.as_ref())) {
            let of = Line { name: name.clone(), size: *size_bytes, sha256: sha256.clone(), shape: *shape };
            line(serde_json::to_string(&of))?;
        }
        Ok(())
    }

    /// Reads the text.
    pub(crate) fn read(entry: &Entry) -> Result<Self> {
        let bad = |line: usize, reason: &dyn std::fmt::Display| {
            DataError::malformed(entry.shown(), format!("line {line}: {reason}"))
        };
        let mut content = BufReader::new(entry.open()?);
        let mut text = Vec::new();
        let mut manifest: Option<Manifest> = None;
        for number in 1.. {
            text.clear();
            let read = (&mut content).take(LINE_LIMIT + 1).read_until(b'\n', &mut text);
            let n = read.map_err(|source| DataError::Io { path: entry.shown(), source })?;
            if n == 0 {
                break;
            }
            if n as u64 > LINE_LIMIT {
                return Err(bad(number, &format!("it is longer than {LINE_LIMIT} bytes")));
            }
            let Some(manifest) = &mut manifest else {
                let head: Head = serde_json::from_slice(&text).map_err(|e| bad(number, &e))?;
                if head.dyadic_manifest != VERSION {
                    let reason = format!("its version is {}, not {VERSION}", head.dyadic_manifest);
                    return Err(bad(number, &reason));
                }
                manifest = Some(Manifest::new(&head.base)?);
                continue;
            };
            let line: Line = serde_json::from_slice(&text).map_err(|e| bad(number, &e))?;
            let (name, listed) = checked(line).map_err(|reason| bad(number, &reason))?;
            if manifest.files.len() >= FILES_LIMIT {
                return Err(bad(number, &format!("more than {FILES_LIMIT} pictures")));
            }
            if manifest.files.insert(name, Arc::new(listed)).is_some() {
                return Err(bad(number, &"its name comes twice"));
            }
        }
        manifest.ok_or_else(|| DataError::malformed(entry.shown(), "it is empty"))
    }
}

/// What a line says, if it can be.
fn checked(line: Line) -> std::result::Result<(String, Listed), String> {
    let Line { name, size, sha256, shape } = line;
    if !is_plain(&name) {
        return Err(format!("'{name}' is no plain relative path"));
    }
    if sha256.len() != 64 || !sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Err("its sha256 is not 64 lower-case hexadecimal digits".into());
    }
    if let Some([height, width, channels]) = shape {
        let pixels = height.checked_mul(width).filter(|&pixels| (1..=PIXELS_LIMIT).contains(&pixels));
        if pixels.is_none() || !matches!(channels, 1 | 3) {
            return Err(format!("no picture is {height} × {width} of {channels} channels"));
        }
    }
    Ok((name, Listed { size_bytes: size, sha256, shape }))
}

/// Whether a path stays below where it begins, and is written in the one way.
fn is_plain(path: &str) -> bool {
    let parts = Path::new(path).components();
    let parts = parts.map(|part| match part {
        Component::Normal(part) => part.to_str(),
        _ => None,
    });
    let parts: Option<Vec<&str>> = parts.collect();
    !path.chars().any(char::is_control) && !path.is_empty() && parts.is_some_and(|p| p.join("/") == path)
}

#[cfg(test)]
mod tests;
