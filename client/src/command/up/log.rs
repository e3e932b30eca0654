//! A process's log file: written by the process itself, so that nothing is lost if `dyadic up` goes away; followed by us.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::error::{CliError, Result};
use crate::output::Output;
use crate::output::style::safe;

/// How much of a log's end is looked at.
const TAIL_BYTES: u64 = 16 << 10;

/// A followed log.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) path: PathBuf,
    name: String,
    /// Whether new lines are shown.
    echo: bool,
    /// Up to where they were.
    shown: u64,
}

impl Log {
    /// Opens the log for a process's output, keeping the one before as `NAME.log.1`.
    pub(super) fn open(name: &str, folder: &Path, echo: bool) -> Result<(Self, File)> {
        let path = folder.join(format!("{name}.log"));
        if path.exists() {
            std::fs::rename(&path, folder.join(format!("{name}.log.1")))
                .map_err(|e| CliError::file(&path, e))?;
        }
        let file =
            File::options().create(true).append(true).open(&path).map_err(|e| CliError::file(&path, e))?;
        Ok((Log { path, name: name.to_owned(), echo, shown: 0 }, file))
    }

    /// Shows whole lines that are new.
    pub(super) fn show(&mut self, output: Output) {
        if !self.echo {
            return;
        }
        let Some(text) = read_from(&self.path, self.shown) else { return };
        let Some(end) = text.rfind('\n') else { return };
        self.shown += end as u64 + 1;
        for line in text[..end].lines() {
            output.note(format!("{} {}", output.paint_notes.dim(&format!("{:<9}│", self.name)), safe(line)));
        }
    }

    /// The last lines.
    pub(super) fn tail(&self, lines: usize) -> String {
        let size = std::fs::metadata(&self.path).map_or(0, |m| m.len());
        let text = read_from(&self.path, size.saturating_sub(TAIL_BYTES)).unwrap_or_default();
        let all: Vec<&str> = text.lines().collect();
        let last = all.len().saturating_sub(lines);
        all[last..].iter().map(|l| format!("  {}", safe(l))).collect::<Vec<_>>().join("\n")
    }
}

fn read_from(path: &Path, offset: u64) -> Option<String> {
    let mut file = File::open(path).ok()?;
    file.seek(SeekFrom::Start(offset)).ok()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).ok()?;
    // A character that is cut in two stays for the next time.
    let valid = match std::str::from_utf8(&bytes) {
        Ok(_) => bytes.len(),
        Err(e) if e.error_len().is_none() => e.valid_up_to(),
        Err(_) => return Some(String::from_utf8_lossy(&bytes).into_owned()),
    };
    bytes.truncate(valid);
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn the_tail_is_the_last_lines_and_the_old_log_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (log, mut file) = Log::open("server", dir.path(), false).unwrap();
        assert_eq!(log.tail(2), "");
        write!(file, "one\ntwo\nthree\n").unwrap();
        assert_eq!(log.tail(2), "  two\n  three");
        Log::open("server", dir.path(), false).unwrap();
        assert!(dir.path().join("server.log.1").exists());
    }
}
