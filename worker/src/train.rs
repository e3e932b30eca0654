//! Fine-tuning: fit the codebooks, run the fake-quantized network forward and back, step the latent parameters.
//!
//! The optimizer is our own, on plain vectors, so that a checkpoint holds everything and a resumed run repeats the same
//! arithmetic. All randomness is counted from (seed, epoch, index).

use std::time::Instant;

use dyadic_store::spec::{JobSpec, Loss};
use tch::{Kind, Tensor};

use crate::data::{Augment, Dataset, Epoch};
use crate::error::WorkerError;
use crate::images::Coder;
use crate::net::{FloatNet, Leaves, Pass, Place, correct, forward, output_step};
use crate::observer::{Control, Observer, Phase, Progress};
use crate::state::{Fit, State};
use dyadic_plan::Plan;
use dyadic_plan::codebook::Fitter;

/// Steps between two that learn the activation steps.
const LEARN_EVERY: u64 = 32;
/// Rate of the activation exponents' Adam.
const EXPONENT_RATE: f32 = 0.03;
/// An exponent in force changes when the latent one is this far from it.
const DEAD_BAND: f32 = 0.6;
/// Images in a batch that only runs forward.
const ESTIMATE_BATCH: usize = 250;
/// Share of the steps over which the rate rises from 0.
const WARM_UP: f64 = 0.02;

/// A training run.
pub struct Trainer<'a> {
    /// The lowered network.
    pub plan: &'a Plan,
    /// The settings.
    pub spec: &'a JobSpec,
    /// Training images.
    pub data: &'a Dataset,
    /// Byte images to codes.
    pub coder: &'a Coder,
    /// Where it runs.
    pub place: Place,
    /// The float network, for distillation.
    pub teacher: Option<FloatNet>,
    /// The state that is trained.
    pub state: State,
    fitter: Fitter,
}

/// Called after each epoch with its number, from 0.
pub type AfterEpoch<'f, 'a> =
    dyn FnMut(&mut Trainer<'a>, &mut dyn Observer, u64) -> Result<(), WorkerError> + 'f;

/// What one step saw.
struct Seen {
    loss: f64,
    hits: i64,
}

impl<'a> Trainer<'a> {
    /// A run that goes on from `state`.
    pub fn new(
        plan: &'a Plan,
        spec: &'a JobSpec,
        data: &'a Dataset,
        coder: &'a Coder,
        place: Place,
        state: State,
    ) -> Self {
        let teacher = (spec.loss != Loss::Label).then(|| FloatNet::new(plan, place));
        Trainer { plan, spec, data, coder, place, teacher, state, fitter: Fitter::default() }
    }

    /// Training images that are used.
    fn images(&self) -> usize {
        self.spec.train_limit.map_or(self.data.len(), |l| self.data.len().min(l as usize))
    }

    /// Optimizer steps in an epoch; the last, incomplete batch is left out.
    pub fn steps_per_epoch(&self) -> u64 {
        (self.images() / self.spec.batch_size as usize).max(1) as u64
    }

    /// Optimizer steps in all.
    pub fn total_steps(&self) -> u64 {
        self.steps_per_epoch() * u64::from(self.spec.epochs)
    }

    fn freeze_step(&self) -> u64 {
        (self.spec.freeze_at * self.total_steps() as f64).ceil() as u64
    }

    /// Cosine from the peak to 0 after a short linear warm-up.
    fn rate(&self, step: u64) -> f64 {
        let total = self.total_steps() as f64;
        let warm = (WARM_UP * total).max(1.0);
        let at = step as f64 + 1.0;
        let rise = (at / warm).min(1.0);
        let fall = 0.5 * (1.0 + (std::f64::consts::PI * (step as f64 / total)).cos());
        self.spec.learning_rate * rise * fall
    }

    fn fit_mode(&self) -> Fit {
        let step = self.state.step;
        // A freeze at the very start would freeze codebooks that were never fitted.
        if step > 0 && step >= self.freeze_step() {
            return Fit::Frozen;
        }
        let dear = self.plan.weights.iter().any(|w| w.method.is_dear());
        if dear && !step.is_multiple_of(self.steps_per_epoch()) { Fit::Near } else { Fit::Full }
    }

    /// Whether the codebooks no longer change.
    pub fn is_frozen(&self) -> bool {
        self.fit_mode() == Fit::Frozen
    }

    /// The state as it would be exported now, its filters fitted, and the filters' values.
    ///
    /// # Errors
    /// As [`State::fit`].
    pub fn exported(&mut self) -> Result<(State, Vec<Vec<f32>>), WorkerError> {
        let mut state = self.state.averaged();
        let mode = if self.is_frozen() { Fit::Frozen } else { Fit::Full };
        let weights = state.fit(self.plan, mode, &mut self.fitter)?;
        Ok((state, weights))
    }

    /// Runs epoch after epoch until all steps are done. After each, `after_epoch` is called.
    ///
    /// # Errors
    /// [`WorkerError::Stopped`] if the observer says so, [`WorkerError::Diverged`] for a loss that is not finite.
    pub fn run(
        &mut self,
        observer: &mut dyn Observer,
        snapshot: &dyn Fn(&State) -> Result<Vec<u8>, WorkerError>,
        after_epoch: &mut AfterEpoch<'_, 'a>,
    ) -> Result<(), WorkerError> {
        let per_epoch = self.steps_per_epoch();
        let total = self.total_steps();
        while self.state.step < total {
            let epoch = self.state.step / per_epoch;
            let order = Epoch::new(self.images(), self.spec.seed, epoch);
            let started = Instant::now();
            let first = self.state.step;
            let (mut loss, mut hits) = (0.0, 0);
            while self.state.step < (epoch + 1) * per_epoch {
                let g = self.step(&order, epoch)?;
                loss += g.loss;
                hits += g.hits;
                self.state.step += 1;
                let done = self.state.step;
                if done.is_multiple_of(10) || done == total {
                    observer.metric("train/loss", done as i64, g.loss);
                }
                let progress = Progress { phase: Phase::Train, done, total };
                if observer.progress(progress) == Control::Stop {
                    return Err(WorkerError::Stopped);
                }
                if observer.wants_checkpoint(done)
                    && observer.checkpoint(snapshot(&self.state)?, done) == Control::Stop
                {
                    return Err(WorkerError::Stopped);
                }
            }
            let steps = (self.state.step - first) as f64;
            let images = steps * f64::from(self.spec.batch_size);
            let at = epoch as i64 + 1;
            observer.metric("epoch/train_loss", at, loss / steps);
            observer.metric("epoch/train_accuracy", at, hits as f64 / images);
            observer.metric("epoch/images_per_second", at, images / started.elapsed().as_secs_f64());
            after_epoch(self, observer, epoch)?;
        }
        Ok(())
    }

    fn step(&mut self, order: &Epoch, epoch: u64) -> Result<Seen, WorkerError> {
        let step = self.state.step;
        let batch = self.spec.batch_size as usize;
        let start = (step % self.steps_per_epoch()) as usize * batch;
        let indices: Vec<usize> =
            (start..(start + batch).min(self.images())).map(|i| order.index(i)).collect();
        let augment = self.spec.augment.then_some(Augment { seed: self.spec.seed, epoch });
        let (codes, labels) = self.coder.batch(self.data, &indices, augment, self.place);

        let mode = self.fit_mode();
        let weights = self.state.fit(self.plan, mode, &mut self.fitter)?;
        let learn = mode != Fit::Frozen && (step + 1).is_multiple_of(LEARN_EVERY);
        let leaves = Leaves::new(self.plan, &self.state, &weights, self.place, true, learn);
        let logits = forward(self.plan, &self.state, &leaves, &codes, Pass::Train);
        let loss = self.loss(&logits, &codes, &labels);
        let value = f64::try_from(&loss)?;
        if !value.is_finite() {
            return Err(WorkerError::Diverged { loss: value, step, learning_rate: self.spec.learning_rate });
        }
        loss.backward();
        let hits = correct(&logits, &labels);
        self.update(&leaves, learn)?;
        Ok(Seen { loss: value, hits })
    }

    fn loss(&self, logits: &Tensor, codes: &Tensor, labels: &Tensor) -> Tensor {
        let label = || logits.cross_entropy_for_logits(labels);
        let Some(teacher) = &self.teacher else { return label() };
        let target = tch::no_grad(|| {
            let images = codes * f64::from(self.state.input_step);
            teacher.logits(self.plan, &images).softmax(-1, Kind::Float)
        });
        let distill = -(target * logits.log_softmax(-1, Kind::Float))
            .sum_dim_intlist([-1i64].as_slice(), false, Kind::Float)
            .mean(Kind::Float);
        if self.spec.loss == Loss::Distill { distill } else { (distill + label()) * 0.5 }
    }

    fn update(&mut self, leaves: &Leaves, learn: bool) -> Result<(), WorkerError> {
        let rate = self.rate(self.state.step) as f32;
        let momentum = self.spec.momentum as f32;
        let decay = self.spec.weight_decay as f32;
        let ema = self.spec.ema.map(|e| e as f32);
        for index in 0..self.state.layers.len() {
            let unit = output_step(self.plan, &self.state, index);
            let per_filter = self.plan.weights[index].per_filter();
            let layer = &mut self.state.layers[index];
            let mut gradient = gradient_of(&leaves.weight[index])?;
            // Straight through, except where a latent weight has left its filter's range.
            for ((g, w), filter) in gradient
                .chunks_exact_mut(per_filter)
                .zip(layer.weight.value.chunks_exact(per_filter))
                .zip(&layer.filters)
            {
                for (g, &w) in g.iter_mut().zip(w) {
                    if w < -filter.clip.0 || w > filter.clip.1 {
                        *g = 0.0;
                    }
                }
            }
            layer.weight.step(&gradient, rate, momentum, decay, ema);
            if let Some(gamma) = &leaves.gamma[index] {
                let gradient: Vec<f32> = gradient_of(gamma)?.iter().map(|g| g / unit).collect();
                layer.gamma.step(&gradient, rate, momentum, 0.0, ema);
            }
            let gradient: Vec<f32> = gradient_of(&leaves.beta[index])?.iter().map(|g| g / unit).collect();
            layer.beta.step(&gradient, rate, momentum, 0.0, ema);
            layer.mean = to_vec(&leaves.mean[index])?;
            layer.variance = to_vec(&leaves.variance[index])?;
        }
        if learn {
            self.learn_steps(leaves)?;
        }
        Ok(())
    }

    /// LSQ in the logarithm, normalized by Adam's moments: with the relative step `a = 1`, ∂L/∂e = ln 2 · ∂L/∂a.
    fn learn_steps(&mut self, leaves: &Leaves) -> Result<(), WorkerError> {
        let rate = EXPONENT_RATE * (self.rate(self.state.step) / self.spec.learning_rate) as f32;
        for (state, scale) in self.state.steps.iter_mut().zip(&leaves.scale) {
            let Some(scale) = scale else { continue };
            let grad = scale.grad();
            if !grad.defined() {
                continue;
            }
            let g = f64::try_from(grad.sum(Kind::Double))? as f32 * std::f32::consts::LN_2;
            state.first = 0.9 * state.first + 0.1 * g;
            state.second = 0.98 * state.second + 0.02 * g * g;
            state.latent -= rate * state.first / (state.second.sqrt() + 1e-12);
            if (state.latent - state.exponent as f32).abs() > DEAD_BAND {
                state.exponent = ((state.latent + 0.5).floor() as i32).clamp(-24, 24);
            }
        }
        Ok(())
    }

    /// Top-1 accuracy of the fake-quantized network on `data`, with running statistics.
    ///
    /// # Errors
    /// [`WorkerError::Stopped`] if the observer says so.
    pub fn accuracy(
        &mut self,
        data: &Dataset,
        limit: usize,
        observer: &mut dyn Observer,
    ) -> Result<f64, WorkerError> {
        let (exported, weights) = self.exported()?;
        let leaves = Leaves::new(self.plan, &exported, &weights, self.place, false, false);
        let count = data.len().min(limit);
        let mut hits = 0;
        for start in (0..count).step_by(ESTIMATE_BATCH) {
            let indices: Vec<usize> = (start..(start + ESTIMATE_BATCH).min(count)).collect();
            let (codes, labels) = self.coder.batch(data, &indices, None, self.place);
            let logits = tch::no_grad(|| forward(self.plan, &exported, &leaves, &codes, Pass::Evaluate));
            hits += correct(&logits, &labels);
            let progress = Progress {
                phase: Phase::Evaluate,
                done: (start + indices.len()) as u64,
                total: count as u64,
            };
            if observer.progress(progress) == Control::Stop {
                return Err(WorkerError::Stopped);
            }
        }
        Ok(hits as f64 / count.max(1) as f64)
    }
}

/// A leaf's gradient; zeros where nothing reached it.
fn gradient_of(leaf: &Tensor) -> Result<Vec<f32>, WorkerError> {
    let grad = leaf.grad();
    if grad.defined() { to_vec(&grad) } else { Ok(vec![0.0; leaf.numel()]) }
}

fn to_vec(t: &Tensor) -> Result<Vec<f32>, WorkerError> {
    let flat = t.detach().to_kind(Kind::Float).to_device(tch::Device::Cpu).contiguous().view([-1]);
    Ok(Vec::<f32>::try_from(flat)?)
}
