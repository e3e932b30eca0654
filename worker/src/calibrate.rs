//! The first state of training: normalizations that change nothing, and activation steps that fit the data.
//!
//! PyTorch's exporters fold batch normalization into the convolutions. Training needs it back, so every weighted layer
//! without one gets a normalization whose parameters are the statistics of its own sums over the calibration images:
//! γ = √(variance + ε), β = mean, which leaves the network as it was.

use tch::{Kind, Tensor, no_grad};

use crate::error::WorkerError;
use crate::net::{FloatNet, Place};
use crate::state::{LayerState, Param, State, StepState};
use dyadic_plan::codebook::Filter;
use dyadic_plan::{Coding, Plan};

/// ε of inserted normalizations, PyTorch's default.
const EPSILON: f32 = 1e-5;
/// How many exponents below the one that covers the largest value are tried for a step.
const EXPONENTS: i32 = 5;

/// Sums over calibration images.
pub struct Calibration<'a> {
    plan: &'a Plan,
    net: FloatNet,
    place: Place,
    images: f64,
    /// Per weighted layer: Σ and Σ² of the sums per filter, and positions counted.
    moments: Vec<Option<(Tensor, Tensor, f64)>>,
    /// Per step: squared error of each candidate exponent, from `top` down.
    steps: Vec<Option<StepErrors>>,
}

struct StepErrors {
    top: i32,
    errors: Vec<f64>,
}

impl<'a> Calibration<'a> {
    /// Nothing seen yet.
    pub fn new(plan: &'a Plan, place: Place) -> Self {
        Calibration {
            plan,
            net: FloatNet::new(plan, place),
            place,
            images: 0.0,
            moments: plan.weights.iter().map(|_| None).collect(),
            steps: (0..plan.steps).map(|_| None).collect(),
        }
    }

    /// Takes in a batch of real-valued images (N, C, H, W).
    pub fn add(&mut self, x: &Tensor) {
        let _guard = tch::no_grad_guard();
        let pass =
            self.net.forward(self.plan, &x.to_device(self.place.device).to_kind(self.place.kind), true);
        for (moment, z) in self.moments.iter_mut().zip(&pass.sums) {
            let dims = [0i64, 2, 3].as_slice();
            let sum = z.sum_dim_intlist(dims, false, Kind::Double);
            let squares = z.to_kind(Kind::Float).square().sum_dim_intlist(dims, false, Kind::Double);
            let count = (z.numel() as i64 / z.size()[1]) as f64;
            *moment = Some(match moment.take() {
                None => (sum, squares, count),
                Some((s, q, n)) => (s + sum, q + squares, n + count),
            });
        }
        // The first images are enough to choose among powers of two.
        if self.images < 512.0 {
            for (tensor, value) in self.plan.tensors.iter().zip(&pass.values) {
                if let (Coding::Codes { step, .. }, Some(value)) = (tensor.coding, value) {
                    let (lo, hi) = tensor.coding.range();
                    add_step_errors(&mut self.steps[step], value, f64::from(lo), f64::from(hi));
                }
            }
        }
        self.images += x.size()[0] as f64;
    }

    /// The state that training starts from.
    ///
    /// # Errors
    /// [`WorkerError::Invalid`] if no image was seen or a sum is not finite.
    pub fn finish(self, input_step: f32, averaged: bool) -> Result<State, WorkerError> {
        let steps = self.steps.iter().map(|s| best_step(s.as_ref())).collect::<Vec<_>>();
        let steps = steps.into_iter().map(|exponent| StepState {
            exponent,
            latent: exponent as f32,
            first: 0.0,
            second: 0.0,
        });
        let mut state = State { layers: Vec::new(), steps: steps.collect(), input_step, step: 0 };
        for (index, weights) in self.plan.weights.iter().enumerate() {
            let Some((sum, squares, count)) = &self.moments[index] else {
                return Err(WorkerError::Invalid("calibration needs at least one image".into()));
            };
            let mean = to_vec(&(sum / *count))?;
            let variance = to_vec(&(squares / *count))?
                .iter()
                .zip(&mean)
                .map(|(q, m)| (q - m * m).max(0.0))
                .collect::<Vec<_>>();
            if mean.iter().chain(&variance).any(|v| !v.is_finite()) {
                return Err(WorkerError::Invalid(format!(
                    "layer '{}' gives sums that are not finite on the calibration images; check the normalization",
                    weights.name
                )));
            }
            state.layers.push(self.layer(index, &mean, &variance, averaged, input_step, &state.steps));
        }
        Ok(state)
    }

    fn layer(
        &self,
        index: usize,
        mean: &[f64],
        variance: &[f64],
        averaged: bool,
        input_step: f32,
        steps: &[StepState],
    ) -> LayerState {
        let weights = &self.plan.weights[index];
        let filters = weights.shape[0];
        let units = units_of_input(self.plan, index, input_step, steps);
        // Running statistics are those of Σ weight·code, without the bias.
        let running_mean =
            mean.iter().zip(&weights.bias).map(|(m, b)| ((m - f64::from(*b)) / units) as f32).collect();
        let running_variance = variance.iter().map(|v| (v / (units * units)) as f32).collect();
        let (gamma, beta, epsilon) = if self.plan.is_logits(index) {
            (Vec::new(), weights.bias.clone(), EPSILON)
        } else if let Some(norm) = &weights.norm {
            (norm.scale.clone(), norm.shift.clone(), norm.epsilon)
        } else {
            let gamma = variance.iter().map(|v| ((v + f64::from(EPSILON)).sqrt()) as f32).collect();
            (gamma, mean.iter().map(|m| *m as f32).collect(), EPSILON)
        };
        LayerState {
            weight: Param::new(weights.latents(), averaged),
            gamma: Param::new(gamma, averaged),
            beta: Param::new(beta, averaged),
            mean: running_mean,
            variance: running_variance,
            epsilon,
            filters: vec![Filter::default(); filters],
        }
    }
}

/// Step of the tensor that a weighted layer reads.
fn units_of_input(plan: &Plan, weights: usize, input_step: f32, steps: &[StepState]) -> f64 {
    let unit = plan
        .units
        .iter()
        .find(|u| matches!(u.op, dyadic_plan::UnitOp::Conv { weights: w, .. } if w == weights))
        .map(|u| plan.tensors[u.inputs[0]].coding);
    match unit {
        Some(Coding::Codes { step, .. }) => f64::from(steps[step].exponent).exp2(),
        _ => f64::from(input_step),
    }
}

fn to_vec(t: &Tensor) -> Result<Vec<f64>, WorkerError> {
    Ok(Vec::<f64>::try_from(t.to_kind(Kind::Double).to_device(tch::Device::Cpu).contiguous())?)
}

/// Adds each candidate exponent's squared rounding error on `value`.
fn add_step_errors(slot: &mut Option<StepErrors>, value: &Tensor, lo: f64, hi: f64) {
    let value = value.to_kind(Kind::Float);
    let largest = f64::try_from(value.abs().max()).unwrap_or(0.0);
    let entry = slot.get_or_insert_with(|| StepErrors {
        top: if largest > 0.0 { (largest / hi).log2().ceil() as i32 } else { 0 },
        errors: vec![0.0; EXPONENTS as usize],
    });
    for (below, error) in entry.errors.iter_mut().enumerate() {
        let step = f64::from(entry.top - below as i32).exp2();
        let rounded = no_grad(|| (&value / step).round().clamp(lo, hi) * step);
        *error += f64::try_from((rounded - &value).square().mean(Kind::Double)).unwrap_or(f64::INFINITY);
    }
}

fn best_step(errors: Option<&StepErrors>) -> i32 {
    let Some(errors) = errors else { return 0 };
    let best = errors.errors.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(i, _)| i);
    (errors.top - best as i32).clamp(-24, 24)
}
