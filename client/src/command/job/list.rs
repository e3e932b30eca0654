//! `dyadic job list`.

use clap::{Args, ValueEnum};
use dyadic_proto::v1::{self, JobState, ListJobsRequest, Tag};

use super::{describe, show};
use crate::command::names::Names;
use crate::command::page::Page;
use crate::command::tag;
use crate::connect::Connection;
use crate::error::Result;
use crate::output::style::safe;
use crate::output::table::Table;
use crate::output::{Output, json, units};

#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    page: Page,
    /// Only jobs in this state; any number of times
    #[arg(long, value_enum)]
    state: Vec<State>,
    /// Only jobs of this experiment
    #[arg(long, default_value = "", hide_default_value = true)]
    experiment: String,
    /// Only jobs with this tag; with several, only those with all of them
    #[arg(long, value_parser = tag::parse, value_name = "KEY=VALUE")]
    tag: Vec<Tag>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum State {
    Queued,
    Running,
    Succeeded,
    Failed,
    Cancelled,
}

impl From<State> for JobState {
    fn from(state: State) -> Self {
        match state {
            State::Queued => JobState::Queued,
            State::Running => JobState::Running,
            State::Succeeded => JobState::Succeeded,
            State::Failed => JobState::Failed,
            State::Cancelled => JobState::Cancelled,
        }
    }
}

impl List {
    pub(crate) async fn run(self, connection: &Connection, output: Output) -> Result<()> {
        let states: Vec<i32> = self.state.iter().map(|&s| JobState::from(s).into()).collect();
        let (jobs, more) = self
            .page
            .collect(|page_size, page_token| {
                let mut client = connection.jobs();
                let request = ListJobsRequest {
                    page_size,
                    page_token,
                    states: states.clone(),
                    experiment: self.experiment.clone(),
                    tags: self.tag.clone(),
                    ..Default::default()
                };
                async move {
                    let reply = client.list(request).await?.into_inner();
                    Ok((reply.jobs, reply.next_page_token))
                }
            })
            .await?;
        output.value(&json::list(&jobs)?)?;
        if output.json {
            return Ok(());
        }
        if jobs.is_empty() {
            output.note("no such jobs: `dyadic job submit` queues one");
            return Ok(());
        }
        output.table(&table(&jobs, &Names::of(connection, &jobs).await, output))?;
        if more {
            output.note("there are more: --limit N or --all");
        }
        Ok(())
    }
}

/// One line a job.
fn table(jobs: &[v1::Job], names: &Names, output: Output) -> Table {
    let now = chrono::Utc::now();
    let mut table = Table::new([
        "id",
        "state",
        "model",
        "dataset",
        "method",
        ">epochs",
        "where it is",
        "queued",
        ">took",
    ]);
    for job in jobs {
        let spec = job.resolved.clone().unwrap_or_default();
        table.row([
            safe(&job.id),
            describe::state(job.state(), output.paint),
            names.show(&spec.model),
            names.show(&spec.dataset),
            describe::method_of(job),
            spec.epochs().to_string(),
            show::whereabouts(job),
            units::ago(job.created_at.as_ref(), now),
            show::took(job, now),
        ]);
    }
    table
}
