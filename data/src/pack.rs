//! The dataset as one deterministic tar, read from any offset without ever being written: ustar headers with zero
//! times and owners, files in the order of their names. The same files make the same bytes everywhere.

use std::io::{self, Read};
use std::sync::Arc;

use crate::entry::{Entry, Window};
use crate::error::{DataError, Result};

const BLOCK: u64 = 512;

/// The plan of the tar: where each file's record begins.
#[derive(Debug, Clone)]
pub struct Layout {
    entries: Arc<Vec<Entry>>,
    /// One more than entries; the last is where the trailer begins.
    starts: Arc<Vec<u64>>,
}

impl Layout {
    /// The plan for these files.
    ///
    /// # Errors
    /// If a ustar header cannot hold a name or a size.
    pub fn new(mut entries: Vec<Entry>) -> Result<Self> {
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        let mut starts = vec![0];
        let mut end = 0;
        for entry in &entries {
            header(entry).map_err(|e| {
                DataError::hinted(
                    entry.shown(),
                    format!("cannot go into a tar: {e}"),
                    "a path may have 100 characters, or up to 255 where a slash stands well; a file up to 8 GiB",
                )
            })?;
            end += BLOCK + entry.size_bytes.next_multiple_of(BLOCK);
            starts.push(end);
        }
        Ok(Layout { entries: Arc::new(entries), starts: Arc::new(starts) })
    }

    /// Size of the whole tar: the records and two empty blocks.
    pub fn size_bytes(&self) -> u64 {
        self.records() + 2 * BLOCK
    }

    fn records(&self) -> u64 {
        self.starts.last().copied().unwrap_or(0)
    }

    /// The tar's bytes from `offset` on.
    pub fn reader(&self, offset: u64) -> Reader {
        Reader { layout: self.clone(), at: offset, open: None }
    }
}

fn header(entry: &Entry) -> io::Result<tar::Header> {
    let mut header = tar::Header::new_ustar();
    header.set_path(&entry.name)?;
    // Twelve octal digits, the last a NUL.
    if entry.size_bytes >= 1 << 33 {
        return Err(io::Error::other("it is larger than 8 GiB"));
    }
    header.set_size(entry.size_bytes);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    Ok(header)
}

/// Reads a [`Layout`] as a tar.
#[derive(Debug)]
pub struct Reader {
    layout: Layout,
    at: u64,
    /// The open file's index.
    open: Option<(usize, Window)>,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.layout.size_bytes().saturating_sub(self.at);
        if left == 0 || buffer.is_empty() {
            return Ok(0);
        }
        let n =
            if self.at >= self.layout.records() { fill(buffer, left, 0) } else { self.read_record(buffer)? };
        self.at += n as u64;
        Ok(n)
    }
}

/// Zeros, at most `left`.
fn fill(buffer: &mut [u8], left: u64, value: u8) -> usize {
    let n = (buffer.len() as u64).min(left) as usize;
    buffer[..n].fill(value);
    n
}

impl Reader {
    fn read_record(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let index = self.layout.starts.partition_point(|&s| s <= self.at) - 1;
        let entries = Arc::clone(&self.layout.entries);
        let (Some(entry), Some(&start), Some(&end)) =
            (entries.get(index), self.layout.starts.get(index), self.layout.starts.get(index + 1))
        else {
            return Ok(0);
        };
        let within = self.at - start;
        if within < BLOCK {
            let header = header(entry)?;
            let rest = &header.as_bytes()[within as usize..];
            let n = rest.len().min(buffer.len());
            buffer[..n].copy_from_slice(&rest[..n]);
            return Ok(n);
        }
        let position = within - BLOCK;
        if position >= entry.size_bytes {
            return Ok(fill(buffer, end - self.at, 0));
        }
        let most = (entry.size_bytes - position).min(buffer.len() as u64) as usize;
        let n = self.file(index, entry, position)?.read(&mut buffer[..most])?;
        // A file that has become shorter ends the tar here; who reads knows its size and tells.
        Ok(n)
    }

    fn file(&mut self, index: usize, entry: &Entry, position: u64) -> io::Result<&mut Window> {
        let reopen = self.open.as_ref().is_none_or(|(i, _)| *i != index);
        if reopen {
            self.open = Some((index, entry.raw(position)?));
        }
        match &mut self.open {
            Some((_, file)) => Ok(file),
            None => Err(io::Error::other("no open file")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn entry(folder: &Path, name: &str, data: &[u8]) -> Entry {
        let path = folder.join(name.replace('/', "_"));
        std::fs::write(&path, data).unwrap();
        Entry::file(&path, name).unwrap()
    }

    fn read(layout: &Layout, offset: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        layout.reader(offset).read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn any_tar_reader_finds_the_files_sorted_and_timeless() {
        let dir = tempfile::tempdir().unwrap();
        let long = format!("train/{}/{}.png", "c".repeat(90), "i".repeat(80));
        let entries = vec![
            entry(dir.path(), "b", &[7; 512]),
            entry(dir.path(), &long, b"deep"),
            entry(dir.path(), "a/x", &[3; 700]),
            entry(dir.path(), "empty", b""),
        ];
        let layout = Layout::new(entries).unwrap();
        let bytes = read(&layout, 0);
        assert_eq!(bytes.len() as u64, layout.size_bytes());
        let mut archive = tar::Archive::new(&bytes[..]);
        let found: Vec<(String, Vec<u8>)> = archive
            .entries()
            .unwrap()
            .map(|e| {
                let mut e = e.unwrap();
                assert_eq!(
                    (e.header().mtime().unwrap(), e.header().uid().unwrap(), e.header().mode().unwrap()),
                    (0, 0, 0o644)
                );
                let mut data = Vec::new();
                e.read_to_end(&mut data).unwrap();
                (e.path().unwrap().to_str().unwrap().to_owned(), data)
            })
            .collect();
        let names: Vec<&str> = found.iter().map(|f| f.0.as_str()).collect();
        assert_eq!(names, ["a/x", "b", "empty", &long]);
        assert_eq!(found[0].1, [3; 700]);
        assert_eq!(found[3].1, b"deep");
    }

    #[test]
    fn reading_can_go_on_at_every_offset() {
        let dir = tempfile::tempdir().unwrap();
        let layout =
            Layout::new(vec![entry(dir.path(), "a", &[1; 600]), entry(dir.path(), "b", &[2; 3])]).unwrap();
        let whole = read(&layout, 0);
        for offset in [
            0,
            1,
            511,
            512,
            513,
            1111,
            1112,
            1113,
            1535,
            1536,
            2047,
            2048,
            2050,
            2051,
            2559,
            2560,
            3000,
            whole.len(),
        ] {
            assert_eq!(read(&layout, offset as u64), whole[offset..], "from {offset}");
        }
        assert!(read(&layout, whole.len() as u64 + 9).is_empty());
    }

    #[test]
    fn what_a_header_cannot_hold_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut big = entry(dir.path(), "a", b"");
        big.size_bytes = 1 << 33;
        assert!(Layout::new(vec![big]).is_err());
        let mut long = entry(dir.path(), "a", b"");
        long.name = "x".repeat(300);
        assert!(Layout::new(vec![long]).is_err());
    }
}
