//! What a quantization tells the outside while it runs, and how the outside stops it.

use std::collections::BTreeMap;
use std::time::Instant;

/// The phase a job is in; each has its own progress counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Reading model and dataset.
    Load,
    /// The float network on the evaluation images.
    Float,
    /// Statistics of the float network, from which training starts.
    Calibrate,
    /// Fine-tuning.
    Train,
    /// The quantized network on the evaluation images, between epochs.
    Evaluate,
    /// Statistics of the integer network, unit after unit, as it is built.
    Fold,
    /// The engine on the evaluation images, beside the training graph.
    Verify,
    /// Writing the artifact.
    Export,
}

impl Phase {
    /// The word shown to people and stored.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Load => "load",
            Phase::Float => "float",
            Phase::Calibrate => "calibrate",
            Phase::Train => "train",
            Phase::Evaluate => "evaluate",
            Phase::Fold => "fold",
            Phase::Verify => "verify",
            Phase::Export => "export",
        }
    }

    /// Whether a run that is to end there can keep how far it is: it ends at the next checkpoint, not at once.
    pub fn is_kept(self) -> bool {
        matches!(self, Phase::Float | Phase::Train | Phase::Verify)
    }
}

/// How far a phase is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The phase.
    pub phase: Phase,
    /// Units done.
    pub done: u64,
    /// Units in all.
    pub total: u64,
}

/// Whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// Go on.
    Continue,
    /// Stop at once, leaving nothing but the last checkpoint.
    Stop,
}

/// Receives everything a quantization reports. All calls come from the thread that runs it.
pub trait Observer {
    /// A unit of work was done. Called at least once a second on ordinary hardware.
    fn progress(&mut self, progress: Progress) -> Control;
    /// A number; `step` counts optimizer steps, or epochs for names that start with `epoch/`.
    fn metric(&mut self, name: &str, step: i64, value: f64);
    /// A line for people.
    fn log(&mut self, line: &str);
    /// Whether a checkpoint is wanted now (asked once before the first step, and after every step).
    fn wants_checkpoint(&mut self, step: u64) -> bool;
    /// Whether a checkpoint is wanted now, in the middle of a pass over the evaluation images (asked after every batch).
    fn wants_checkpoint_within(&mut self, phase: Phase) -> bool {
        let _ = phase;
        false
    }
    /// A checkpoint that resumes from exactly here.
    fn checkpoint(&mut self, bytes: Vec<u8>, step: u64) -> Control;
}

/// Passes everything on and measures what each phase takes.
pub struct Stopwatch<'a> {
    observer: &'a mut dyn Observer,
    last: Instant,
    seconds: BTreeMap<Phase, f64>,
}

impl<'a> Stopwatch<'a> {
    /// Starts now.
    pub fn new(observer: &'a mut dyn Observer) -> Self {
        Stopwatch { observer, last: Instant::now(), seconds: BTreeMap::new() }
    }

    /// Seconds in each phase, by its name: what passed before a unit was reported as done counts to the unit's phase.
    pub fn seconds(&self) -> BTreeMap<String, f64> {
        self.seconds.iter().map(|(phase, seconds)| (phase.name().to_owned(), *seconds)).collect()
    }
}

impl Observer for Stopwatch<'_> {
    fn progress(&mut self, progress: Progress) -> Control {
        let now = Instant::now();
        *self.seconds.entry(progress.phase).or_default() += (now - self.last).as_secs_f64();
        self.last = now;
        self.observer.progress(progress)
    }

    fn metric(&mut self, name: &str, step: i64, value: f64) {
        self.observer.metric(name, step, value);
    }

    fn log(&mut self, line: &str) {
        self.observer.log(line);
    }

    fn wants_checkpoint(&mut self, step: u64) -> bool {
        self.observer.wants_checkpoint(step)
    }

    fn wants_checkpoint_within(&mut self, phase: Phase) -> bool {
        self.observer.wants_checkpoint_within(phase)
    }

    fn checkpoint(&mut self, bytes: Vec<u8>, step: u64) -> Control {
        self.observer.checkpoint(bytes, step)
    }
}
