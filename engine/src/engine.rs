//! A model made ready to run: kernels chosen, weights repacked, memory planned.
//!
//! An [`Engine`] is immutable and shared between threads; each thread that runs samples brings its own [`Scratch`], and
//! may bring a [`Pool`] of threads to share each sample with. After the first run with a scratch nothing is allocated.

pub(crate) mod action;
mod arena;
mod batch;
mod options;
mod plan;
mod pool;
mod profile;
mod run;

use std::sync::Arc;

pub use arena::Scratch;
pub use batch::{Job, Samples};
pub use options::Options;
pub use pool::{Pool, Team};
pub use profile::StepProfile;

use crate::certificate::{Certificate, Mismatch, Report};
use crate::check::{CheckedModel, ModelError};
use crate::kernels::{self, Kernel};
use crate::model::{Model, Shape};
use crate::quantize::{InputQuantizer, NotFinite};
use crate::reference::Trace;
use plan::Plan;

/// Most memory that a plan may take for one sample, in bytes.
pub const MEMORY_LIMIT: usize = 1 << 30;

/// A model ready to run.
pub struct Engine {
    model: CheckedModel,
    kernel: Box<dyn Kernel>,
    plan: Plan,
    input: InputQuantizer,
    /// Whether threads share even what is not worth it.
    finest: bool,
}

/// Why an engine cannot be built.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EngineError {
    /// The model breaks a rule.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// One sample needs too much memory.
    #[error("one sample needs {needed} bytes of memory, the limit is {MEMORY_LIMIT}")]
    Memory {
        /// Bytes that the plan came to.
        needed: usize,
    },
    /// No kernel of that name runs on this CPU.
    #[error("no kernel named {name} runs on this CPU; these do: {}", .available.join(", "))]
    Kernel {
        /// The name that was asked for.
        name: String,
        /// The kernels that this CPU can run, the best first.
        available: Vec<&'static str>,
    },
}

/// Why a run was refused. Nothing was written to the output.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum RunError {
    /// The input's length is not `batch` samples.
    #[error("the input has {actual} values, {expected} are needed")]
    InputLength {
        /// Values of the whole batch.
        expected: usize,
        /// Values that were given.
        actual: usize,
    },
    /// The output's length is not `batch` samples.
    #[error("the output has room for {actual} values, {expected} are needed")]
    OutputLength {
        /// Values of the whole batch.
        expected: usize,
        /// Values there is room for.
        actual: usize,
    },
    /// NaN or an infinity in the input.
    #[error(transparent)]
    NotFinite(#[from] NotFinite),
    /// An input code outside the input's format.
    #[error("input code {index} is {code}, outside {min} ..= {max}")]
    InputCode {
        /// Its position.
        index: usize,
        /// The code.
        code: i32,
        /// Lowest code of the format.
        min: i32,
        /// Highest code of the format.
        max: i32,
    },
    /// Bytes were given to a model that has no normalization.
    #[error("the model has no normalization, so it takes no 8-bit images")]
    NoNormalization,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("model", &self.model.name)
            .field("kernel", &self.kernel.name())
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// Repacks a model's weights for the best kernel of this CPU, and plans the memory. A model that has not been checked
    /// is checked first.
    pub fn new<M>(model: M) -> Result<Self, EngineError>
    where
        M: TryInto<CheckedModel, Error: Into<ModelError>>,
    {
        Options::default().build(model)
    }

    /// As [`Engine::new`], on the kernel of that name.
    pub fn on_kernel<M>(model: M, name: &str) -> Result<Self, EngineError>
    where
        M: TryInto<CheckedModel, Error: Into<ModelError>>,
    {
        Options { kernel: Some(name), ..Options::default() }.build(model)
    }

    /// One engine for each kernel that this CPU can run, the best first: for tests that compare them.
    #[doc(hidden)]
    pub fn on_every_kernel(model: impl Into<Arc<Model>>) -> Result<Vec<Self>, EngineError> {
        let model = CheckedModel::new(model)?;
        kernels::available().into_iter().map(|kernel| Self::with_kernel(model.clone(), kernel, 1)).collect()
    }

    /// Lets threads share even the smallest operations: for tests of small models.
    #[doc(hidden)]
    #[must_use]
    pub fn with_finest_parts(self) -> Self {
        Engine { finest: true, ..self }
    }

    /// An engine on a given kernel, made by at most so many threads.
    fn with_kernel(
        model: CheckedModel,
        kernel: Box<dyn Kernel>,
        threads: usize,
    ) -> Result<Self, EngineError> {
        let plan = Plan::new(&model, &*kernel, threads)?;
        let input = InputQuantizer::new(&model);
        Ok(Engine { model, kernel, plan, input, finest: false })
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        self.model.as_arc()
    }

    /// Name of the kernel that was chosen.
    pub fn kernel_name(&self) -> &'static str {
        self.kernel.name()
    }

    /// Shape of one input sample.
    pub fn input_shape(&self) -> Shape {
        self.model.input_shape()
    }

    /// Values of one output sample.
    pub fn output_len(&self) -> usize {
        self.model.output_shape().len()
    }

    /// Name of the input in the source file.
    pub fn input_name(&self) -> &str {
        &self.model.input.name
    }

    /// Name of the output in the source file.
    pub fn output_name(&self) -> &str {
        &self.model.output.name
    }

    /// Class names in the order of the outputs; empty if unknown.
    pub fn labels(&self) -> &[String] {
        &self.model.output.labels
    }

    /// Whether [`Engine::run_u8`] works: the model has a normalization.
    pub fn accepts_bytes(&self) -> bool {
        self.input.accepts_bytes()
    }

    /// Memory for runs on one thread.
    pub fn scratch(&self) -> Scratch {
        self.scratch_for(1)
    }

    /// Memory for runs on a pool of that many threads.
    pub fn scratch_for(&self, threads: usize) -> Scratch {
        self.plan.scratch(threads)
    }

    /// Replays a certificate of this engine's model.
    pub fn verify(&self, certificate: &Certificate) -> Result<Report, Mismatch<RunError>> {
        let mut scratch = self.scratch();
        certificate.verify(&self.model, |codes| self.trace(&mut scratch, codes))
    }

    /// Runs one sample of NHWC codes and keeps every tensor.
    pub fn trace(&self, scratch: &mut Scratch, codes: &[i32]) -> Result<Trace, RunError> {
        run::trace(self, None, scratch, codes)
    }

    /// As [`Engine::trace`], on several threads.
    pub fn trace_on(&self, pool: &dyn Pool, scratch: &mut Scratch, codes: &[i32]) -> Result<Trace, RunError> {
        run::trace(self, Some(pool), scratch, codes)
    }
}
