//! Where everything lies: the data folder, and the programs.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::child::Child;
use crate::connect::{ADDRESS_FILE, default_data_dir};
use crate::error::{CliError, Result};

/// The data folder and what is in it.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) data: PathBuf,
    pub(super) logs: PathBuf,
    /// A database that is there already.
    pub(super) external: Option<String>,
    /// Folder of the private cluster.
    pub(super) database: PathBuf,
    /// Held while this process lives.
    _lock: File,
}

/// Where root's private cluster lies if root's own folders are closed to the user that PostgreSQL then runs as.
const ROOT_DATABASE: &str = "/var/lib/dyadic/database";

/// A program of ours: beside this one, or on PATH.
pub(super) fn find(name: &str) -> Result<PathBuf> {
    let mut places: Vec<PathBuf> =
        std::env::current_exe().ok().and_then(|p| p.parent().map(Path::to_owned)).into_iter().collect();
    places.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    let runnable =
        |p: &PathBuf| p.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    places.iter().map(|p| p.join(name)).find(runnable).ok_or_else(|| {
        let beside = super::join(places.get(..1).unwrap_or_default());
        CliError::usage(format!("{name} is neither in {beside} nor on PATH")).hint(format!(
            "from the source tree: cargo build -p {name}; `dyadic up --workers 0` starts without workers"
        ))
    })
}

/// Whether other users can enter the folder and all above it.
fn open_to_all(folder: &Path) -> bool {
    folder.ancestors().all(|f| f.metadata().is_ok_and(|m| m.permissions().mode() & 0o001 != 0))
}

/// Keeps a second `dyadic up` away from the same folder.
fn lock(data: &Path) -> Result<File> {
    let path = data.join("lock");
    let file = File::options()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&path)
        .map_err(|e| CliError::file(&path, e))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => {
            Err(CliError::failed(format!("dyadic is up already in {}", data.display()))
                .hint("use it, stop it, or give another folder with --data"))
        }
        Err(e) => Err(CliError::file(&path, e)),
    }
}

impl Place {
    /// Makes the folders, for this user only. As root PostgreSQL runs as another user, who must get through to the
    /// cluster's folder, though not see what is in ours.
    pub(super) fn prepare(data: &Path, external: Option<String>) -> Result<Self> {
        let root = rustix::process::geteuid().is_root();
        let make = |path: &Path, mode: u32| {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(mode)
                .create(path)
                .map_err(|e| CliError::file(path, e))
        };
        make(data, if root { 0o711 } else { 0o700 })?;
        let is_default = data == default_data_dir();
        let data = data.canonicalize().map_err(|e| CliError::file(data, e))?;
        let logs = data.join("logs");
        make(&logs, 0o700)?;
        let mut database = data.join("database");
        if root && external.is_none() && !open_to_all(&data) {
            if !is_default {
                return Err(CliError::file(&data, "is closed to other users, and as root PostgreSQL runs as one")
                    .hint("give a folder that others can enter, as in --data /var/lib/dyadic, or --database-url URL"));
            }
            database = PathBuf::from(ROOT_DATABASE);
            make(&database, 0o711)?;
        }
        let lock = lock(&data)?;
        Ok(Place { data, logs, external, database, _lock: lock })
    }

    pub(super) fn token_file(&self) -> PathBuf {
        self.data.join("token")
    }

    /// Where the server writes its address, with what a run before wrote removed.
    pub(super) fn fresh_port_file(&self) -> Result<PathBuf> {
        let path = self.data.join(ADDRESS_FILE);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(CliError::file(&path, e)),
            _ => Ok(path),
        }
    }

    pub(super) fn server_arguments(&self, port: u16, port_file: &Path) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec![
            "--listen".into(),
            format!("127.0.0.1:{port}").into(),
            "--data-dir".into(),
            self.data.clone().into(),
            "--port-file".into(),
            port_file.into(),
        ];
        // A given one goes by the environment: every user of the machine can read arguments.
        if self.external.is_none() {
            arguments.extend(["--private-database".into(), self.database.clone().into()]);
        }
        arguments
    }

    pub(super) fn worker_arguments() -> Vec<OsString> {
        vec!["run".into()]
    }

    /// What the processes' environment has beyond ours, or lacks.
    pub(super) fn environment(&self, database_url: Option<&str>) -> Vec<(&'static str, Option<OsString>)> {
        let url = database_url.or(self.external.as_deref()).map(OsString::from);
        // Logs go to files, where colours are noise.
        let mut environment = vec![("DATABASE_URL", url), ("NO_COLOR", Some("1".into()))];
        let defaults = [
            ("DYADIC_BLOBS", self.blobs_url().into()),
            ("DYADIC_WORKER_CACHE", self.data.join("cache").into()),
        ];
        environment.extend(
            defaults.into_iter().filter(|(k, _)| std::env::var_os(k).is_none()).map(|(k, v)| (k, Some(v))),
        );
        environment
    }

    fn blobs_url(&self) -> String {
        format!("file://{}", self.data.join("blobs").display())
    }

    /// The database that workers connect to.
    pub(super) fn database_url(&self, _children: &[Child]) -> Result<String> {
        if let Some(url) = &self.external {
            return Ok(url.clone());
        }
        let path = self.database.join("url");
        let url = std::fs::read_to_string(&path).map_err(|e| CliError::file(&path, e))?;
        Ok(url.trim().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_folder_is_for_this_user_only() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::prepare(&dir.path().join("data"), Some("postgres://x".into())).unwrap();
        for folder in [&place.data, &place.logs] {
            let mode = std::fs::metadata(folder).unwrap().permissions().mode();
            assert_eq!(mode & 0o066, 0, "{mode:o}");
        }
    }

    #[test]
    fn one_folder_has_one_owner_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let database = || Some("postgres://x".to_owned());
        let first = Place::prepare(dir.path(), database()).unwrap();
        assert!(Place::prepare(dir.path(), database()).unwrap_err().message.contains("up already"));
        drop(first);
        Place::prepare(dir.path(), database()).unwrap();
    }

    #[test]
    fn a_folder_is_open_only_if_all_above_it_are() {
        let dir = tempfile::tempdir().unwrap();
        for (mode, open) in [(0o700, false), (0o711, true)] {
            std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(open_to_all(dir.path()), open);
        }
        assert!(!open_to_all(&dir.path().join("none")));
    }

    #[test]
    fn a_given_database_does_not_show_in_the_process_list() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::prepare(dir.path(), Some("postgres://user:secret@host/db".into())).unwrap();
        let arguments = place.server_arguments(0, Path::new("p"));
        assert!(arguments.iter().all(|a| !a.to_string_lossy().contains("secret")));
        assert!(!arguments.iter().any(|a| a == "--private-database"));
        assert_eq!(place.environment(None)[0].1.as_deref(), Some("postgres://user:secret@host/db".as_ref()));
    }
}
