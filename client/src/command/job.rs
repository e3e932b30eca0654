//! `dyadic job …`: submit, follow and steer quantization jobs.

pub(crate) mod describe;
pub(crate) mod epochs;
pub(crate) mod gate;
mod list;
pub(crate) mod plan;
pub(crate) mod show;
pub(crate) mod spec;
pub(crate) mod watch;

use clap::{Args, Subcommand};
use dyadic_proto::v1::{
    self, CancelJobRequest, GetJobRequest, ListJobsRequest, RetryJobRequest, SubmitJobRequest,
};

use super::names::Names;
use crate::connect::Connection;
use crate::error::{CliError, Kind, Result};
use crate::output::style::safe;
use crate::output::{Output, json};

const SUBMIT_HELP: &str = "\
Examples:
  dyadic job submit --model resnet20 --dataset cifar10 --preprocess cifar10 --method aptq --epochs 20 --watch
  dyadic job submit --model resnet20 --dataset cifar10 --preprocess cifar10 --method apq --bits 4 --wait
  dyadic job submit --model lenet --dataset digits --mean 0.1307 --std 0.3081 --method aptq --json | jq -r .job.id

With --idempotency-key, submitting again answers the job that is there instead of making another.
With --watch or --wait the exit code is the job's: 0 succeeded, 1 failed, 8 cancelled.";

const WATCH_HELP: &str = "\
Ctrl-C stops watching; the job goes on. With --json every event is one line.
The exit code is the job's: 0 succeeded, 1 failed, 8 cancelled.";

#[derive(Debug, Subcommand)]
pub(crate) enum Job {
    /// Queue a quantization job
    #[command(after_help = SUBMIT_HELP)]
    Submit(Submit),
    /// Show what a job would make of each layer, and what cannot be quantized
    #[command(after_help = plan::HELP)]
    Plan(plan::Plan),
    /// Show jobs, newest first
    List(list::List),
    /// Show one job: its spec, its state, its results
    Show {
        /// Id, its beginning, or `last`
        id: String,
    },
    /// Follow a job live, from its first event to its end
    #[command(after_help = WATCH_HELP)]
    Watch {
        /// Id, its beginning, or `last`
        #[arg(default_value = "last")]
        id: String,
        /// Only events with a higher number
        #[arg(long, default_value_t = 0, value_name = "EVENT")]
        after: u64,
    },
    /// Cancel a job: a queued one at once, a running one by its worker's next heartbeat
    Cancel {
        /// Id, its beginning, or `last`
        id: String,
        /// Wait until it is over
        #[arg(long)]
        wait: bool,
    },
    /// Queue a new job with the spec of an old one
    Retry {
        /// Id, its beginning, or `last`
        id: String,
        /// Go on from the old job's last checkpoint
        #[arg(long)]
        from_checkpoint: bool,
        #[command(flatten)]
        follow: Follow,
    },
}

/// What to do once a job is queued.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Follow {
    /// Follow it live until its end
    #[arg(long, conflicts_with = "wait")]
    watch: bool,
    /// Wait for its end, showing the result only
    #[arg(long)]
    wait: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Submit {
    #[command(flatten)]
    spec: Box<spec::SpecArgs>,
    /// Makes submitting twice safe: the same key answers the same job
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    #[command(flatten)]
    follow: Follow,
}

impl Job {
    pub(crate) async fn run(self, connection: &Connection, output: Output) -> Result<()> {
        match self {
            Job::Submit(submit) => submit.run(connection, output).await,
            Job::Plan(plan) => plan.run(connection, output).await,
            Job::List(list) => list.run(connection, output).await,
            Job::Show { id } => {
                let id = resolve(connection, id).await?;
                let job = connection.jobs().get(GetJobRequest { id }).await?.into_inner();
                show::job(connection, output, &job).await
            }
            Job::Watch { id, after } => {
                let id = resolve(connection, id).await?;
                watch::follow(connection, output, &id, after, watch::Voice::Live).await
            }
            Job::Cancel { id, wait } => {
                let id = resolve(connection, id).await?;
                cancel(connection, output, id, wait).await
            }
            Job::Retry { id, from_checkpoint, follow } => {
                let id = resolve(connection, id).await?;
                let job =
                    connection.jobs().retry(RetryJobRequest { id, from_checkpoint }).await?.into_inner();
                if !follow.watch && !follow.wait {
                    output.value(&json::of(&job)?)?;
                }
                queued(connection, output, &job, false).await?;
                follow.run(connection, output, &job.id).await
            }
        }
    }
}

impl Submit {
    async fn run(self, connection: &Connection, output: Output) -> Result<()> {
        let spec = self.spec.build().map_err(CliError::usage)?;
        // A key of our own makes the transport's retries safe.
        let idempotency_key = self.idempotency_key.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        let request = SubmitJobRequest { spec: Some(spec), idempotency_key };
        let reply = connection.jobs().submit(request).await?.into_inner();
        if !self.follow.watch && !self.follow.wait {
            output.value(&json::of(&reply)?)?;
        }
        let job = reply.job.ok_or_else(|| CliError::protocol("a submission without a job"))?;
        queued(connection, output, &job, reply.existed).await?;
        self.follow.run(connection, output, &job.id).await
    }
}

async fn queued(connection: &Connection, output: Output, job: &v1::Job, existed: bool) -> Result<()> {
    if output.json {
        return Ok(());
    }
    let verb = if existed { "was there already:" } else { "queued" };
    output.line(format!("{verb} {}", output.paint.strong(&safe(&job.id))))?;
    if let Some(spec) = &job.resolved {
        let spec = Names::of(connection, std::slice::from_ref(job)).await.put_into(spec);
        output.line(output.paint.dim(&format!("  {}", describe::sentence(&spec))))?;
    }
    Ok(())
}

impl Follow {
    async fn run(self, connection: &Connection, output: Output, id: &str) -> Result<()> {
        match (self.watch, self.wait) {
            (true, _) => watch::follow(connection, output, id, 0, watch::Voice::Live).await,
            (_, true) => watch::follow(connection, output, id, 0, watch::Voice::ResultOnly).await,
            (false, false) => {
                output.note(output.paint_notes.dim(&format!("dyadic job watch {id}")));
                Ok(())
            }
        }
    }
}

async fn cancel(connection: &Connection, output: Output, id: String, wait: bool) -> Result<()> {
    let job = connection.jobs().cancel(CancelJobRequest { id: id.clone() }).await?.into_inner();
    if wait && !show::is_over(job.state()) {
        let end = watch::follow(connection, output, &id, 0, watch::Voice::ResultOnly).await;
        // Cancelled is what was asked for.
        return match end {
            Err(error) if error.kind == Kind::Cancelled => Ok(()),
            Ok(()) => Err(CliError::new(Kind::Refused, "the job had succeeded before it could be cancelled")),
            other => other,
        };
    }
    output.value(&json::of(&job)?)?;
    output.line(match job.state() {
        v1::JobState::Cancelled => format!("cancelled {id}"),
        _ => format!("cancelling {id}: its worker stops at the next heartbeat"),
    })
}

/// Whether a text is the beginning of an id, and no more than that.
fn is_beginning(text: &str) -> bool {
    let digits = text.chars().filter(|&c| c != '-').count();
    (1..32).contains(&digits) && text.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
}

async fn only(connection: &Connection, id_prefix: String) -> Result<String> {
    let request = ListJobsRequest { page_size: 2, id_prefix: id_prefix.clone(), ..Default::default() };
    let mut found = connection.jobs().list(request).await?.into_inner().jobs.into_iter();
    match (found.next(), found.next()) {
        (Some(job), None) => Ok(job.id),
        (None, _) => Err(CliError::new(Kind::NotFound, format!("no job whose id begins with {id_prefix}"))
            .hint("`dyadic job list` shows what is there")),
        (Some(one), Some(other)) => Err(CliError::usage(format!(
            "several jobs have ids that begin with {id_prefix}, among them {} and {}",
            safe(&other.id),
            safe(&one.id)
        ))),
    }
}

/// The id itself, that of the only job whose id begins so, or that of the newest job for `last`.
pub(crate) async fn resolve(connection: &Connection, id: String) -> Result<String> {
    if id != "last" {
        return if is_beginning(&id) { only(connection, id).await } else { Ok(id) };
    }
    let request = ListJobsRequest { page_size: 1, ..Default::default() };
    let newest = connection.jobs().list(request).await?.into_inner().jobs.into_iter().next();
    newest
        .map(|job| job.id)
        .ok_or_else(|| CliError::new(Kind::NotFound, "no jobs yet").hint("`dyadic job submit` queues one"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_the_beginning_of_an_id_is_looked_for() {
        for yes in ["0", "0193a1", "0193A1b2-", "0193a1b2-7c"] {
            assert!(is_beginning(yes), "{yes}");
        }
        for no in ["", "-", "last", "0193x", "0193a1b2-0000-7000-8000-000000000000"] {
            assert!(!is_beginning(no), "{no}");
        }
    }
}
