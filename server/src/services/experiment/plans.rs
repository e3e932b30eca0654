//! Plans of runs, as they were kept, and side by side.

use std::collections::{HashMap, HashSet};

use dyadic_plan::{Resolved, Row};
use dyadic_proto::v1 as pb;

use crate::services::job::convert;

/// What a kept text says of the layers, as far as this version can read it.
pub(super) fn resolved(text: Option<&str>) -> Option<Resolved> {
    text.and_then(Resolved::from_toml)
}

/// A run's plan.
pub(super) fn of_job(toml: String, resolved: Option<Resolved>) -> pb::JobPlan {
    let total = resolved.as_ref().map(|resolved| convert::total(resolved.total));
    let rows = resolved.map(|resolved| resolved.layers).unwrap_or_default();
    pb::JobPlan { toml, units: rows.into_iter().map(convert::unit).collect(), total }
}

/// The layers that are not planned alike in all runs that have a plan, in the order they run.
pub(super) fn differing(runs: &[Option<Resolved>]) -> Vec<pb::PlannedLayer> {
    let by_name = |run: &Option<Resolved>| -> HashMap<String, String> {
        let rows = run.iter().flat_map(|resolved| &resolved.layers);
        rows.map(|row| (row.name.clone(), words(row))).collect()
    };
    let planned: Vec<_> = runs.iter().map(by_name).collect();
    let mut names = HashSet::new();
    let rows = runs.iter().flatten().flat_map(|resolved| &resolved.layers);
    let all = rows.map(|row| row.name.as_str()).filter(|&name| names.insert(name));
    let layer = |name: &str| {
        let of_run = |run: &HashMap<String, String>| run.get(name).cloned().unwrap_or_default();
        pb::PlannedLayer { name: name.to_owned(), planned: planned.iter().map(of_run).collect() }
    };
    let differs = |layer: &pb::PlannedLayer| {
        let mut of_plans =
            layer.planned.iter().zip(runs).filter(|(_, run)| run.is_some()).map(|(words, _)| words);
        let first = of_plans.next();
        of_plans.any(|words| Some(words) != first)
    };
    all.map(layer).filter(differs).collect()
}

/// `two-term 4 l2, u6 → u8`.
fn words(row: &Row) -> String {
    let mut reads = row.reads.clone();
    reads.dedup();
    let codes = format!("{} → {}", reads.join(" "), row.writes);
    match &row.weights {
        Some(weights) => format!("{weights}, {codes}"),
        None => codes,
    }
}

#[cfg(test)]
mod tests {
    use dyadic_plan::Total;

    use super::*;

    fn run(rows: &[(&str, Option<&str>, &str)]) -> Resolved {
        let row = |&(name, weights, writes): &(&str, Option<&str>, &str)| Row {
            name: name.into(),
            operation: "conv".into(),
            weights: weights.map(str::to_owned),
            bits: None,
            count: None,
            reads: vec!["u6".into(), "u6".into()],
            writes: writes.into(),
            shape: [1; 3],
            bytes: 1,
            macs: 1,
            shift_adds: 1,
            share: 0.5,
        };
        let total = Total { weights: 1, bytes: 1, macs: 1, shift_adds: 1 };
        Resolved { total, layers: rows.iter().map(row).collect() }
    }

    #[test]
    fn only_layers_that_differ_are_told_and_runs_without_a_plan_do_not_count() {
        let a = run(&[("b", Some("two-term 4 l2"), "u8"), ("same", Some("x"), "u8"), ("pool", None, "u8")]);
        let b = run(&[("b", Some("two-term 5 l2"), "u8"), ("same", Some("x"), "u8"), ("cast", None, "u6")]);
        assert_eq!(differing(&[Some(a.clone()), None, Some(a.clone())]), []);
        let found = differing(&[Some(a), None, Some(b)]);
        let found: Vec<_> = found
            .iter()
            .map(|layer| (layer.name.as_str(), layer.planned.iter().map(String::as_str).collect()))
            .collect();
        let wanted: [(&str, Vec<&str>); 3] = [
            ("b", vec!["two-term 4 l2, u6 → u8", "", "two-term 5 l2, u6 → u8"]),
            ("pool", vec!["u6 → u8", "", ""]),
            ("cast", vec!["", "", "u6 → u6"]),
        ];
        assert_eq!(found, wanted);
    }
}
