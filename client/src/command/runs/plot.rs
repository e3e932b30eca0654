//! Metrics as curves.

use std::path::PathBuf;

use clap::Args;
use dyadic_proto::v1::{QueryMetricsRequest, Series};

use super::resolve_all;
use crate::connect::Connection;
use crate::error::{CliError, Kind, Result};
use crate::output::chart::{Curve, braille, svg};
use crate::output::style::safe;
use crate::output::{Output, json};

#[derive(Debug, Args)]
pub(crate) struct Plot {
    /// Ids, their beginnings, or `last`
    #[arg(required = true, num_args = 1..=12, value_name = "ID")]
    ids: Vec<String>,
    /// Exact names of metrics, one plot each
    #[arg(long, value_name = "NAME", default_values = ["epoch/train_loss", "epoch/accuracy"])]
    metric: Vec<String>,
    /// Write an SVG file instead; with several metrics the metric's name is added to the file's
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

impl Plot {
    pub(crate) async fn run(self, connection: &Connection, output: Output) -> Result<()> {
        let ids = resolve_all(connection, self.ids.clone()).await?;
        let mut series: Vec<(String, Vec<Series>)> = Vec::new();
        for id in ids {
            let request = QueryMetricsRequest {
                job_id: id.clone(),
                names: self.metric.clone(),
                max_points: 1000,
                ..Default::default()
            };
            series.push((id, connection.experiments().query_metrics(request).await?.into_inner().series));
        }
        if output.json {
            let one = |(id, series): &(String, Vec<Series>)| {
                Ok(serde_json::json!({ "job_id": id, "series": json::list(series)? }))
            };
            return output.value(&series.iter().map(one).collect::<Result<Vec<_>>>()?.into());
        }
        let mut drawn = 0;
        for metric in &self.metric {
            let curves = curves(&series, metric);
            if curves.is_empty() {
                continue;
            }
            drawn += 1;
            match &self.svg {
                None => {
                    output.line(output.paint.strong(&safe(metric)))?;
                    output.raw(braille(&curves, 64, rows(self.metric.len()), output.paint).as_bytes())?;
                    output.line("")?;
                }
                Some(path) => {
                    let path = if self.metric.len() == 1 { path.clone() } else { beside(path, metric) };
                    std::fs::write(&path, svg(metric, &curves)).map_err(|e| CliError::file(&path, e))?;
                    output.line(path.display().to_string())?;
                }
            }
        }
        if drawn == 0 {
            let hint = "`dyadic runs show ID` lists what a run has";
            return Err(
                CliError::new(Kind::NotFound, format!("no values of {}", self.metric.join(", "))).hint(hint)
            );
        }
        Ok(())
    }
}

/// Rows of each plot, so that all of them stand on a terminal of 24 lines, as far as they can be read at all.
fn rows(plots: usize) -> usize {
    (22 / plots.max(1)).saturating_sub(5).clamp(5, 12)
}

fn curves(series: &[(String, Vec<Series>)], metric: &str) -> Vec<Curve> {
    let mut curves = Vec::new();
    for (id, all) in series {
        for s in all.iter().filter(|s| s.name == metric && !s.points.is_empty()) {
            let points = s.points.iter().map(|p| (p.step as f64, p.value)).collect();
            curves.push(Curve { label: safe(id), points });
        }
    }
    curves
}

/// `a.svg` for `epoch/accuracy` → `a-epoch-accuracy.svg`.
fn beside(path: &std::path::Path, metric: &str) -> PathBuf {
    let word: String =
        metric.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).collect();
    let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or("plot");
    let extension = path.extension().and_then(|s| s.to_str()).unwrap_or("svg");
    path.with_file_name(format!("{stem}-{word}.{extension}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_two_plots_fit_a_terminal() {
        // A heading, the plot, an axis, its labels, a legend and an empty line each.
        assert!(2 * (rows(2) + 5) <= 24 && rows(2) >= 6);
        assert_eq!((rows(1), rows(0), rows(100)), (12, 12, 5));
    }

    #[test]
    fn a_file_a_metric() {
        let path = beside("out/a.svg".as_ref(), "epoch/accuracy");
        assert_eq!(path, PathBuf::from("out/a-epoch-accuracy.svg"));
    }
}
