//! Where everything lies: the data folder, and the programs.

use std::ffi::OsString;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::child::Child;
use crate::error::{CliError, Result};

/// The data folder and what is in it.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) data: PathBuf,
    pub(super) logs: PathBuf,
    /// A database that is there already.
    pub(super) external: Option<String>,
}

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

impl Place {
    /// Makes the folders, for this user only.
    pub(super) fn prepare(data: &Path, external: Option<String>) -> Result<Self> {
        let logs = data.join("logs");
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&logs)
            .map_err(|e| CliError::file(&logs, e))?;
        let data = data.canonicalize().map_err(|e| CliError::file(data, e))?;
        Ok(Place { logs: data.join("logs"), data, external })
    }

    /// Folder of the private cluster.
    pub(super) fn database(&self) -> PathBuf {
        self.data.join("database")
    }

    pub(super) fn token_file(&self) -> PathBuf {
        self.data.join("token")
    }

    /// Where the server writes its address, with what a run before wrote removed.
    pub(super) fn fresh_port_file(&self) -> Result<PathBuf> {
        let path = self.data.join("address");
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
            arguments.extend(["--private-database".into(), self.database().into()]);
        }
        arguments
    }

    pub(super) fn worker_arguments() -> Vec<OsString> {
        vec!["run".into()]
    }

    /// What the processes' environment has beyond ours, or lacks.
    pub(super) fn environment(&self, database_url: Option<&str>) -> Vec<(&'static str, Option<OsString>)> {
        let url = database_url.or(self.external.as_deref()).map(OsString::from);
        let mut environment = vec![("DATABASE_URL", url)];
        if std::env::var_os("DYADIC_BLOBS").is_none() {
            environment.push(("DYADIC_BLOBS", Some(self.blobs_url().into())));
        }
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
        let path = self.database().join("url");
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
        let place = Place::prepare(&dir.path().join("data"), None).unwrap();
        let mode = std::fs::metadata(&place.data).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0);
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
