//! Runs as JSON lines.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use dyadic_proto::v1::ExportRequest;

use super::resolve_all;
use crate::connect::Connection;
use crate::error::{CliError, Result};
use crate::output::Output;

#[derive(Debug, Args)]
#[command(
    after_help = "One object a run, then one a metric value.\nExample:\n  dyadic runs export --experiment ablation -o ablation.jsonl"
)]
pub(crate) struct Export {
    /// Ids, or `last`
    #[arg(required_unless_present = "experiment", value_name = "ID")]
    ids: Vec<String>,
    /// All runs of this experiment
    #[arg(long, conflicts_with = "ids")]
    experiment: Option<String>,
    /// File to write, instead of stdout
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Export {
    pub(crate) async fn run(self, connection: &Connection, output: Output) -> Result<()> {
        let job_ids = resolve_all(connection, self.ids).await?;
        let request = ExportRequest { experiment: self.experiment.unwrap_or_default(), job_ids };
        let mut stream = connection.experiments().export(request).await?.into_inner();
        let mut file = match &self.out {
            None => None,
            Some(path) => Some((std::fs::File::create(path).map_err(|e| CliError::file(path, e))?, path)),
        };
        while let Some(part) = stream.message().await? {
            match &mut file {
                None => output.raw(&part.data)?,
                Some((file, path)) => file.write_all(&part.data).map_err(|e| CliError::file(path, e))?,
            }
        }
        Ok(())
    }
}
