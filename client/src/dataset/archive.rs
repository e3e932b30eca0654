//! Archives: `.tgz` and `.tar.gz` as npm and the datasets' authors publish them, and plain `.tar`.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Component, Path};

use flate2::read::MultiGzDecoder;

use crate::error::{CliError, Result};
use crate::output::Output;
use crate::output::progress::{Progress, Unit};

/// Unpacks the regular files into a temporary folder beside other temporary files (TMPDIR).
pub(super) fn unpack(path: &Path, output: Output) -> Result<tempfile::TempDir> {
    let file = File::open(path).map_err(|e| CliError::file(path, e))?;
    let size = file.metadata().map_err(|e| CliError::file(path, e))?.len();
    let progress = Progress::new(output, format!("unpacking {}", path.display()), Unit::Bytes, size);
    let counted = BufReader::with_capacity(1 << 18, Counted { inner: file, progress });
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("").to_ascii_lowercase();
    let reader: Box<dyn Read> = match extension.as_str() {
        "tgz" | "gz" => Box::new(MultiGzDecoder::new(counted)),
        "tar" => Box::new(counted),
        _ => return Err(CliError::file(path, "is neither a folder nor a .tgz, .tar.gz or .tar archive")),
    };
    let folder = tempfile::tempdir()?;
    let damaged = |e: std::io::Error| CliError::file(path, format!("cannot be unpacked: {e}"));
    for entry in tar::Archive::new(reader).entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        let inside = entry.path().map_err(damaged)?.into_owned();
        if !entry.header().entry_type().is_file() {
            continue;
        }
        if !inside.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir)) {
            return Err(CliError::file(path, format!("has the unsafe path {}", inside.display())));
        }
        let target = folder.path().join(&inside);
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let mut out = File::create(&target).map_err(|e| CliError::file(&target, e))?;
        std::io::copy(&mut entry, &mut out).map_err(damaged)?;
    }
    Ok(folder)
}

/// Reports what is read.
struct Counted {
    inner: File,
    progress: Progress,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.progress.add(n as u64);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tgz(path: &Path, entries: &[(&str, &[u8])]) {
        let mut builder = tar::Builder::new(flate2::write::GzEncoder::new(
            File::create(path).unwrap(),
            flate2::Compression::fast(),
        ));
        for (name, data) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_size(data.len() as u64);
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            builder.append(&header, *data).unwrap();
        }
        builder.into_inner().unwrap().finish().unwrap();
    }

    #[test]
    fn files_are_unpacked_where_they_belong_and_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let good = dir.path().join("a.tgz");
        tgz(&good, &[("package/data/x", b"hello")]);
        let unpacked = unpack(&good, Output::silent()).unwrap();
        assert_eq!(std::fs::read(unpacked.path().join("package/data/x")).unwrap(), b"hello");
        let evil = dir.path().join("b.tgz");
        tgz(&evil, &[("../outside", b"x")]);
        assert!(unpack(&evil, Output::silent()).unwrap_err().message.contains("unsafe"));
    }

    #[test]
    fn other_files_and_damage_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.zip");
        std::fs::write(&path, b"PK").unwrap();
        assert!(unpack(&path, Output::silent()).unwrap_err().message.contains("neither"));
        let path = dir.path().join("a.tgz");
        std::fs::write(&path, b"not gzip at all").unwrap();
        assert!(unpack(&path, Output::silent()).unwrap_err().message.contains("cannot be unpacked"));
    }
}
