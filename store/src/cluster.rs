//! A private PostgreSQL cluster from the installed binaries: for one machine's own use and for tests.
//!
//! It listens on a Unix socket in a folder that only its user may enter, never on a network address. PostgreSQL refuses
//! to run as root; started as root, the cluster runs as an unprivileged user who then owns the folder.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Unprivileged users that a cluster may run as when we are root, in order of preference.
const USERS: [&str; 2] = ["postgres", "nobody"];
/// How long a start may take.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long a shutdown may take before it is forced.
const STOP_LIMIT: Duration = Duration::from_secs(20);
/// A Unix socket's path may be at most 107 bytes; this is the name below the folder.
const SOCKET_NAME: &str = ".s.PGSQL.5432";

/// What the extension of a cluster that is being made begins with.
const UNFINISHED: &str = "unfinished";

/// Why a cluster could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// No PostgreSQL server is installed.
    #[error(
        "no PostgreSQL server found (searched PATH and /usr/lib/postgresql/*/bin); install it with \
         'apt-get install postgresql', or give DATABASE_URL"
    )]
    NotInstalled,
    /// A command of PostgreSQL failed.
    #[error("{command} failed: {output}")]
    Command {
        /// The command's name.
        command: String,
        /// What it printed.
        output: String,
    },
    /// The folder cannot be used.
    #[error("{path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The folder's path leaves no room for the socket's name.
    #[error("{path} is too long for a Unix socket; choose a path under 90 bytes")]
    PathTooLong {
        /// The folder.
        path: PathBuf,
    },
    /// We are root and there is no user to run as.
    #[error("PostgreSQL refuses to run as root, and neither the user 'postgres' nor 'nobody' exists")]
    NoUser,
    /// The server did not accept connections in time.
    #[error("PostgreSQL did not start within {} s; its log is {log}", START_LIMIT.as_secs())]
    Timeout {
        /// The server's log.
        log: PathBuf,
    },
}

/// A running cluster; stopped when dropped.
#[derive(Debug)]
pub struct Cluster {
    folder: PathBuf,
    server: Child,
    /// Dropped to end the thread that the server was started from.
    _keeper: mpsc::Sender<()>,
}

impl Cluster {
    /// Starts the cluster in `folder`, creating it on first use. The server ends with this process, however that ends.
    ///
    /// # Errors
    /// See [`ClusterError`].
    pub fn start(folder: &Path) -> Result<Self, ClusterError> {
        Self::start_with(folder, &[])
    }

    /// As [`Cluster::start`], with further `name=value` server settings.
    ///
    /// # Errors
    /// See [`ClusterError`].
    pub fn start_with(folder: &Path, settings: &[&str]) -> Result<Self, ClusterError> {
        let binaries = binaries()?;
        let account = Account::choose()?;
        let folder = prepare(folder, &account)?;
        let data = folder.join("data");
        if !data.join("PG_VERSION").exists() {
            initialize(&binaries, &account, &data)?;
        }
        let log = folder.join("postgres.log");
        let command = server_command(&binaries, &account, &folder, &log, settings)?;
        let (server, keeper) = spawn_kept(command, &log)?;
        let mut cluster = Cluster { folder, server, _keeper: keeper };
        cluster.wait_until_ready(&binaries, &log)?;
        Ok(cluster)
    }

    /// Connection URL of a database in this cluster.
    pub fn url(&self, database: &str) -> String {
        let host: String = self.folder.to_string_lossy().bytes().map(encode).collect();
        format!("postgresql://dyadic@localhost/{database}?host={host}")
    }

    fn wait_until_ready(&mut self, binaries: &Path, log: &Path) -> Result<(), ClusterError> {
        let began = Instant::now();
        while began.elapsed() < START_LIMIT {
            let ended =
                self.server.try_wait().map_err(|source| ClusterError::Io { path: log.into(), source })?;
            if ended.is_some() {
                return Err(ClusterError::Command { command: "postgres".into(), output: tail(log) });
            }
            let ready = Command::new(binaries.join("pg_isready"))
                .arg("-q")
                .arg("-h")
                .arg(&self.folder)
                .status()
                .is_ok_and(|s| s.success());
            if ready {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(50));
        }
        Err(ClusterError::Timeout { log: log.into() })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // SIGINT is PostgreSQL's fast shutdown: open transactions are rolled back, the disk is left clean.
        let server = i32::try_from(self.server.id()).ok().and_then(Pid::from_raw);
        let asked = server.is_some_and(|pid| kill_process(pid, Signal::INT).is_ok());
        let began = Instant::now();
        while asked && began.elapsed() < STOP_LIMIT {
            if !matches!(self.server.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Who the server runs as.
enum Account {
    /// Ourselves.
    Own,
    /// Another user, since we are root.
    Other { user: &'static str, uid: u32, gid: u32 },
}

impl Account {
    fn choose() -> Result<Self, ClusterError> {
        let own = fs::metadata("/proc/self").map_or(0, |m| m.uid());
        if own != 0 {
            return Ok(Account::Own);
        }
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        for user in USERS {
            for line in passwd.lines() {
                let fields: Vec<&str> = line.split(':').collect();
                let &[name, _, uid, gid, ..] = fields.as_slice() else { continue };
                if let (true, Ok(uid), Ok(gid)) = (name == user, uid.parse(), gid.parse()) {
                    return Ok(Account::Other { user, uid, gid });
                }
            }
        }
        Err(ClusterError::NoUser)
    }

    /// A command that runs as this account and gets SIGINT when we die.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "INT"]);
        if let Account::Other { uid, gid, .. } = self {
            command.args([format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".into()]);
        }
        command.arg("--").arg(program);
        command
    }
}

/// The newest installed server's folder of binaries.
fn binaries() -> Result<PathBuf, ClusterError> {
    let complete =
        |folder: &Path| ["postgres", "initdb", "pg_isready"].iter().all(|b| folder.join(b).is_file());
    let path = std::env::var_os("PATH").unwrap_or_default();
    if let Some(found) = std::env::split_paths(&path).find(|p| complete(p)) {
        return Ok(found);
    }
    let versions = fs::read_dir("/usr/lib/postgresql").map_err(|_| ClusterError::NotInstalled)?;
    let number = |path: &Path| path.file_name().and_then(|n| n.to_str()).and_then(|n| n.parse::<u32>().ok());
    versions
        .filter_map(|v| v.ok().map(|v| v.path()))
        .filter(|v| complete(&v.join("bin")))
        .max_by_key(|v| number(v))
        .map(|v| v.join("bin"))
        .ok_or(ClusterError::NotInstalled)
}

/// Makes the folder, private to the account, and returns its absolute path.
fn prepare(folder: &Path, account: &Account) -> Result<PathBuf, ClusterError> {
    let io_error = |source| ClusterError::Io { path: folder.to_path_buf(), source };
    fs::create_dir_all(folder).map_err(io_error)?;
    let folder = folder.canonicalize().map_err(io_error)?;
    if folder.as_os_str().len() + 1 + SOCKET_NAME.len() > 107 {
        return Err(ClusterError::PathTooLong { path: folder });
    }
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).map_err(io_error)?;
    if let Account::Other { uid, gid, .. } = account {
        std::os::unix::fs::chown(&folder, Some(*uid), Some(*gid)).map_err(io_error)?;
    }
    Ok(folder)
}

/// Makes the cluster under another name first: `data` is whole or not there, whenever this is interrupted.
fn initialize(binaries: &Path, account: &Account, data: &Path) -> Result<(), ClusterError> {
    let io_error = |source| ClusterError::Io { path: data.to_path_buf(), source };
    remove_unfinished(data);
    let fresh = data.with_extension(format!("{UNFINISHED}-{}", std::process::id()));
    let output = account
        .command(&binaries.join("initdb"))
        .args([
            "--username=dyadic",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--no-instructions",
            "-D",
        ])
        .arg(&fresh)
        .stdin(Stdio::null())
        .output()
        .map_err(|source| ClusterError::Io { path: "setpriv".into(), source })?;
    if output.status.success() {
        return fs::rename(&fresh, data).map_err(io_error);
    }
    let _ = fs::remove_dir_all(&fresh);
    let printed = [output.stdout, output.stderr].concat();
    let mut printed = String::from_utf8_lossy(&printed).trim().to_string();
    if let Account::Other { user, .. } = account {
        let place = data.display();
        printed =
            format!("{printed}\n(running as '{user}', who must be able to enter every folder above {place})");
    }
    Err(ClusterError::Command { command: "initdb".into(), output: printed })
}

/// Removes what interrupted starts left. An initdb that is about to end removes its own files meanwhile: what is still there
/// then goes with the next first start.
fn remove_unfinished(data: &Path) {
    let Some(entries) = data.parent().and_then(|folder| fs::read_dir(folder).ok()) else { return };
    for path in entries.filter_map(|entry| entry.ok().map(|entry| entry.path())) {
        let extension = path.extension().and_then(|extension| extension.to_str());
        if extension.is_some_and(|extension| extension.starts_with(UNFINISHED)) {
            let _ = fs::remove_dir_all(path);
        }
    }
}

fn server_command(
    binaries: &Path,
    account: &Account,
    folder: &Path,
    log: &Path,
    settings: &[&str],
) -> Result<Command, ClusterError> {
    let io_error = |source| ClusterError::Io { path: log.to_path_buf(), source };
    let out = fs::File::options().create(true).append(true).open(log).map_err(io_error)?;
    let err = out.try_clone().map_err(io_error)?;
    let mut command = account.command(&binaries.join("postgres"));
    command.arg("-D").arg(folder.join("data")).arg("-k").arg(folder).args(["-c", "listen_addresses="]);
    for setting in settings {
        command.arg("-c").arg(setting);
    }
    command.stdin(Stdio::null()).stdout(out).stderr(err);
    Ok(command)
}

/// Spawns from a thread that lives as long as the sender: the death signal follows the spawning thread, not the
/// process, and the caller's thread may end early.
fn spawn_kept(mut command: Command, log: &Path) -> Result<(Child, mpsc::Sender<()>), ClusterError> {
    let (keeper, until_dropped) = mpsc::channel::<()>();
    let (give, take) = mpsc::channel();
    thread::spawn(move || {
        // The receiver waits below; a closed channel only means that nobody needs the answer.
        let _ = give.send(command.spawn());
        let _ = until_dropped.recv();
    });
    let io_error = |source| ClusterError::Io { path: log.to_path_buf(), source };
    let spawned = take.recv().map_err(|e| io_error(io::Error::other(e)))?;
    Ok((spawned.map_err(io_error)?, keeper))
}

/// The end of a log.
fn tail(log: &Path) -> String {
    let mut text = String::new();
    let _ = fs::File::open(log).and_then(|mut f| f.read_to_string(&mut text));
    let from = text.len().saturating_sub(2000);
    text.get(from..).unwrap_or(&text).trim().to_string()
}

/// Percent-encodes all but unreserved characters of a URL.
fn encode(byte: u8) -> String {
    if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
        char::from(byte).to_string()
    } else {
        format!("%{byte:02X}")
    }
}
