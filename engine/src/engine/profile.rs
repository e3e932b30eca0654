//! Where the time of a run goes, node by node.

use std::time::{Duration, Instant};

use super::{Engine, Pool, RunError, Scratch};

/// One node's part of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepProfile {
    /// The node's name.
    pub name: String,
    /// What executes it: a kernel and its method for convolutions, else the operation.
    pub kernel: String,
    /// Median time of one sample, overhead of the clock included.
    pub time: Duration,
    /// Bytes that the packed weights take in memory.
    pub weight_bytes: usize,
    /// Bytes of codes that are read and written.
    pub code_bytes: usize,
}

impl Engine {
    /// Most multiply-accumulates a second that one thread can do with the kernel's own instruction, in 10⁹, measured now;
    /// `None` for kernels without such a measure.
    pub fn peak(&self) -> Option<f64> {
        self.kernel.peak()
    }

    /// Runs one sample of NHWC codes `rounds` times and takes the median of each node's time.
    pub fn profile(
        &self,
        scratch: &mut Scratch,
        codes: &[i32],
        rounds: usize,
    ) -> Result<Vec<StepProfile>, RunError> {
        self.profiled(None, scratch, codes, rounds)
    }

    /// As [`Engine::profile`], on several threads.
    pub fn profile_on(
        &self,
        pool: &dyn Pool,
        scratch: &mut Scratch,
        codes: &[i32],
        rounds: usize,
    ) -> Result<Vec<StepProfile>, RunError> {
        self.profiled(Some(pool), scratch, codes, rounds)
    }

    fn profiled(
        &self,
        pool: Option<&dyn Pool>,
        scratch: &mut Scratch,
        codes: &[i32],
        rounds: usize,
    ) -> Result<Vec<StepProfile>, RunError> {
        let mut out = vec![0; self.output_len()];
        self.run_codes(scratch, codes, 1, &mut out)?;
        let mut times = vec![Vec::with_capacity(rounds); self.plan.steps.len()];
        self.lead(pool, scratch, |arenas, hands| {
            for _ in 0..rounds {
                // Later nodes may have written over the input.
                arenas.codes_mut(self.input_place()).narrow(0, codes);
                let mut before = Instant::now();
                let mut step = times.iter_mut();
                self.steps(arenas, hands, |_, _| {
                    let now = Instant::now();
                    if let Some(times) = step.next() {
                        times.push(now - before);
                    }
                    before = Instant::now();
                });
            }
        });
        let steps = self.plan.steps.iter().zip(&self.model.nodes).zip(&mut times);
        Ok(steps
            .map(|((step, node), times)| {
                times.sort();
                let bytes = |id| {
                    let tensor = self.model.tensor(id);
                    tensor.shape.len() * tensor.format.bytes()
                };
                StepProfile {
                    name: node.name.clone(),
                    kernel: step.action.method().to_owned(),
                    time: times.get(times.len() / 2).copied().unwrap_or_default(),
                    weight_bytes: step.action.weight_bytes(),
                    code_bytes: node.inputs.iter().map(|&id| bytes(id)).sum::<usize>() + bytes(node.output),
                }
            })
            .collect())
    }
}
