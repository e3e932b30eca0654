//! Following a job to its end. A server that goes away is waited for, and the stream goes on from the last event.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use dyadic_proto::v1::job_event::Event;
use dyadic_proto::v1::{
    self, GetJobRequest, JobEvent, JobState, Metric, Progress, StateChange, WatchJobRequest,
};
use indicatif::{ProgressBar, ProgressDrawTarget};
use tonic::Code;

use super::epochs::Epochs;
use super::{describe, gate, show};
use crate::cli::until_interrupted;
use crate::connect::Connection;
use crate::error::{CliError, Kind, Result};
use crate::output::progress::style;
use crate::output::style::safe;
use crate::output::{Output, json, units};

/// How long a server may be away.
const PATIENCE: Duration = Duration::from_secs(120);

/// Beginnings of log lines that say what the metrics have said.
const TOLD_ANYWAY: [&str; 2] = ["epoch ", "float network:"];

/// How much is said on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Voice {
    /// Every event as it comes.
    Live,
    /// The end only.
    ResultOnly,
}

/// Follows the job, tells how it ended, and answers with that: an error if it failed or was cancelled.
pub(crate) async fn follow(
    connection: &Connection,
    output: Output,
    id: &str,
    after: u64,
    voice: Voice,
) -> Result<()> {
    let job = connection.jobs().get(GetJobRequest { id: id.to_owned() }).await?.into_inner();
    let mut view = View::new(output, voice);
    view.epochs_in_all = job.resolved.map_or(0, |spec| spec.epochs()).into();
    let advice = format!(
        "the job goes on; `dyadic job watch {id}` follows it again, `dyadic job cancel {id}` ends it"
    );
    let events = events(connection, id, after, &mut view);
    let outcome = until_interrupted(events, &advice).await;
    view.close();
    outcome?;
    let job = connection.jobs().get(GetJobRequest { id: id.to_owned() }).await?.into_inner();
    tell(connection, output, &job, &view.metrics, voice).await
}

async fn events(connection: &Connection, id: &str, mut after: u64, view: &mut View) -> Result<()> {
    let mut away: Option<Instant> = None;
    loop {
        let Some(status) = read(connection, id, &mut after, view, &mut away).await? else { return Ok(()) };
        let since = *away.get_or_insert_with(Instant::now);
        if since.elapsed() > PATIENCE {
            return Err(CliError::from(status));
        }
        view.say("the server is away; waiting");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Reads events until the job is over (none), or the server is away (its status).
async fn read(
    connection: &Connection,
    id: &str,
    after: &mut u64,
    view: &mut View,
    away: &mut Option<Instant>,
) -> Result<Option<tonic::Status>> {
    let passing = |status: tonic::Status| match status.code() {
        Code::Unavailable => Ok(Some(status)),
        // A connection that breaks in mid-stream.
        Code::Unknown | Code::Internal | Code::Cancelled if std::error::Error::source(&status).is_some() => {
            Ok(Some(status))
        }
        _ => Err(CliError::from(status)),
    };
    let request = WatchJobRequest { id: id.to_owned(), after: *after };
    let mut stream = match connection.jobs().watch(request).await {
        Ok(reply) => reply.into_inner(),
        Err(status) => return passing(status),
    };
    loop {
        match stream.message().await {
            Ok(Some(event)) => {
                *away = None;
                *after = event.number.max(*after);
                view.event(&event)?;
            }
            Ok(None) => return Ok(None),
            Err(status) => return passing(status),
        }
    }
}

async fn tell(
    connection: &Connection,
    output: Output,
    job: &v1::Job,
    seen: &[Metric],
    voice: Voice,
) -> Result<()> {
    if voice == Voice::ResultOnly || !output.json {
        output.value(&json::of(job)?)?;
    }
    let mut metrics = seen.to_vec();
    if metrics.is_empty() && !output.json && job.state() == JobState::Succeeded {
        metrics = show::last_metrics(connection, &job.id).await?;
    }
    let state = describe::state(job.state(), output.paint);
    let took = show::took(job, Utc::now());
    match job.state() {
        JobState::Succeeded => {
            let artifact = job.artifact.clone().unwrap_or_default();
            output.line(format!("{state} in {took}"))?;
            let accuracy = show::accuracy(&metrics);
            if !accuracy.is_empty() {
                output.line(format!("  accuracy  {}", output.paint.strong(&accuracy)))?;
            }
            let likeness = show::likeness(&metrics);
            if accuracy.is_empty() && !likeness.is_empty() {
                output.line(format!("  agreement {}", output.paint.strong(&likeness)))?;
            }
            let name = safe(&artifact.served_name);
            let verb = if artifact.held.is_empty() { "served" } else { "kept" };
            output.line(format!(
                "  {verb} as {name} version {}, {}",
                artifact.version,
                units::bytes(artifact.size_bytes)
            ))?;
            gate::obstacle(&artifact)
                .map_or(Ok(()), |why| output.line(format!("  {}", output.paint.warn(&why))))
        }
        JobState::Failed => {
            let error = job.error.clone().unwrap_or_default();
            Err(CliError::failed(format!(
                "job {} failed: {} ({})",
                job.id,
                safe(&error.message),
                safe(&error.code)
            ))
            .hint(format!("`dyadic job retry {}` runs it again", job.id)))
        }
        JobState::Cancelled => Err(CliError::new(Kind::Cancelled, format!("job {} was cancelled", job.id))),
        _ => Err(CliError::protocol(format!(
            "the watch ended while the job was {}",
            job.state().as_str_name()
        ))),
    }
}

/// What is on the screen.
struct View {
    output: Output,
    voice: Voice,
    bar: Option<ProgressBar>,
    epochs: Epochs,
    /// 0 if it is not known.
    epochs_in_all: u64,
    /// Where the current phase began: its name, moment and count.
    phase: Option<(String, Option<DateTime<Utc>>, u64)>,
    said: Option<Instant>,
    loss: f64,
    away_told: bool,
    metrics: Vec<Metric>,
}

impl View {
    fn new(output: Output, voice: Voice) -> Self {
        View {
            output,
            voice,
            bar: None,
            epochs: Epochs::default(),
            epochs_in_all: 0,
            phase: None,
            said: None,
            loss: f64::NAN,
            away_told: false,
            metrics: Vec::new(),
        }
    }

    /// A line for people above the bar.
    fn print(&self, text: &str) -> Result<()> {
        if self.voice == Voice::ResultOnly || self.output.quiet {
            return Ok(());
        }
        match &self.bar {
            Some(bar) => bar.suspend(|| self.output.line(text)),
            None => self.output.line(text),
        }
    }

    fn say(&mut self, text: &str) {
        if !self.away_told {
            self.away_told = true;
            self.output.note(self.output.paint_notes.warn(text));
        }
    }

    fn event(&mut self, event: &JobEvent) -> Result<()> {
        self.away_told = false;
        if self.voice == Voice::Live {
            self.output.json_line(&json::of(event)?)?;
        }
        let at = units::moment(event.at.as_ref());
        match &event.event {
            Some(Event::State(change)) => self.state(change),
            Some(Event::Progress(progress)) => self.progress(progress, at),
            Some(Event::Metrics(metrics)) => metrics.metrics.iter().try_for_each(|m| self.metric(m)),
            Some(Event::Log(log)) if TOLD_ANYWAY.iter().any(|t| log.message.starts_with(t)) => Ok(()),
            Some(Event::Log(log)) => {
                let paint = self.output.paint;
                let text = safe(&log.message);
                self.print(&match log.level.as_str() {
                    "error" => paint.bad(&text),
                    "warn" => paint.warn(&text),
                    _ => paint.dim(&text),
                })
            }
            None => Ok(()),
        }
    }

    fn state(&mut self, change: &StateChange) -> Result<()> {
        self.flush_epochs(true)?;
        if show::is_over(change.to()) {
            self.clear_bar();
            // The summary tells it.
            return Ok(());
        }
        let by = if change.by.is_empty() { String::new() } else { format!(" by {}", safe(&change.by)) };
        let reason =
            if change.reason.is_empty() { String::new() } else { format!(": {}", safe(&change.reason)) };
        let state = describe::state(change.to(), self.output.paint);
        self.phase = None;
        self.print(&format!("{state}{}", self.output.paint.dim(&format!("{by}{reason}"))))
    }

    fn metric(&mut self, metric: &Metric) -> Result<()> {
        match self.metrics.iter_mut().find(|m| m.name == metric.name) {
            Some(old) => *old = metric.clone(),
            None => self.metrics.push(metric.clone()),
        }
        if metric.name == "train/loss" {
            self.loss = metric.value;
        }
        if metric.name == "float/accuracy" {
            self.print(&format!("float accuracy {}", units::percent(metric.value)))?;
        }
        // Epochs are told sooner than progress, which comes with the worker's heartbeat.
        if metric.name == "epoch/train_loss"
            && let (Some(bar), Some((phase, _, _))) = (&self.bar, &self.phase)
            && phase == "train"
            && let Some(done) =
                bar.length().unwrap_or(0).saturating_mul(metric.step).checked_div(self.epochs_in_all)
        {
            bar.set_position(done.max(bar.position()));
        }
        self.epochs.add(metric);
        self.flush_epochs(false)
    }

    fn flush_epochs(&mut self, at_end: bool) -> Result<()> {
        let lines = self.epochs.ready(at_end, self.output.paint);
        lines.iter().try_for_each(|line| self.print(line))
    }

    fn progress(&mut self, p: &Progress, at: Option<DateTime<Utc>>) -> Result<()> {
        if self.phase.as_ref().is_none_or(|(phase, _, _)| *phase != p.phase) {
            self.phase = Some((p.phase.clone(), at, p.done));
        }
        if self.voice == Voice::ResultOnly && !self.output.live {
            return Ok(());
        }
        let loss = if p.phase == "train" && !self.loss.is_nan() {
            format!("  loss {:.4}", self.loss)
        } else {
            String::new()
        };
        let left = self.left(p, at).map(|d| format!("  {} left", units::duration(d))).unwrap_or_default();
        let phase = safe(&p.phase);
        if self.output.live && !self.output.json {
            let message = format!("{loss}{left}");
            let bar = self.bar.get_or_insert_with(|| {
                let bar = ProgressBar::with_draw_target(
                    Some(p.total.max(1)),
                    ProgressDrawTarget::stderr_with_hz(8),
                );
                bar.with_style(style("{prefix:<9} {bar:28.cyan/dim} {percent:>3} %{msg}"))
                    .with_prefix(phase.clone())
                    .with_position(p.done)
            });
            bar.set_length(p.total.max(1));
            bar.set_prefix(phase);
            bar.set_message(message);
            bar.set_position(p.done);
            return Ok(());
        }
        let due = self.said.is_none_or(|t| t.elapsed() >= Duration::from_secs(10));
        if due && self.voice == Voice::Live {
            self.said = Some(Instant::now());
            return self.print(&self.output.paint.dim(&format!("{}{loss}{left}", show::progress(p))));
        }
        Ok(())
    }

    /// What the phase still takes, at the speed it had so far.
    fn left(&self, p: &Progress, at: Option<DateTime<Utc>>) -> Option<Duration> {
        let (_, began, first) = self.phase.as_ref()?;
        let spent = (at? - (*began)?).to_std().ok()?;
        let done = p.done.checked_sub(*first).filter(|&d| d > 0)?;
        if spent < Duration::from_secs(2) {
            return None;
        }
        let left = p.total.saturating_sub(p.done) as f64;
        Duration::try_from_secs_f64(spent.as_secs_f64() * left / done as f64).ok()
    }

    fn clear_bar(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn close(&mut self) {
        self.clear_bar();
        // A closed pipe has ended the program already; anything else shows at the next line.
        let _ = self.flush_epochs(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_follows_from_the_speed_so_far() {
        let mut view = View::new(Output::silent(), Voice::Live);
        let at = |s| DateTime::from_timestamp(s, 0);
        let p = |done| Progress { phase: "train".into(), done, total: 100 };
        view.progress(&p(10), at(0)).unwrap();
        assert_eq!(view.left(&p(10), at(5)), None);
        assert_eq!(view.left(&p(40), at(30)), Some(Duration::from_secs(60)));
        let next = Progress { phase: "evaluate".into(), done: 0, total: 10 };
        view.progress(&next, at(31)).unwrap();
        assert_eq!(view.left(&next, at(40)), None);
    }
}
