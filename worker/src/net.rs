//! The plan's units in libtorch: the float network, and the fake-quantized one that is trained.
//!
//! In the trained network activations flow as integer codes held in floats, in units of their tensor's step; a
//! normalization's γ and β are divided by the output's step, so that quantizing is one rounding and one clamp, done in
//! place behind the gradient's back. The straight-through estimator's mask is the ReLU's; above the highest code the
//! gradient passes, except on the steps that learn the step sizes, which run the full LSQ form. (libtorch's masked
//! clamp costs twenty times a threshold on a CPU.)
//! Tensors are channels-last, the layout in which libtorch's CPU convolutions are fastest.

use tch::{Device, Kind, Tensor, no_grad};

use crate::state::State;
use dyadic_graph::network::Window;
use dyadic_plan::{Act, Coding, Plan, TensorPlan, Unary, Unit, UnitOp};

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

fn pair(v: [usize; 2]) -> [i64; 2] {
    v.map(|x| x as i64)
}

/// Convolution of `x` without bias; uneven padding is made explicit.
pub fn convolve(x: &Tensor, weight: &Tensor, window: &Window, groups: usize) -> Tensor {
    let [top, left, bottom, right] = window.padding.map(|p| p as i64);
    let (x, padding) = if top == bottom && left == right {
        (x.shallow_clone(), [top, left])
    } else {
        (x.zero_pad2d(left, right, top, bottom), [0, 0])
    };
    x.conv2d(weight, None::<Tensor>, pair(window.stride), padding, pair(window.dilation), groups as i64)
}

/// Maximum over windows; what lies outside does not take part.
pub fn max_pool(x: &Tensor, window: &Window) -> Tensor {
    let [top, left, bottom, right] = window.padding.map(|p| p as i64);
    let symmetric = top == bottom
        && left == right
        && 2 * top <= window.kernel[0] as i64
        && 2 * left <= window.kernel[1] as i64;
    let (x, padding) = if symmetric {
        (x.shallow_clone(), [top, left])
    } else {
        (pad_with_lowest(x, [left, right, top, bottom]), [0, 0])
    };
    x.max_pool2d(pair(window.kernel), pair(window.stride), padding, pair(window.dilation), false)
}

/// Pads with the lowest f32.
fn pad_with_lowest(x: &Tensor, sides: [i64; 4]) -> Tensor {
    let inside = x.ones_like().constant_pad_nd(sides);
    x.constant_pad_nd(sides).masked_fill(&inside.eq(0.0), f64::from(f32::MIN))
}

/// Sum over windows divided by the window's size; padding counts as zero.
fn avg_pool(x: &Tensor, tensor: &TensorPlan, window: &Window) -> Tensor {
    if window.kernel == [tensor.shape[1], tensor.shape[2]] && window.padding == [0; 4] {
        return x.mean_dim([2i64, 3].as_slice(), true, x.kind());
    }
    let [top, left, bottom, right] = window.padding.map(|p| p as i64);
    let x = if window.padding == [0; 4] { x.shallow_clone() } else { x.zero_pad2d(left, right, top, bottom) };
    x.avg_pool2d(pair(window.kernel), pair(window.stride), [0, 0], false, true, None)
}

fn unary(x: &Tensor, f: Unary) -> Tensor {
    match f {
        Unary::Relu => x.relu(),
        Unary::Clip(hi) => x.clamp(0.0, f64::from(hi)),
        Unary::LeakyRelu(slope) => x.maximum(&(x * f64::from(slope))),
        Unary::Sigmoid => x.sigmoid(),
        Unary::Tanh => x.tanh(),
    }
}

fn act(x: Tensor, act: Act) -> Tensor {
    match act {
        Act::None => x,
        Act::Relu => x.relu(),
        Act::Clip(hi) => x.clamp(0.0, f64::from(hi)),
    }
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
    weight: Vec<Tensor>,
    bias: Vec<Tensor>,
    norm: Vec<Option<[Tensor; 5]>>,
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
            let y = {
                let input = |i: usize| values[unit.inputs[i]].as_ref().expect("units run in order");
                match &unit.op {
                    UnitOp::Conv { weights, window, groups, act: a, .. } => {
                        let w = *weights;
                        let z = convolve(input(0), &self.weight[w], window, *groups)
                            + self.bias[w].view([1, -1, 1, 1]);
                        if keep {
                            sums.push(z.shallow_clone());
                        }
                        let z = match &self.norm[w] {
                            Some([g, b, m, v, e]) => (z - m) * (g / (v + e).sqrt()) + b,
                            None => z,
                        };
                        act(if unit.inputs.len() > 1 { z + input(1) } else { z }, *a)
                    }
                    UnitOp::Cast => input(0).shallow_clone(),
                    UnitOp::Add(a) => act(input(0) + input(1), *a),
                    UnitOp::MaxPool(window) => max_pool(input(0), window),
                    UnitOp::AvgPool(window) => avg_pool(input(0), &plan.tensors[unit.inputs[0]], window),
                    UnitOp::Unary(f) => unary(input(0), *f),
                    UnitOp::Concat => Tensor::cat(&(0..unit.inputs.len()).map(&input).collect::<Vec<_>>(), 1),
                }
            };
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
    let quantizer = |tensor: usize| Quantizer::new(plan, state, leaves, tensor);
    for (at, unit) in plan.units.iter().enumerate() {
        let y = {
            let input = |i: usize| values[unit.inputs[i]].as_ref().expect("units run in order");
            let step = |t: usize| f64::from(state.step_value(plan.tensors[t].coding));
            let ratio = |i: usize| step(unit.inputs[i]) / step(unit.output);
            match &unit.op {
                UnitOp::Conv { weights, window, groups, act, logits } => {
                    let w = *weights;
                    let z = convolve(input(0), &leaves.weight[w], window, *groups);
                    if *logits {
                        z.to_kind(Kind::Float) * step(unit.inputs[0]) + leaves.beta[w].view([1, -1, 1, 1])
                    } else {
                        let z = normalize(&z, leaves, state, w, pass);
                        let z = if unit.inputs.len() > 1 { add_scaled(z, input(1), ratio(1)) } else { z };
                        quantizer(unit.output).apply(z, *act)
                    }
                }
                UnitOp::Cast => quantizer(unit.output).apply_exact(input(0) * ratio(0)),
                UnitOp::Add(act) => {
                    quantizer(unit.output).apply(add_scaled(input(0) * ratio(0), input(1), ratio(1)), *act)
                }
                UnitOp::MaxPool(window) => max_pool(input(0), window),
                UnitOp::AvgPool(window) => {
                    let mean =
                        avg_pool(&input(0).to_kind(Kind::Float), &plan.tensors[unit.inputs[0]], window);
                    quantizer(unit.output).apply_exact(mean * ratio(0)).to_kind(input(0).kind())
                }
                UnitOp::Unary(f) => {
                    let y = unary(&(input(0) * step(unit.inputs[0])), *f) / step(unit.output);
                    quantizer(unit.output).apply(y, Act::None)
                }
                UnitOp::Concat => Tensor::cat(&(0..unit.inputs.len()).map(&input).collect::<Vec<_>>(), 1),
            }
        };
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

/// `z + r·ratio`, in place where nothing else reads `z`.
fn add_scaled(mut z: Tensor, r: &Tensor, ratio: f64) -> Tensor {
    if ratio == 1.0 { z.g_add_(r) } else { z.g_add_(&(r * ratio)) }
}

fn normalize(z: &Tensor, leaves: &Leaves, state: &State, w: usize, pass: Pass) -> Tensor {
    let (training, momentum) = match pass {
        Pass::Train => (true, 0.1),
        Pass::Evaluate => (false, 0.0),
    };
    let epsilon = f64::from(state.layers[w].epsilon);
    let (mean, variance) = (Some(&leaves.mean[w]), Some(&leaves.variance[w]));
    z.batch_norm(
        leaves.gamma[w].as_ref(),
        Some(&leaves.beta[w]),
        mean,
        variance,
        training,
        momentum,
        epsilon,
        false,
    )
}

/// Rounds and clamps one tensor's values, given in units of its step.
struct Quantizer<'a> {
    lo: f64,
    hi: f64,
    unit: f64,
    scale: Option<&'a Tensor>,
}

impl<'a> Quantizer<'a> {
    fn new(plan: &Plan, state: &State, leaves: &'a Leaves, tensor: usize) -> Self {
        let coding = plan.tensors[tensor].coding;
        let (lo, hi) = coding.range();
        let scale = match coding {
            Coding::Codes { step, .. } => leaves.scale[step].as_ref(),
            _ => None,
        };
        Quantizer { lo: f64::from(lo), hi: f64::from(hi), unit: f64::from(state.step_value(coding)), scale }
    }

    /// For values that are multiples of a power of two: these lie halfway often, and halves must go up as in the engine.
    /// (Elsewhere halves are made by bf16, and going to even keeps their mean.)
    fn apply_exact(&self, z: Tensor) -> Tensor {
        if self.scale.is_none() {
            let _ = no_grad(|| z.detach().g_add_scalar_(0.5).floor_());
        }
        self.apply(z, Act::None)
    }

    fn apply(&self, z: Tensor, act: Act) -> Tensor {
        let (lo, hi) = match act {
            Act::None => (self.lo, self.hi),
            Act::Relu => (0.0, self.hi),
            Act::Clip(limit) => (0.0, self.hi.min((f64::from(limit) / self.unit + 0.5).floor())),
        };
        if let Some(scale) = self.scale {
            let kind = z.kind();
            let zero = Tensor::from_slice(&[0f32]).to_device(z.device());
            let y = z
                .to_kind(Kind::Float)
                .internal_fake_quantize_learnable_per_tensor_affine(scale, &zero, lo as i64, hi as i64, 1.0);
            return y.to_kind(kind);
        }
        // A threshold keeps its input, not its result, for the backward pass: the result may be rounded in place.
        let y = if act == Act::None { z } else { z.threshold(0.0, 0.0) };
        let _ = no_grad(|| y.detach().round_().clamp_(lo, hi));
        y
    }
}

/// Number of images whose largest logit is at the label.
pub fn correct(logits: &Tensor, labels: &Tensor) -> i64 {
    i64::try_from(logits.argmax(-1, false).eq_tensor(labels).sum(Kind::Int64)).unwrap_or(0)
}
