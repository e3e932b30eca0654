//! What is printed, and how: results on stdout (tables for people, JSON for programs), the rest on stderr.

pub(crate) mod chart;
pub(crate) mod json;
pub(crate) mod progress;
pub(crate) mod style;
pub(crate) mod table;
pub(crate) mod units;

use std::io::{IsTerminal, Write};

use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::error::{CliError, Reason, Result};
use style::{Painter, safe};
use table::Table;

/// How to print.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputArgs {
    /// Print JSON for programs instead of tables for people
    #[arg(long, global = true)]
    json: bool,
    /// Colours; `auto` means on a terminal and unless NO_COLOR is set
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    color: When,
    /// Print results and errors only
    #[arg(long, short, global = true)]
    quiet: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum When {
    #[default]
    Auto,
    Always,
    Never,
}

/// Where a command's words go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    pub(crate) json: bool,
    pub(crate) quiet: bool,
    /// Whether stderr is a terminal that can draw bars.
    pub(crate) live: bool,
    /// For stdout.
    pub(crate) paint: Painter,
    /// For stderr.
    pub(crate) paint_notes: Painter,
}

impl OutputArgs {
    /// Looks at the terminal once.
    pub(crate) fn open(&self) -> Output {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty())
            || std::env::var_os("TERM").is_some_and(|v| v == "dumb");
        let colour = |terminal: bool| match self.color {
            When::Always => true,
            When::Never => false,
            When::Auto => terminal && !plain,
        };
        let terminal = std::io::stderr().is_terminal();
        Output {
            json: self.json,
            quiet: self.quiet,
            live: terminal && !self.quiet,
            paint: Painter::new(colour(std::io::stdout().is_terminal())),
            paint_notes: Painter::new(colour(terminal)),
        }
    }
}

impl Output {
    /// Says nothing; for tests.
    #[cfg(test)]
    pub(crate) fn silent() -> Self {
        let paint = Painter::new(false);
        Output { json: false, quiet: true, live: false, paint, paint_notes: paint }
    }

    /// A result line for people; nothing with `--json`.
    pub(crate) fn line(self, text: impl AsRef<str>) -> Result<()> {
        if self.json {
            return Ok(());
        }
        self.raw(format!("{}\n", text.as_ref()).as_bytes())
    }

    /// A table for people; nothing with `--json`.
    pub(crate) fn table(self, table: &Table) -> Result<()> {
        if self.json { Ok(()) } else { self.raw(table.render(self.paint).as_bytes()) }
    }

    /// One JSON value, with `--json` only.
    pub(crate) fn value(self, value: &Value) -> Result<()> {
        if !self.json {
            return Ok(());
        }
        let text = serde_json::to_string_pretty(value).map_err(|e| CliError::failed(e.to_string()))?;
        self.raw(format!("{text}\n").as_bytes())
    }

    /// One JSON value on one line (a stream of them), with `--json` only.
    pub(crate) fn json_line(self, value: &Value) -> Result<()> {
        if self.json { self.raw(format!("{value}\n").as_bytes()) } else { Ok(()) }
    }

    /// Bytes to stdout as they are. A closed pipe ends the program quietly, as `head` expects.
    #[expect(clippy::unused_self, reason = "all printing goes through an Output")]
    pub(crate) fn raw(self, bytes: &[u8]) -> Result<()> {
        let mut out = std::io::stdout().lock();
        match out.write_all(bytes).and_then(|()| out.flush()) {
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
            other => Ok(other?),
        }
    }

    /// A remark on stderr that is not a result.
    pub(crate) fn note(self, text: impl AsRef<str>) {
        if !self.quiet {
            eprintln!("{}", text.as_ref());
        }
    }

    /// The error and its advice on stderr; with `--json` an object there.
    pub(crate) fn error(self, error: &CliError) {
        if self.json {
            let value = serde_json::json!({
                "error": {
                    "exit_code": error.kind as i32, "message": error.message, "hint": error.hint,
                    "reasons": error.reasons,
                }
            });
            eprintln!("{value}");
            return;
        }
        let paint = self.paint_notes;
        eprintln!("{} {error}", paint.bad("error:"));
        // A single one is the message itself.
        for Reason { field, description } in error.reasons.iter().filter(|_| error.reasons.len() > 1) {
            eprintln!("  {} {}", paint.strong(&format!("{}:", safe(field))), safe(description));
        }
        if let Some(hint) = &error.hint {
            eprintln!("  {} {hint}", paint.dim("next:"));
        }
    }
}
