//! Batches over several threads, image by image. The threads are the caller's: [`Engine::jobs`] cuts a batch up, and
//! the caller runs each [`Job`] wherever it likes; [`Engine::run_batch`] does so on scoped threads.

use super::{Engine, RunError, Scratch};

/// A batch of input samples.
#[derive(Debug, Clone, Copy)]
pub enum Samples<'a> {
    /// NCHW floats.
    Floats(&'a [f32]),
    /// 8-bit images, HWC.
    Bytes(&'a [u8]),
}

/// Some consecutive samples of a batch, with the memory to run them and the place for their outputs.
#[derive(Debug)]
pub struct Job<'a> {
    engine: &'a Engine,
    scratch: &'a mut Scratch,
    samples: Samples<'a>,
    batch: usize,
    out: &'a mut [f32],
}

impl Samples<'_> {
    /// Values of all samples.
    fn len(&self) -> usize {
        match self {
            Samples::Floats(values) => values.len(),
            Samples::Bytes(values) => values.len(),
        }
    }

    fn split_at(self, middle: usize) -> (Self, Self) {
        match self {
            Samples::Floats(values) => {
                let (left, right) = values.split_at(middle);
                (Samples::Floats(left), Samples::Floats(right))
            }
            Samples::Bytes(values) => {
                let (left, right) = values.split_at(middle);
                (Samples::Bytes(left), Samples::Bytes(right))
            }
        }
    }
}

impl Job<'_> {
    /// Runs the job's samples; may be called again.
    pub fn run(&mut self) -> Result<(), RunError> {
        match self.samples {
            Samples::Floats(input) => self.engine.run_f32(self.scratch, input, self.batch, self.out),
            Samples::Bytes(input) => self.engine.run_u8(self.scratch, input, self.batch, self.out),
        }
    }
}

impl Engine {
    /// Cuts a batch into at most `scratches.len()` jobs of nearly equal size; none for an empty batch.
    pub fn jobs<'a>(
        &'a self,
        scratches: &'a mut [Scratch],
        samples: Samples<'a>,
        batch: usize,
        out: &'a mut [f32],
    ) -> Result<Vec<Job<'a>>, RunError> {
        self.check_lengths(samples.len(), batch, out.len())?;
        let parts = scratches.len().min(batch);
        let mut jobs = Vec::with_capacity(parts);
        let (mut samples, mut out) = (samples, out);
        for (index, scratch) in scratches.iter_mut().take(parts).enumerate() {
            let size = batch * (index + 1) / parts - batch * index / parts;
            let (these, later) = samples.split_at(size * self.input_shape().len());
            let (values, rest) = out.split_at_mut(size * self.output_len());
            (samples, out) = (later, rest);
            jobs.push(Job { engine: self, scratch, samples: these, batch: size, out: values });
        }
        Ok(jobs)
    }

    /// Runs a batch on as many scoped threads as there are scratches, the calling thread being one of them.
    ///
    /// On an error some outputs may have been written. Panics if there is no scratch and the batch is not empty.
    pub fn run_batch(
        &self,
        scratches: &mut [Scratch],
        samples: Samples,
        batch: usize,
        out: &mut [f32],
    ) -> Result<(), RunError> {
        assert!(batch == 0 || !scratches.is_empty(), "running a batch needs at least one scratch");
        let mut jobs = self.jobs(scratches, samples, batch, out)?;
        let Some((first, others)) = jobs.split_first_mut() else { return Ok(()) };
        std::thread::scope(|scope| {
            let threads: Vec<_> = others.iter_mut().map(|job| scope.spawn(|| job.run())).collect();
            let mut result = first.run();
            for thread in threads {
                let other = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                result = result.and(other);
            }
            result
        })
    }
}
