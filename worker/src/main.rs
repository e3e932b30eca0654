//! The `dyadic-worker` command: quantizes one model offline, or works the queue.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use dyadic_worker::{cli, job};
use tracing_subscriber::EnvFilter;

#[derive(Parser)]
#[command(name = "dyadic-worker", version, about = "Fine-tunes float CNNs to power-of-two weights")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Quantize one model here and now: no server, no database.
    Quantize(Box<cli::Quantize>),
    Manifest(cli::ManifestOf),
    /// Claim and run jobs from the queue until told to stop.
    Run(job::Settings),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Quantize(command) => command.run(),
        Command::Manifest(command) => command.run(),
        Command::Run(settings) => {
            let filter = EnvFilter::try_from_env("DYADIC_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
            tracing_subscriber::fmt()
                .with_env_filter(filter)
                .with_ansi(std::io::stderr().is_terminal())
                .with_writer(std::io::stderr)
                .init();
            job::run(settings)
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
