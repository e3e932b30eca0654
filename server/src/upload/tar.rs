//! Checks a dataset's tar without unpacking it: regular files only, each with a plain relative path, all there.
//!
//! Of an entry only its headers are read, and those are bounded: the library takes long names and PAX records into memory,
//! however long they say they are.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Component, Path};
use std::rc::Rc;

use super::UploadError;

/// Most files in a dataset.
const MAX_FILES: usize = 2_000_000;
/// Most bytes of all headers of one file: its name in GNU's or POSIX's long form, times, attributes.
const MAX_HEADERS: u64 = 128 << 10;
/// Most bytes of a path.
const MAX_PATH: usize = 4096;
/// Characters of a name, or of the library's words, that are repeated in an error.
const SHOWN: usize = 200;

/// Walks the tar's headers; the number of files.
pub fn check_tar(path: &Path) -> Result<usize, UploadError> {
    let mut file = File::open(path)?;
    let size = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(0))?;
    let left = Rc::new(Cell::new(MAX_HEADERS));
    let mut archive = tar::Archive::new(Frugal { file, left: Rc::clone(&left) });
    let mut entries = archive.entries_with_seek().map_err(broken)?;
    let mut count = 0;
    loop {
        left.set(MAX_HEADERS);
        let Some(entry) = entries.next() else { break };
        check_entry(&entry.map_err(broken)?, size)?;
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

/// A file of which only so much is read until more is allowed; what is passed over costs nothing.
struct Frugal {
    file: File,
    left: Rc<Cell<u64>>,
}

impl Read for Frugal {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        let left = self.left.get().checked_sub(read as u64).ok_or_else(|| {
            io::Error::other(format!("the headers of one file take more than {MAX_HEADERS} bytes"))
        })?;
        self.left.set(left);
        Ok(read)
    }
}

impl Seek for Frugal {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

fn check_entry<R: Read>(entry: &tar::Entry<'_, R>, archive_bytes: u64) -> Result<(), UploadError> {
    let path = entry.path_bytes();
    let name = shown(&String::from_utf8_lossy(&path));
    let refuse = |reason: &str| Err(UploadError::Tar(format!("{name:?}: {reason}")));
    if path.len() > MAX_PATH {
        return refuse(&format!("the path has {} bytes, more than {MAX_PATH}", path.len()));
    }
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
    UploadError::Tar(shown(&error.to_string()))
}

/// The beginning of a text that came from outside.
fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
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

    /// An extension entry of this type that says it has `size` bytes, of which `content` are there; the rest is a hole.
    fn extended(kind: u8, content: &[u8], size: u64) -> tempfile::NamedTempFile {
        use std::io::Write;
        let mut header = tar::Header::new_gnu();
        header.set_path("././@LongLink").unwrap();
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_size(size);
        header.set_cksum();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(header.as_bytes()).unwrap();
        file.write_all(content).unwrap();
        let end = 512 + size.div_ceil(512) * 512;
        file.as_file().set_len(end).unwrap();
        file.seek(SeekFrom::Start(end)).unwrap();
        file.write_all(&archive(&[("short", tar::EntryType::Regular)])).unwrap();
        file
    }

    #[test]
    fn long_names_are_taken_up_to_a_bound_and_refused_at_once_beyond_it() {
        let deep = format!("{}end", "folder/".repeat(40));
        let pax = format!("{} path={deep}\n", deep.len() + " path=\n".len() + 3);
        assert_eq!(check_tar(extended(b'L', deep.as_bytes(), deep.len() as u64).path()).unwrap(), 1);
        assert_eq!(check_tar(extended(b'x', pax.as_bytes(), pax.len() as u64).path()).unwrap(), 1);

        let long = [b'a'; 5000];
        let mut cases = vec![extended(b'L', &long, 5000), extended(b'L', &[1; 100_000], 100_000)];
        // 300 MB and more, without taking any room on the disk.
        for kind in *b"LKx" {
            cases.push(extended(kind, b"a", 300_000_000));
            cases.push(extended(kind, b"a", 60 << 30));
        }
        for (index, case) in cases.iter().enumerate() {
            let Err(UploadError::Tar(reason)) = check_tar(case.path()) else { panic!("{index} was taken") };
            assert!(reason.len() < 1500, "{index}: an error of {} bytes", reason.len());
        }
    }
}
