//! `bench --explain`: what runs each node, how long it takes, and how that compares with the machine's peak.

use std::io::Write;

use dyadic_engine::certificate::GoldenInput;
use dyadic_engine::{Engine, Team};

use crate::failure::Failure;
use crate::table::{Side, Table, thousands};

/// Times each node is measured.
const ROUNDS: usize = 101;

/// Prints the table.
pub(crate) fn print(engine: &Engine, threads: usize, out: &mut impl Write) -> Result<(), Failure> {
    let codes = GoldenInput::Seed(0).codes(engine.model());
    let team = Team::new(threads);
    let steps = engine.profile_on(&team, &mut engine.scratch_for(threads), &codes, ROUNDS)?;
    drop(team);
    let summary = engine.model().summary();
    let mut table = Table::new(&[
        ("node", Side::Left),
        ("kernel", Side::Left),
        ("MACs", Side::Right),
        ("µs", Side::Right),
        ("GMAC/s", Side::Right),
        ("weight bytes", Side::Right),
        ("code bytes", Side::Right),
    ]);
    for (step, node) in steps.iter().zip(&summary) {
        let seconds = step.time.as_secs_f64();
        let rate =
            if node.macs > 0 { format!("{:.1}", node.macs as f64 / seconds * 1e-9) } else { String::new() };
        table.row(vec![
            step.name.clone(),
            format!("{} ({})", step.kernel, node.op),
            if node.macs > 0 { thousands(node.macs) } else { String::new() },
            format!("{:.2}", seconds * 1e6),
            rate,
            if step.weight_bytes > 0 { thousands(step.weight_bytes as u64) } else { String::new() },
            thousands(step.code_bytes as u64),
        ]);
    }
    let seconds: f64 = steps.iter().map(|step| step.time.as_secs_f64()).sum();
    let macs: u64 = summary.iter().map(|node| node.macs).sum();
    let (weights, codes) =
        steps.iter().fold((0, 0), |(w, c), step| (w + step.weight_bytes, c + step.code_bytes));
    table.row(vec![
        "total".to_owned(),
        String::new(),
        thousands(macs),
        format!("{:.2}", seconds * 1e6),
        format!("{:.1}", macs as f64 / seconds * 1e-9),
        thousands(weights as u64),
        thousands(codes as u64),
    ]);
    table.print(1, out)?;
    if let Some(peak) = engine.peak() {
        writeln!(
            out,
            "peak of kernel {}, products of registers alone: {peak:.0} GMAC/s",
            engine.kernel_name()
        )?;
    }
    Ok(())
}
