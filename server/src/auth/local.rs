//! The token of this machine's own user: random, made at the first start, in a file that only its owner can read.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rand::TryRngCore;
use rand::rngs::OsRng;

use crate::upload::hex;

/// The secret in the data folder's `token` file; good for the role admin.
#[derive(Clone)]
pub struct LocalToken {
    /// The secret, as clients send it.
    pub secret: String,
    /// Where it lies.
    pub path: PathBuf,
}

/// The token file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LocalTokenError {
    /// It cannot be read or written.
    #[error("token file {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// Others can read it.
    #[error("token file {}: its mode is {mode:o}; only its owner may read it: chmod 600", path.display())]
    Readable {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It holds no token.
    #[error("token file {}: it is not a token; remove it for a new one", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
}

/// Characters of a secret behind its prefix.
const SECRET_HEX: usize = 64;
const PREFIX: &str = "dyadic_";

/// A new random secret of 256 bits.
pub(crate) fn new_secret() -> io::Result<String> {
    let mut bytes = [0u8; SECRET_HEX / 2];
    OsRng.try_fill_bytes(&mut bytes).map_err(io::Error::other)?;
    Ok(format!("{PREFIX}{}", hex(&bytes)))
}

impl LocalToken {
    /// Reads `DIR/token`, or makes folder and file.
    pub fn open(data_dir: &Path) -> Result<Self, LocalTokenError> {
        let path = data_dir.join("token");
        let io = |source| LocalTokenError::Io { path: path.clone(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(io)?;
        match Self::read(&path) {
            Err(LocalTokenError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        // Written aside and linked, so that a reader never sees half of it and a second server's start loses.
        let secret = new_secret().map_err(io)?;
        let aside = data_dir.join(format!("token.{}", uuid::Uuid::new_v4()));
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside).map_err(io)?;
        let written = file.write_all(secret.as_bytes()).and_then(|()| file.sync_all());
        let linked = written.and_then(|()| fs::hard_link(&aside, &path));
        fs::remove_file(&aside).map_err(io)?;
        match linked {
            Ok(()) => Ok(Self { secret, path }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Self::read(&path),
            Err(source) => Err(LocalTokenError::Io { path, source }),
        }
    }

    fn read(path: &Path) -> Result<Self, LocalTokenError> {
        let io = |source| LocalTokenError::Io { path: path.to_owned(), source };
        let file = fs::File::open(path).map_err(io)?;
        let mode = file.metadata().map_err(io)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(LocalTokenError::Readable { path: path.to_owned(), mode });
        }
        let mut text = String::new();
        file.take(1024).read_to_string(&mut text).map_err(io)?;
        let secret = text.trim();
        let digits = secret.strip_prefix(PREFIX).unwrap_or_default();
        if digits.len() != SECRET_HEX || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(LocalTokenError::Malformed { path: path.to_owned() });
        }
        Ok(Self { secret: secret.to_owned(), path: path.to_owned() })
    }
}

impl std::fmt::Debug for LocalToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalToken").field("path", &self.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_start_finds_the_token_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let first = LocalToken::open(&dir.path().join("deep/er")).unwrap();
        let second = LocalToken::open(&dir.path().join("deep/er")).unwrap();
        assert_eq!(first.secret, second.secret);
        let mode = fs::metadata(&first.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path().join("deep/er")).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let token = LocalToken::open(dir.path()).unwrap();
        fs::set_permissions(&token.path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(LocalToken::open(dir.path()), Err(LocalTokenError::Readable { mode: 0o640, .. })));
    }

    #[test]
    fn a_file_without_a_token_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut options = OpenOptions::new();
        options.write(true).create(true).mode(0o600).open(dir.path().join("token")).unwrap();
        assert!(matches!(LocalToken::open(dir.path()), Err(LocalTokenError::Malformed { .. })));
    }
}
