//! How an engine is made.

use std::num::NonZero;
use std::thread::available_parallelism;

use super::{Engine, EngineError};
use crate::check::{CheckedModel, ModelError};
use crate::kernels;

/// Most threads that an engine is made by where nobody says otherwise: what more would gain, starting them would cost.
const MOST_THREADS: usize = 4;

/// How to make an [`Engine`].
///
/// ```
/// # use dyadic_engine::{Artifact, engine::Options};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let bytes = include_bytes!("../../tests/golden/v1_cnn_ternary.safetensors");
/// let artifact = Artifact::from_bytes(bytes)?;
/// let engine = Options { threads: Some(1), ..Options::default() }.build(artifact.model)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Options<'a> {
    /// Name of the kernel; the best of this CPU if `None`.
    pub kernel: Option<&'a str>,
    /// Threads that repack the weights, the caller's included; they end before the engine is there. As many as this
    /// process may run on, but at most four, if `None`. The engine is the same however many there are.
    pub threads: Option<usize>,
}

impl Options<'_> {
    /// Makes an engine. A model that has not been checked is checked first.
    pub fn build<M>(self, model: M) -> Result<Engine, EngineError>
    where
        M: TryInto<CheckedModel, Error: Into<ModelError>>,
    {
        let model = model.try_into().map_err(Into::into)?;
        let mut kernels = kernels::available();
        let kernel = match self.kernel {
            None => kernels.swap_remove(0),
            Some(name) => {
                let available = kernels.iter().map(|kernel| kernel.name()).collect();
                let found = kernels.into_iter().find(|kernel| kernel.name() == name);
                found.ok_or_else(|| EngineError::Kernel { name: name.to_owned(), available })?
            }
        };
        let usual = || available_parallelism().map_or(1, NonZero::get).min(MOST_THREADS);
        Engine::with_kernel(model, kernel, self.threads.unwrap_or_else(usual))
    }
}
