//! One job in full.

use std::time::Duration;

use chrono::{DateTime, Utc};
use dyadic_proto::v1::{self, CompareRequest, JobState, Metric};

use super::{describe, gate, pictures};
use crate::command::names::Names;
use crate::command::tag;
use crate::connect::Connection;
use crate::error::Result;
use crate::output::style::safe;
use crate::output::table::pairs;
use crate::output::{Output, json, units};

/// Whether a state is final.
pub(crate) fn is_over(state: JobState) -> bool {
    matches!(state, JobState::Succeeded | JobState::Failed | JobState::Cancelled)
}

/// What a job does, made or died of, in a few words.
pub(crate) fn whereabouts(job: &v1::Job) -> String {
    if let Some(artifact) = &job.artifact {
        let kept = match (artifact.removed_at.is_some(), artifact.held.is_empty()) {
            (true, _) => ", removed",
            (false, false) => ", not live",
            (false, true) => "",
        };
        return format!("{} v{}{kept}", safe(&artifact.served_name), artifact.version);
    }
    match (job.state(), &job.progress, &job.error) {
        (JobState::Running, _, _) if job.cancel_requested => "cancelling".into(),
        (JobState::Running, Some(p), _) => progress(p),
        (JobState::Failed, _, Some(error)) => safe(&error.code),
        _ => String::new(),
    }
}

/// `train 42 %`.
pub(crate) fn progress(p: &v1::Progress) -> String {
    if p.total == 0 {
        safe(&p.phase)
    } else {
        format!("{} {:.0} %", safe(&p.phase), p.done as f64 / p.total as f64 * 100.0)
    }
}

/// From the last claim to the end, or to now.
pub(crate) fn took(job: &v1::Job, now: DateTime<Utc>) -> String {
    let end = units::moment(job.finished_at.as_ref()).unwrap_or(now);
    match units::between(job.started_at.as_ref(), Some(end)) {
        Duration::ZERO => String::new(),
        d => units::duration(d),
    }
}

/// The last value of every metric of a run.
pub(crate) async fn last_metrics(connection: &Connection, id: &str) -> Result<Vec<Metric>> {
    let request = CompareRequest { job_ids: vec![id.to_owned()], plans: false };
    let reply = connection.experiments().compare(request).await?.into_inner();
    Ok(reply.runs.into_iter().next().map(|r| r.last).unwrap_or_default())
}

/// A metric's value by name.
pub(crate) fn value(metrics: &[Metric], name: &str) -> Option<f64> {
    metrics.iter().find(|m| m.name == name).map(|m| m.value)
}

/// Accuracy of the engine, of the float model, and what lies between, where they are known.
pub(crate) fn accuracy(metrics: &[Metric]) -> String {
    match (value(metrics, "accuracy"), value(metrics, "float/accuracy")) {
        (Some(engine), Some(float)) => {
            format!(
                "{} (float {}, {:+.2} points)",
                units::percent(engine),
                units::percent(float),
                (engine - float) * 100.0
            )
        }
        (Some(engine), None) => units::percent(engine),
        (None, Some(float)) => format!("float {}", units::percent(float)),
        (None, None) => String::new(),
    }
}

/// How like the float network's the answers are; empty if nothing says so.
pub(super) fn likeness(metrics: &[Metric]) -> String {
    let agreement = value(metrics, "agreement").map(|share| format!("{} with float", units::percent(share)));
    let closeness = value(metrics, "closeness_db").map(|db| format!("signal-to-noise {db:.1} dB"));
    [agreement, closeness].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

pub(super) async fn job(connection: &Connection, output: Output, job: &v1::Job) -> Result<()> {
    output.value(&json::of(job)?)?;
    if output.json {
        return Ok(());
    }
    let metrics = last_metrics(connection, &job.id).await?;
    output.table(&pairs(output.paint, facts(output, job, &metrics)))?;
    if let Some(spec) = &job.resolved {
        let names = Names::of(connection, std::slice::from_ref(job)).await;
        output.line("")?;
        output.table(&pairs(output.paint, spec_facts(&names.put_into(spec))))?;
    }
    Ok(())
}

/// State, results and history of a job, by name.
pub(crate) fn facts(output: Output, job: &v1::Job, metrics: &[Metric]) -> Vec<(&'static str, String)> {
    let paint = output.paint;
    let at_most_zero = |n: u64, text: String| if n == 0 { String::new() } else { text };
    let artifact = job.artifact.as_ref().map(|a| {
        let sha = units::hex(&a.sha256);
        format!(
            "{} v{}, {}, sha256 {}…",
            safe(&a.served_name),
            a.version,
            units::bytes(a.size_bytes),
            sha.get(..12).unwrap_or(&sha)
        )
    });
    let error = job.error.as_ref().map(|e| format!("{} ({})", paint.bad(&safe(&e.message)), safe(&e.code)));
    let cancelling = job.cancel_requested && !is_over(job.state());
    vec![
        ("job", paint.strong(&safe(&job.id))),
        (
            "state",
            format!(
                "{}{}",
                describe::state(job.state(), paint),
                if cancelling { ", cancelling" } else { "" }
            ),
        ),
        ("accuracy", accuracy(metrics)),
        ("artifact", artifact.unwrap_or_default()),
        (
            "latest",
            job.artifact.as_ref().and_then(gate::obstacle).map_or_else(String::new, |why| paint.warn(&why)),
        ),
        ("error", error.unwrap_or_default()),
        (
            "progress",
            if is_over(job.state()) {
                String::new()
            } else {
                job.progress.as_ref().map(progress).unwrap_or_default()
            },
        ),
        ("owner", safe(&job.owner)),
        ("worker", safe(&job.worker)),
        ("queued", units::local_time(job.created_at.as_ref())),
        ("started", units::local_time(job.started_at.as_ref())),
        ("finished", units::local_time(job.finished_at.as_ref())),
        ("took", took(job, Utc::now())),
        ("claims", at_most_zero(job.fence, job.fence.to_string())),
        ("stalls", at_most_zero(job.stalls.into(), job.stalls.to_string())),
        ("retry of", safe(&job.retry_of)),
        ("tags", tag::show(&job.tags)),
        ("plan", at_most_zero(job.rules.into(), rules(job.rules))),
    ]
}

/// How many rules for layers a plan has, and where it is shown.
fn rules(rules: u32) -> String {
    let number = if rules == 1 { "1 rule".to_owned() } else { format!("{rules} rules") };
    format!("{number} for layers; `dyadic runs show ID --plan` prints them")
}

fn spec_facts(spec: &v1::JobSpec) -> Vec<(&'static str, String)> {
    let list = |v: &[f32]| v.iter().map(f32::to_string).collect::<Vec<_>>().join(", ");
    let normalization =
        spec.normalization.as_ref().map(|n| format!("mean {}; std {}", list(&n.mean), list(&n.std)));
    let bits =
        spec.activation_bits.as_ref().map(|a| format!("{} before 3×3, {} elsewhere", a.conv3x3(), a.other()));
    let splits = spec.splits.as_ref().map(|s| format!("{} / {}", safe(&s.train), safe(&s.eval)));
    let limit = |n: u64| if n == 0 { "all".to_owned() } else { n.to_string() };
    let word = |name: &str| {
        name.split_once('_').map_or(String::new(), |(_, rest)| rest.to_lowercase().replace('_', " "))
    };
    vec![
        ("model", safe(&spec.model)),
        ("dataset", safe(&spec.dataset)),
        ("served as", safe(&spec.served_name)),
        ("experiment", safe(&spec.experiment)),
        ("weights", describe::method(spec)),
        ("activations", bits.unwrap_or_default()),
        ("requantize", word(spec.requant().as_str_name())),
        ("normalize", normalization.unwrap_or_default()),
        ("pictures", spec.preprocess.as_ref().map(pictures::told).unwrap_or_default()),
        ("splits", splits.unwrap_or_default()),
        (
            "images",
            format!("{} to train, {} to evaluate", limit(spec.train_limit()), limit(spec.eval_limit())),
        ),
        ("training", format!("{} epochs, batch {}, seed {}", spec.epochs(), spec.batch_size(), spec.seed())),
        (
            "rate",
            format!("{} (momentum {}, decay {})", spec.learning_rate(), spec.momentum(), spec.weight_decay()),
        ),
        ("loss", word(spec.loss().as_str_name())),
        ("freeze at", spec.freeze_at.map(|f| f.to_string()).unwrap_or_default()),
        ("precision", word(spec.precision().as_str_name())),
        ("goes live", safe(&spec.promote)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loss_against_float_is_told_in_points() {
        let metric = |name: &str, value| Metric { name: name.into(), value, ..Default::default() };
        let both = [metric("accuracy", 0.9063), metric("float/accuracy", 0.9152)];
        assert_eq!(accuracy(&both), "90.63 % (float 91.52 %, -0.89 points)");
        assert_eq!(accuracy(&both[..1]), "90.63 %");
        assert_eq!(accuracy(&[]), "");
    }

    #[test]
    fn a_running_job_tells_where_it_is() {
        let progress = v1::Progress { phase: "train".into(), done: 42, total: 100 };
        let mut job =
            v1::Job { state: JobState::Running.into(), progress: Some(progress), ..Default::default() };
        assert_eq!(whereabouts(&job), "train 42 %");
        job.cancel_requested = true;
        assert_eq!(whereabouts(&job), "cancelling");
    }
}
