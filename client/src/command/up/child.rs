//! One process that `dyadic up` started, in a process group of its own so that Ctrl-C reaches it through us only.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;

use super::log::Log;
use crate::error::{CliError, Result};
use crate::output::Output;

/// Longest pause before a process that keeps dying is started again.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How a process ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Death(ExitStatus);

impl Death {
    #[cfg(test)]
    pub(super) fn of_code(code: i32) -> Self {
        Death(ExitStatus::from_raw(code << 8))
    }
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.code(), self.0.signal()) {
            (Some(code), _) => write!(f, "ended with exit code {code}"),
            (None, Some(signal)) => write!(f, "was ended by signal {signal}"),
            (None, None) => f.write_str("ended"),
        }
    }
}

/// A running process and its log file.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) name: String,
    process: tokio::process::Child,
    pid: u32,
    log: Log,
    started: Instant,
    deaths: u32,
}

impl Child {
    pub(super) fn spawn(
        name: &str,
        program: &Path,
        arguments: &[OsString],
        environment: &[(&str, Option<OsString>)],
        logs: &Path,
        echo: bool,
    ) -> Result<Self> {
        let (log, file) = Log::open(name, logs, echo)?;
        let both = file.try_clone().map_err(|e| CliError::file(&log.path, e))?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(file).stderr(both).process_group(0);
        for (key, value) in environment {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        let process = command.spawn().map_err(|e| CliError::file(program, e))?;
        let pid = process.id().unwrap_or(0);
        Ok(Child { name: name.to_owned(), process, pid, log, started: Instant::now(), deaths: 0 })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn log_path(&self) -> &PathBuf {
        &self.log.path
    }

    /// How it ended, if it has.
    pub(super) fn death(&mut self) -> Result<Option<Death>> {
        Ok(self.process.try_wait()?.map(Death))
    }

    /// Waits for its end.
    pub(super) async fn wait(&mut self) -> Result<Death> {
        Ok(Death(self.process.wait().await?))
    }

    /// Asks it to stop.
    pub(super) fn terminate(&self) {
        let pid = self.process.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended by itself just now.
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    /// Ends it at once.
    pub(super) async fn kill(&mut self) {
        // It may have ended by itself just now.
        let _ = self.process.kill().await;
    }

    /// How long to wait before it is started again: longer the more often it died soon after its start.
    pub(super) fn pause(&mut self) -> Duration {
        self.deaths =
            if self.started.elapsed() > Duration::from_secs(60) { 0 } else { self.deaths.saturating_add(1) };
        Duration::from_secs(1 << self.deaths.min(6)).min(LONGEST_PAUSE)
    }

    /// Takes over a fresh process in its place.
    pub(super) fn replace(&mut self, fresh: Child) {
        *self = Child { deaths: self.deaths, ..fresh };
    }

    /// Prints what is new in its log, if that is wanted.
    pub(super) fn show_logs(&mut self, output: Output) {
        self.log.show(output);
    }

    /// The error that its death is, with the end of its log.
    pub(super) fn failed(&self, death: Death) -> CliError {
        let tail = self.log.tail(12);
        let message = if tail.is_empty() {
            format!("the {} {death}", self.name)
        } else {
            format!("the {} {death}:\n{tail}", self.name)
        };
        CliError::failed(message).hint(format!("all of it is in {}", self.log.path.display()))
    }
}
