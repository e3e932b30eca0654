//! `dyadic up`: server, workers and a private database on this machine, started together and stopped together.

mod child;
mod log;
mod place;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use futures::future::select_all;
use tokio::signal::unix::{SignalKind, signal};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::connect::{ServerArgs, default_data_dir};
use crate::error::{CliError, Kind, Result};
use crate::output::Output;
use crate::output::table::pairs;
use child::Child;
use place::Place;

const HELP: &str = "\
Everything lies in the data folder: the database's cluster, blobs, the admin token, logs. Only this machine can connect.
Stopping it (Ctrl-C, or SIGTERM) lets calls finish and puts running jobs back into the queue; starting it again goes on with them.
Examples:
  dyadic up                                 server on port 8470, one worker
  dyadic up --data /srv/dyadic --workers 2 --port 9000
  dyadic up --workers 0                     server only; workers elsewhere
  dyadic up --database-url postgres://…     with a PostgreSQL that is there already";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Up {
    /// Workers to start; each trains one job at a time
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=64))]
    workers: u32,
    /// Port to listen on; 0 takes a free one
    #[arg(long, default_value_t = 8470, value_name = "PORT")]
    port: u16,
    /// Use this PostgreSQL instead of a private one
    #[arg(long, value_name = "URL", env = "DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,
    /// Show the logs here too
    #[arg(long)]
    logs: bool,
    /// Seconds to wait until the server answers
    #[arg(long, default_value_t = 120, value_name = "N")]
    start_secs: u64,
}

/// How long the processes get to stop, beyond the server's own limit of 20 seconds.
const STOP_WITHIN: Duration = Duration::from_secs(40);

impl Up {
    pub(crate) async fn run(self, server: &ServerArgs, output: Output) -> Result<()> {
        let data = server.data.clone().unwrap_or_else(default_data_dir);
        let place = Place::prepare(&data, self.database_url.clone())?;
        let mut stop = Stop::listen()?;
        let mut children = Vec::new();
        let started = tokio::select! {
            started = self.start(&place, &mut children, output) => started,
            () = stop.asked() => Err(CliError::new(Kind::Interrupted, "interrupted while starting")),
        };
        let result = match started {
            Ok(address) => {
                self.told(&address, &place, &children, output)?;
                self.supervise(&place, &address, &mut children, &mut stop, output).await
            }
            Err(error) => Err(error),
        };
        drain(children, &mut stop, output).await;
        // Nobody listens there any more.
        place.fresh_port_file()?;
        result
    }

    /// Starts the server, waits until it serves, then starts the workers; answers the server's address.
    async fn start(&self, place: &Place, children: &mut Vec<Child>, output: Output) -> Result<String> {
        let server = place::find("dyadic-server")?;
        let worker = if self.workers > 0 { Some(place::find("dyadic-worker")?) } else { None };
        output.note(output.paint_notes.dim("starting…"));
        let port_file = place.fresh_port_file()?;
        let arguments = place.server_arguments(self.port, &port_file);
        children.push(Child::spawn(
            "server",
            &server,
            &arguments,
            &place.environment(None),
            &place.logs,
            self.logs,
        )?);
        let address = self.wait_for_server(&port_file, children, output).await?;
        let url = place.database_url(children)?;
        for index in 1..=self.workers {
            if let Some(worker) = &worker {
                children.push(self.worker(index, worker, place, &url)?);
            }
        }
        Ok(address)
    }

    fn worker(&self, index: u32, program: &Path, place: &Place, url: &str) -> Result<Child> {
        let environment = place.environment(Some(url));
        Child::spawn(
            &format!("worker-{index}"),
            program,
            &Place::worker_arguments(),
            &environment,
            &place.logs,
            self.logs,
        )
    }

    async fn wait_for_server(
        &self,
        port_file: &Path,
        children: &mut [Child],
        output: Output,
    ) -> Result<String> {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(self.start_secs);
        loop {
            if let Some(server) = children.first_mut() {
                server.show_logs(output);
                if let Some(death) = server.death()? {
                    return Err(server.failed(death));
                }
            }
            if let Some(address) = std::fs::read_to_string(port_file).ok().and_then(|t| address(&t))
                && serving(&address).await
            {
                return Ok(address);
            }
            if tokio::time::Instant::now() >= deadline {
                let log = children.first().map(|c| c.log_path().display().to_string()).unwrap_or_default();
                return Err(CliError::new(
                    Kind::Unavailable,
                    format!("the server was not ready within {} s", self.start_secs),
                )
                .hint(format!("see {log}; --start-secs waits longer")));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn told(&self, address: &str, place: &Place, children: &[Child], output: Output) -> Result<()> {
        let processes: Vec<_> = children
            .iter()
            .map(|c| serde_json::json!({ "name": c.name, "pid": c.pid(), "log": c.log_path() }))
            .collect();
        output.value(&serde_json::json!({
            "server": address, "data": place.data, "token_file": place.token_file(), "processes": processes,
        }))?;
        let workers: Vec<String> =
            children.iter().skip(1).map(|c| format!("{} (pid {})", c.name, c.pid())).collect();
        let database = match &place.external {
            Some(_) => "as given by --database-url".to_owned(),
            None => format!("private PostgreSQL in {}", place.database.display()),
        };
        output.line(format!("{}  {address}\n", output.paint.good("● dyadic is up")))?;
        output.table(&pairs(
            output.paint,
            [
                ("  data", place.data.display().to_string()),
                ("  database", database),
                ("  token", place.token_file().display().to_string()),
                ("  logs", place.logs.display().to_string()),
                ("  workers", if workers.is_empty() { "none".into() } else { workers.join(", ") }),
            ],
        ))?;
        let elsewhere =
            if self.port == 8470 { String::new() } else { format!("export DYADIC_SERVER={address}\n  ") };
        let data = if place.data == default_data_dir() {
            String::new()
        } else {
            format!("export DYADIC_DATA_DIR={}\n  ", place.data.display())
        };
        output.line(format!("\n  {elsewhere}{data}dyadic model push m.onnx, dyadic dataset push PATH, dyadic job submit --help\n"))?;
        output.note(output.paint_notes.dim("Ctrl-C stops everything; running jobs go back to the queue"));
        Ok(())
    }

    /// Until a signal comes: a worker that dies is started again, a server that dies ends all.
    async fn supervise(
        &self,
        place: &Place,
        address: &str,
        children: &mut [Child],
        stop: &mut Stop,
        output: Output,
    ) -> Result<()> {
        let program = if self.workers > 0 { Some(place::find("dyadic-worker")?) } else { None };
        loop {
            let tick = tokio::time::sleep(Duration::from_millis(300));
            let died = tokio::select! {
                () = stop.asked() => return Ok(()),
                (death, index, _) = select_all(children.iter_mut().map(|c| Box::pin(c.wait()))) => Some((death?, index)),
                () = tick => None,
            };
            for child in children.iter_mut() {
                child.show_logs(output);
            }
            let Some((death, index)) = died else { continue };
            let Some(child) = children.get_mut(index) else { continue };
            if index == 0 {
                return Err(child.failed(death));
            }
            let pause = child.pause();
            output.note(output.paint_notes.warn(&format!(
                "{} {death}; starting it again in {} s (log: {})",
                child.name,
                pause.as_secs(),
                child.log_path().display()
            )));
            tokio::select! {
                () = stop.asked() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
            if let Some(program) = &program {
                let url = place.database_url(children)?;
                let fresh = self.worker(index as u32, program, place, &url)?;
                if let Some(child) = children.get_mut(index) {
                    child.replace(fresh);
                }
            }
            output.note(format!("worker-{index} is back; server {address}"));
        }
    }
}

/// The address that the server wrote to its port file.
fn address(text: &str) -> Option<String> {
    let text = text.trim();
    let address: std::net::SocketAddr = text.parse().ok()?;
    Some(format!("http://{address}"))
}

/// Whether the server says that it serves.
async fn serving(address: &str) -> bool {
    let Ok(endpoint) = tonic::transport::Endpoint::from_shared(address.to_owned()) else { return false };
    let Ok(channel) =
        endpoint.connect_timeout(Duration::from_secs(2)).timeout(Duration::from_secs(5)).connect().await
    else {
        return false;
    };
    let reply = HealthClient::new(channel).check(HealthCheckRequest { service: String::new() }).await;
    reply.is_ok_and(|r| r.into_inner().status() == ServingStatus::Serving)
}

/// The signals that end `dyadic up`.
struct Stop {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Stop {
    fn listen() -> Result<Self> {
        Ok(Stop { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Workers first, then the server with its database; a second signal, or too long a wait, kills.
async fn drain(mut children: Vec<Child>, stop: &mut Stop, output: Output) {
    if children.is_empty() {
        return;
    }
    output.note("stopping…");
    let server = children.remove(0);
    for group in [children, vec![server]] {
        let mut group = group;
        for child in &group {
            child.terminate();
        }
        let all = async {
            for child in &mut group {
                // It is gone, or cannot be waited for: either way there is nothing to wait for.
                let _ = child.wait().await;
            }
        };
        let ended = tokio::select! {
            () = all => true,
            () = stop.asked() => false,
            () = tokio::time::sleep(STOP_WITHIN) => false,
        };
        for child in &mut group {
            if !ended {
                child.kill().await;
            }
            child.show_logs(output);
        }
    }
    output.note("stopped");
}

/// For messages: a path list.
fn join(paths: &[PathBuf]) -> String {
    paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::child::Death;
    use super::*;

    #[test]
    fn a_port_file_is_an_address_or_not_yet_one() {
        assert_eq!(address("127.0.0.1:4321\n").as_deref(), Some("http://127.0.0.1:4321"));
        assert_eq!(address("[::1]:1").as_deref(), Some("http://[::1]:1"));
        assert_eq!(address(""), None);
        assert_eq!(address("127.0.0.1"), None);
    }

    #[test]
    fn a_death_reads_as_a_sentence() {
        assert_eq!(Death::of_code(3).to_string(), "ended with exit code 3");
    }
}
