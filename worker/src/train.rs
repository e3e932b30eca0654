//! Fine-tuning: fit the codebooks, run the fake-quantized network forward and back, step the latent parameters.
//!
//! The optimizer is our own, on plain vectors, so that a checkpoint holds everything and a resumed run repeats the same
//! arithmetic. All randomness is counted from (seed, epoch, index).

use std::time::Instant;

use dyadic_store::spec::{JobSpec, Loss, Requant};
use tch::{Kind, Tensor};

use crate::batch;
use crate::data::{Augment, Batch, DataError, Epoch, Loader};
use crate::error::WorkerError;
use crate::images::{Coder, ahead, labels};
use crate::net::{Collect, FloatNet, Leaves, Pass, Place, Upload, correct, forward};
use crate::observer::{Control, Observer, Phase, Progress};
use crate::stage::report;
use crate::state::{Fit, State};
use crate::unit::conv::output_step;
use dyadic_plan::Plan;
use dyadic_plan::codebook::Fitter;

/// Steps between two that learn the activation steps.
const LEARN_EVERY: u64 = 32;
/// Rate of the activation exponents' Adam.
const EXPONENT_RATE: f32 = 0.03;
/// An exponent in force changes when the latent one is this far from it.
const DEAD_BAND: f32 = 0.6;
/// Share of a batch's statistics in the running ones.
const MOMENTUM: f64 = 0.1;
/// Batches over which the statistics of averaged weights are measured.
const SETTLING: usize = 16;
/// A layer whose root mean square has grown by this factor over the float network's has left it for good.
const GROWN: f64 = 1000.0;
/// By this factor it has, if the loss is far above a guess's as well.
const SUSPECT: f64 = 10.0;
/// So many times the loss of a guess, ln(outputs), is far above it.
const FAR: f64 = 10.0;
/// Share of the steps over which the rate rises from 0.
const WARM_UP: f64 = 0.02;

/// A training run.
pub struct Trainer<'a> {
    /// The lowered network.
    pub plan: &'a Plan,
    /// The settings.
    pub spec: &'a JobSpec,
    /// Training images.
    pub data: &'a Loader,
    /// Byte images to codes.
    pub coder: &'a Coder,
    /// Where it runs.
    pub place: Place,
    /// The float network, for distillation.
    pub teacher: Option<FloatNet>,
    /// The state that is trained.
    pub state: State,
    /// Whether the labels mean anything.
    pub labelled: bool,
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
        data: &'a Loader,
        coder: &'a Coder,
        place: Place,
        state: State,
    ) -> Self {
        let teacher = (spec.loss != Loss::Label).then(|| FloatNet::new(plan, place));
        Trainer { plan, spec, data, coder, place, teacher, state, labelled: true, fitter: Fitter::default() }
    }

    /// Training images that are used.
    fn images(&self) -> usize {
        self.data.len()
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
        let weights =
            state.fit(self.plan, mode, &mut self.fitter).map_err(|e| self.diverged_if_trained(e))?;
        Ok((state, weights))
    }

    /// As [`Trainer::exported`], at the end of training.
    ///
    /// # Errors
    /// As [`State::fit`].
    pub fn into_exported(mut self) -> Result<State, WorkerError> {
        let mode = if self.is_frozen() { Fit::Frozen } else { Fit::Full };
        let empty = State { layers: Vec::new(), steps: Vec::new(), input_step: 0.0, step: self.state.step };
        let state = std::mem::replace(&mut self.state, empty);
        state.into_exported(self.plan, mode, &mut self.fitter).map_err(|e| self.diverged_if_trained(e))
    }

    /// A weight that training made infinite is the learning rate's fault.
    fn diverged_if_trained(&self, error: WorkerError) -> WorkerError {
        match error {
            WorkerError::Invalid(what) if self.state.step > 0 => self.diverged(what),
            other => other,
        }
    }

    fn diverged(&self, what: String) -> WorkerError {
        WorkerError::Diverged { what, step: self.state.step, learning_rate: self.spec.learning_rate }
    }

    /// Whether an epoch of this mean loss, as its parameters are now, is one to go on from.
    fn check_course(&self, loss: f64) -> Result<(), WorkerError> {
        let outputs: usize = self.plan.tensors[self.plan.output].shape.iter().product();
        let guess = (outputs.max(2) as f64).ln();
        for (weights, layer) in self.plan.weights.iter().zip(&self.state.layers) {
            let parameters = [&layer.weight.value, &layer.gamma.value, &layer.beta.value];
            if parameters.iter().any(|p| p.iter().any(|x| !x.is_finite())) {
                return Err(
                    self.diverged(format!("layer '{}' has parameters that are not finite", weights.name))
                );
            }
            let (now, before) = (root_mean_square(&layer.weight.value), root_mean_square(&weights.data));
            if before > 0.0 && (now > GROWN * before || (now > SUSPECT * before && loss > FAR * guess)) {
                return Err(self.diverged(format!(
                    "the weights of layer '{}' have grown {:.0}-fold and the epoch's mean loss is {loss:.1}",
                    weights.name,
                    now / before
                )));
            }
        }
        Ok(())
    }

    /// Runs epoch after epoch until all steps are done. After each, `after_epoch` is called.
    ///
    /// # Errors
    /// [`WorkerError::Stopped`] if the observer says so, [`WorkerError::Diverged`] for a loss or parameters that are not
    /// finite or have grown without bound.
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
            let mut batches = self.batches(epoch);
            let started = Instant::now();
            let first = self.state.step;
            let (mut loss, mut hits) = (0.0, 0);
            while self.state.step < (epoch + 1) * per_epoch {
                let batch =
                    batches.next().ok_or_else(|| WorkerError::Invalid("an epoch has no image".into()))?;
                let batch = batch?;
                if batch.indices.is_empty() {
                    let what = "none of a whole batch's training images can be read";
                    return Err(WorkerError::Invalid(what.into()));
                }
                let g = self.step(&batch)?;
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
                if done == (epoch + 1) * per_epoch {
                    // Before a checkpoint could carry the state past this look at it.
                    self.check_course(loss / (done - first) as f64)?;
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
            if self.labelled {
                observer.metric("epoch/train_accuracy", at, hits as f64 / images);
            }
            observer.metric("epoch/images_per_second", at, images / started.elapsed().as_secs_f64());
            after_epoch(self, observer, epoch)?;
        }
        Ok(())
    }

    /// What is left of an epoch's batches.
    fn batches(&self, epoch: u64) -> impl Iterator<Item = Result<Batch, DataError>> + use<> {
        let order = Epoch::new(self.images(), self.spec.seed, epoch);
        let size = self.spec.batch_size as usize;
        let first = (self.state.step % self.steps_per_epoch()) as usize * size;
        let end = (self.steps_per_epoch() as usize * size).min(self.images());
        let left: Vec<usize> = (first..end).map(|i| order.index(i)).collect();
        let augment = self.spec.augment.then_some(Augment { seed: self.spec.seed, epoch });
        ahead(self.data, &left, size, augment)
    }

    fn step(&mut self, batch: &Batch) -> Result<Seen, WorkerError> {
        let step = self.state.step;
        let (codes, labels) = (self.coder.codes(batch, self.place), labels(batch, self.place));

        let mode = self.fit_mode();
        let fitted = self.state.fit(self.plan, mode, &mut self.fitter);
        let weights = fitted.map_err(|e| self.diverged_if_trained(e))?;
        let learn = mode != Fit::Frozen && (step + 1).is_multiple_of(LEARN_EVERY);
        let collect = if learn { Collect::WithSteps } else { Collect::Parameters };
        let leaves = Leaves::new(self.plan, &self.state, &weights, self.upload(collect));
        let logits = forward(self.plan, &self.state, &leaves, &codes, Pass::Train { momentum: MOMENTUM });
        let loss = self.loss(&logits, &codes, &labels);
        let value = f64::try_from(&loss)?;
        if !value.is_finite() {
            return Err(self.diverged(format!("the loss is {value}")));
        }
        loss.backward();
        let hits = correct(&logits, &labels);
        self.update(&leaves, learn)?;
        Ok(Seen { loss: value, hits })
    }

    fn loss(&self, logits: &Tensor, codes: &Tensor, labels: &Tensor) -> Tensor {
        let label = || logits.cross_entropy_for_logits(labels);
        let Some(teacher) = &self.teacher else { return label() };
        let images = codes * f64::from(self.state.input_step);
        let target = teacher.logits(self.plan, &images).softmax(-1, Kind::Float);
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
            let weights = &self.plan.weights[index];
            let layer = &mut self.state.layers[index];
            let gradient = gradient_of(&leaves.weight[index])?;
            let latent = layer.weight.value.chunks_exact(weights.latents_per_filter());
            let gradient: Vec<f32> = latent
                .zip(gradient.chunks_exact(weights.per_filter()))
                .zip(&layer.filters)
                .flat_map(|((w, g), filter)| weights.method.codebook().pass_back(w, filter, g))
                .collect();
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

    /// Replaces running statistics, which are those of the raw weights, by the leaves' own over some training batches.
    fn settle(&self, state: &State, leaves: &Leaves) -> Result<(), WorkerError> {
        let order = Epoch::new(self.images(), self.spec.seed, u64::MAX);
        let augment = self.spec.augment.then_some(Augment { seed: self.spec.seed, epoch: u64::MAX });
        let size = self.spec.batch_size as usize;
        let used = SETTLING.min(self.images() / size) * size;
        let indices: Vec<usize> = (0..used).map(|i| order.index(i)).collect();
        for (at, batch) in ahead(self.data, &indices, size, augment).enumerate() {
            let codes = self.coder.codes(&batch?, self.place);
            let _ =
                forward(self.plan, state, leaves, &codes, Pass::Train { momentum: 1.0 / (at + 1) as f64 });
        }
        Ok(())
    }

    fn upload(&self, collect: Collect) -> Upload {
        Upload { place: self.place, collect, shift_only: self.spec.requant == Requant::Shift }
    }

    /// Top-1 accuracy of the fake-quantized network on `data`, with running statistics.
    ///
    /// # Errors
    /// [`WorkerError::Stopped`] if the observer says so, [`WorkerError::Data`] if an image cannot be read.
    pub fn accuracy(&mut self, data: &Loader, observer: &mut dyn Observer) -> Result<f64, WorkerError> {
        let (exported, weights) = self.exported()?;
        let leaves = Leaves::new(self.plan, &exported, &weights, self.upload(Collect::Nothing));
        let _guard = tch::no_grad_guard();
        if self.spec.ema.is_some() {
            self.settle(&exported, &leaves)?;
        }
        let all: Vec<usize> = (0..data.len()).collect();
        let (mut done, mut hits) = (0, 0);
        for batch in ahead(data, &all, batch::images(self.plan), None) {
            let batch = batch?;
            let codes = self.coder.codes(&batch, self.place);
            let logits = forward(self.plan, &exported, &leaves, &codes, Pass::Evaluate);
            hits += correct(&logits, &labels(&batch, self.place));
            done += batch.indices.len();
            report(observer, Phase::Evaluate, done, all.len())?;
        }
        Ok(hits as f64 / done.max(1) as f64)
    }
}

fn root_mean_square(x: &[f32]) -> f64 {
    (x.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>() / x.len().max(1) as f64).sqrt()
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
