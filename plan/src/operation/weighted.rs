//! Convolutions, fully connected layers, and normalizations that stand alone: shift-adds of codes, then the requantize rule.

use dyadic_engine::cost::{Density, End, Layer as Shape};
use dyadic_engine::model::Packing;
use dyadic_graph::network::{Layer, Op, Window};

use super::{Absorbs, Act, Chain, Emitter, Operation, Reads, UnitOp};
use crate::codebook::Choice;
use crate::limits;
use crate::plan::{Coding, WeightPlan};
use crate::refusal::Refusal;
use crate::rules::{Defaults, Role};

pub(super) struct Weighted;

/// A window that is one position.
const POINT: Window = Window { kernel: [1, 1], stride: [1, 1], padding: [0; 4], dilation: [1, 1] };

impl Operation for Weighted {
    fn takes(&self, op: &Op) -> bool {
        matches!(op, Op::Conv(_) | Op::Linear(_) | Op::BatchNorm(_))
    }

    fn absorbs(&self, op: &Op) -> Absorbs {
        let weighted = !matches!(op, Op::BatchNorm(_));
        Absorbs { norm: weighted, addition: weighted, act: true }
    }

    fn reads(&self, op: &Op, defaults: &Defaults) -> Reads {
        Reads::Bits(match op {
            Op::Conv(conv) if has_winograd(&conv.window, conv.groups) => defaults.conv3x3_bits,
            _ => defaults.other_bits,
        })
    }

    fn is_signed(&self, _: &Op, act: Act, _: &[bool]) -> bool {
        act == Act::None
    }

    fn emit(&self, chain: &Chain, to: &mut Emitter) -> Result<(), Refusal> {
        let layer = to.layer(chain);
        let logits = to.is_output(chain)
            && chain.act == Act::None
            && chain.residual.is_none()
            && chain.norm.is_none()
            && !matches!(layer.op, Op::BatchNorm(_));
        let wanted = to.wanted(chain);
        // The step of logits is the input's times a power of two, so the input's must be one itself.
        let x =
            if logits { to.read_codes(layer.inputs[0], wanted) } else { to.read(layer.inputs[0], wanted) }?;
        let mut inputs = vec![x];
        if let Some(residual) = chain.residual {
            inputs.push(to.read_codes(residual, to.rules.defaults.other_bits)?);
        }
        let form = form(layer, to.tensor(x).shape)?;
        let weights = weights(chain, to, &form);
        limits::window(&layer.name, &form.window, to.tensor(x).shape)?;
        let expected = to.expected(weights.method);
        limits::weights(&weights, &expected, to.tensor(x).coding, logits)?;
        let coding = if logits { Coding::Sums } else { to.output_coding(chain) };
        let end = match (logits, chain.residual) {
            (true, _) => End::Logits,
            (false, Some(_)) => End::Residual,
            (false, None) => End::Requantize,
        };
        let density = match layer.op {
            // Weights of 1 have one digit in every codebook.
            Op::BatchNorm(_) => Density { zeros: 0.0, digits: 1.0 },
            _ => expected.density,
        };
        let cost = costing(&weights, expected.packing, to.view.chw(chain.output), end).cost(density);
        let Form { window, groups, .. } = form;
        let op = UnitOp::Conv { weights: to.weights(weights), window, groups, act: chain.act, logits };
        to.write(chain, inputs, op, coding, cost);
        Ok(())
    }
}

/// A weighted layer as a convolution.
struct Form<'a> {
    shape: [usize; 4],
    data: std::borrow::Cow<'a, [f32]>,
    bias: Option<&'a [f32]>,
    window: Window,
    groups: usize,
}

/// `reads` is the shape of the layer's operand.
fn form(layer: &Layer, reads: [usize; 3]) -> Result<Form<'_>, Refusal> {
    let rank = |rank| Refusal::new(&layer.name, format!("its weights are not {rank}-dimensional"));
    match &layer.op {
        Op::Conv(conv) => {
            let shape = *conv.weight.shape.first_chunk::<4>().ok_or_else(|| rank(4))?;
            let window = Window { kernel: [shape[2], shape[3]], ..conv.window };
            let (data, bias) = (conv.weight.data.as_slice().into(), conv.bias.as_deref());
            Ok(Form { shape, data, bias, window, groups: conv.groups })
        }
        Op::Linear(linear) => {
            let outputs = *linear.weight.shape.first().ok_or_else(|| rank(2))?;
            // Over a map it is a convolution whose kernel is the whole map.
            let [c, h, w] = reads;
            let window = Window { kernel: [h, w], ..POINT };
            let (data, bias) = (linear.weight.data.as_slice().into(), linear.bias.as_deref());
            Ok(Form { shape: [outputs, c, h, w], data, bias, window, groups: 1 })
        }
        Op::BatchNorm(norm) => {
            // The normalization of a depthwise 1×1 convolution by 1.
            let channels = norm.scale.len();
            let data = vec![1.0; channels].into();
            Ok(Form { shape: [channels, 1, 1, 1], data, bias: None, window: POINT, groups: channels })
        }
        op => Err(Refusal::new(&layer.name, format!("{} has no weights", op.name()))),
    }
}

fn weights(chain: &Chain, to: &Emitter, form: &Form) -> WeightPlan {
    let layer = to.layer(chain);
    let norm = match &to.view.layer(chain.norm.unwrap_or(chain.first)).op {
        Op::BatchNorm(norm) => Some(norm.clone()),
        _ => None,
    };
    let role = to.role(chain);
    // A normalization that stands alone has weights of 1, which every codebook has.
    let lone = matches!(layer.op, Op::BatchNorm(_));
    WeightPlan {
        name: layer.name.clone(),
        shape: form.shape,
        data: form.data.to_vec(),
        bias: form.bias.map_or_else(|| vec![0.0; form.shape[0]], <[f32]>::to_vec),
        norm,
        method: if lone { Choice::linear8() } else { to.rules.weights(&layer.name, role) },
        role: if lone { Role::Middle } else { role },
        macs: layer.macs(to.view.network),
    }
}

/// The shape that a layer's cost follows from.
fn costing(weights: &WeightPlan, packing: Packing, output: Option<[usize; 3]>, end: End) -> Shape {
    let [filters, ..] = weights.shape.map(|extent| extent as u64);
    let [_, h, w] = output.unwrap_or([0, 1, 1]).map(|extent| extent as u64);
    Shape {
        filters,
        per_filter: weights.per_filter() as u64,
        positions: h.saturating_mul(w),
        bits: weights.method.bits(),
        packing,
        end,
    }
}

/// Whether an exact integer Winograd transform exists for it, which wants narrow activations.
fn has_winograd(window: &Window, groups: usize) -> bool {
    window.kernel == [3, 3] && window.stride == [1, 1] && window.dilation == [1, 1] && groups == 1
}
