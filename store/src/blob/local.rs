//! Writing into a local folder: staged beside, synced, read back, renamed, the folder synced.
//!
//! Everything here blocks, and runs to its end once begun: a caller who goes away leaves nothing half done. A staged file
//! is locked (`flock`) for as long as its writer lives; one without a lock is what a crash left.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use sha2::{Digest as _, Sha256};

use super::{BlobError, CHUNK, Digest};

/// Staged files begin with this; no blob's folder does.
const STAGED: &str = ".staged-";

/// Where a blob lies below its store: `ab`, `cdef…`.
pub(super) fn name(digest: &Digest) -> (String, String) {
    let hex = digest.to_string();
    let (folder, rest) = hex.split_at(2);
    (folder.to_owned(), rest.to_owned())
}

/// Stores bytes under their digest.
pub(super) fn put_bytes(root: &Path, digest: &Digest, bytes: &[u8]) -> Result<(), BlobError> {
    if is_whole(root, digest, bytes.len() as u64)? {
        return Ok(());
    }
    let mut staged = Staged::create(root)?;
    staged.file.write_all(bytes)?;
    staged.publish_written(root, digest)
}

/// Stores a file that holds what `digest` says. The file stays, and may share its bytes with the blob.
pub(super) fn put_file(root: &Path, path: &Path, digest: &Digest) -> Result<(), BlobError> {
    if let Err(error) = File::open(path)?.sync_all() {
        // After a failed sync nobody knows what the file holds: it is not used again.
        let _ = fs::remove_file(path);
        return Err(error.into());
    }
    let size = check_file(path, digest)?;
    if is_whole(root, digest, size)? {
        return Ok(());
    }
    if let Ok(staged) = Staged::link(root, path) {
        return staged.publish(root, digest);
    }
    // Another disk, or one without hard links.
    let mut staged = Staged::create(root)?;
    io::copy(&mut File::open(path)?, &mut staged.file)?;
    staged.publish_written(root, digest)
}

/// The size of a file that holds what `digest` says.
pub(super) fn check_file(path: &Path, digest: &Digest) -> Result<u64, BlobError> {
    let mut file = File::open(path)?;
    expect(digest, hash(&mut file)?)?;
    Ok(file.metadata()?.len())
}

/// Reads a blob and compares its hash with its name.
pub(super) fn verify(root: &Path, digest: &Digest) -> Result<(), BlobError> {
    match File::open(blob_path(root, digest)) {
        Ok(mut file) => expect(digest, hash(&mut file)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(BlobError::NotFound(*digest)),
        Err(error) => Err(error.into()),
    }
}

/// Removes the staged files of writers that are no more.
pub(super) fn clear_staging(root: &Path) -> io::Result<usize> {
    let mut removed = 0;
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with(STAGED) {
            continue;
        }
        let Ok(file) = File::open(entry.path()) else { continue };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            fs::remove_file(entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Whether a blob is there with this size and its own hash. If so, its name is on the disk for good; if not, it is to be
/// written, again if need be.
fn is_whole(root: &Path, digest: &Digest, size: u64) -> Result<bool, BlobError> {
    let path = blob_path(root, digest);
    let Ok(mut file) = File::open(&path) else { return Ok(false) };
    // What cannot be read is as good as damaged: it is written anew.
    let sized = file.metadata().is_ok_and(|found| found.len() == size);
    if !sized || !hash(&mut file).is_ok_and(|actual| actual == *digest) {
        return Ok(false);
    }
    // Whoever renamed it may have died before this.
    sync_folder(path.parent().unwrap_or(root))?;
    Ok(true)
}

/// A file beside the blobs; removed when dropped, unless it has been renamed.
struct Staged {
    file: File,
    path: PathBuf,
}

impl Staged {
    /// A new private file.
    fn create(root: &Path) -> io::Result<Self> {
        loop {
            let path = root.join(format!("{STAGED}{}", uuid::Uuid::new_v4()));
            let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
            let staged = Self { file, path };
            staged.lock();
            // A process that starts may have cleared it away before it was locked.
            if staged.file.metadata()?.nlink() > 0 {
                return Ok(staged);
            }
        }
    }

    /// Another name of a file on the same disk.
    fn link(root: &Path, path: &Path) -> io::Result<Self> {
        let staged =
            Self { file: File::open(path)?, path: root.join(format!("{STAGED}{}", uuid::Uuid::new_v4())) };
        staged.lock();
        fs::hard_link(path, &staged.path)?;
        Ok(staged)
    }

    /// Where the disk knows no locks, nothing is ever cleared away either.
    fn lock(&self) {
        let _ = flock(&self.file, FlockOperation::LockExclusive);
    }

    /// Syncs what was written, reads it back, and publishes it.
    fn publish_written(self, root: &Path, digest: &Digest) -> Result<(), BlobError> {
        self.file.sync_all()?;
        expect(digest, hash(&mut File::open(&self.path)?)?)?;
        self.publish(root, digest)
    }

    /// Renames a synced and verified file to its name, whatever is there, and syncs the folder.
    fn publish(self, root: &Path, digest: &Digest) -> Result<(), BlobError> {
        let path = blob_path(root, digest);
        let folder = path.parent().unwrap_or(root);
        match fs::create_dir(folder) {
            Ok(()) => sync_folder(root)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error.into()),
        }
        fs::rename(&self.path, &path)?;
        Ok(sync_folder(folder)?)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Gone already once it has been renamed.
        let _ = fs::remove_file(&self.path);
    }
}

fn blob_path(root: &Path, digest: &Digest) -> PathBuf {
    let (folder, rest) = name(digest);
    root.join(folder).join(rest)
}

fn expect(expected: &Digest, actual: Digest) -> Result<(), BlobError> {
    if actual == *expected { Ok(()) } else { Err(BlobError::Damaged { expected: *expected, actual }) }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn hash(file: &mut File) -> io::Result<Digest> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(Digest::from(<[u8; 32]>::from(hash.finalize()))),
            Ok(n) => hash.update(buffer.get(..n).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
