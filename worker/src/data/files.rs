//! Files by base name, from a folder or from a tar archive, gzipped or not.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::Path;

use flate2::read::GzDecoder;

use super::DataError;

/// The largest file that is read into memory.
const FILE_LIMIT: u64 = 1 << 30;
/// Folders are searched this deep.
const DEPTH: usize = 3;

fn io_error(path: &Path) -> impl Fn(io::Error) -> DataError + '_ {
    move |source| DataError::Io { path: path.to_path_buf(), source }
}

/// Base names of all files.
pub(super) fn names(path: &Path) -> Result<Vec<String>, DataError> {
    let mut names = Vec::new();
    visit(path, &mut |name, _| {
        names.push(name.to_string());
        Ok(false)
    })?;
    Ok(names)
}

/// The content of the files with the given base names; those that are missing are named in the error.
pub(super) fn read(path: &Path, wanted: &[&str]) -> Result<BTreeMap<String, Vec<u8>>, DataError> {
    let mut found = BTreeMap::new();
    visit(path, &mut |name, content| {
        if wanted.contains(&name) && !found.contains_key(name) {
            let mut bytes = Vec::new();
            content.take(FILE_LIMIT).read_to_end(&mut bytes)?;
            if bytes.starts_with(&[0x1f, 0x8b]) {
                let mut plain = Vec::new();
                GzDecoder::new(bytes.as_slice()).take(FILE_LIMIT).read_to_end(&mut plain)?;
                bytes = plain;
            }
            found.insert(name.to_string(), bytes);
        }
        Ok(found.len() == wanted.len())
    })?;
    match wanted.iter().find(|name| !found.contains_key(**name)) {
        Some(missing) => {
            Err(DataError::Unknown { path: path.to_path_buf(), missing: (*missing).to_string() })
        }
        None => Ok(found),
    }
}

/// Called with each file's base name and content; true ends the walk.
type Visitor<'a> = dyn FnMut(&str, &mut dyn Read) -> io::Result<bool> + 'a;

fn visit(path: &Path, visitor: &mut Visitor) -> Result<(), DataError> {
    let metadata = fs::metadata(path).map_err(io_error(path))?;
    if metadata.is_dir() {
        visit_folder(path, DEPTH, visitor).map(|_| ())
    } else {
        visit_archive(path, visitor)
    }
}

fn visit_folder(folder: &Path, depth: usize, visitor: &mut Visitor) -> Result<bool, DataError> {
    let mut entries: Vec<_> = fs::read_dir(folder)
        .and_then(Iterator::collect::<io::Result<Vec<_>>>)
        .map_err(io_error(folder))?
        .into_iter()
        .map(|e| e.path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            if depth > 0 && visit_folder(&path, depth - 1, visitor)? {
                return Ok(true);
            }
            continue;
        }
        let Some(name) = path.file_name().and_then(|n| n.to_str()) else { continue };
        let mut file = LazyFile { path: &path, file: None };
        if visitor(name, &mut file).map_err(io_error(&path))? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Opened when first read: listing names opens nothing.
struct LazyFile<'a> {
    path: &'a Path,
    file: Option<BufReader<File>>,
}

impl Read for LazyFile<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.file.is_none() {
            self.file = Some(BufReader::new(File::open(self.path)?));
        }
        self.file.as_mut().map_or(Ok(0), |f| f.read(buffer))
    }
}

fn visit_archive(path: &Path, visitor: &mut Visitor) -> Result<(), DataError> {
    let error = io_error(path);
    let mut magic = [0; 2];
    let mut file = File::open(path).map_err(&error)?;
    file.read_exact(&mut magic).map_err(&error)?;
    let file = BufReader::new(File::open(path).map_err(&error)?);
    let content: Box<dyn Read> =
        if magic == [0x1f, 0x8b] { Box::new(GzDecoder::new(file)) } else { Box::new(file) };
    let mut archive = tar::Archive::new(content);
    for entry in archive.entries().map_err(&error)? {
        let mut entry = entry.map_err(&error)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = entry.path().map_err(&error)?.file_name().and_then(|n| n.to_str()).map(str::to_string);
        let Some(name) = name else { continue };
        if visitor(&name, &mut entry).map_err(&error)? {
            return Ok(());
        }
    }
    Ok(())
}
