//! The first state of training: normalizations that change nothing, and activation steps that fit the data.
//!
//! PyTorch's exporters fold batch normalization into the convolutions. Training needs it back, so every weighted layer
//! without one gets a normalization whose parameters are the statistics of its own sums over the calibration images:
//! γ = √(variance + ε), β = mean, which leaves the network as it was. A normalization that the file has is kept as a
//! function: its statistics become the measured ones, and γ and β are rewritten so that nothing changes,
//! γ′ = γ·√(v + ε)/√(v₀ + ε₀), β′ = β + γ·(m − m₀)/√(v₀ + ε₀), with the file's m₀, v₀, ε₀.

mod step;

use tch::{Kind, Tensor};

use crate::error::WorkerError;
use crate::net::{FloatNet, Place, Watch};
use crate::state::{LayerState, Param, State, StepState};
use crate::unit::conv;
use dyadic_plan::codebook::Filter;
use dyadic_plan::{Coding, Plan, UnitOp};
use step::{Range, StepErrors, Values, covering};

/// ε of every normalization in training, in squared real units; PyTorch's default.
const EPSILON: f32 = 1e-5;
/// So many images are enough to choose among powers of two.
const STEP_IMAGES: f64 = 512.0;

/// Sums over calibration images.
pub struct Calibration<'a> {
    plan: &'a Plan,
    net: FloatNet,
    place: Place,
    images: f64,
    moments: Vec<Option<Moments>>,
    /// Per step, over all tensors that share it.
    steps: Vec<Option<StepErrors>>,
    /// Tensors whose values something computes with; the others only pass theirs on, by maxima and concatenations.
    read: Vec<bool>,
    values: Values,
}

/// Of one weighted layer: Σ and Σ² of the sums per filter, and positions counted.
struct Moments {
    sum: Tensor,
    squares: Tensor,
    count: f64,
}

impl<'a> Calibration<'a> {
    /// Nothing seen yet.
    pub fn new(plan: &'a Plan, place: Place) -> Self {
        let mut read: Vec<bool> = (0..plan.tensors.len()).map(|t| t == plan.output).collect();
        for unit in &plan.units {
            if !matches!(unit.op, UnitOp::MaxPool(_) | UnitOp::Concat | UnitOp::Select(_)) {
                unit.inputs.iter().for_each(|&i| read[i] = true);
            }
        }
        Calibration {
            plan,
            net: FloatNet::new(plan, place),
            place,
            images: 0.0,
            moments: plan.weights.iter().map(|_| None).collect(),
            steps: (0..plan.steps).map(|_| None).collect(),
            read,
            values: Values::default(),
        }
    }

    /// Takes in a batch of real-valued images (N, C, H, W), and returns the network's output for them.
    pub fn add(&mut self, x: &Tensor) -> Tensor {
        let _guard = tch::no_grad_guard();
        let x = x.to_device(self.place.device).to_kind(self.place.kind);
        let Calibration { plan, net, steps, moments, read, values, .. } = self;
        if self.images == 0.0 {
            // The highest exponent of each step, over all its tensors, before any error is counted.
            let _ = net.forward(plan, &x, &mut Tops { plan, read, steps, values });
        }
        let errors = self.images < STEP_IMAGES;
        let steps = errors.then_some(steps);
        let y = net.forward(plan, &x, &mut Counter { plan, read, moments, steps, values });
        self.images += x.size()[0] as f64;
        y
    }

    /// The state that training starts from.
    ///
    /// # Errors
    /// [`WorkerError::Invalid`] if no image was seen or a sum is not finite.
    pub fn finish(self, input_step: f32, averaged: bool) -> Result<State, WorkerError> {
        let steps = self.steps.iter().map(|s| s.as_ref().map_or(0, StepErrors::best));
        let steps =
            steps.map(|exponent| StepState { exponent, latent: exponent as f32, first: 0.0, second: 0.0 });
        let mut state = State { layers: Vec::new(), steps: steps.collect(), input_step, step: 0 };
        for (index, weights) in self.plan.weights.iter().enumerate() {
            let Some(Moments { sum, squares, count }) = &self.moments[index] else {
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
            let layer = self.layer(index, &mean, &variance, averaged, &state)?;
            state.layers.push(layer);
        }
        Ok(state)
    }

    fn layer(
        &self,
        index: usize,
        mean: &[f64],
        variance: &[f64],
        averaged: bool,
        state: &State,
    ) -> Result<LayerState, WorkerError> {
        let weights = &self.plan.weights[index];
        let units = conv::input_step(self.plan, state, index);
        // Running statistics are those of Σ weight·code, without the bias.
        let running_mean =
            mean.iter().zip(&weights.bias).map(|(m, b)| ((m - f64::from(*b)) / units) as f32).collect();
        let running_variance = variance.iter().map(|v| (v / (units * units)) as f32).collect();
        let spread = |v: &f64| (v + f64::from(EPSILON)).sqrt();
        let (gamma, beta): (Vec<f32>, Vec<f32>) = if self.plan.is_logits(index) {
            (Vec::new(), weights.bias.clone())
        } else if let Some(norm) = &weights.norm {
            let affine = |(c, (m, v)): (usize, (&f64, &f64))| {
                let (factor, offset) = norm.affine(c);
                ((factor * spread(v)) as f32, (offset + factor * m) as f32)
            };
            mean.iter().zip(variance).enumerate().map(affine).unzip()
        } else {
            (variance.iter().map(|v| spread(v) as f32).collect(), mean.iter().map(|m| *m as f32).collect())
        };
        if gamma.iter().chain(&beta).any(|v| !v.is_finite()) {
            return Err(WorkerError::Invalid(format!(
                "the normalization of layer '{}' divides by zero: a variance and ε are both 0",
                weights.name
            )));
        }
        Ok(LayerState {
            weight: Param::new(weights.latents(), averaged),
            gamma: Param::new(gamma, averaged),
            beta: Param::new(beta, averaged),
            mean: running_mean,
            variance: running_variance,
            epsilon: EPSILON,
            filters: vec![Filter::default(); weights.shape[0]],
        })
    }
}

/// Step and range of a tensor whose step is to be found.
fn coded(plan: &Plan, read: &[bool], tensor: usize) -> Option<(usize, Range)> {
    let coding = plan.tensors[tensor].coding;
    let (lo, hi) = coding.range();
    match coding {
        Coding::Codes { step, .. } if read[tensor] => Some((step, Range { lo, hi })),
        _ => None,
    }
}

/// Finds where each step's candidates begin.
struct Tops<'a> {
    plan: &'a Plan,
    read: &'a [bool],
    steps: &'a mut [Option<StepErrors>],
    values: &'a mut Values,
}

impl Watch for Tops<'_> {
    fn sums(&mut self, _: usize, _: &Tensor) {}

    fn value(&mut self, tensor: usize, value: &Tensor) {
        let Some((step, range)) = coded(self.plan, self.read, tensor) else { return };
        let Some(top) = covering(self.values.take(value), range) else { return };
        self.steps[step].get_or_insert_with(|| StepErrors::new(top)).raise(top);
    }
}

/// Counts errors and moments.
struct Counter<'a> {
    plan: &'a Plan,
    read: &'a [bool],
    moments: &'a mut [Option<Moments>],
    steps: Option<&'a mut Vec<Option<StepErrors>>>,
    values: &'a mut Values,
}

impl Watch for Counter<'_> {
    fn sums(&mut self, weights: usize, z: &Tensor) {
        let dims = [0i64, 2, 3].as_slice();
        let sum = z.sum_dim_intlist(dims, false, Kind::Double);
        let squares = z.to_kind(Kind::Float).square().sum_dim_intlist(dims, false, Kind::Double);
        let count = (z.numel() as i64 / z.size()[1]) as f64;
        self.moments[weights] = Some(match self.moments[weights].take() {
            None => Moments { sum, squares, count },
            Some(m) => Moments { sum: m.sum + sum, squares: m.squares + squares, count: m.count + count },
        });
    }

    fn value(&mut self, tensor: usize, value: &Tensor) {
        let Some(steps) = &mut self.steps else { return };
        let Some((step, range)) = coded(self.plan, self.read, tensor) else { return };
        let values = self.values.take(value);
        let Some(top) = covering(values, range) else { return };
        steps[step].get_or_insert_with(|| StepErrors::new(top)).add(values, range, top);
    }
}

fn to_vec(t: &Tensor) -> Result<Vec<f64>, WorkerError> {
    Ok(Vec::<f64>::try_from(t.to_kind(Kind::Double).to_device(tch::Device::Cpu).contiguous())?)
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::networks;
    use dyadic_plan::codebook::Choice;
    use dyadic_plan::{Rules, Settings, lower};

    fn exponents(plan: &Plan, batches: &[Tensor]) -> Vec<i32> {
        let place = Place { device: Device::Cpu, kind: Kind::Float };
        let mut calibration = Calibration::new(plan, place);
        for batch in batches {
            let _ = calibration.add(batch);
        }
        let state = calibration.finish(0.02, false).expect("calibrated");
        state.steps.iter().map(|s| s.exponent).collect()
    }

    #[test]
    fn a_step_covers_batches_that_come_later_as_well() {
        let settings = Settings { weights: Choice::linear8(), strict: false, conv3x3_bits: 8, other_bits: 8 };
        let rules = Rules::of(&settings).expect("sound settings");
        let plan = lower(&networks::residual(), &rules).expect("it can be lowered");
        tch::manual_seed(5);
        let large = Tensor::randn([16, 3, 12, 12], (Kind::Float, Device::Cpu));
        let small = &large * 0.01;
        let expected = exponents(&plan, &[large.shallow_clone()]);
        assert_eq!(exponents(&plan, &[small, large]), expected);
    }
}
