//! The rules of a chunk stream, apart from where the bytes go.

use dyadic_proto::v1::FileChunk;
use sha2::{Digest, Sha256};

use super::error::hex;
use super::{FileSpec, FileSpecs, UploadError};

/// Follows a stream: chunks in order, without gaps, each file complete and with its declared hash before the next begins.
#[derive(Debug)]
pub struct Receiver {
    files: FileSpecs,
    /// The file that is being received.
    current: usize,
    received: u64,
    hash: Sha256,
}

impl Receiver {
    /// Nothing received yet.
    pub fn new(files: FileSpecs) -> Self {
        let mut receiver = Self { files, current: 0, received: 0, hash: Sha256::new() };
        receiver.skip_empty();
        receiver
    }

    /// The first file's first `received` bytes were received before; `hash` has taken them in.
    pub fn resume(files: FileSpecs, received: u64, hash: Sha256) -> Self {
        Self { files, current: 0, received, hash }
    }

    /// Takes a chunk. `Ok(index)` is the file that its bytes are to be appended to.
    pub fn accept(&mut self, chunk: &FileChunk) -> Result<usize, UploadError> {
        let index = self.current;
        if chunk.file as usize != index {
            return Err(UploadError::WrongFile { actual: chunk.file, expected: index });
        }
        let Some(file) = self.files.as_slice().get(index) else {
            return Err(UploadError::WrongFile { actual: chunk.file, expected: index });
        };
        if chunk.offset != self.received {
            return Err(UploadError::Gap {
                file: file.name.clone(),
                actual: chunk.offset,
                expected: self.received,
            });
        }
        let end = self.received.saturating_add(chunk.data.len() as u64);
        if end > file.size_bytes {
            return Err(UploadError::Overrun { file: file.name.clone(), end, declared: file.size_bytes });
        }
        self.hash.update(&chunk.data);
        self.received = end;
        if end == file.size_bytes {
            self.complete()?;
        }
        Ok(index)
    }

    /// The stream has ended.
    pub fn finish(mut self) -> Result<FileSpecs, UploadError> {
        // A resumed upload may have had all bytes before.
        if self.received > 0
            && self.files.as_slice().get(self.current).is_some_and(|file| file.size_bytes == self.received)
        {
            self.complete()?;
        }
        match self.files.as_slice().get(self.current) {
            None => Ok(self.files),
            Some(file) if file.size_bytes == 0 => {
                // Only an empty file with a wrong hash is left standing here.
                Err(mismatch(file, &Sha256::digest([])))
            }
            Some(file) => Err(UploadError::Truncated {
                file: file.name.clone(),
                received: self.received,
                declared: file.size_bytes,
            }),
        }
    }

    /// Bytes of the current file so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    fn complete(&mut self) -> Result<(), UploadError> {
        let actual: [u8; 32] = std::mem::take(&mut self.hash).finalize().into();
        if let Some(file) = self.files.as_slice().get(self.current)
            && actual != file.sha256
        {
            return Err(mismatch(file, &actual));
        }
        self.current += 1;
        self.received = 0;
        self.skip_empty();
        Ok(())
    }

    /// Empty files need no chunk.
    fn skip_empty(&mut self) {
        let empty: [u8; 32] = Sha256::digest([]).into();
        while self
            .files
            .as_slice()
            .get(self.current)
            .is_some_and(|file| file.size_bytes == 0 && file.sha256 == empty)
        {
            self.current += 1;
        }
    }
}

fn mismatch(file: &FileSpec, actual: &[u8]) -> UploadError {
    UploadError::HashMismatch { file: file.name.clone(), actual: hex(actual), declared: hex(&file.sha256) }
}

#[cfg(test)]
mod tests {
    use super::super::HeaderLimits;
    use super::*;
    use dyadic_proto::v1::FileHeader;

    fn specs(files: &[(&str, &[u8])]) -> FileSpecs {
        let headers = files.iter().map(|(name, data)| FileHeader {
            name: (*name).to_owned(),
            size_bytes: data.len() as u64,
            sha256: Sha256::digest(data).to_vec(),
        });
        FileSpecs::check(headers.collect(), HeaderLimits { max_files: 9, max_bytes: 1000 }).unwrap()
    }

    fn chunk(file: u32, offset: u64, data: &'static [u8]) -> FileChunk {
        FileChunk { file, offset, data: data.into() }
    }

    #[test]
    fn files_come_whole_and_in_order() {
        let mut receiver =
            Receiver::new(specs(&[("a", b"hello"), ("empty", b""), ("b", b"xy"), ("end", b"")]));
        assert_eq!(receiver.accept(&chunk(0, 0, b"he")).unwrap(), 0);
        assert_eq!(receiver.accept(&chunk(0, 2, b"")).unwrap(), 0);
        assert_eq!(receiver.accept(&chunk(0, 2, b"llo")).unwrap(), 0);
        assert_eq!(receiver.accept(&chunk(2, 0, b"xy")).unwrap(), 2);
        assert_eq!(receiver.finish().unwrap().as_slice().len(), 4);
    }

    #[test]
    fn gaps_overruns_wrong_files_and_truncation_are_named() {
        let receiver = || Receiver::new(specs(&[("a", b"hello"), ("b", b"xy")]));
        assert!(matches!(receiver().accept(&chunk(1, 0, b"xy")), Err(UploadError::WrongFile { .. })));
        assert!(matches!(receiver().accept(&chunk(7, 0, b"xy")), Err(UploadError::WrongFile { .. })));
        assert!(matches!(receiver().accept(&chunk(0, 1, b"e")), Err(UploadError::Gap { expected: 0, .. })));
        assert!(matches!(receiver().accept(&chunk(0, 0, b"hello!")), Err(UploadError::Overrun { .. })));
        assert!(matches!(receiver().finish(), Err(UploadError::Truncated { received: 0, .. })));
        let mut half = receiver();
        half.accept(&chunk(0, 0, b"hello")).unwrap();
        assert!(matches!(half.finish(), Err(UploadError::Truncated { file, .. }) if file == "b"));
    }

    #[test]
    fn other_bytes_are_a_hash_mismatch() {
        let mut receiver = Receiver::new(specs(&[("a", b"hello")]));
        assert!(matches!(receiver.accept(&chunk(0, 0, b"jello")), Err(UploadError::HashMismatch { .. })));
        let header = FileHeader { name: "a".into(), size_bytes: 0, sha256: vec![1; 32] };
        let limits = HeaderLimits { max_files: 1, max_bytes: 1 };
        let receiver = Receiver::new(FileSpecs::check(vec![header], limits).unwrap());
        assert!(matches!(receiver.finish(), Err(UploadError::HashMismatch { .. })));
    }

    #[test]
    fn a_resumed_file_goes_on_where_it_ended() {
        let files = || specs(&[("a", b"hello")]);
        let mut receiver = Receiver::resume(files(), 2, Sha256::new_with_prefix(b"he"));
        receiver.accept(&chunk(0, 2, b"llo")).unwrap();
        assert!(receiver.finish().is_ok());
        assert!(Receiver::resume(files(), 5, Sha256::new_with_prefix(b"hello")).finish().is_ok());
    }
}
