//! The `dyadic` command: a thin client of the gRPC APIs, and `dyadic up`, which starts everything here.

mod cli;
mod command;
mod connect;
mod error;
mod npy;
mod output;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let output = cli.output.open();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output.error(&error.into());
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(cli.run(output));
    // Reads of stdin or files that still block must not hold the program.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output.error(&error);
            ExitCode::from(error.kind as u8)
        }
    }
}
