//! Exported runs as CSV: one line a metric's value, with what its run is; one without a metric where a run has none.

use std::io::Write;

use serde_json::Value;

use crate::error::{CliError, Result};

const HEADINGS: [&str; 11] =
    ["run", "experiment", "model", "dataset", "state", "tags", "version", "metric", "step", "value", "at"];

/// Writes the lines of an export as they come.
pub(super) struct Csv<W: Write> {
    rows: csv::Writer<W>,
    /// Cells of the run whose metrics come.
    run: Option<Vec<String>>,
    /// Whether it has had any.
    measured: bool,
}

impl<W: Write> Csv<W> {
    pub(super) fn new(to: W) -> Result<Self> {
        let mut rows = csv::Writer::from_writer(to);
        rows.write_record(HEADINGS).map_err(|e| CliError::failed(e.to_string()))?;
        Ok(Csv { rows, run: None, measured: false })
    }

    /// Takes whole lines of JSON.
    pub(super) fn lines(&mut self, data: &[u8]) -> Result<()> {
        for line in data.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            let line: Value = serde_json::from_slice(line).map_err(CliError::protocol)?;
            if let Some(run) = line.get("run") {
                self.end_run()?;
                self.run = Some(cells(run));
                self.measured = false;
            } else if let Some(metric) = line.get("metric") {
                self.measured = true;
                let values = ["name", "step", "value", "at"].map(|key| text(metric.get(key)));
                self.row(&values)?;
            }
        }
        Ok(())
    }

    /// Writes what is left.
    pub(super) fn end(mut self) -> Result<()> {
        self.end_run()?;
        self.rows.flush().map_err(|e| CliError::failed(e.to_string()))
    }

    fn end_run(&mut self) -> Result<()> {
        if self.run.is_some() && !self.measured { self.row(&Default::default()) } else { Ok(()) }
    }

    fn row(&mut self, metric: &[String; 4]) -> Result<()> {
        let run = self.run.iter().flatten();
        self.rows.write_record(run.chain(metric)).map_err(|e| CliError::failed(e.to_string()))
    }
}

/// What a run is.
fn cells(run: &Value) -> Vec<String> {
    let tags = run.get("tags").and_then(Value::as_object).into_iter().flatten();
    let tags: Vec<String> = tags.map(|(key, value)| format!("{key}={}", text(Some(value)))).collect();
    let mut cells: Vec<String> =
        ["id", "experiment", "model", "dataset", "state"].iter().map(|key| text(run.get(key))).collect();
    cells.push(tags.join(" "));
    cells.push(text(run.pointer("/artifact/version")));
    cells
}

fn text(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_is_a_line_and_a_run_without_any_has_one() {
        let lines = br#"{"run": {"id": "1", "experiment": "e", "model": "a,b", "dataset": "d", "state": "succeeded", "tags": {"k": "v", "l": ""}, "artifact": {"version": 3}}}
{"metric": {"run": "1", "name": "epoch/loss", "step": 1, "value": 0.5, "at": "2026-01-01T00:00:00Z"}}
{"metric": {"run": "1", "name": "epoch/loss", "step": 2, "value": null, "at": "2026-01-01T00:00:01Z"}}
{"run": {"id": "2", "experiment": "e", "model": "say \"m\"", "dataset": "d", "state": "queued", "tags": {}, "artifact": null}}
"#;
        let mut made = Vec::new();
        let mut csv = Csv::new(&mut made).unwrap();
        for part in lines.split_inclusive(|&byte| byte == b'\n') {
            csv.lines(part).unwrap();
        }
        csv.end().unwrap();
        let wanted = "run,experiment,model,dataset,state,tags,version,metric,step,value,at\n\
            1,e,\"a,b\",d,succeeded,k=v l=,3,epoch/loss,1,0.5,2026-01-01T00:00:00Z\n\
            1,e,\"a,b\",d,succeeded,k=v l=,3,epoch/loss,2,,2026-01-01T00:00:01Z\n\
            2,e,\"say \"\"m\"\"\",d,queued,,,,,,\n";
        assert_eq!(String::from_utf8(made).unwrap(), wanted);
    }
}
