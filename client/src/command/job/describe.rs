//! A spec in a few words.

use dyadic_proto::v1::{Job, JobSpec, JobState, Method, Objective};

use crate::output::style::{Painter, safe};

/// `ternary sign-split angle`, `4 bit two-term l2`, with `strict` where it is.
pub(crate) fn method(spec: &JobSpec) -> String {
    let mut text = match spec.method() {
        Method::Aptq => "ternary".to_owned(),
        Method::Apq => format!("{} bit", spec.bits.map_or_else(|| "?".into(), |b| b.to_string())),
        Method::Unspecified => return String::new(),
    };
    if !spec.codebook.is_empty() {
        text.push(' ');
        text.push_str(&safe(&spec.codebook));
    }
    match spec.objective() {
        Objective::L2 => text.push_str(" l2"),
        Objective::Angle => text.push_str(" angle"),
        Objective::Unspecified => {}
    }
    if spec.strict() {
        text.push_str(" strict");
    }
    text
}

/// The same with the number of rules for single layers: `ternary sign-split angle, 2 rules`.
pub(crate) fn method_of(job: &Job) -> String {
    let method = method(&job.resolved.clone().unwrap_or_default());
    match job.rules {
        0 => method,
        1 => format!("{method}, 1 rule"),
        n => format!("{method}, {n} rules"),
    }
}

/// `resnet20 on cifar10: ternary sign-split angle, 4 epochs of batches of 128, seed 0`.
pub(crate) fn sentence(spec: &JobSpec) -> String {
    let epochs = match spec.epochs() {
        1 => "1 epoch".to_owned(),
        n => format!("{n} epochs"),
    };
    format!(
        "{} on {}: {}, {epochs} of batches of {}, seed {}",
        safe(&spec.model),
        safe(&spec.dataset),
        method(spec),
        spec.batch_size(),
        spec.seed()
    )
}

/// The state in its colour.
pub(crate) fn state(state: JobState, paint: Painter) -> String {
    match state {
        JobState::Queued => paint.warn("queued"),
        JobState::Running => paint.busy("running"),
        JobState::Succeeded => paint.good("succeeded"),
        JobState::Failed => paint.bad("failed"),
        JobState::Cancelled => paint.dim("cancelled"),
        JobState::Unspecified => "?".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_reads_as_a_sentence() {
        let mut spec = JobSpec {
            model: "resnet20".into(),
            dataset: "cifar10".into(),
            method: Method::Aptq.into(),
            objective: Objective::Angle.into(),
            codebook: "sign-split".into(),
            epochs: Some(1),
            batch_size: Some(128),
            strict: Some(true),
            ..Default::default()
        };
        assert_eq!(
            sentence(&spec),
            "resnet20 on cifar10: ternary sign-split angle strict, 1 epoch of batches of 128, seed 0"
        );
        (spec.method, spec.bits, spec.codebook) = (Method::Apq.into(), Some(4), "two-term".into());
        assert_eq!(method(&spec), "4 bit two-term angle strict");
        let job = |rules| Job { resolved: Some(spec.clone()), rules, ..Default::default() };
        assert_eq!(method_of(&job(0)), "4 bit two-term angle strict");
        assert_eq!(method_of(&job(2)), "4 bit two-term angle strict, 2 rules");
    }
}
