//! Checks a dataset's tar without unpacking it: regular files only, each with a plain relative path, all there.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Component, Path};

use super::UploadError;

/// Most files in a dataset.
const MAX_FILES: usize = 2_000_000;

/// Walks the tar's headers; the number of files.
pub fn check_tar(path: &Path) -> Result<usize, UploadError> {
    let mut file = File::open(path)?;
    let size = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(0))?;
    let mut archive = tar::Archive::new(file);
    let mut count = 0;
    for entry in archive.entries_with_seek().map_err(broken)? {
        let entry = entry.map_err(broken)?;
        check_entry(&entry, size)?;
        count += 1;
        if count > MAX_FILES {
            return Err(UploadError::Tar(format!("it has more than {MAX_FILES} files")));
        }
    }
    if count == 0 {
        return Err(UploadError::Tar("it has no files".to_owned()));
    }
    Ok(count)
}

fn check_entry<R: Read>(entry: &tar::Entry<'_, R>, archive_bytes: u64) -> Result<(), UploadError> {
    let path = entry.path_bytes();
    let name = String::from_utf8_lossy(&path).into_owned();
    let refuse = |reason: &str| Err(UploadError::Tar(format!("{name:?}: {reason}")));
    if !entry.header().entry_type().is_file() {
        return refuse("only regular files are allowed");
    }
    let Ok(text) = std::str::from_utf8(&path) else { return refuse("the path is not UTF-8") };
    if text.chars().any(char::is_control) || text.contains('\\') {
        return refuse("the path has a control character or a backslash");
    }
    let plain = Path::new(text).components().all(|part| matches!(part, Component::Normal(_)));
    if text.is_empty() || !plain {
        return refuse("the path is not relative and plain");
    }
    if entry.raw_file_position().saturating_add(entry.size()) > archive_bytes {
        return refuse("it ends beyond the archive");
    }
    Ok(())
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn broken(error: io::Error) -> UploadError {
    UploadError::Tar(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(entries: &[(&str, tar::EntryType)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, kind) in entries {
            let mut header = tar::Header::new_ustar();
            let bytes = name.as_bytes();
            header.as_mut_bytes()[..bytes.len()].copy_from_slice(bytes);
            header.set_entry_type(*kind);
            header.set_size(3);
            header.set_cksum();
            builder.append(&header, &b"abc"[..]).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn check(bytes: &[u8]) -> Result<usize, UploadError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        check_tar(file.path())
    }

    #[test]
    fn regular_files_with_plain_paths_are_counted() {
        use tar::EntryType::Regular;
        let bytes = archive(&[("train/cat/1.png", Regular), ("test/dog/..2.png", Regular)]);
        assert_eq!(check(&bytes).unwrap(), 2);
    }

    #[test]
    fn everything_else_is_refused() {
        use tar::EntryType::{Directory, Link, Regular, Symlink};
        let cases = [
            archive(&[("../a", Regular)]),
            archive(&[("/etc/passwd", Regular)]),
            archive(&[("a/../../b", Regular)]),
            archive(&[("a\nb", Regular)]),
            archive(&[("a\\b", Regular)]),
            archive(&[("a", Symlink)]),
            archive(&[("a", Link)]),
            archive(&[("a", Directory)]),
            archive(&[]),
            archive(&[("a", Regular)])[..514].to_vec(),
            vec![7; 4096],
            vec![],
        ];
        for (index, bytes) in cases.iter().enumerate() {
            assert!(matches!(check(bytes), Err(UploadError::Tar(_))), "{index}");
        }
    }
}
