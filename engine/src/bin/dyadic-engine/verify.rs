//! `verify`: replays an artifact's certificate.

use std::io::{self, Write};

use dyadic_engine::certificate::Mismatch;
use dyadic_engine::reference;
use serde_json::json;

use crate::Common;
use crate::failure::Failure;
use crate::table::thousands;

/// Arguments of `verify`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Replays with the reference too, which is slow, and only adds shifted codes.
    #[arg(long)]
    reference: bool,
}

/// Runs the command.
pub(crate) fn verify(arguments: &Arguments) -> Result<(), Failure> {
    let (certificate, engine) = arguments.common.engine()?;
    let mut result = engine.verify(&certificate).map_err(Failure::from);
    let mut executors = vec![engine.kernel_name()];
    if arguments.reference && result.is_ok() {
        executors.push("reference");
        let model = engine.model();
        let replay = certificate.verify(model, |input, see| reference::walk(model, input.codes(model), see));
        result = replay.map_err(|mismatch| Failure::Reference(mismatch.to_string()));
    }
    let mut stdout = io::stdout().lock();
    if arguments.common.json {
        let node = match &result {
            Err(Failure::Verification(Mismatch::Node { node })) => Some(node),
            _ => None,
        };
        let report = json!({
            "verified": result.is_ok(), "executors": executors,
            "first_differing_node": node, "problem": result.as_ref().err().map(ToString::to_string),
            "golden_inputs": result.as_ref().ok().map(|report| report.inputs),
            "tensors": result.as_ref().ok().map(|report| report.tensors),
            "codes": result.as_ref().ok().map(|report| report.codes),
        });
        writeln!(stdout, "{report}")?;
    }
    let report = result?;
    if !arguments.common.json {
        writeln!(
            stdout,
            "verified: {} golden inputs, {} tensors, {} codes, bit for bit ({})",
            report.inputs,
            report.tensors,
            thousands(report.codes),
            executors.join(" and ")
        )?;
    }
    Ok(())
}
