//! Convolution or fully connected layer, its normalization, a residual operand, the activation.
//!
//! For a filter with exponent μ the trained graph computes `z = 2^μ·acc` (in units of the input's step) and then
//! `γ·(z − mean)/√(variance + ε) + β`. Divided by the output's step this is `acc·scale + offset`, which
//! [`crate::requantize`] turns into integers. Every bound is proven here from Σ|level| and the input's range.

mod sums;

use dyadic_engine::model as ir;
use dyadic_graph::network::Window;
use tch::{Device, Kind, Tensor};

pub(crate) use sums::Sums;

use super::add::add_scaled;
use super::rule::{Rule, power};
use super::{Fake, Float, Site, Unit, act, from_window, pair, to_window};
use crate::error::WorkerError;
use crate::export::{Exporter, is_zero, lowest_exponent, no_integers, pack};
use crate::net::Pass;
use crate::requantize::{Target, choose};
use crate::state::{LayerState, State};
use dyadic_plan::{Act, Plan, UnitOp};

/// A weighted layer.
pub(super) struct Conv<'a> {
    pub(super) weights: usize,
    pub(super) window: &'a Window,
    pub(super) groups: usize,
    pub(super) act: Act,
    pub(super) logits: bool,
}

impl Unit for Conv<'_> {
    fn float(&self, at: &mut Float) -> Tensor {
        let net = at.net;
        let w = self.weights;
        let z = convolve(at.inputs[0], &net.weight[w], self.window, self.groups)
            + net.bias[w].view([1, -1, 1, 1]);
        at.watch.sums(w, &z);
        let z = match &net.norm[w] {
            Some([g, b, m, v, e]) => (z - m) * (g / (v + e).sqrt()) + b,
            None => z,
        };
        act::apply(if at.inputs.len() > 1 { z + at.inputs[1] } else { z }, self.act)
    }

    fn fake(&self, at: &Fake) -> Tensor {
        let w = self.weights;
        let z = convolve(at.inputs[0], &at.leaves.weight[w], self.window, self.groups);
        if self.logits {
            let bias = at.leaves.beta[w].view([1, -1, 1, 1]);
            return z.to_kind(Kind::Float) * at.step(at.unit.inputs[0]) + bias;
        }
        let z = normalize(&z, at, w);
        let z = if at.inputs.len() > 1 { add_scaled(z, at.inputs[1], at.ratio(1)) } else { z };
        at.quantizer().apply(z, self.act)
    }

    fn export(&self, to: &Exporter, unit: &dyadic_plan::Unit) -> Result<ir::Op, WorkerError> {
        let (weight, layer) = (&to.plan.weights[self.weights], &to.state.layers[self.weights]);
        let reach = to.reach(unit.inputs[0]);
        let mut bounds = Vec::with_capacity(layer.filters.len());
        for filter in &layer.filters {
            let levels: u64 =
                filter.codes.iter().map(|&c| u64::from(filter.levels[c as usize].unsigned_abs())).sum();
            let bound = levels * u64::from(reach);
            if bound >= 1 << 31 {
                return Err(WorkerError::Overflow { layer: weight.name.clone(), bound });
            }
            bounds.push(bound as u32);
        }
        let epilogue = if self.logits {
            logits(to, unit, layer, &bounds)?
        } else {
            requantize(to, unit, self.weights, &bounds, self.act)?
        };
        Ok(ir::Op::Conv(ir::Conv {
            window: to_window(self.window),
            groups: self.groups as u32,
            weights: pack(weight, layer),
            bounds,
            epilogue,
        }))
    }
}

fn normalize(z: &Tensor, at: &Fake, w: usize) -> Tensor {
    // One value a channel has no variance: the running statistics must do.
    let several = z.numel() > at.plan.weights[w].shape[0];
    let (training, momentum) = match at.pass {
        Pass::Train { momentum } if several => (true, momentum),
        _ => (false, 0.0),
    };
    let leaves = at.leaves;
    let epsilon = epsilon(at.plan, at.state, w);
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

/// The unit of a weighted layer.
fn unit_of(plan: &Plan, weights: usize) -> Option<&dyadic_plan::Unit> {
    plan.units.iter().find(|u| matches!(u.op, UnitOp::Conv { weights: w, .. } if w == weights))
}

/// The step of the tensor that a weighted layer reads.
pub(crate) fn input_step(plan: &Plan, state: &State, weights: usize) -> f64 {
    unit_of(plan, weights).map_or(1.0, |u| f64::from(state.step_value(plan.tensors[u.inputs[0]].coding)))
}

/// The step of the tensor that a weighted layer writes; 1 for logits.
pub(crate) fn output_step(plan: &Plan, state: &State, weights: usize) -> f32 {
    unit_of(plan, weights).map_or(1.0, |u| state.step_value(plan.tensors[u.output].coding))
}

/// ε of a layer's normalization in the units that its variance is in: squared steps of its input.
pub(crate) fn epsilon(plan: &Plan, state: &State, weights: usize) -> f64 {
    f64::from(state.layers[weights].epsilon) / input_step(plan, state, weights).powi(2)
}

/// The affine map of one filter's sum, in real units of the normalization's output.
struct Folded {
    scale: Vec<f64>,
    offset: Vec<f64>,
}

fn fold(layer: &LayerState, epsilon: f64) -> Folded {
    let (gamma, beta) = (&layer.gamma.value, &layer.beta.value);
    let mut folded = Folded { scale: Vec::new(), offset: Vec::new() };
    for (c, filter) in layer.filters.iter().enumerate() {
        let spread = (f64::from(layer.variance[c]) + epsilon).sqrt();
        let slope = f64::from(gamma[c]) / spread;
        folded.scale.push(slope * f64::from(filter.exponent).exp2());
        folded.offset.push(f64::from(beta[c]) - slope * f64::from(layer.mean[c]));
    }
    folded
}

fn requantize(
    to: &Exporter,
    unit: &dyadic_plan::Unit,
    weights: usize,
    bounds: &[u32],
    act: Act,
) -> Result<ir::Epilogue, WorkerError> {
    let (layer, epsilon) = (&to.state.layers[weights], epsilon(to.plan, to.state, weights));
    let step = to.step(unit.output);
    let residual = unit.inputs.get(1).map(|&r| (to.exponent(r) - to.exponent(unit.output), to.reach(r)));
    let folded = fold(layer, epsilon);
    let mut channels = Vec::with_capacity(bounds.len());
    for (c, &bound) in bounds.iter().enumerate() {
        let target = Target {
            scale: folded.scale[c] / step,
            offset: folded.offset[c] / step,
            mean: f64::from(layer.mean[c]) * (-f64::from(layer.filters[c].exponent)).exp2(),
            bound,
            residual,
            shift_only: to.naming.shift_only,
        };
        channels.push(choose(&target).ok_or_else(|| no_integers(unit, c, &target))?);
    }
    Ok(ir::Epilogue::Requantize(to.assemble(&channels, unit, act, residual.is_some())))
}

fn logits(
    to: &Exporter,
    unit: &dyadic_plan::Unit,
    layer: &LayerState,
    bounds: &[u32],
) -> Result<ir::Epilogue, WorkerError> {
    let lowest = lowest_exponent(layer);
    let input_step = to.step(unit.inputs[0]);
    let step = f64::from(lowest).exp2() * input_step;
    let bias = &layer.beta.value;
    let (mut shifts, mut biases) = (Vec::new(), Vec::new());
    for (c, filter) in layer.filters.iter().enumerate() {
        let shift = if is_zero(filter) { 0 } else { (filter.exponent - lowest) as u32 };
        let b = (f64::from(bias[c]) / step + 0.5).floor();
        let reach = f64::from(bounds[c]) * f64::from(shift).exp2() + b.abs();
        if shift > 31 || reach >= f64::from(1u32 << 31) {
            return Err(WorkerError::Overflow { layer: unit.name.clone(), bound: reach as u64 });
        }
        shifts.push(shift as u8);
        biases.push(b as i32);
    }
    Ok(ir::Epilogue::Logits { shift: shifts, bias: biases })
}

/// Convolution of `x` without bias; uneven padding is made explicit.
pub(crate) fn convolve(x: &Tensor, weight: &Tensor, window: &Window, groups: usize) -> Tensor {
    if let Some(product) = as_product(x, weight, window, groups) {
        return product;
    }
    let [top, left, bottom, right] = window.padding.map(|p| p as i64);
    let (x, padding) = if top == bottom && left == right {
        (x.shallow_clone(), [top, left])
    } else {
        (x.zero_pad2d(left, right, top, bottom), [0, 0])
    };
    x.conv2d(weight, None::<Tensor>, pair(window.stride), padding, pair(window.dilation), groups as i64)
}

/// Channels in a block of oneDNN's kernels.
const BLOCK: i64 = 16;

/// The convolution as one product of matrices: where the kernel is as large as the map, and where it is 1 × 1 with channels
/// that fill no block. In libtorch 2.13, oneDNN's gradient for the weights of the latter writes past its buffer.
fn as_product(x: &Tensor, weight: &Tensor, window: &Window, groups: usize) -> Option<Tensor> {
    let ([n, channels, height, width], [filters, _, kh, kw]) = (&x.size()[..], &weight.size()[..]) else {
        return None;
    };
    if groups != 1 || window.padding != [0; 4] {
        return None;
    }
    if (kh, kw) == (height, width) && window.dilation == [1; 2] {
        let product = x.flatten(1, -1).linear(&weight.flatten(1, -1), None::<Tensor>);
        return Some(product.view([*n, *filters, 1, 1]));
    }
    if (*kh, *kw) != (1, 1) || (channels % BLOCK == 0 && filters % BLOCK == 0) {
        return None;
    }
    let [down, across] = pair(window.stride);
    let kept = x.slice(2, None, None, down).slice(3, None, None, across);
    let product = kept.permute([0, 2, 3, 1]).linear(&weight.flatten(1, -1), None::<Tensor>);
    Some(product.permute([0, 3, 1, 2]))
}

/// Exact sums and the engine's epilogue.
pub(crate) struct Exact {
    sums: Sums,
    end: End,
}

enum End {
    Requantize(Rule),
    Logits { shift: Tensor, bias: Tensor },
}

impl Exact {
    pub(crate) fn new(conv: &ir::Conv, at: &Site) -> Self {
        let input = at.model.tensor(at.node.inputs[0]);
        let c = input.shape.c / conv.groups;
        let [kh, kw] = conv.window.kernel;
        let filters = conv.bounds.len();
        let per_filter = (kh * kw * c) as usize;
        let levels: Vec<f32> = (0..filters * per_filter)
            .map(|i| conv.weights.level(i / per_filter, i % per_filter, per_filter) as f32)
            .collect();
        let shape = [filters as i64, i64::from(kh), i64::from(kw), i64::from(c)];
        let levels = Tensor::from_slice(&levels).view(shape).permute([0, 3, 1, 2]).contiguous();
        let (lo, hi) = input.format.range();
        let reach = lo.unsigned_abs().max(hi.unsigned_abs());
        Exact {
            sums: Sums::new(&levels, from_window(&conv.window), conv.groups as usize, reach, at.device),
            end: End::new(conv, at.device),
        }
    }

    /// What follows the sums.
    pub(crate) fn end(&self, sums: &Tensor, residual: Option<&Tensor>) -> Tensor {
        match &self.end {
            End::Requantize(rule) => rule.apply(sums, residual),
            End::Logits { shift, bias } => sums.to_kind(Kind::Double) * shift + bias,
        }
    }
}

impl End {
    fn new(conv: &ir::Conv, device: Device) -> Self {
        match &conv.epilogue {
            ir::Epilogue::Requantize(r) => End::Requantize(Rule::new(r, device)),
            ir::Epilogue::Logits { shift, bias } => End::Logits {
                shift: power(shift, 1.0, device).to_kind(Kind::Double),
                // A bias may need more than 24 bits.
                bias: Tensor::from_slice(bias).to_kind(Kind::Double).view([1, -1, 1, 1]).to_device(device),
            },
        }
    }
}

impl super::Exact for Exact {
    fn run(&self, inputs: &[&Tensor]) -> Tensor {
        self.end(&self.sums.run(inputs[0]), inputs.get(1).copied())
    }
}
