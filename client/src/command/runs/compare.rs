//! Runs side by side, one column each.

use std::collections::BTreeSet;

use clap::Args;
use dyadic_proto::v1::{CompareRequest, CompareResponse, Run};

use super::resolve_all;
use crate::command::job::{describe, show};
use crate::connect::Connection;
use crate::error::Result;
use crate::output::style::safe;
use crate::output::table::Table;
use crate::output::{Output, json, units};

const HELP: &str = "\
Only what differs in the specs, and in the plans of layers, is shown; the best accuracy and the smallest file are green.
Example:
  dyadic runs compare 0193a1… 0193a2…";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Compare {
    /// Ids, their beginnings, or `last`
    #[arg(required = true, num_args = 1..=50, value_name = "ID")]
    ids: Vec<String>,
    /// Also metrics of single layers
    #[arg(long)]
    layers: bool,
}

impl Compare {
    pub(crate) async fn run(self, connection: &Connection, output: Output) -> Result<()> {
        let job_ids = resolve_all(connection, self.ids).await?;
        let reply =
            connection.experiments().compare(CompareRequest { job_ids, plans: false }).await?.into_inner();
        output.value(&json::of(&reply)?)?;
        output.table(&table(&reply, self.layers, output))
    }
}

fn table(reply: &CompareResponse, layers: bool, output: Output) -> Table {
    let runs = &reply.runs;
    let heads = runs.iter().enumerate().map(|(i, _)| format!(">run {}", i + 1));
    let mut table = Table::new(std::iter::once(String::new()).chain(heads));
    let mut row = |name: &str, cell: &dyn Fn(&Run) -> String| add(&mut table, runs, name, cell, output);
    row("id", &|r| r.job.as_ref().map(|j| safe(&j.id)).unwrap_or_default());
    row("state", &|r| r.job.as_ref().map(|j| describe::state(j.state(), output.paint)).unwrap_or_default());
    for field in &reply.differing {
        row(field, &|r| r.spec.iter().find(|t| t.key == *field).map(|t| safe(&t.value)).unwrap_or_default());
    }
    for layer in &reply.layers {
        let mut cells: Vec<String> = layer.planned.iter().map(|planned| safe(planned)).collect();
        cells.insert(0, output.paint.dim(&safe(&layer.name)));
        table.row(cells);
    }
    let mut row = |name: &str, cell: &dyn Fn(&Run) -> String| add(&mut table, runs, name, cell, output);
    let now = chrono::Utc::now();
    row("took", &|r| r.job.as_ref().map(|j| show::took(j, now)).unwrap_or_default());
    let size = |r: &Run| r.job.as_ref().and_then(|j| j.artifact.as_ref()).map(|a| a.size_bytes);
    let smallest = runs.iter().filter_map(size).min();
    row("size", &|r| match size(r) {
        Some(n) if Some(n) == smallest && runs.len() > 1 => output.paint.good(&units::bytes(n)),
        Some(n) => units::bytes(n),
        None => String::new(),
    });
    for name in names(runs, layers) {
        let best = runs.iter().filter_map(|r| show::value(&r.last, &name)).fold(f64::NEG_INFINITY, f64::max);
        row(&name, &|r| match show::value(&r.last, &name) {
            Some(v) if name.ends_with("accuracy") => {
                let text = units::percent(v);
                if v == best && name == "accuracy" && runs.len() > 1 {
                    output.paint.good(&text)
                } else {
                    text
                }
            }
            Some(v) => units::number(v),
            None => String::new(),
        });
    }
    table
}

/// Adds a row of one cell a run, unless all are empty.
fn add(table: &mut Table, runs: &[Run], name: &str, cell: &dyn Fn(&Run) -> String, output: Output) {
    let cells: Vec<String> = runs.iter().map(cell).collect();
    if cells.iter().any(|c| !c.is_empty()) {
        table.row(std::iter::once(output.paint.dim(&safe(name))).chain(cells));
    }
}

/// Names of metrics, the accuracy first.
fn names(runs: &[Run], layers: bool) -> Vec<String> {
    let all: BTreeSet<&str> = runs.iter().flat_map(|r| r.last.iter().map(|m| m.name.as_str())).collect();
    let mut names: Vec<String> =
        all.into_iter().filter(|n| layers || !n.starts_with("layer/")).map(str::to_owned).collect();
    names.sort_by_key(|n| match n.as_str() {
        "accuracy" => 0,
        "float/accuracy" => 1,
        _ => 2,
    });
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use dyadic_proto::v1::{Artifact, Job, Metric, PlannedLayer, Tag};

    fn run(id: &str, bits: &str, accuracy: f64, size_bytes: u64) -> Run {
        let metric = |name: &str, value| Metric { name: name.into(), value, ..Default::default() };
        Run {
            job: Some(Job {
                id: id.into(),
                artifact: Some(Artifact { size_bytes, ..Default::default() }),
                ..Default::default()
            }),
            spec: vec![
                Tag { key: "bits".into(), value: bits.into() },
                Tag { key: "seed".into(), value: "0".into() },
            ],
            last: vec![
                metric("layer/conv1/bits", 2.0),
                metric("accuracy", accuracy),
                metric("train/loss", 0.5),
            ],
            layers: vec![],
            plan: None,
        }
    }

    #[test]
    fn only_what_differs_stands_side_by_side() {
        let runs = vec![run("a", "2", 0.9, 100), run("b", "4", 0.95, 200)];
        let reply = CompareResponse {
            runs,
            differing: vec!["bits".into()],
            layers: vec![PlannedLayer {
                name: "/conv2".into(),
                planned: vec!["two-term 4".into(), String::new()],
            }],
        };
        let text = table(&reply, false, Output::silent()).render(Output::silent().paint);
        for line in ["bits", "/conv2", "accuracy", "train/loss", "size"] {
            assert!(text.lines().any(|l| l.starts_with(line)), "{line} in\n{text}");
        }
        assert!(!text.contains("seed") && !text.contains("layer/"), "{text}");
        assert!(
            table(&reply, true, Output::silent()).render(Output::silent().paint).contains("layer/conv1/bits")
        );
    }
}
