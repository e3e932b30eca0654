//! `dyadic completions`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::error::Result;
use crate::output::Output;

const HELP: &str = "\
Examples:
  dyadic completions bash > ~/.local/share/bash-completion/completions/dyadic
  dyadic completions zsh  > ~/.zfunc/_dyadic
  dyadic completions fish > ~/.config/fish/completions/dyadic.fish";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Completions {
    /// Which shell
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(&self, output: Output) -> Result<()> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "dyadic", &mut text);
        output.raw(&text)
    }
}
