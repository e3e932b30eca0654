//! Zips, unpacked into a temporary folder.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use zip::ZipArchive;

use super::plain;
use crate::error::{DataError, Result};

/// The most files.
const FILES_LIMIT: usize = 4 << 20;
/// What any zip may unpack to, and how much more than its own size a larger one may.
const FREE: u64 = 4 << 30;
const RATIO: u64 = 100;

/// Unpacks the regular files of a zip; `read` is told of every byte of the archive.
pub(crate) fn unpack(path: &Path, read: &mut dyn FnMut(u64)) -> Result<tempfile::TempDir> {
    let damaged =
        |e: &dyn std::fmt::Display| DataError::unusable(path.display(), format!("cannot be unpacked: {e}"));
    let file = File::open(path).map_err(DataError::io(path))?;
    let size = file.metadata().map_err(DataError::io(path))?.len();
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|e| damaged(&e))?;
    if archive.len() > FILES_LIMIT {
        return Err(DataError::unusable(path.display(), "has too many files"));
    }
    // Bytes that several files share make a small zip large.
    if archive.has_overlapping_files().map_err(|e| damaged(&e))? {
        return Err(damaged(&"its files overlap"));
    }
    let folder = tempfile::tempdir().map_err(DataError::io(&std::env::temp_dir()))?;
    let mut left = FREE.max(size.saturating_mul(RATIO));
    let mut told = 0;
    for index in 0..archive.len() {
        let mut file = archive.by_index(index).map_err(|e| damaged(&e))?;
        let name = plain(path, file.name_raw().to_vec())?;
        if file.is_dir() || file.is_symlink() || name.is_empty() {
            continue;
        }
        let target = folder.path().join(&name);
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent).map_err(DataError::io(parent))?;
        }
        let mut out = File::create(&target).map_err(DataError::io(&target))?;
        let packed = file.compressed_size();
        let copied = io::copy(&mut file.by_ref().take(left.saturating_add(1)), &mut out);
        left = left
            .checked_sub(copied.map_err(|e| damaged(&format!("{name}: {e}")))?)
            .ok_or_else(|| damaged(&"it unpacks to more than can be believed"))?;
        told += packed;
        read(packed);
    }
    // Headers and the list of files.
    read(size.saturating_sub(told));
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write as _};

    use zip::write::SimpleFileOptions;
    use zip::{CompressionMethod, ZipWriter};

    use super::*;

    fn zip_of(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in files {
            zip.start_file(
                *name,
                SimpleFileOptions::default().compression_method(CompressionMethod::Deflated),
            )
            .unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    fn unpacked(bytes: &[u8]) -> Result<tempfile::TempDir> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let mut read = 0;
        let folder = unpack(file.path(), &mut |n| read += n)?;
        assert_eq!(read, bytes.len() as u64);
        Ok(folder)
    }

    #[test]
    fn files_are_unpacked_where_they_belong_and_nowhere_else() {
        let good = zip_of(&[("./set/train/cat/a.png", b"hello"), ("set/b", &[7; 10_000])]);
        let folder = unpacked(&good).unwrap();
        assert_eq!(std::fs::read(folder.path().join("set/train/cat/a.png")).unwrap(), b"hello");
        assert_eq!(std::fs::read(folder.path().join("set/b")).unwrap(), [7; 10_000]);
        for name in ["../outside", "a/../../outside", "/etc/outside"] {
            let refusal = unpacked(&zip_of(&[(name, b"x")])).unwrap_err().to_string();
            assert!(refusal.contains("unsafe"), "{refusal}");
        }
        for bytes in [&good[..good.len() / 2], b"PK\x03\x04", &good[30..]] {
            let refusal = unpacked(bytes).map(|_| ()).unwrap_err().to_string();
            assert!(refusal.contains("cannot be unpacked"), "{refusal}");
        }
    }

    #[test]
    fn files_that_share_their_bytes_are_refused() {
        // The second file's entry in the list is made to point at the first.
        let mut bytes = zip_of(&[("aaaa", &[7; 5000]), ("bbbb", &[7; 5000])]);
        let entries: Vec<usize> =
            (0..bytes.len() - 4).filter(|&at| bytes[at..at + 4] == *b"PK\x01\x02").collect();
        assert_eq!(entries.len(), 2);
        bytes[entries[1] + 42..entries[1] + 46].fill(0);
        let refusal = unpacked(&bytes).map(|_| ()).unwrap_err().to_string();
        assert!(refusal.contains("cannot be unpacked"), "{refusal}");
    }

    #[test]
    fn a_declared_size_that_is_not_so_is_told() {
        let mut bytes = zip_of(&[("a", &[7; 5000])]);
        let at = (0..bytes.len() - 4).find(|&at| bytes[at..at + 4] == *b"PK\x01\x02").unwrap();
        bytes[at + 24..at + 28].copy_from_slice(&10u32.to_le_bytes());
        assert!(unpacked(&bytes).is_err());
    }
}
