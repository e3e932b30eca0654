//! Where uploads lie until they are complete and checked.
//!
//! Temporary spools go when they are dropped. Resumable ones stay under the owner's and the content's hash; only one call at
//! a time writes to one.

use std::collections::HashSet;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use uuid::Uuid;

use super::UploadError;
use super::error::hex;

const TEMPORARY: &str = "tmp";
const RESUMABLE: &str = "part";

/// Bytes that are read at once when a resumed file is hashed again.
const READ_BYTES: usize = 1 << 20;

/// The folder of all spools.
#[derive(Debug, Clone)]
pub struct SpoolDir {
    dir: PathBuf,
    /// Resumable spools that a call writes to.
    active: Arc<Mutex<HashSet<PathBuf>>>,
}

/// A file that is being received.
#[derive(Debug)]
pub struct Spool {
    file: File,
    path: PathBuf,
    /// The set to leave when done, for a resumable one; a temporary one is removed.
    active: Option<Arc<Mutex<HashSet<PathBuf>>>>,
}

impl SpoolDir {
    /// Makes the folder, and clears away what a killed server left in it.
    pub fn open(dir: PathBuf) -> io::Result<Self> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        let spools = Self { dir, active: Arc::default() };
        spools.remove_older(TEMPORARY, Duration::ZERO)?;
        Ok(spools)
    }

    /// A new empty spool.
    pub async fn temporary(&self) -> Result<Spool, UploadError> {
        let path = self.dir.join(format!("{}.{TEMPORARY}", Uuid::new_v4()));
        let file = options().create_new(true).open(&path).await?;
        Ok(Spool { file, path, active: None })
    }

    /// The spool of this owner's upload of these bytes, with what came before.
    pub async fn resumable(&self, owner: &str, sha256: &[u8; 32]) -> Result<Spool, UploadError> {
        let path = self.path(owner, sha256);
        if !lock(&self.active).insert(path.clone()) {
            return Err(UploadError::Busy);
        }
        match options().create(true).append(true).open(&path).await {
            Ok(file) => Ok(Spool { file, path, active: Some(self.active.clone()) }),
            Err(error) => {
                lock(&self.active).remove(&path);
                Err(error.into())
            }
        }
    }

    /// Bytes that came of this owner's upload of these bytes; `None` if none has begun.
    pub async fn received(&self, owner: &str, sha256: &[u8; 32]) -> Result<Option<u64>, UploadError> {
        match tokio::fs::metadata(self.path(owner, sha256)).await {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes resumable spools that nobody has written to for this long.
    pub fn remove_abandoned(&self, idle: Duration) -> io::Result<usize> {
        self.remove_older(RESUMABLE, idle)
    }

    fn remove_older(&self, extension: &str, idle: Duration) -> io::Result<usize> {
        let mut removed = 0;
        for entry in std::fs::read_dir(&self.dir)? {
            let path = entry?.path();
            let active = lock(&self.active);
            if path.extension().is_none_or(|found| found != extension) || active.contains(&path) {
                continue;
            }
            let modified = std::fs::metadata(&path).and_then(|metadata| metadata.modified())?;
            let age = SystemTime::now().duration_since(modified).unwrap_or_default();
            if age >= idle {
                std::fs::remove_file(&path)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn path(&self, owner: &str, sha256: &[u8; 32]) -> PathBuf {
        let owner = Sha256::digest(owner.as_bytes());
        self.dir.join(format!("{}-{}.{RESUMABLE}", hex(&owner[..8]), hex(sha256)))
    }
}

impl Spool {
    /// Appends.
    pub async fn append(&mut self, data: &[u8]) -> Result<(), UploadError> {
        Ok(self.file.write_all(data).await?)
    }

    /// Hashes what is there; the length and the hash so far.
    pub async fn rehash(&self) -> Result<(u64, Sha256), UploadError> {
        let mut file = File::open(&self.path).await?;
        let mut hash = Sha256::new();
        let mut length = 0;
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let read = file.read(&mut buffer).await?;
            if read == 0 {
                return Ok((length, hash));
            }
            hash.update(&buffer[..read]);
            length += read as u64;
        }
    }

    /// Everything appended is in the file.
    pub async fn flush(&mut self) -> Result<(), UploadError> {
        Ok(self.file.flush().await?)
    }

    /// Where the bytes are.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The whole content.
    pub async fn read(&self) -> Result<Vec<u8>, UploadError> {
        Ok(tokio::fs::read(&self.path).await?)
    }

    /// Removes a resumable spool: its bytes are kept elsewhere, or were wrong.
    pub async fn remove(self) -> Result<(), UploadError> {
        match tokio::fs::remove_file(&self.path).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        match &self.active {
            Some(active) => {
                lock(active).remove(&self.path);
            }
            // A file that cannot be removed now is removed at the next start.
            None => drop(std::fs::remove_file(&self.path)),
        }
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

fn lock(set: &Mutex<HashSet<PathBuf>>) -> std::sync::MutexGuard<'_, HashSet<PathBuf>> {
    set.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_broken_upload_goes_on_where_it_ended() {
        let dir = tempfile::tempdir().unwrap();
        let spools = SpoolDir::open(dir.path().join("uploads")).unwrap();
        let sha256 = [7; 32];
        let mut spool = spools.resumable("ann", &sha256).await.unwrap();
        spool.append(b"hel").await.unwrap();
        spool.flush().await.unwrap();
        assert!(matches!(spools.resumable("ann", &sha256).await, Err(UploadError::Busy)));
        drop(spool);
        assert_eq!(spools.received("ann", &sha256).await.unwrap(), Some(3));
        assert_eq!(spools.received("bob", &sha256).await.unwrap(), None);
        let mut spool = spools.resumable("ann", &sha256).await.unwrap();
        let (length, hash) = spool.rehash().await.unwrap();
        assert_eq!((length, hash.finalize()), (3, Sha256::digest(b"hel")));
        spool.append(b"lo").await.unwrap();
        spool.flush().await.unwrap();
        assert_eq!(spool.read().await.unwrap(), b"hello");
        spool.remove().await.unwrap();
        assert_eq!(spools.received("ann", &sha256).await.unwrap(), None);
    }

    #[tokio::test]
    async fn temporary_spools_leave_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let spools = SpoolDir::open(dir.path().to_owned()).unwrap();
        let mut spool = spools.temporary().await.unwrap();
        spool.append(b"x").await.unwrap();
        drop(spool);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        std::fs::write(dir.path().join("left.tmp"), b"x").unwrap();
        std::fs::write(dir.path().join("left.part"), b"x").unwrap();
        let spools = SpoolDir::open(dir.path().to_owned()).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(spools.remove_abandoned(Duration::from_secs(3600)).unwrap(), 0);
        assert_eq!(spools.remove_abandoned(Duration::ZERO).unwrap(), 1);
    }
}
