//! Progress of anything longer than a second: a bar on a terminal, now and then a plain line elsewhere.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Output;
use super::units;

/// How often a log gets a line.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// Shorter than this is not worth a word.
const QUIET_FOR: Duration = Duration::from_secs(1);

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Bytes,
    Items(&'static str),
}

/// A count on its way to a total.
#[derive(Debug)]
pub(crate) struct Progress {
    output: Output,
    what: String,
    unit: Unit,
    total: u64,
    done: u64,
    /// Where this run began: a resumed upload does not count what was there before as its speed.
    first: u64,
    started: Instant,
    spoke: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    pub(crate) fn new(output: Output, what: impl Into<String>, unit: Unit, total: u64) -> Self {
        let now = Instant::now();
        Progress {
            output,
            what: what.into(),
            unit,
            total,
            done: 0,
            first: 0,
            started: now,
            spoke: now,
            bar: None,
        }
    }

    /// Begins at a position other than zero.
    pub(crate) fn starting_at(mut self, done: u64) -> Self {
        (self.done, self.first) = (done, done);
        self
    }

    /// `n` more are done.
    pub(crate) fn add(&mut self, n: u64) {
        self.done += n;
        if self.started.elapsed() < QUIET_FOR || self.output.quiet {
            return;
        }
        if self.output.live {
            let (total, done) = (self.total, self.done);
            let bar = self.bar.get_or_insert_with(|| make_bar(&self.what, self.unit, total));
            bar.set_position(done);
        } else if self.spoke.elapsed() >= LINE_EVERY {
            self.spoke = Instant::now();
            let share = if self.total == 0 { 100.0 } else { self.done as f64 / self.total as f64 * 100.0 };
            self.output.note(format!(
                "{}: {share:.0} % ({} of {})",
                self.what,
                self.amount(self.done),
                self.amount(self.total)
            ));
        }
    }

    /// Takes the bar away and, if it took long enough to be told, says how long.
    pub(crate) fn finish(mut self) {
        let elapsed = self.started.elapsed();
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        if elapsed >= QUIET_FOR {
            let done = self.done - self.first;
            let speed = (done as f64 / elapsed.as_secs_f64()) as u64;
            let text = format!(
                "{}: {} in {} ({}/s)",
                self.what,
                self.amount(done),
                units::duration(elapsed),
                self.amount(speed)
            );
            self.output.note(self.output.paint_notes.dim(&text));
        }
    }

    fn amount(&self, n: u64) -> String {
        match self.unit {
            Unit::Bytes => units::bytes(n),
            Unit::Items(name) => format!("{n} {name}"),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// The style shared by all bars of this program.
pub(crate) fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━╸╌")
}

fn make_bar(what: &str, unit: Unit, total: u64) -> ProgressBar {
    let counts = match unit {
        Unit::Bytes => "{decimal_bytes:>9} of {decimal_total_bytes}  {decimal_bytes_per_sec}",
        Unit::Items(_) => "{human_pos:>7} of {human_len}  {per_sec}",
    };
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(8));
    bar.set_style(style(&format!("{{msg}}  {{bar:28.cyan/dim}}  {counts}  {{eta}} left")));
    bar.set_message(what.to_owned());
    bar
}
