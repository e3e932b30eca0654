//! `dyadic-engine`: looks into artifacts, runs, measures and verifies them. No server needed.
//!
//! Exit codes: 0 success, 1 files that cannot be read or written, 2 wrong usage, 3 not a valid artifact, 4 the
//! execution differs from the certificate, 5 input that does not fit the model.

mod bench;
mod explain;
mod failure;
mod inspect;
mod npy;
mod run;
mod table;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use dyadic_engine::certificate::Certificate;
use dyadic_engine::engine::Options;
use dyadic_engine::{Artifact, Engine};

use failure::Failure;

/// Looks into quantized networks, runs, measures and verifies them.
///
/// Exit codes: 0 success, 1 files, 2 usage, 3 not a valid artifact, 4 the execution differs from the certificate,
/// 5 input that does not fit the model.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows an artifact node by node, its totals and where it comes from.
    Inspect(inspect::Arguments),
    /// Runs an artifact on a NumPy file: f32 in NCHW order, or 8-bit images in NHWC order.
    Run(run::Arguments),
    /// Measures the time that a batch takes.
    Bench(bench::Arguments),
    /// Replays the artifact's golden inputs and compares every tensor's codes.
    Verify(verify::Arguments),
}

/// What every command takes.
#[derive(Debug, clap::Args)]
struct Common {
    /// The artifact, a `.safetensors` file.
    artifact: PathBuf,
    /// Prints JSON for programs instead of text for people.
    #[arg(long)]
    json: bool,
    /// The kernel to run on, instead of the best that this CPU has.
    #[arg(long, value_name = "NAME")]
    kernel: Option<String>,
}

impl Common {
    fn load(&self) -> Result<(Artifact, usize), Failure> {
        let bytes = std::fs::read(&self.artifact).map_err(|error| Failure::file(&self.artifact, error))?;
        let size = bytes.len();
        Ok((Artifact::from_vec(bytes)?, size))
    }

    fn engine(&self) -> Result<(Certificate, Engine), Failure> {
        let (Artifact { model, certificate, .. }, _) = self.load()?;
        let options = Options { kernel: self.kernel.as_deref(), ..Options::default() };
        Ok((certificate, options.build(model)?))
    }
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Inspect(arguments) => inspect::inspect(&arguments),
        Command::Run(arguments) => run::run(&arguments),
        Command::Bench(arguments) => bench::bench(&arguments),
        Command::Verify(arguments) => verify::verify(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}
