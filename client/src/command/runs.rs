//! `dyadic runs …`: the history of all runs. A run is a job; an experiment is a name that runs share.

mod compare;
mod csv;
mod export;
mod plot;
mod show;

use clap::Subcommand;
use dyadic_proto::v1::{CompareRequest, ListExperimentsRequest, ListJobsRequest, Run, SetTagsRequest, Tag};

use super::job::{describe, resolve, show as job_show};
use super::page::Page;
use super::tag;
use crate::connect::Connection;
use crate::error::{CliError, Result};
use crate::output::style::safe;
use crate::output::table::Table;
use crate::output::{Output, json, units};

const PLOT_HELP: &str = "\
Examples:
  dyadic runs plot last                                     loss and accuracy by epoch
  dyadic runs plot ID ID --metric epoch/accuracy --svg accuracy.svg";

#[derive(Debug, Subcommand)]
pub(crate) enum Runs {
    /// Show runs with their results, newest first
    List {
        #[command(flatten)]
        page: Page,
        /// Only runs of this experiment
        #[arg(long, default_value = "", hide_default_value = true)]
        experiment: String,
        /// Only runs with this tag; with several, only those with all of them
        #[arg(long, value_parser = tag::parse, value_name = "KEY=VALUE")]
        tag: Vec<Tag>,
    },
    /// Show experiments
    Experiments {
        #[command(flatten)]
        page: Page,
    },
    /// Show one run: its curves and every layer
    Show {
        /// Id, its beginning, or `last`
        id: String,
        /// Only the plan of its layers, as TOML text that `--plan FILE` takes
        #[arg(long)]
        plan: bool,
    },
    /// Put runs side by side: where their specs and plans differ, and what came of it
    Compare(compare::Compare),
    /// Draw metrics in the terminal, or into an SVG file
    #[command(after_help = PLOT_HELP)]
    Plot(plot::Plot),
    /// Write runs and all their metrics as JSON lines, or as CSV into a file of that ending
    Export(export::Export),
    /// Set or remove tags of a run
    Tag {
        /// Id, its beginning, or `last`
        id: String,
        /// KEY=VALUE to set
        #[arg(value_parser = tag::parse, value_name = "KEY=VALUE")]
        set: Vec<Tag>,
        /// Key to remove; any number of times
        #[arg(long, value_name = "KEY")]
        remove: Vec<String>,
    },
}

impl Runs {
    pub(crate) async fn run(self, connection: &Connection, output: Output) -> Result<()> {
        match self {
            Runs::List { page, experiment, tag } => list(connection, output, &page, (experiment, tag)).await,
            Runs::Experiments { page } => experiments(connection, output, &page).await,
            Runs::Show { id, plan: true } => {
                show::plan(connection, output, resolve(connection, id).await?).await
            }
            Runs::Show { id, .. } => show::run(connection, output, resolve(connection, id).await?).await,
            Runs::Compare(compare) => compare.run(connection, output).await,
            Runs::Plot(plot) => plot.run(connection, output).await,
            Runs::Export(export) => export.run(connection, output).await,
            Runs::Tag { id, set, remove } => {
                let job_id = resolve(connection, id).await?;
                let reply = connection
                    .experiments()
                    .set_tags(SetTagsRequest { job_id, set, remove })
                    .await?
                    .into_inner();
                output.value(&json::of(&reply)?)?;
                output.line(tag::show(&reply.tags))
            }
        }
    }
}

/// The runs in the order of the ids.
async fn fetch(connection: &Connection, job_ids: Vec<String>) -> Result<Vec<Run>> {
    let mut runs = Vec::new();
    // The server compares at most fifty at once.
    for ids in job_ids.chunks(50) {
        let request = CompareRequest { job_ids: ids.to_vec(), plans: false };
        runs.extend(connection.experiments().compare(request).await?.into_inner().runs);
    }
    Ok(runs)
}

async fn resolve_all(connection: &Connection, ids: Vec<String>) -> Result<Vec<String>> {
    let mut found = Vec::with_capacity(ids.len());
    for id in ids {
        found.push(resolve(connection, id).await?);
    }
    Ok(found)
}

async fn list(
    connection: &Connection,
    output: Output,
    page: &Page,
    (experiment, tags): (String, Vec<Tag>),
) -> Result<()> {
    let (jobs, more) = page
        .collect(|page_size, page_token| {
            let mut client = connection.jobs();
            let request = ListJobsRequest {
                page_size,
                page_token,
                experiment: experiment.clone(),
                tags: tags.clone(),
                ..Default::default()
            };
            async move {
                let reply = client.list(request).await?.into_inner();
                Ok((reply.jobs, reply.next_page_token))
            }
        })
        .await?;
    if jobs.is_empty() {
        output.value(&serde_json::json!([]))?;
        output.note("no such runs: `dyadic job submit` makes one");
        return Ok(());
    }
    let runs = fetch(connection, jobs.into_iter().map(|j| j.id).collect()).await?;
    output.value(&json::list(&runs)?)?;
    let mut table = Table::new([
        "id",
        "state",
        "model",
        "dataset",
        "method",
        ">epochs",
        ">accuracy",
        ">points",
        ">size",
        "served",
        ">took",
        "tags",
    ]);
    let now = chrono::Utc::now();
    for run in &runs {
        let job = run.job.as_ref().ok_or_else(|| CliError::protocol("a run without a job"))?;
        let spec = job.resolved.clone().unwrap_or_default();
        let accuracy = job_show::value(&run.last, "accuracy");
        let points = accuracy
            .zip(job_show::value(&run.last, "float/accuracy"))
            .map(|(a, f)| format!("{:+.2}", (a - f) * 100.0));
        table.row([
            safe(&job.id),
            describe::state(job.state(), output.paint),
            field(run, "model"),
            field(run, "dataset"),
            describe::method_of(job),
            spec.epochs().to_string(),
            output.paint.strong(&accuracy.map(units::percent).unwrap_or_default()),
            points.unwrap_or_default(),
            job.artifact.as_ref().map(|a| units::bytes(a.size_bytes)).unwrap_or_default(),
            job_show::whereabouts(job),
            job_show::took(job, now),
            tag::show(&job.tags),
        ]);
    }
    output.table(&table)?;
    if more {
        output.note("there are more: --limit N or --all");
    }
    Ok(())
}

/// A field of the run's spec, by name.
fn field(run: &Run, name: &str) -> String {
    run.spec.iter().find(|t| t.key == name).map(|t| safe(&t.value)).unwrap_or_default()
}

async fn experiments(connection: &Connection, output: Output, page: &Page) -> Result<()> {
    let (experiments, more) = page
        .collect(|page_size, page_token| {
            let mut client = connection.experiments();
            async move {
                let reply = client.list(ListExperimentsRequest { page_size, page_token }).await?.into_inner();
                Ok((reply.experiments, reply.next_page_token))
            }
        })
        .await?;
    output.value(&json::list(&experiments)?)?;
    let now = chrono::Utc::now();
    let mut table = Table::new(["experiment", ">runs", ">succeeded", "begun"]);
    for e in &experiments {
        let begun = units::ago(e.created_at.as_ref(), now);
        table.row([output.paint.strong(&safe(&e.name)), e.runs.to_string(), e.succeeded.to_string(), begun]);
    }
    if table.is_empty() {
        output.note("no experiments yet: `dyadic job submit --experiment NAME` begins one");
        return Ok(());
    }
    output.table(&table)?;
    if more {
        output.note("there are more: --limit N or --all");
    }
    Ok(())
}
