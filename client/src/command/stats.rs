//! `dyadic serve-stats`: what is served, how often and how fast.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use clap::Args;
use dyadic_proto::inference::{
    ModelStatistics, ModelStatisticsRequest, RepositoryIndexRequest, StatisticDuration,
};
use serde_json::Value;

use crate::connect::Connection;
use crate::error::{CliError, Result};
use crate::output::style::safe;
use crate::output::table::Table;
use crate::output::{Output, json, units};

const HELP: &str = "\
Times are averages a request: in the queue, and in the engine.
Examples:
  dyadic serve-stats
  dyadic serve-stats resnet20 --every 2";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct ServeStats {
    /// Only this served name
    #[arg(default_value = "", hide_default_value = true)]
    name: String,
    /// Show it again every so many seconds, with requests a second, until Ctrl-C
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    every: Option<u64>,
}

impl ServeStats {
    pub(crate) async fn run(self, connection: &Connection, output: Output) -> Result<()> {
        let mut before: Option<(Instant, HashMap<String, u64>)> = None;
        loop {
            let stats = self.statistics(connection).await?;
            let states = self.states(connection).await?;
            if output.json {
                output.value(&with_states(&stats, &states)?)?;
            } else if stats.is_empty() && states.is_empty() {
                output.note("nothing is served yet: `dyadic job submit` makes the first version");
            } else {
                output.table(&table(&stats, &states, before.as_ref(), output))?;
            }
            let Some(every) = self.every else { return Ok(()) };
            before = Some((
                Instant::now(),
                stats.iter().map(|s| (key(&s.name, &s.version), s.inference_count)).collect(),
            ));
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(every)) => output.line("")?,
                _ = tokio::signal::ctrl_c() => return Ok(()),
            }
        }
    }

    async fn statistics(&self, connection: &Connection) -> Result<Vec<ModelStatistics>> {
        let request = ModelStatisticsRequest { name: self.name.clone(), version: String::new() };
        let mut stats = connection.inference().model_statistics(request).await?.into_inner().model_stats;
        stats.sort_by_key(|s| (s.name.clone(), s.version.parse::<u64>().unwrap_or(0)));
        Ok(stats)
    }

    /// State and reason by name and version.
    async fn states(&self, connection: &Connection) -> Result<HashMap<String, (String, String)>> {
        let reply = connection.inference().repository_index(RepositoryIndexRequest::default()).await;
        let models = reply.map_err(CliError::from)?.into_inner().models;
        let wanted = models.into_iter().filter(|m| self.name.is_empty() || m.name == self.name);
        Ok(wanted.map(|m| (key(&m.name, &m.version), (m.state, m.reason))).collect())
    }
}

fn key(name: &str, version: &str) -> String {
    format!("{name}\n{version}")
}

fn with_states(stats: &[ModelStatistics], states: &HashMap<String, (String, String)>) -> Result<Value> {
    let one = |s: &ModelStatistics| {
        let mut value = json::of(s)?;
        if let (Some((state, reason)), Some(map)) =
            (states.get(&key(&s.name, &s.version)), value.as_object_mut())
        {
            map.insert("state".into(), state.as_str().into());
            map.insert("reason".into(), reason.as_str().into());
        }
        Ok(value)
    };
    stats.iter().map(one).collect::<Result<Vec<_>>>().map(Value::Array)
}

fn table(
    stats: &[ModelStatistics],
    states: &HashMap<String, (String, String)>,
    before: Option<&(Instant, HashMap<String, u64>)>,
    output: Output,
) -> Table {
    let mut table = Table::new([
        "name", ">version", "state", ">images", ">batches", ">per s", ">failed", ">queue", ">engine",
        "reason",
    ]);
    let mut rest = states.clone();
    for s in stats {
        let key = key(&s.name, &s.version);
        let (state, reason) = rest.remove(&key).unwrap_or_default();
        let all = s.inference_stats.unwrap_or_default();
        let rate = before.and_then(|(at, counts)| {
            let more = s.inference_count.checked_sub(*counts.get(&key)?)?;
            Some(format!("{:.1}", more as f64 / at.elapsed().as_secs_f64()))
        });
        table.row([
            output.paint.strong(&safe(&s.name)),
            safe(&s.version),
            coloured(&state, output),
            s.inference_count.to_string(),
            s.execution_count.to_string(),
            rate.unwrap_or_default(),
            all.fail.as_ref().map_or(0, |f| f.count).to_string(),
            average(all.queue.as_ref()),
            average(all.compute_infer.as_ref()),
            output.paint.dim(&safe(&reason)),
        ]);
    }
    let mut rest: Vec<_> = rest.into_iter().collect();
    rest.sort();
    for (key, (state, reason)) in rest {
        let (name, version) = key.split_once('\n').unwrap_or((&key, ""));
        let blank = String::new;
        let row = [output.paint.strong(&safe(name)), safe(version), coloured(&state, output)];
        let blanks = [blank(), blank(), blank(), blank(), blank(), blank(), output.paint.dim(&safe(&reason))];
        table.row(row.into_iter().chain(blanks));
    }
    table
}

fn coloured(state: &str, output: Output) -> String {
    let text = safe(state).to_lowercase();
    match state {
        "READY" => output.paint.good(&text),
        "LOADING" | "UNLOADING" => output.paint.busy(&text),
        "UNAVAILABLE" => output.paint.bad(&text),
        _ => text,
    }
}

fn average(d: Option<&StatisticDuration>) -> String {
    match d.and_then(|d| d.ns.checked_div(d.count)) {
        Some(ns) => units::latency(Duration::from_nanos(ns)),
        None => String::new(),
    }
}
