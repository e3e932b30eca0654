//! The plan's units in libtorch: the float network, and the fake-quantized one that is trained.
//!
//! In the trained network activations flow as integer codes held in floats, in units of their tensor's step; a
//! normalization's γ and β are divided by the output's step, so that quantizing is one rounding and one clamp, done in
//! place behind the gradient's back. The straight-through estimator's mask is the ReLU's; above the highest code the
//! gradient passes, except on the steps that learn the step sizes, which run the full LSQ form. (libtorch's masked
//! clamp costs twenty times a threshold on a CPU.)
//! Tensors are channels-last, the layout in which libtorch's CPU convolutions are fastest.

use tch::{Device, Kind, Tensor};

use crate::state::State;
use crate::unit::{self, Fake, Float};
use dyadic_plan::{Coding, Plan, Unit, UnitOp};

/// Where and in which precision the training graph runs.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// CPU or a GPU.
    pub device: Device,
    /// [`Kind::Float`] or [`Kind::BFloat16`].
    pub kind: Kind,
}

/// The differentiable inputs of one training step.
pub struct Leaves {
    /// Dequantized weights, one a weighted layer.
    pub weight: Vec<Tensor>,
    /// γ over the output's step (absent for logits).
    pub gamma: Vec<Option<Tensor>>,
    /// β over the output's step, or the logits' bias.
    pub beta: Vec<Tensor>,
    /// Relative step sizes, all 1, present on steps that learn them.
    pub scale: Vec<Option<Tensor>>,
    /// Running statistics, updated by the forward pass in training mode.
    pub mean: Vec<Tensor>,
    /// See `mean`.
    pub variance: Vec<Tensor>,
}

impl Leaves {
    /// Uploads the state. With `training`, the leaves collect gradients; with `learn_steps`, the steps do too.
    pub fn new(
        plan: &Plan,
        state: &State,
        weights: &[Vec<f32>],
        place: Place,
        training: bool,
        learn_steps: bool,
    ) -> Self {
        let upload = |v: &[f32]| Tensor::from_slice(v).to_device(place.device);
        let leaf = |t: Tensor| if training { t.set_requires_grad(true) } else { t };
        let mut leaves = Leaves {
            weight: Vec::new(),
            gamma: Vec::new(),
            beta: Vec::new(),
            scale: Vec::new(),
            mean: Vec::new(),
            variance: Vec::new(),
        };
        for (index, layer) in state.layers.iter().enumerate() {
            let shape = plan.weights[index].shape.map(|d| d as i64);
            let unit = output_step(plan, state, index);
            leaves.weight.push(leaf(upload(&weights[index]).view(shape).to_kind(place.kind)));
            let gamma: Vec<f32> = layer.gamma.value.iter().map(|g| g / unit).collect();
            let beta: Vec<f32> = layer.beta.value.iter().map(|b| b / unit).collect();
            leaves.gamma.push((!gamma.is_empty()).then(|| leaf(upload(&gamma))));
            leaves.beta.push(leaf(upload(&beta)));
            leaves.mean.push(upload(&layer.mean));
            leaves.variance.push(upload(&layer.variance));
        }
        for _ in 0..plan.steps {
            let one = || Tensor::from_slice(&[1f32]).to_device(place.device).set_requires_grad(true);
            leaves.scale.push((training && learn_steps).then(one));
        }
        leaves
    }
}

/// The step of the tensor that a weighted layer writes; 1 for logits.
pub fn output_step(plan: &Plan, state: &State, weights: usize) -> f32 {
    plan.units
        .iter()
        .find(|u| matches!(u.op, UnitOp::Conv { weights: w, .. } if w == weights))
        .map_or(1.0, |u| state.step_value(plan.tensors[u.output].coding))
}

/// What the float network computed.
pub struct FloatPass {
    /// One a tensor of the plan, real values.
    pub values: Vec<Option<Tensor>>,
    /// The sums of every weighted layer (bias included) before its normalization.
    pub sums: Vec<Tensor>,
}

/// Float weights of the plan on a device.
pub struct FloatNet {
    pub(crate) weight: Vec<Tensor>,
    pub(crate) bias: Vec<Tensor>,
    /// γ, β, mean, variance, ε.
    pub(crate) norm: Vec<Option<[Tensor; 5]>>,
}

impl FloatNet {
    /// Uploads the float network's own weights.
    pub fn new(plan: &Plan, place: Place) -> Self {
        let upload = |v: &[f32]| Tensor::from_slice(v).to_device(place.device).to_kind(place.kind);
        let plane = |v: &[f32]| upload(v).view([1, -1, 1, 1]);
        FloatNet {
            weight: plan.weights.iter().map(|w| upload(&w.data).view(w.shape.map(|d| d as i64))).collect(),
            bias: plan.weights.iter().map(|w| upload(&w.bias)).collect(),
            norm: plan
                .weights
                .iter()
                .map(|w| {
                    w.norm.as_ref().map(|n| {
                        let eps =
                            Tensor::from(f64::from(n.epsilon)).to_device(place.device).to_kind(place.kind);
                        [plane(&n.scale), plane(&n.shift), plane(&n.mean), plane(&n.variance), eps]
                    })
                })
                .collect(),
        }
    }

    /// Runs the float network on real-valued input (N, C, H, W). Frees what no later unit reads unless `keep`.
    pub fn forward(&self, plan: &Plan, x: &Tensor, keep: bool) -> FloatPass {
        let mut values: Vec<Option<Tensor>> = vec_of_none(plan.tensors.len());
        values[0] = Some(x.shallow_clone());
        let mut sums = Vec::new();
        let last_use = last_uses(plan);
        for (at, unit) in plan.units.iter().enumerate() {
            let y = unit::of(&unit.op).float(&mut Float {
                plan,
                unit,
                net: self,
                inputs: inputs(&values, unit),
                sums: keep.then_some(&mut sums),
            });
            values[unit.output] = Some(y);
            if !keep {
                release(&mut values, unit, at, &last_use, plan.output);
            }
        }
        FloatPass { values, sums }
    }

    /// Logits (N, classes) in f32.
    pub fn logits(&self, plan: &Plan, x: &Tensor) -> Tensor {
        let pass = self.forward(plan, x, false);
        flat(pass.values[plan.output].as_ref().expect("the last unit writes the output"))
    }
}

/// What a unit reads.
fn inputs<'a>(values: &'a [Option<Tensor>], unit: &Unit) -> Vec<&'a Tensor> {
    unit.inputs.iter().map(|&i| values[i].as_ref().expect("units run in order")).collect()
}

fn vec_of_none(n: usize) -> Vec<Option<Tensor>> {
    (0..n).map(|_| None).collect()
}

/// The last unit that reads each tensor.
pub(crate) fn last_uses(plan: &Plan) -> Vec<usize> {
    let mut last = vec![0; plan.tensors.len()];
    for (at, unit) in plan.units.iter().enumerate() {
        for &i in &unit.inputs {
            last[i] = at;
        }
    }
    last
}

/// Drops what no later unit reads.
pub(crate) fn release(
    values: &mut [Option<Tensor>],
    unit: &Unit,
    at: usize,
    last_use: &[usize],
    output: usize,
) {
    for &i in &unit.inputs {
        if last_use[i] == at && i != output {
            values[i] = None;
        }
    }
}

/// (N, C, 1, 1) or (N, C, H, W) to (N, features) in f32.
fn flat(x: &Tensor) -> Tensor {
    x.to_kind(Kind::Float).contiguous().flatten(1, -1)
}

/// How a fake-quantized pass runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// Batch statistics; running ones follow by a tenth.
    Train,
    /// Running statistics.
    Evaluate,
}

/// Runs the fake-quantized network on input codes (N, C, H, W) and returns the logits (N, classes) in f32.
pub fn forward(plan: &Plan, state: &State, leaves: &Leaves, codes: &Tensor, pass: Pass) -> Tensor {
    let mut values = vec_of_none(plan.tensors.len());
    values[0] = Some(codes.shallow_clone());
    let last_use = last_uses(plan);
    for (at, unit) in plan.units.iter().enumerate() {
        let inputs = inputs(&values, unit);
        let y = unit::of(&unit.op).fake(&Fake { plan, state, leaves, pass, unit, inputs });
        values[unit.output] = Some(y);
        release(&mut values, unit, at, &last_use, plan.output);
    }
    let output = values[plan.output].take().expect("the last unit writes the output");
    flat(&output)
        * f64::from(match plan.tensors[plan.output].coding {
            Coding::Sums => 1.0,
            coding => state.step_value(coding),
        })
}

/// Number of images whose largest logit is at the label.
pub fn correct(logits: &Tensor, labels: &Tensor) -> i64 {
    i64::try_from(logits.argmax(-1, false).eq_tensor(labels).sum(Kind::Int64)).unwrap_or(0)
}
