//! Runs as JSON lines, or as CSV.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use dyadic_proto::v1::ExportRequest;

use super::csv::Csv;
use super::resolve_all;
use crate::connect::Connection;
use crate::error::{CliError, Result};
use crate::output::Output;

#[derive(Debug, Args)]
#[command(
    after_help = "JSON lines: one object a run, then one a metric value. CSV: one line a metric value.\nExamples:\n  dyadic runs export --experiment ablation -o ablation.jsonl\n  dyadic runs export last -o last.csv"
)]
pub(crate) struct Export {
    /// Ids, their beginnings, or `last`
    #[arg(required_unless_present = "experiment", value_name = "ID")]
    ids: Vec<String>,
    /// All runs of this experiment
    #[arg(long, conflicts_with = "ids")]
    experiment: Option<String>,
    /// File to write, instead of stdout; one that ends in .csv gets CSV
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Where the lines go.
enum Sink<'a> {
    Stdout(Output),
    Lines(File, &'a Path),
    Csv(Box<Csv<File>>),
}

impl Export {
    pub(crate) async fn run(self, connection: &Connection, output: Output) -> Result<()> {
        let job_ids = resolve_all(connection, self.ids).await?;
        let request = ExportRequest { experiment: self.experiment.unwrap_or_default(), job_ids };
        let mut stream = connection.experiments().export(request).await?.into_inner();
        let mut sink = match &self.out {
            None => Sink::Stdout(output),
            Some(path) => {
                let file = File::create(path).map_err(|e| CliError::file(path, e))?;
                let is_csv = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("csv"));
                if is_csv { Sink::Csv(Box::new(Csv::new(file)?)) } else { Sink::Lines(file, path) }
            }
        };
        while let Some(part) = stream.message().await? {
            match &mut sink {
                Sink::Stdout(output) => output.raw(&part.data)?,
                Sink::Csv(csv) => csv.lines(&part.data)?,
                Sink::Lines(file, path) => {
                    file.write_all(&part.data).map_err(|e| CliError::file(path, e))?;
                }
            }
        }
        if let Sink::Csv(csv) = sink { csv.end() } else { Ok(()) }
    }
}
