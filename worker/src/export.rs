//! Folds the trained state into the integer network.
//!
//! For a filter with exponent μ the trained graph computes `z = 2^μ·acc` (in units of the input's step) and then
//! `γ·(z − mean)/√(variance + ε) + β`. Divided by the output's step this is `acc·scale + offset`, which
//! [`crate::requantize`] turns into integers. Every bound is proven here from Σ|level| and the input's range.

use dyadic_engine::model as ir;
use dyadic_graph::network::Window;

use crate::error::WorkerError;
use crate::requantize::{Channel, Target, choose};
use crate::state::{LayerState, State};
use dyadic_plan::codebook::{Filter, digits};
use dyadic_plan::{Act, Coding, Plan, Refusal, TensorPlan, Unit, UnitOp, WeightPlan};

/// What the exporter needs beyond plan and state.
#[derive(Debug, Clone, Default)]
pub struct Naming {
    /// Normalization of 8-bit images.
    pub normalization: Option<ir::Normalization>,
    /// Class names.
    pub labels: Vec<String>,
    /// Only ±2^j as multipliers.
    pub shift_only: bool,
}

/// Weights in the engine's order `[filter][row][column][channel]` from the plan's `[filter][channel][row][column]`.
pub fn to_engine_order<T: Copy>(shape: [usize; 4], data: &[T]) -> Vec<T> {
    let [o, c, h, w] = shape;
    let mut out = Vec::with_capacity(data.len());
    for f in 0..o {
        for y in 0..h {
            for x in 0..w {
                for i in 0..c {
                    out.push(data[((f * c + i) * h + y) * w + x]);
                }
            }
        }
    }
    out
}

/// Makes the integer network's parts from a plan and a state whose filters are fitted.
pub(crate) struct Exporter<'a> {
    plan: &'a Plan,
    state: &'a State,
    naming: &'a Naming,
}

/// The affine map of one filter's sum, in real units of the normalization's output.
struct Folded {
    scale: Vec<f64>,
    offset: Vec<f64>,
}

impl<'a> Exporter<'a> {
    pub(crate) fn new(plan: &'a Plan, state: &'a State, naming: &'a Naming) -> Self {
        Exporter { plan, state, naming }
    }

    /// The integer network without its nodes.
    pub(crate) fn skeleton(&self) -> ir::Model {
        ir::Model {
            name: self.plan.name.clone(),
            input: ir::Input {
                name: self.plan.input_name.clone(),
                tensor: ir::TensorId(0),
                normalization: self.naming.normalization.clone(),
            },
            tensors: self.plan.tensors.iter().enumerate().map(|(i, t)| self.tensor(i, t)).collect(),
            nodes: Vec::with_capacity(self.plan.units.len()),
            output: ir::Output {
                name: self.plan.output_name.clone(),
                tensor: ir::TensorId(self.plan.output as u32),
                softmax: self.plan.softmax,
                labels: self.naming.labels.clone(),
            },
        }
    }

    /// One unit's node.
    ///
    /// # Errors
    /// [`WorkerError::Overflow`] where 32 bits could not hold a sum, [`WorkerError::Unsupported`] where a channel's map
    /// has no integers.
    pub(crate) fn node(&self, unit: &Unit) -> Result<ir::Node, WorkerError> {
        Ok(ir::Node {
            name: unit.name.clone(),
            inputs: unit.inputs.iter().map(|&i| ir::TensorId(i as u32)).collect(),
            output: ir::TensorId(unit.output as u32),
            op: self.op(unit)?,
        })
    }

    fn tensor(&self, index: usize, tensor: &TensorPlan) -> ir::Tensor {
        let [c, h, w] = tensor.shape.map(|d| d as u32);
        let (format, step) = match tensor.coding {
            Coding::Input => (ir::Format::Signed { bits: 8 }, ir::Step::Free(self.state.input_step)),
            Coding::Codes { bits, signed, step } => {
                let format = if signed { ir::Format::Signed { bits } } else { ir::Format::Unsigned { bits } };
                (format, ir::Step::PowerOfTwo(self.state.steps[step].exponent))
            }
            Coding::Sums => (ir::Format::Accumulator, ir::Step::PowerOfTwo(self.logits_exponent(index))),
        };
        ir::Tensor { name: tensor.name.clone(), shape: ir::Shape { h, w, c }, format, step }
    }

    /// Exponent of the logits' unit: the input's step times the smallest filter exponent.
    fn logits_exponent(&self, tensor: usize) -> i32 {
        let unit = self.plan.units.iter().find(|u| u.output == tensor);
        unit.and_then(|u| match u.op {
            UnitOp::Conv { weights, .. } => {
                Some(lowest_exponent(&self.state.layers[weights]) + self.exponent(u.inputs[0]))
            }
            _ => None,
        })
        .unwrap_or(0)
    }

    /// Exponent of a tensor's step; the input's free step counts as 0.
    fn exponent(&self, tensor: usize) -> i32 {
        match self.plan.tensors[tensor].coding {
            Coding::Codes { step, .. } => self.state.steps[step].exponent,
            _ => 0,
        }
    }

    fn step(&self, tensor: usize) -> f64 {
        f64::from(self.state.step_value(self.plan.tensors[tensor].coding))
    }

    /// Largest |code| of a tensor.
    fn reach(&self, tensor: usize) -> u32 {
        let (lo, hi) = self.plan.tensors[tensor].coding.range();
        lo.unsigned_abs().max(hi.unsigned_abs())
    }

    /// Output range after the activation.
    fn range(&self, output: usize, act: Act) -> (i32, i32) {
        let (lo, hi) = self.plan.tensors[output].coding.range();
        match act {
            Act::None => (lo, hi),
            Act::Relu => (lo.max(0), hi),
            Act::Clip(limit) => {
                (lo.max(0), hi.min((f64::from(limit) / self.step(output) + 0.5).floor() as i32))
            }
        }
    }

    fn op(&self, unit: &Unit) -> Result<ir::Op, WorkerError> {
        let output = unit.output;
        let ratio = |i: usize| self.step(unit.inputs[i]) / self.step(output);
        let channels = self.plan.tensors[output].shape[0];
        Ok(match &unit.op {
            UnitOp::Conv { weights, window, groups, act, logits } => {
                ir::Op::Conv(self.conv(unit, *weights, window, *groups, *act, *logits)?)
            }
            UnitOp::Cast => {
                let target = self.target(ratio(0), 0.0, self.reach(unit.inputs[0]), None, false);
                ir::Op::Affine(self.uniform(unit, &target, channels, Act::None)?)
            }
            UnitOp::Add(act) => ir::Op::Add(self.add(unit, *act)?),
            UnitOp::MaxPool(window) => ir::Op::MaxPool(to_window(window)),
            UnitOp::AvgPool(window) => {
                let positions = (window.kernel[0] * window.kernel[1]) as u32;
                let bound = self.reach(unit.inputs[0]).saturating_mul(positions);
                let target = self.target(ratio(0) / f64::from(positions), 0.0, bound, None, false);
                ir::Op::AvgPool(to_window(window), self.uniform(unit, &target, channels, Act::None)?)
            }
            UnitOp::Unary(f) => {
                let (lo, hi) = self.plan.tensors[unit.inputs[0]].coding.range();
                let (out_lo, out_hi) = self.range(output, Act::None);
                let entry = |code: i32| {
                    let y = f.apply(f64::from(code) * self.step(unit.inputs[0])) / self.step(output);
                    (y + 0.5).floor().clamp(f64::from(out_lo), f64::from(out_hi)) as i16
                };
                ir::Op::Lut((lo..=hi).map(entry).collect())
            }
            UnitOp::Concat => ir::Op::Concat,
        })
    }

    fn target(
        &self,
        scale: f64,
        offset: f64,
        bound: u32,
        residual: Option<(i32, u32)>,
        weighted: bool,
    ) -> Target {
        Target { scale, offset, bound, residual, shift_only: weighted && self.naming.shift_only }
    }

    /// One choice for every channel.
    fn uniform(
        &self,
        unit: &Unit,
        target: &Target,
        channels: usize,
        act: Act,
    ) -> Result<ir::Requantize, WorkerError> {
        let channel = choose(target).ok_or_else(|| no_integers(unit, 0, target))?;
        Ok(self.assemble(&vec![channel; channels], unit, act, false))
    }

    fn assemble(&self, channels: &[Channel], unit: &Unit, act: Act, residual: bool) -> ir::Requantize {
        let (lo, hi) = self.range(unit.output, act);
        ir::Requantize {
            pre: channels.iter().map(|c| c.pre).collect(),
            multiplier: channels.iter().map(|c| c.multiplier).collect(),
            bias: channels.iter().map(|c| c.bias).collect(),
            residual_shift: if residual {
                channels.iter().map(|c| c.residual_shift).collect()
            } else {
                Vec::new()
            },
            shift: channels.iter().map(|c| c.shift).collect(),
            lo,
            hi,
        }
    }

    /// `((a << ka) + (b << kb) + 2^(s−1)) >> s` with the smallest shifts that make every step a multiple.
    fn add(&self, unit: &Unit, act: Act) -> Result<ir::Add, WorkerError> {
        let out = self.exponent(unit.output);
        let finest = self.exponent(unit.inputs[0]).min(self.exponent(unit.inputs[1])).min(out);
        let shift = (out - finest) as u32;
        let operand = [0, 1].map(|i| self.exponent(unit.inputs[i]) - finest);
        if shift > 15 || operand.iter().any(|&k| k > 15) {
            let reason =
                format!("the steps of the operands and the sum differ by 2^{}", shift.max(operand[0] as u32));
            return Err(Refusal { layer: unit.name.clone(), reason }.into());
        }
        let (lo, hi) = self.range(unit.output, act);
        let bias = if shift > 0 { 1 << (shift - 1) } else { 0 };
        Ok(ir::Add { operand_shift: operand.map(|k| k as u8), bias, shift: shift as u8, lo, hi })
    }

    fn conv(
        &self,
        unit: &Unit,
        weights: usize,
        window: &Window,
        groups: usize,
        act: Act,
        logits: bool,
    ) -> Result<ir::Conv, WorkerError> {
        let (weight, layer) = (&self.plan.weights[weights], &self.state.layers[weights]);
        let reach = self.reach(unit.inputs[0]);
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
        let epilogue = if logits {
            self.logits(unit, layer, &bounds)?
        } else {
            self.requantize(unit, layer, &bounds, act)?
        };
        Ok(ir::Conv {
            window: to_window(window),
            groups: groups as u32,
            weights: pack(weight, layer),
            bounds,
            epilogue,
        })
    }

    fn fold(layer: &LayerState) -> Folded {
        let (gamma, beta) = (&layer.gamma.value, &layer.beta.value);
        let mut folded = Folded { scale: Vec::new(), offset: Vec::new() };
        for (c, filter) in layer.filters.iter().enumerate() {
            let spread = (f64::from(layer.variance[c]) + f64::from(layer.epsilon)).sqrt();
            let slope = f64::from(gamma[c]) / spread;
            folded.scale.push(slope * f64::from(filter.exponent).exp2());
            folded.offset.push(f64::from(beta[c]) - slope * f64::from(layer.mean[c]));
        }
        folded
    }

    fn requantize(
        &self,
        unit: &Unit,
        layer: &LayerState,
        bounds: &[u32],
        act: Act,
    ) -> Result<ir::Epilogue, WorkerError> {
        let step = self.step(unit.output);
        let residual =
            unit.inputs.get(1).map(|&r| (self.exponent(r) - self.exponent(unit.output), self.reach(r)));
        let folded = Self::fold(layer);
        let mut channels = Vec::with_capacity(bounds.len());
        for (c, &bound) in bounds.iter().enumerate() {
            let target = self.target(folded.scale[c] / step, folded.offset[c] / step, bound, residual, true);
            channels.push(choose(&target).ok_or_else(|| no_integers(unit, c, &target))?);
        }
        Ok(ir::Epilogue::Requantize(self.assemble(&channels, unit, act, residual.is_some())))
    }

    fn logits(&self, unit: &Unit, layer: &LayerState, bounds: &[u32]) -> Result<ir::Epilogue, WorkerError> {
        let lowest = lowest_exponent(layer);
        let input_step = self.step(unit.inputs[0]);
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
}

fn is_zero(filter: &Filter) -> bool {
    filter.codes.iter().all(|&c| filter.levels[c as usize] == 0)
}

/// Smallest exponent among filters that are not zero.
fn lowest_exponent(layer: &LayerState) -> i32 {
    layer.filters.iter().filter(|f| !is_zero(f)).map(|f| f.exponent).min().unwrap_or(0)
}

fn no_integers(unit: &Unit, channel: usize, target: &Target) -> WorkerError {
    let reason = format!("channel {channel} has no integer form within 24 bits ({target:?})");
    Refusal { layer: unit.name.clone(), reason }.into()
}

fn to_window(window: &Window) -> ir::Window {
    ir::Window {
        kernel: window.kernel.map(|v| v as u32),
        stride: window.stride.map(|v| v as u32),
        padding: window.padding.map(|v| v as u32),
        dilation: window.dilation.map(|v| v as u32),
    }
}

/// Codes and tables in the engine's form.
fn pack(weight: &WeightPlan, layer: &LayerState) -> ir::Weights {
    let bits = weight.method.bits();
    let terms =
        layer.filters.iter().flat_map(|f| f.levels.iter().map(|&l| digits(l))).max().unwrap_or(1).max(1);
    let mut codes = Vec::with_capacity(weight.data.len());
    let mut tables = Vec::new();
    for filter in &layer.filters {
        if bits == 8 {
            codes.extend(filter.codes.iter().map(|&c| filter.levels[c as usize] as u8));
        } else {
            codes.extend_from_slice(&filter.codes);
            let mut table = filter.levels.clone();
            table.resize(1 << bits, 0);
            tables.extend(table);
        }
    }
    ir::Weights {
        bits,
        terms,
        codes: to_engine_order(weight.shape, &codes).into(),
        tables,
        exponents: layer.filters.iter().map(|f| f.exponent).collect(),
    }
}
