//! `inspect`: what is in an artifact.

use std::io::{self, Write};

use dyadic_engine::Artifact;
use dyadic_engine::artifact::Provenance;
use dyadic_engine::summary::{NodeSummary, WeightSummary};
use serde_json::json;

use crate::Common;
use crate::failure::Failure;
use crate::table::{Side, Table, thousands};

/// Arguments of `inspect`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    common: Common,
}

/// Runs the command.
pub(crate) fn inspect(arguments: &Arguments) -> Result<(), Failure> {
    let (artifact, file_bytes) = arguments.common.load()?;
    let nodes = artifact.model.summary();
    let mut out = io::stdout().lock();
    if arguments.common.json {
        writeln!(out, "{:#}", as_json(&artifact, &nodes, file_bytes))?;
    } else {
        print(&artifact, &nodes, file_bytes, &mut out)?;
    }
    Ok(())
}

/// All weights together.
fn total(nodes: &[NodeSummary]) -> WeightSummary {
    let mut sum = WeightSummary { bits: 0, levels: 0, count: 0, zeros: 0, shift_adds: 0, packed_bytes: 0 };
    for weights in nodes.iter().filter_map(|node| node.weights) {
        sum.count += weights.count;
        sum.zeros += weights.zeros;
        sum.shift_adds += weights.shift_adds;
        sum.packed_bytes += weights.packed_bytes;
    }
    sum
}

fn as_json(artifact: &Artifact, nodes: &[NodeSummary], file_bytes: usize) -> serde_json::Value {
    let model = &artifact.model;
    let weights = total(nodes);
    let input = model.tensor(model.input.tensor);
    json!({
        "name": model.name,
        "file_bytes": file_bytes,
        "input": { "name": model.input.name, "shape": input.shape, "codes": input.format.short_name(),
            "normalization": model.input.normalization },
        "output": { "name": model.output.name, "shape": model.output_shape(), "labels": model.output.labels,
            "softmax": model.output.softmax },
        "nodes": nodes,
        "total": { "macs": nodes.iter().map(|node| node.macs).sum::<u64>(), "weights": weights.count,
            "shift_adds_per_weight": weights.shift_adds_per_weight(), "sparsity": weights.sparsity(),
            "packed_bytes": weights.packed_bytes },
        "provenance": artifact.provenance,
        "golden_inputs": artifact.certificate.inputs.len(),
    })
}

fn print(
    artifact: &Artifact,
    nodes: &[NodeSummary],
    file_bytes: usize,
    out: &mut impl Write,
) -> io::Result<()> {
    let model = &artifact.model;
    let (input, output) = (model.tensor(model.input.tensor), model.output_shape());
    writeln!(out, "{}, {} bytes", model.name, thousands(file_bytes as u64))?;
    let bytes = if model.input.normalization.is_some() { ", or 8-bit images" } else { "" };
    let codes = input.format.short_name();
    writeln!(out, "input  {}: {} as {codes}, float NCHW{bytes}", model.input.name, input.shape)?;
    let softmax = match (model.output.softmax, model.output.log) {
        (true, true) => ", log-softmax",
        (true, false) => ", softmax",
        (false, _) => "",
    };
    writeln!(out, "output {}: {output}{softmax}, {} labels\n", model.output.name, model.output.labels.len())?;
    let columns = [
        ("node", Side::Left),
        ("operation", Side::Left),
        ("output", Side::Right),
        ("codes", Side::Left),
        ("bits", Side::Right),
        ("levels", Side::Right),
        ("MACs", Side::Right),
        ("shift-adds/weight", Side::Right),
        ("zeros", Side::Right),
        ("bytes", Side::Right),
    ];
    let mut table = Table::new(&columns);
    for node in nodes {
        table.row(row(node));
    }
    let macs = nodes.iter().map(|node| node.macs).sum();
    let mut last = vec!["total".to_owned(), String::new(), String::new(), String::new()];
    last.extend([String::new(), String::new(), thousands(macs)]);
    last.extend(weight_cells(&total(nodes)));
    table.row(last);
    table.print(1, out)?;
    print_provenance(&artifact.provenance, out)?;
    writeln!(out, "certificate       {} golden inputs", artifact.certificate.inputs.len())
}

fn row(node: &NodeSummary) -> Vec<String> {
    let mut cells = vec![node.name.clone(), node.op.clone(), node.output.to_string(), node.codes.clone()];
    if let Some(weights) = &node.weights {
        cells.extend([weights.bits.to_string(), weights.levels.to_string(), thousands(node.macs)]);
        cells.extend(weight_cells(weights));
    }
    cells
}

fn weight_cells(weights: &WeightSummary) -> [String; 3] {
    [
        format!("{:.2}", weights.shift_adds_per_weight()),
        format!("{:.1} %", 100.0 * weights.sparsity()),
        thousands(weights.packed_bytes),
    ]
}

fn print_provenance(provenance: &Provenance, out: &mut impl Write) -> io::Result<()> {
    writeln!(out)?;
    let percent = |share: f64| format!("{:.2} %", 100.0 * share);
    if let Some(accuracy) = &provenance.accuracy {
        let images = accuracy.images.map_or(String::new(), |n| format!(" on {} images", thousands(n)));
        if let Some(float) = accuracy.float {
            writeln!(out, "float accuracy    {}{images}", percent(float))?;
        }
        if let Some(quantized) = accuracy.quantized {
            writeln!(out, "accuracy          {}{images}", percent(quantized))?;
        }
    }
    let hashes =
        [("model sha256", &provenance.model_sha256), ("data set sha256", &provenance.dataset_sha256)];
    for (what, hash) in hashes {
        if let Some(hash) = hash {
            writeln!(out, "{what:<17} {hash}")?;
        }
    }
    if let Some(job) = &provenance.job {
        writeln!(out, "job               {job}")?;
    }
    for (name, version) in &provenance.versions {
        writeln!(out, "{name:<17} {version}")?;
    }
    for (name, value) in &provenance.other {
        writeln!(out, "{name:<17} {value}")?;
    }
    Ok(())
}
