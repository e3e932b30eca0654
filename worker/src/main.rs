//! The `dyadic-worker` command: quantizes one model offline, or works the queue.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use dyadic_worker::cli;

#[derive(Parser)]
#[command(name = "dyadic-worker", version, about = "Fine-tunes float CNNs to power-of-two weights")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Quantize one model here and now: no server, no database.
    Quantize(cli::Quantize),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Quantize(command) => command.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
