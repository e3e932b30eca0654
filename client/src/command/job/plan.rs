//! `dyadic job plan`: what a job would make of a model, layer by layer.

use clap::Args;
use dyadic_proto::v1::{PlanJobRequest, PlanJobResponse, PlanTotal, PlannedUnit};

use super::spec::SpecArgs;
use crate::connect::Connection;
use crate::error::{CliError, Kind, Result};
use crate::output::style::safe;
use crate::output::table::Table;
use crate::output::{Output, json, units};

pub(super) const HELP: &str = "\
Takes the flags of `dyadic job submit`, and queues nothing.
Examples:
  dyadic job plan --model resnet20 --dataset cifar10 --method apq --bits 4
  dyadic job plan --model resnet20 --dataset cifar10 --method aptq --toml > resnet20.toml
  dyadic job plan --model resnet20 --dataset cifar10 --plan resnet20.toml

Shift-adds are those of one sample, with the zeros that are expected of the codebook. The exit code is 6 where a
layer cannot be quantized.";

#[derive(Debug, Args)]
pub(crate) struct Plan {
    #[command(flatten)]
    spec: Box<SpecArgs>,
    /// The plan as TOML text
    #[arg(long)]
    toml: bool,
}

impl Plan {
    pub(crate) async fn run(self, connection: &Connection, output: Output) -> Result<()> {
        let spec = self.spec.build().map_err(CliError::usage)?;
        let reply = connection.jobs().plan(PlanJobRequest { spec: Some(spec) }).await?.into_inner();
        output.value(&json::of(&reply)?)?;
        if !reply.refusals.is_empty() {
            return refused(&reply, output);
        }
        if self.toml && !output.json {
            output.raw(reply.toml.as_bytes())
        } else {
            output.table(&table(&reply.units, reply.total, output))
        }
    }
}

/// All reasons as a table, then the error.
fn refused(reply: &PlanJobResponse, output: Output) -> Result<()> {
    let mut table = Table::new(["layer", "reason"]);
    for refusal in &reply.refusals {
        table.row([output.paint.strong(&safe(&refusal.layer)), safe(&refusal.reason)]);
    }
    output.table(&table)?;
    let reasons = match reply.refusals.len() {
        1 => "one reason".to_owned(),
        n => format!("{n} reasons"),
    };
    Err(CliError::new(Kind::Refused, format!("a job with these settings would be refused for {reasons}")))
}

/// One line a unit, then the sums.
pub(crate) fn table(units: &[PlannedUnit], total: Option<PlanTotal>, output: Output) -> Table {
    let headings =
        ["layer", "operation", "weights", "codes", ">count", ">bytes", ">macs", ">shift-adds", ">share"];
    let mut table = Table::new(headings);
    for unit in units {
        table.row(row(unit));
    }
    if let Some(total) = total {
        table.row([
            output.paint.strong("total"),
            String::new(),
            String::new(),
            String::new(),
            units::count(total.weights),
            units::bytes(total.bytes),
            units::count(total.macs),
            units::count(total.shift_adds),
            String::new(),
        ]);
    }
    table
}

fn row(unit: &PlannedUnit) -> [String; 9] {
    let some = |n: u64, text: fn(u64) -> String| if n == 0 { String::new() } else { text(n) };
    // Formats of operands that are alike stand once.
    let mut reads: Vec<String> = unit.reads.iter().map(|format| safe(format)).collect();
    reads.dedup();
    [
        safe(&unit.name),
        safe(&unit.operation),
        safe(&unit.weights),
        format!("{} → {}", reads.join(" "), safe(&unit.writes)),
        unit.count.map(units::count).unwrap_or_default(),
        some(unit.bytes, units::bytes),
        some(unit.macs, units::count),
        some(unit.shift_adds, units::count),
        if unit.shift_adds == 0 { String::new() } else { format!("{:.1} %", 100.0 * unit.share) },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_leaves_out_what_a_unit_does_not_have() {
        let text = |s: &str| s.to_owned();
        let conv = PlannedUnit {
            name: text("conv1"),
            operation: text("conv"),
            weights: text("two-term 4"),
            count: Some(2304),
            reads: vec![text("u6"), text("u6"), text("s8")],
            writes: text("u8"),
            bytes: 1500,
            macs: 2_000_000,
            shift_adds: 1_500_000,
            share: 0.125,
            ..PlannedUnit::default()
        };
        let wanted =
            ["conv1", "conv", "two-term 4", "u6 s8 → u8", "2.3k", "1.5 kB", "2.0M", "1.5M", "12.5 %"];
        assert_eq!(row(&conv), wanted);
        let pool = PlannedUnit { name: text("pool"), operation: text("max-pool"), ..PlannedUnit::default() };
        assert_eq!(row(&pool), ["pool", "max-pool", "", " → ", "", "", "", "", ""]);
    }
}
