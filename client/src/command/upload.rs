//! Files on their way to the server in chunks, and back.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use dyadic_proto::v1::{FileChunk, FileHeader};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;

use crate::error::{CliError, Result};
use crate::output::progress::Progress;

/// Bytes a chunk.
const CHUNK_BYTES: usize = 1 << 20;

/// What is read and sent as one declared file.
pub(crate) struct Source {
    /// Its bytes from `offset` on.
    pub(crate) reader: Box<dyn Read + Send>,
    /// Where in the file the reader stands.
    pub(crate) offset: u64,
    /// Size of the whole file.
    pub(crate) size_bytes: u64,
    /// For messages.
    pub(crate) path: PathBuf,
}

impl Source {
    /// The same from this byte on; of a file that was opened with [`open`].
    pub(crate) fn starting_at(mut self, offset: u64) -> Result<Self> {
        let skipped = std::io::copy(&mut self.reader.by_ref().take(offset), &mut std::io::sink());
        skipped.map_err(|e| CliError::file(&self.path, e))?;
        self.offset = offset;
        Ok(self)
    }
}

/// A stream of `header`, then the sources' chunks, and the task that reads them. The task's error, if it has one,
/// is the cause of whatever the server says about the stream.
pub(crate) fn stream<T: Send + 'static>(
    header: T,
    sources: Vec<Source>,
    wrap: impl Fn(FileChunk) -> T + Send + 'static,
    progress: Progress,
) -> (ReceiverStream<T>, JoinHandle<Result<()>>) {
    let (sender, receiver) = mpsc::channel(4);
    let task = tokio::task::spawn_blocking(move || {
        let mut progress = progress;
        if sender.blocking_send(header).is_err() {
            return Ok(());
        }
        for (index, source) in sources.into_iter().enumerate() {
            if !send(index as u32, source, &sender, &wrap, &mut progress)? {
                return Ok(());
            }
        }
        progress.finish();
        Ok(())
    });
    (ReceiverStream::new(receiver), task)
}

/// Sends one file; false if the server does not want any more.
fn send<T>(
    index: u32,
    mut source: Source,
    sender: &mpsc::Sender<T>,
    wrap: &impl Fn(FileChunk) -> T,
    progress: &mut Progress,
) -> Result<bool> {
    let changed =
        || CliError::failed(format!("{} changed while it was read; push again", source.path.display()));
    while source.offset < source.size_bytes {
        let size = (source.size_bytes - source.offset).min(CHUNK_BYTES as u64) as usize;
        let mut data = vec![0; size];
        source.reader.read_exact(&mut data).map_err(|e| match e.kind() {
            std::io::ErrorKind::UnexpectedEof => changed(),
            _ => CliError::file(&source.path, e),
        })?;
        let chunk = FileChunk { file: index, offset: source.offset, data: Bytes::from(data) };
        if sender.blocking_send(wrap(chunk)).is_err() {
            return Ok(false);
        }
        source.offset += size as u64;
        progress.add(size as u64);
    }
    Ok(true)
}

/// The reading task's error if it has one, else the server's answer.
pub(crate) async fn settle<T>(answer: Result<T, tonic::Status>, task: JoinHandle<Result<()>>) -> Result<T> {
    match task.await {
        Ok(Err(error)) => Err(error),
        Err(error) => Err(CliError::failed(error.to_string())),
        Ok(Ok(())) => Ok(answer?),
    }
}

/// Size and sha256 of everything the reader gives.
pub(crate) fn hash(mut reader: impl Read, mut progress: Progress) -> std::io::Result<(u64, Vec<u8>)> {
    let mut sha = Sha256::new();
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut size = 0;
    loop {
        let n = reader.read(&mut buffer)?;
        if n == 0 {
            progress.finish();
            return Ok((size, sha.finalize().to_vec()));
        }
        sha.update(&buffer[..n]);
        size += n as u64;
        progress.add(n as u64);
    }
}

/// Takes a download apart: declared files, checked and written into a folder under their own names.
pub(crate) struct Receiver {
    headers: Vec<FileHeader>,
    current: usize,
    open: Option<Partial>,
    folder: PathBuf,
    overwrite: bool,
    /// What was written.
    pub(crate) written: Vec<PathBuf>,
    progress: Arc<Mutex<Progress>>,
}

/// A file on its way in, under a temporary name.
struct Partial {
    file: tempfile::NamedTempFile,
    sha: Sha256,
    size_bytes: u64,
}

impl Receiver {
    /// Refuses names that would leave the folder, and files that are there already.
    pub(crate) fn new(
        headers: Vec<FileHeader>,
        folder: &Path,
        overwrite: bool,
        progress: Progress,
    ) -> Result<Self> {
        for header in &headers {
            let target = folder.join(base_name(&header.name)?);
            if target.exists() && !overwrite {
                return Err(CliError::usage(format!("{} is there already", target.display()))
                    .hint("--force replaces it"));
            }
        }
        std::fs::create_dir_all(folder).map_err(|e| CliError::file(folder, e))?;
        let progress = Arc::new(Mutex::new(progress));
        Ok(Receiver {
            headers,
            current: 0,
            open: None,
            folder: folder.to_owned(),
            overwrite,
            written: Vec::new(),
            progress,
        })
    }

    /// Writes the next chunk.
    pub(crate) fn chunk(&mut self, chunk: &FileChunk) -> Result<()> {
        while self.current < chunk.file as usize {
            self.close()?;
        }
        let partial = self.partial()?;
        if chunk.offset != partial.size_bytes {
            return Err(CliError::protocol(format!(
                "a chunk for byte {} where {} was next",
                chunk.offset, partial.size_bytes
            )));
        }
        partial.file.write_all(&chunk.data)?;
        partial.sha.update(&chunk.data);
        partial.size_bytes += chunk.data.len() as u64;
        if let Ok(mut progress) = self.progress.lock() {
            progress.add(chunk.data.len() as u64);
        }
        Ok(())
    }

    /// Ends the last file; all declared ones must be there.
    pub(crate) fn finish(mut self) -> Result<Vec<PathBuf>> {
        while self.current < self.headers.len() {
            self.close()?;
        }
        Ok(self.written)
    }

    fn partial(&mut self) -> Result<&mut Partial> {
        if self.current >= self.headers.len() {
            return Err(CliError::protocol("a chunk of a file that was not declared"));
        }
        if self.open.is_none() {
            let file =
                tempfile::NamedTempFile::new_in(&self.folder).map_err(|e| CliError::file(&self.folder, e))?;
            self.open = Some(Partial { file, sha: Sha256::new(), size_bytes: 0 });
        }
        self.open.as_mut().ok_or_else(|| CliError::protocol("no open file"))
    }

    fn close(&mut self) -> Result<()> {
        self.partial()?;
        let (Some(partial), Some(header)) = (self.open.take(), self.headers.get(self.current)) else {
            return Err(CliError::protocol("a file that was not declared"));
        };
        let sha = partial.sha.finalize();
        if partial.size_bytes != header.size_bytes
            || !header.sha256.is_empty() && header.sha256 != sha.as_slice()
        {
            return Err(CliError::failed(format!("{} came damaged; pull again", header.name)));
        }
        let target = self.folder.join(base_name(&header.name)?);
        let kept = if self.overwrite {
            partial.file.persist(&target)
        } else {
            partial.file.persist_noclobber(&target)
        };
        kept.map_err(|e| CliError::file(&target, e.error))?;
        self.written.push(target);
        self.current += 1;
        Ok(())
    }
}

/// The name, if it is one of a file in the folder itself.
fn base_name(name: &str) -> Result<&str> {
    let bad = name.is_empty()
        || name == "."
        || name == ".."
        || name.contains(['/', '\\', '\0'])
        || name.contains(char::is_control);
    if bad { Err(CliError::protocol(format!("{name:?} is not a file name"))) } else { Ok(name) }
}

/// Opens a file as a source, with its header.
pub(crate) fn open(path: &Path, name: &str, progress: Progress) -> Result<(FileHeader, Source)> {
    let mut file = File::open(path).map_err(|e| CliError::file(path, e))?;
    let (size_bytes, sha256) = hash(&mut file, progress).map_err(|e| CliError::file(path, e))?;
    file.seek(SeekFrom::Start(0)).map_err(|e| CliError::file(path, e))?;
    let header = FileHeader { name: name.to_owned(), size_bytes, sha256 };
    Ok((header, Source { reader: Box::new(file), offset: 0, size_bytes, path: path.to_owned() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::progress::Unit;

    fn progress() -> Progress {
        Progress::new(crate::output::Output::silent(), "", Unit::Bytes, 0)
    }

    fn header(name: &str, content: &[u8]) -> FileHeader {
        FileHeader {
            name: name.into(),
            size_bytes: content.len() as u64,
            sha256: Sha256::digest(content).to_vec(),
        }
    }

    fn chunk(file: u32, offset: u64, data: &'static [u8]) -> FileChunk {
        FileChunk { file, offset, data: Bytes::from_static(data) }
    }

    #[test]
    fn a_bundle_arrives_whole_and_checked() {
        let dir = tempfile::tempdir().unwrap();
        let headers = vec![header("a", b"one"), header("empty", b""), header("b", b"two")];
        let mut receiver = Receiver::new(headers, dir.path(), false, progress()).unwrap();
        for c in [chunk(0, 0, b"on"), chunk(0, 2, b"e"), chunk(2, 0, b"two")] {
            receiver.chunk(&c).unwrap();
        }
        assert_eq!(receiver.finish().unwrap().len(), 3);
        assert_eq!(std::fs::read(dir.path().join("b")).unwrap(), b"two");
    }

    #[test]
    fn damage_gaps_and_missing_files_are_told_and_leave_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let new = || {
            Receiver::new(vec![header("a", b"one"), header("b", b"two")], dir.path(), false, progress())
                .unwrap()
        };
        assert!(new().chunk(&chunk(0, 1, b"ne")).is_err());
        assert!(new().chunk(&chunk(5, 0, b"x")).is_err());
        let mut short = new();
        short.chunk(&chunk(0, 0, b"on")).unwrap();
        assert!(short.chunk(&chunk(1, 0, b"two")).is_err());
        assert!(new().finish().is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_name_from_the_server_cannot_leave_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["../x", "/etc/passwd", "a/b", "", "..", "a\nb"] {
            assert!(Receiver::new(vec![header(name, b"")], dir.path(), true, progress()).is_err(), "{name}");
        }
    }

    #[test]
    fn what_is_there_is_not_replaced_unasked() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), "mine").unwrap();
        assert!(Receiver::new(vec![header("a", b"one")], dir.path(), false, progress()).is_err());
        let mut receiver = Receiver::new(vec![header("a", b"one")], dir.path(), true, progress()).unwrap();
        receiver.chunk(&chunk(0, 0, b"one")).unwrap();
        receiver.finish().unwrap();
        assert_eq!(std::fs::read(dir.path().join("a")).unwrap(), b"one");
    }

    #[tokio::test]
    async fn a_file_that_shrinks_while_it_is_read_is_told() {
        let source = Source { reader: Box::new(&b"short"[..]), offset: 0, size_bytes: 9, path: "f".into() };
        let (stream, task) = stream(None, vec![source], Some, progress());
        drop(tokio_stream::StreamExt::collect::<Vec<_>>(stream).await);
        let error = settle(Ok(()), task).await.unwrap_err();
        assert!(error.message.contains("changed while"), "{error}");
    }
}
