//! Everything that training changes, as plain vectors: latent weights, normalizations, activation steps, the
//! optimizer's moments and the moving average. A checkpoint is this and a step number, nothing else.

use sha2::{Digest as _, Sha256};

use crate::error::WorkerError;
use crate::quantize::hex;
use dyadic_plan::codebook::{Filter, Fitter};
use dyadic_plan::{Coding, Plan, WeightPlan};

/// A parameter with its momentum.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Param {
    /// The values.
    pub value: Vec<f32>,
    /// SGD's velocity, as long as `value`; empty while nothing has moved.
    pub velocity: Vec<f32>,
    /// Exponential moving average of the values; empty if none is kept.
    pub average: Vec<f32>,
}

impl Param {
    /// A parameter at rest.
    pub fn new(value: Vec<f32>, averaged: bool) -> Self {
        let average = if averaged { value.clone() } else { Vec::new() };
        Param { value, velocity: Vec::new(), average }
    }

    /// One step of SGD with momentum (as PyTorch's: `v ← m·v + g`, `x ← x − lr·v`), and of the average.
    pub fn step(&mut self, gradient: &[f32], rate: f32, momentum: f32, decay: f32, ema: Option<f32>) {
        self.velocity.resize(self.value.len(), 0.0);
        for ((x, v), g) in self.value.iter_mut().zip(&mut self.velocity).zip(gradient) {
            *v = momentum * *v + (g + decay * *x);
            *x -= rate * *v;
        }
        if let Some(keep) = ema {
            for (a, x) in self.average.iter_mut().zip(&self.value) {
                *a = keep * *a + (1.0 - keep) * *x;
            }
        }
    }
}

/// One weighted layer.
#[derive(Debug, Clone)]
pub struct LayerState {
    /// Latent weights, filter by filter as the layer's codebook has them: mostly the weights, row-major as in the plan.
    pub weight: Param,
    /// γ of the normalization, in real units; empty for the logits layer.
    pub gamma: Param,
    /// β of the normalization in real units, or the logits layer's bias.
    pub beta: Param,
    /// Running mean of `Σ level·2^μ · code`, one a filter.
    pub mean: Vec<f32>,
    /// Running variance of the same.
    pub variance: Vec<f32>,
    /// Added to the variance.
    pub epsilon: f32,
    /// The filters as they were last fitted.
    pub filters: Vec<Filter>,
}

impl LayerState {
    /// Fits every filter to the latent weights.
    fn fit(&mut self, weights: &WeightPlan, fit: Fit, fitter: &mut Fitter) -> Result<(), WorkerError> {
        let latent = self.weight.value.chunks_exact(weights.latents_per_filter());
        for (index, (w, filter)) in latent.zip(&mut self.filters).enumerate() {
            let fitted = match fit {
                Fit::Full => fitter.fit(weights.method, w, filter),
                Fit::Near => fitter.refit(weights.method, w, filter),
                Fit::Frozen => fitter.assign(weights.method, w, filter),
            };
            fitted.map_err(|e| {
                WorkerError::Invalid(format!("layer '{}', filter {index}: {e}", weights.name))
            })?;
        }
        Ok(())
    }
}

/// One learned activation step `2^exponent`.
#[derive(Debug, Clone, PartialEq)]
pub struct StepState {
    /// The exponent in force.
    pub exponent: i32,
    /// The learned, unrounded exponent.
    pub latent: f32,
    /// Adam's first moment.
    pub first: f32,
    /// Adam's second moment.
    pub second: f32,
}

/// The state of a whole network.
#[derive(Debug, Clone)]
pub struct State {
    /// One a weighted layer of the plan.
    pub layers: Vec<LayerState>,
    /// One an activation step of the plan.
    pub steps: Vec<StepState>,
    /// Step of the network's input.
    pub input_step: f32,
    /// Optimizer steps done.
    pub step: u64,
}

/// How filters are brought up to date with the latent weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// Codebook from scratch.
    Full,
    /// Codebook near the last one.
    Near,
    /// Codebook kept; only the codes follow.
    Frozen,
}

impl State {
    /// The value of one code unit of a tensor.
    pub fn step_value(&self, coding: Coding) -> f32 {
        match coding {
            Coding::Input => self.input_step,
            Coding::Codes { step, .. } => (self.steps[step].exponent as f32).exp2(),
            Coding::Sums => 1.0,
        }
    }

    /// Fits every filter of every layer to the latent weights and returns the dequantized weights, one vector a layer.
    ///
    /// # Errors
    /// [`WorkerError::Invalid`] for NaN or infinite weights.
    pub fn fit(&mut self, plan: &Plan, fit: Fit, fitter: &mut Fitter) -> Result<Vec<Vec<f32>>, WorkerError> {
        let mut all = Vec::with_capacity(self.layers.len());
        for (layer, weights) in self.layers.iter_mut().zip(&plan.weights) {
            layer.fit(weights, fit, fitter)?;
            let mut out = vec![0.0; weights.data.len()];
            for (filter, o) in layer.filters.iter().zip(out.chunks_exact_mut(weights.per_filter())) {
                filter.dequantize(o);
            }
            all.push(out);
        }
        Ok(all)
    }

    /// The state as it is exported, its filters fitted; what only training needs is left out.
    ///
    /// # Errors
    /// As [`State::fit`].
    pub fn into_exported(mut self, plan: &Plan, fit: Fit, fitter: &mut Fitter) -> Result<State, WorkerError> {
        for (layer, weights) in self.layers.iter_mut().zip(&plan.weights) {
            for param in [&mut layer.weight, &mut layer.gamma, &mut layer.beta] {
                param.velocity = Vec::new();
                if !param.average.is_empty() {
                    param.value = std::mem::take(&mut param.average);
                }
            }
            layer.fit(weights, fit, fitter)?;
        }
        Ok(self)
    }

    /// SHA-256, hex, over the latent weights and the normalizations, in the plan's order.
    pub fn sha256(&self) -> String {
        let mut hash = Sha256::new();
        for layer in &self.layers {
            for values in
                [&layer.weight.value, &layer.gamma.value, &layer.beta.value, &layer.mean, &layer.variance]
            {
                for v in values {
                    hash.update(v.to_le_bytes());
                }
            }
        }
        hex(hash)
    }

    /// The state as it is exported: averages in place of values, where averages are kept.
    #[must_use]
    pub fn averaged(&self) -> State {
        let mut state = self.clone();
        for layer in &mut state.layers {
            for param in [&mut layer.weight, &mut layer.gamma, &mut layer.beta] {
                if !param.average.is_empty() {
                    param.value.clone_from(&param.average);
                }
            }
        }
        state
    }
}
