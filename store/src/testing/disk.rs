//! A disk that is small on purpose, to be filled to the brim.
//!
//! It is a tmpfs in a mount namespace of the test's own, so that nothing of it is left behind however the test ends. A
//! test that can have no namespace fails and says so: it is never skipped.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// Set in a process that has mounts of its own.
const MARK: &str = "DYADIC_TEST_OWN_MOUNTS";
/// The size of what a tmpfs gives out.
const PAGE: usize = 4096;

/// Runs the test of this name again, alone, in a process with a mount namespace of its own; true in that process, where
/// the test is to go on, and false in the first one, once the other has succeeded.
///
/// # Panics
/// If there can be no such namespace, or the test fails in it.
pub fn with_own_mounts(test: &str) -> bool {
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let root = rustix::process::geteuid().is_root();
    let flags: &[&str] = if root {
        &["--mount", "--propagation", "private"]
    } else {
        &["--user", "--map-current-user", "--keep-caps", "--mount"]
    };
    let allowed = Command::new("unshare").args(flags).args(["--", "true"]).status();
    assert!(
        allowed.is_ok_and(|status| status.success()),
        "this test fills a disk and needs a mount namespace of its own for it: run it as root, or allow 'unshare {}' \
         (util-linux 2.38 or newer, unprivileged user namespaces)",
        flags.join(" ")
    );
    let itself = std::env::current_exe().expect("this program has a path");
    let status = Command::new("unshare")
        .args(flags)
        .arg("--")
        .arg(itself)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(MARK, "1")
        .status()
        .expect("it has just been run");
    assert!(status.success(), "'{test}' failed in its own namespace");
    false
}

/// A mounted tmpfs, until it is dropped, or the namespace of [`with_own_mounts`] ends.
#[derive(Debug)]
pub struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    /// Mounts an empty disk of this many bytes on a folder, which is made.
    ///
    /// # Panics
    /// If it cannot be mounted, or this process has no mounts of its own.
    pub fn mount(folder: &Path, bytes: usize) -> Self {
        assert!(std::env::var_os(MARK).is_some(), "mount only where with_own_mounts answers true");
        fs::create_dir_all(folder).expect("a folder to mount on");
        let size = format!("size={bytes},mode=0755");
        let size = std::ffi::CString::new(size).expect("no NUL in it");
        mount("tmpfs", folder, "tmpfs", MountFlags::empty(), size.as_c_str())
            .expect("a tmpfs can be mounted");
        Self { folder: folder.to_owned() }
    }

    /// Where it is mounted.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Fills it, but for this many bytes, rounded up to pages.
    ///
    /// # Panics
    /// If something else than a full disk stops it.
    pub fn fill_but(&self, room: usize) -> Filled {
        let path = self.folder.join(".filler");
        let mut file = File::create(&path).expect("a file can be made");
        let (block, mut written) = (vec![0u8; 64 * PAGE], 0);
        for size in [block.len(), PAGE] {
            loop {
                match file.write(&block[..size]) {
                    Ok(0) => break,
                    Ok(n) => written += n,
                    Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                    Err(error) => panic!("the disk cannot be filled: {error}"),
                }
            }
        }
        let keep = written.saturating_sub(room.div_ceil(PAGE) * PAGE);
        file.set_len(keep as u64).expect("a file can be cut");
        Filled { path }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = unmount(&self.folder, UnmountFlags::DETACH);
    }
}

/// A disk without room; there is room again once this is dropped.
#[derive(Debug)]
pub struct Filled {
    path: PathBuf,
}

impl Drop for Filled {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
