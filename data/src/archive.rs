//! Archives: tars as the datasets' authors and npm publish them, gzipped or not, and zips.
//!
//! A tar is read where it lies, by an index of its files; a gzipped one, or a zip, is unpacked into a temporary folder first. Names
//! that come in extension headers are read only up to a few KiB, whatever size their header claims.

pub(crate) mod zip;

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Component, Path};

use flate2::read::MultiGzDecoder;
use tar::{Archive, Entries, EntryType, PaxExtensions};

use crate::error::{DataError, Result};
use crate::listing::{Folder, Index};

/// The most that an extension header (a GNU long name, PAX records) may hold.
const EXTENSION_LIMIT: u64 = 16 << 10;
/// The most that the paths of all files may take.
const PATHS_LIMIT: usize = 256 << 20;
/// The most that an archive may unpack to.
const UNPACKED_LIMIT: u64 = 256 << 30;

/// What a file is, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Gzip,
    Tar,
    Zip,
    Other,
}

/// Looks at a file's first bytes.
pub(crate) fn kind(path: &Path) -> Result<Kind> {
    let mut head = Vec::new();
    let file = File::open(path).map_err(DataError::io(path))?;
    file.take(512).read_to_end(&mut head).map_err(DataError::io(path))?;
    if head.starts_with(&[0x1f, 0x8b]) {
        return Ok(Kind::Gzip);
    }
    if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
        return Ok(Kind::Zip);
    }
    let [_, _, _, ..] = head[..] else { return Ok(Kind::Other) };
    let Ok(block) = <[u8; 512]>::try_from(head) else { return Ok(Kind::Other) };
    let header = tar::Header::from_byte_slice(&block);
    let sum: u32 = block
        .iter()
        .enumerate()
        .map(|(at, &byte)| u32::from(if (148..156).contains(&at) { b' ' } else { byte }))
        .sum();
    let empty = block.iter().all(|&byte| byte == 0);
    Ok(if empty || header.cksum().is_ok_and(|stated| stated == sum) { Kind::Tar } else { Kind::Other })
}

/// The files of a tar, by path; `shown` is what messages call it.
pub(crate) fn index(path: &Path, shown: &Path) -> Result<Folder> {
    let damaged = |e: io::Error| DataError::unusable(shown.display(), format!("cannot be unpacked: {e}"));
    let file = File::open(path).map_err(DataError::io(path))?;
    let size = file.metadata().map_err(DataError::io(path))?.len();
    let mut index = Index { archive: path.to_owned(), ..Index::default() };
    let mut paths = 0;
    let mut archive = Archive::new(file);
    let entries = archive.entries_with_seek().map_err(damaged)?;
    walk(shown, entries, &mut |name, entry| {
        paths += name.len() + size_of::<(String, u64, u64)>();
        let (start, length) = (entry.raw_file_position(), entry.size());
        if start.saturating_add(length) > size {
            return Err(DataError::unusable(
                shown.display(),
                format!("cannot be unpacked: {name} is cut short"),
            ));
        }
        if paths > PATHS_LIMIT {
            return Err(DataError::unusable(shown.display(), "has too many files"));
        }
        index.files.insert(name, (start, length));
        Ok(())
    })?;
    Ok(Folder::in_tar(index))
}

/// Unpacks the regular files of a gzipped tar into a temporary folder beside other temporary files (TMPDIR); `read` is told
/// of every byte of the archive.
pub(crate) fn unpack(path: &Path, read: &mut dyn FnMut(u64)) -> Result<tempfile::TempDir> {
    let damaged = |e: io::Error| DataError::unusable(path.display(), format!("cannot be unpacked: {e}"));
    let file = File::open(path).map_err(DataError::io(path))?;
    let folder = tempfile::tempdir().map_err(DataError::io(&std::env::temp_dir()))?;
    let counted = BufReader::with_capacity(1 << 18, Counted { inner: file, read });
    let mut archive = Archive::new(MultiGzDecoder::new(counted).take(UNPACKED_LIMIT));
    let entries = archive.entries().map_err(damaged)?;
    walk(path, entries, &mut |name, entry| {
        let target = folder.path().join(&name);
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent).map_err(DataError::io(parent))?;
        }
        let mut out = File::create(&target).map_err(DataError::io(&target))?;
        io::copy(entry, &mut out).map(drop).map_err(damaged)
    })?;
    Ok(folder)
}

/// Called with the plain relative path of each regular file.
type Visit<'a, R> = dyn FnMut(String, &mut tar::Entry<'_, R>) -> Result<()> + 'a;

/// Walks a tar's regular files, with the long names of GNU's and PAX's extensions.
fn walk<R: Read>(path: &Path, entries: Entries<'_, R>, visit: &mut Visit<'_, R>) -> Result<()> {
    let damaged = |e: io::Error| DataError::unusable(path.display(), format!("cannot be unpacked: {e}"));
    let mut long: Option<Vec<u8>> = None;
    for entry in entries.raw(true) {
        let mut entry = entry.map_err(damaged)?;
        let kind = entry.header().entry_type();
        match kind {
            EntryType::GNULongName => {
                let mut name = extension(path, &mut entry)?;
                name.truncate(name.iter().position(|&byte| byte == 0).unwrap_or(name.len()));
                long = Some(name);
            }
            EntryType::XHeader => long = pax_path(path, &extension(path, &mut entry)?)?.or(long),
            EntryType::XGlobalHeader | EntryType::GNULongLink => {}
            kind if kind.is_file() => {
                let bytes = long.take().unwrap_or_else(|| entry.header().path_bytes().into_owned());
                let name = plain(path, bytes)?;
                visit(name, &mut entry)?;
            }
            _ => long = None,
        }
    }
    Ok(())
}

fn extension<R: Read>(path: &Path, entry: &mut tar::Entry<'_, R>) -> Result<Vec<u8>> {
    let size = entry.size();
    if size > EXTENSION_LIMIT {
        let reason = format!("has an extension header of {size} bytes; up to {EXTENSION_LIMIT} are read");
        return Err(DataError::unusable(path.display(), reason));
    }
    let mut bytes = Vec::new();
    entry
        .read_to_end(&mut bytes)
        .map_err(|e| DataError::unusable(path.display(), format!("cannot be unpacked: {e}")))?;
    Ok(bytes)
}

/// The path that PAX records give to the next file, if they do.
fn pax_path(path: &Path, records: &[u8]) -> Result<Option<Vec<u8>>> {
    let mut found = None;
    for record in PaxExtensions::new(records) {
        let record =
            record.map_err(|e| DataError::unusable(path.display(), format!("cannot be unpacked: {e}")))?;
        match record.key_bytes() {
            b"path" => found = Some(record.value_bytes().to_vec()),
            b"size" => {
                return Err(DataError::unusable(
                    path.display(),
                    "has a file whose size is in a PAX header; files up to 8 GiB are read",
                ));
            }
            _ => {}
        }
    }
    Ok(found)
}

/// A path without `.` parts; refused if it could point elsewhere.
fn plain(archive: &Path, bytes: Vec<u8>) -> Result<String> {
    let name = String::from_utf8(bytes)
        .map_err(|_| DataError::unusable(archive.display(), "has a name that is not UTF-8"))?;
    let mut parts = Vec::new();
    for part in Path::new(&name).components() {
        match part {
            Component::Normal(part) => parts.extend(part.to_str()),
            Component::CurDir => {}
            _ => {
                return Err(DataError::unusable(archive.display(), format!("has the unsafe path {name}")));
            }
        }
    }
    Ok(parts.join("/"))
}

/// Reports what is read.
struct Counted<'a> {
    inner: File,
    read: &'a mut dyn FnMut(u64),
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        (self.read)(n as u64);
        Ok(n)
    }
}

#[cfg(test)]
mod tests;
