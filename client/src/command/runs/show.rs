//! One run: facts, curves, layers.

use std::collections::BTreeSet;

use dyadic_proto::v1::{CompareRequest, LayerQuality, Point, QueryMetricsRequest, Run, Series};

use crate::command::job::plan::table as plan_table;
use crate::command::job::show as job_show;
use crate::connect::Connection;
use crate::error::{CliError, Kind, Result};
use crate::output::chart::sparkline;
use crate::output::style::safe;
use crate::output::table::{Table, pairs};
use crate::output::{Output, json, units};

pub(super) async fn run(connection: &Connection, output: Output, id: String) -> Result<()> {
    let run = with_plan(connection, &id).await?;
    let series = curves(connection, &id, 400).await?;
    if output.json {
        let mut value = json::of(&run)?;
        if let Some(map) = value.as_object_mut() {
            map.insert("series".into(), json::list(&series)?);
        }
        return output.value(&value);
    }
    let job = run.job.as_ref().ok_or_else(|| CliError::protocol("a run without a job"))?;
    output.table(&pairs(output.paint, job_show::facts(output, job, &run.last)))?;
    if !series.is_empty() {
        output.line("")?;
        output.table(&sparklines(&series, output))?;
    }
    output.line("")?;
    let mut spec = Table::new(["", ""]);
    for field in run.spec.iter().filter(|t| !t.value.is_empty()) {
        spec.row([output.paint.dim(&safe(&field.key)), safe(&field.value)]);
    }
    output.table(&spec)?;
    if !run.layers.is_empty() {
        output.line("")?;
        output.table(&layers(&run.layers))?;
    }
    if let Some(plan) = &run.plan {
        output.line("")?;
        output.table(&plan_table(&plan.units, plan.total, output))?;
    }
    Ok(())
}

/// The text of a run's plan.
pub(super) async fn plan(connection: &Connection, output: Output, id: String) -> Result<()> {
    let plan = with_plan(connection, &id).await?.plan;
    let plan = plan.ok_or_else(|| {
        CliError::new(
            Kind::NotFound,
            format!("run {id} has no plan: it was submitted to a version that kept none"),
        )
    })?;
    output.value(&json::of(&plan)?)?;
    if output.json { Ok(()) } else { output.raw(plan.toml.as_bytes()) }
}

async fn with_plan(connection: &Connection, id: &str) -> Result<Run> {
    let request = CompareRequest { job_ids: vec![id.to_owned()], plans: true };
    let run = connection.experiments().compare(request).await?.into_inner().runs.into_iter().next();
    run.ok_or_else(|| CliError::new(Kind::NotFound, format!("no run {id}")))
}

/// Every metric of the run but those of single layers.
pub(super) async fn curves(connection: &Connection, id: &str, max_points: u32) -> Result<Vec<Series>> {
    let mut all = Vec::new();
    for prefix in ["epoch/", "train/"] {
        let request = QueryMetricsRequest {
            job_id: id.to_owned(),
            prefix: prefix.into(),
            max_points,
            ..Default::default()
        };
        all.extend(connection.experiments().query_metrics(request).await?.into_inner().series);
    }
    Ok(all)
}

fn sparklines(series: &[Series], output: Output) -> Table {
    let mut table = Table::new(["metric", ">first", "", ">last", ">best"]);
    for s in series {
        let values: Vec<f64> = s.points.iter().map(|p: &Point| p.value).collect();
        let (Some(first), Some(last)) = (values.first(), values.last()) else { continue };
        let share = s.name.ends_with("accuracy");
        let text = |v: f64| if share { units::percent(v) } else { units::number(v) };
        let best = if s.name.ends_with("loss") {
            values.iter().copied().fold(f64::INFINITY, f64::min)
        } else {
            values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
        };
        table.row([
            safe(&s.name),
            text(*first),
            output.paint.busy(&sparkline(&values, 40)),
            text(*last),
            text(best),
        ]);
    }
    table
}

/// A line a layer, a column a measure.
fn layers(layers: &[LayerQuality]) -> Table {
    let measures: BTreeSet<&str> = layers.iter().flat_map(|l| l.values.keys().map(String::as_str)).collect();
    let order = ["bits", "sparsity", "shift_adds", "codebook_error", "saturation"];
    let mut measures: Vec<&str> = measures.into_iter().collect();
    measures.sort_by_key(|m| order.iter().position(|o| o == m).unwrap_or(order.len()));
    let heads = measures.iter().map(|m| format!(">{}", safe(m).replace('_', " ")));
    let mut table = Table::new(std::iter::once("layer".to_owned()).chain(heads));
    for layer in layers {
        let cell = |m: &&str| match layer.values.get(*m) {
            Some(v) if matches!(*m, "sparsity" | "saturation") => units::percent(*v),
            Some(v) => units::number(*v),
            None => String::new(),
        };
        table.row(std::iter::once(safe(&layer.layer)).chain(measures.iter().map(cell)));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_line_up_with_bits_first() {
        let layer = |name: &str, values: &[(&str, f64)]| LayerQuality {
            layer: name.into(),
            values: values.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect(),
        };
        let table = layers(&[
            layer("conv1", &[("sparsity", 0.5), ("bits", 2.0)]),
            layer("fc", &[("bits", 8.0), ("codebook_error", 0.19)]),
        ]);
        let text = table.render(Output::silent().paint);
        assert_eq!(
            text,
            "LAYER  BITS  SPARSITY  CODEBOOK ERROR\nconv1     2   50.00 %\nfc        8                    0.1900\n"
        );
    }
}
