//! The epochs of a run as lines, put together from metrics as they come, in whatever order.

use std::collections::BTreeMap;

use dyadic_proto::v1::Metric;

use crate::output::style::Painter;
use crate::output::units;

/// One epoch's figures; what did not come is NaN.
#[derive(Debug, Clone, Copy)]
struct Epoch {
    loss: f64,
    train: f64,
    test: f64,
    speed: f64,
}

impl Default for Epoch {
    fn default() -> Self {
        Epoch { loss: f64::NAN, train: f64::NAN, test: f64::NAN, speed: f64::NAN }
    }
}

/// Collects metrics and gives each epoch's line once it is complete, or another has begun.
#[derive(Debug, Default)]
pub(crate) struct Epochs {
    open: BTreeMap<u64, Epoch>,
    told: Option<u64>,
}

impl Epochs {
    /// Takes a metric; others than those of epochs are ignored. A repeated epoch (a resumed run) is told again.
    pub(crate) fn add(&mut self, metric: &Metric) {
        let Some(name) = metric.name.strip_prefix("epoch/") else { return };
        let epoch = self.open.entry(metric.step).or_default();
        match name {
            "train_loss" => epoch.loss = metric.value,
            "train_accuracy" => epoch.train = metric.value,
            "accuracy" => epoch.test = metric.value,
            "images_per_second" => epoch.speed = metric.value,
            _ => {}
        }
    }

    /// Lines that are ready; all of them at the end.
    pub(crate) fn ready(&mut self, at_end: bool, paint: Painter) -> Vec<String> {
        let newest = self.open.keys().next_back().copied();
        let mut lines = Vec::new();
        let complete = |step: &u64, e: &Epoch| {
            at_end
                || Some(*step) != newest
                || !e.test.is_nan() && !e.loss.is_nan() && !e.train.is_nan() && !e.speed.is_nan()
        };
        let steps: Vec<u64> = self.open.iter().filter(|(s, e)| complete(s, e)).map(|(s, _)| *s).collect();
        for step in steps {
            let Some(epoch) = self.open.remove(&step) else { continue };
            if self.told.is_none() {
                lines.push(paint.dim(&format!(
                    "{:>5}  {:>8}  {:>9}  {:>9}  {:>9}",
                    "EPOCH", "LOSS", "TRAIN", "JUDGED", "IMAGES/S"
                )));
            }
            self.told = Some(step);
            lines.push(line(step, &epoch, paint));
        }
        lines
    }
}

fn line(step: u64, epoch: &Epoch, paint: Painter) -> String {
    let cell = |v: f64, text: String| if v.is_nan() { "–".to_owned() } else { text };
    let test = format!("{:>9}", cell(epoch.test, units::percent(epoch.test)));
    format!(
        "{step:>5}  {:>8}  {:>9}  {}  {:>9}",
        cell(epoch.loss, format!("{:.4}", epoch.loss)),
        cell(epoch.train, units::percent(epoch.train)),
        paint.strong(&test),
        cell(epoch.speed, format!("{:.0}", epoch.speed)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric(name: &str, step: u64, value: f64) -> Metric {
        Metric { name: name.into(), step, value, at: None }
    }

    #[test]
    fn an_epoch_is_told_once_when_all_of_it_is_there() {
        let paint = Painter::new(false);
        let mut epochs = Epochs::default();
        for (name, value) in [("train_loss", 1.5), ("train_accuracy", 0.5), ("images_per_second", 312.4)] {
            epochs.add(&metric(&format!("epoch/{name}"), 1, value));
            assert!(epochs.ready(false, paint).is_empty());
        }
        epochs.add(&metric("train/loss", 9, 1.0));
        epochs.add(&metric("epoch/accuracy", 1, 0.6));
        let lines = epochs.ready(false, paint);
        assert_eq!(lines[1], "    1    1.5000    50.00 %    60.00 %        312");
        assert!(epochs.ready(true, paint).is_empty());
    }

    #[test]
    fn an_epoch_that_was_not_evaluated_is_told_when_the_next_begins() {
        let paint = Painter::new(false);
        let mut epochs = Epochs::default();
        epochs.add(&metric("epoch/train_loss", 1, 1.5));
        epochs.add(&metric("epoch/train_loss", 2, 1.0));
        assert_eq!(epochs.ready(false, paint).len(), 2);
        assert_eq!(epochs.ready(true, paint), ["    2    1.0000          –          –          –"]);
    }
}
