//! What a quantization tells the outside while it runs, and how the outside stops it.

/// The phase a job is in; each has its own progress counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    /// A checkpoint that resumes from exactly here.
    fn checkpoint(&mut self, bytes: Vec<u8>, step: u64) -> Control;
}
