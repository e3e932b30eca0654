//! The plan's units in libtorch: the float network, and the fake-quantized one that is trained.
//!
//! In the trained network activations flow as integer codes held in floats, in units of their tensor's step; a
//! normalization's γ and β are divided by the output's step, so that quantizing is one rounding and one clamp, done in
//! place behind the gradient's back. The straight-through estimator passes the gradient between the lowest and the highest
//! code; the steps that learn the step sizes run the full LSQ form.
//! Tensors are channels-last, the layout in which libtorch's CPU convolutions are fastest.

use tch::{Device, Kind, Tensor};

use crate::state::State;
use crate::unit::conv::{self, output_step};
use crate::unit::{self, Fake, Float};
use dyadic_plan::{Coding, Plan, Unit};

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

/// What makes a slope the power of two that the export will take for it; 1 for 0.
fn to_shift(slope: f64) -> f32 {
    let size = slope.abs();
    if size > 0.0 && size.is_finite() { (size.log2().round().exp2() / size) as f32 } else { 1.0 }
}

/// How a state becomes leaves.
#[derive(Debug, Clone, Copy)]
pub struct Upload {
    /// Where to.
    pub place: Place,
    /// What for.
    pub collect: Collect,
    /// Whether the requantization will have powers of two for slopes: the normalizations have them then, too.
    pub shift_only: bool,
}

/// Which leaves collect gradients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Collect {
    /// None.
    Nothing,
    /// Weights and normalizations.
    Parameters,
    /// The activation steps, too.
    WithSteps,
}

impl Leaves {
    /// Uploads the state.
    pub fn new(plan: &Plan, state: &State, weights: &[Vec<f32>], how: Upload) -> Self {
        let Upload { place, collect, shift_only } = how;
        let (training, learn_steps) = (collect != Collect::Nothing, collect == Collect::WithSteps);
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
            let mut gamma: Vec<f32> = layer.gamma.value.iter().map(|g| g / unit).collect();
            if shift_only {
                let epsilon = conv::epsilon(plan, state, index);
                for (g, &v) in gamma.iter_mut().zip(&layer.variance) {
                    *g *= to_shift(f64::from(*g) / (f64::from(v) + epsilon).sqrt());
                }
            }
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

/// Sees the float network's values while they are there.
pub trait Watch {
    /// The sums of a weighted layer, bias included, before its normalization.
    fn sums(&mut self, weights: usize, sums: &Tensor);
    /// The values of a tensor.
    fn value(&mut self, tensor: usize, value: &Tensor);
}

/// Looks at nothing.
struct Blind;

impl Watch for Blind {
    fn sums(&mut self, _: usize, _: &Tensor) {}
    fn value(&mut self, _: usize, _: &Tensor) {}
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

    /// Runs the float network on real-valued input (N, C, H, W) and returns its output. What no later unit reads is freed.
    pub fn forward(&self, plan: &Plan, x: &Tensor, watch: &mut dyn Watch) -> Tensor {
        let mut values: Vec<Option<Tensor>> = vec_of_none(plan.tensors.len());
        watch.value(0, x);
        values[0] = Some(x.shallow_clone());
        let last_use = last_uses(plan);
        for (at, unit) in plan.units.iter().enumerate() {
            let inputs = inputs(&values, unit);
            let y = unit::of(&unit.op).float(&mut Float { net: self, inputs, watch: &mut *watch });
            watch.value(unit.output, &y);
            values[unit.output] = Some(y);
            release(&mut values, unit, at, &last_use, plan.output);
        }
        values[plan.output].take().expect("the last unit writes the output")
    }

    /// Logits (N, classes) in f32, without gradients.
    pub fn logits(&self, plan: &Plan, x: &Tensor) -> Tensor {
        let _guard = tch::no_grad_guard();
        flat(&self.forward(plan, x, &mut Blind))
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
pub(crate) fn flat(x: &Tensor) -> Tensor {
    if x.dim() == 2 {
        return x.to_kind(Kind::Float);
    }
    x.to_kind(Kind::Float).contiguous().flatten(1, -1)
}

/// How a fake-quantized pass runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pass {
    /// Batch statistics; the running ones follow by this share.
    Train {
        /// Share of the new.
        momentum: f64,
    },
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
