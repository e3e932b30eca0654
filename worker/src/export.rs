//! Folds the trained state into the integer network: what all units need to name their integers.

use dyadic_engine::model as ir;

use crate::error::WorkerError;
use crate::requantize::{Channel, Target, choose};
use crate::state::{LayerState, State};
use crate::unit;
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
    pub(crate) plan: &'a Plan,
    pub(crate) state: &'a State,
    pub(crate) naming: &'a Naming,
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
                log: self.plan.log,
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
            op: unit::of(&unit.op).export(self, unit)?,
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
        let found = self.plan.units.iter().find(|u| u.output == tensor);
        found
            .and_then(|u| match u.op {
                UnitOp::Conv { weights, .. } => {
                    Some(lowest_exponent(&self.state.layers[weights]) + self.exponent(u.inputs[0]))
                }
                _ => None,
            })
            .unwrap_or(0)
    }

    /// Exponent of a tensor's step; the input's free step counts as 0.
    pub(crate) fn exponent(&self, tensor: usize) -> i32 {
        match self.plan.tensors[tensor].coding {
            Coding::Codes { step, .. } => self.state.steps[step].exponent,
            _ => 0,
        }
    }

    /// The value of one code unit of a tensor.
    pub(crate) fn step(&self, tensor: usize) -> f64 {
        f64::from(self.state.step_value(self.plan.tensors[tensor].coding))
    }

    /// Lowest and highest code of a tensor.
    pub(crate) fn codes(&self, tensor: usize) -> (i32, i32) {
        self.plan.tensors[tensor].coding.range()
    }

    /// Largest |code| of a tensor.
    pub(crate) fn reach(&self, tensor: usize) -> u32 {
        let (lo, hi) = self.codes(tensor);
        lo.unsigned_abs().max(hi.unsigned_abs())
    }

    /// Output range after the activation.
    pub(crate) fn range(&self, output: usize, act: Act) -> (i32, i32) {
        let (lo, hi) = self.codes(output);
        match act {
            Act::None => (lo, hi),
            Act::Relu => (lo.max(0), hi),
            Act::Clip(limit) => {
                (lo.max(0), hi.min((f64::from(limit) / self.step(output) + 0.5).floor() as i32))
            }
        }
    }

    /// An input's step in units of the output's.
    pub(crate) fn ratio(&self, unit: &Unit, input: usize) -> f64 {
        self.step(unit.inputs[input]) / self.step(unit.output)
    }

    /// Codes times `scale`, the same for every channel; `bound` is on |sum|.
    pub(crate) fn uniform(&self, unit: &Unit, scale: f64, bound: u32) -> Result<ir::Requantize, WorkerError> {
        let target = Target::uniform(scale, bound);
        let channels = self.plan.tensors[unit.output].shape[0];
        let channel = choose(&target).ok_or_else(|| no_integers(unit, 0, &target))?;
        Ok(self.assemble(&vec![channel; channels], unit, Act::None, false))
    }

    /// The rule of all channels.
    pub(crate) fn assemble(
        &self,
        channels: &[Channel],
        unit: &Unit,
        act: Act,
        residual: bool,
    ) -> ir::Requantize {
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
}

/// Whether all of a filter's weights are 0.
pub(crate) fn is_zero(filter: &Filter) -> bool {
    filter.codes.iter().all(|&c| filter.levels[c as usize] == 0)
}

/// Smallest exponent among filters that are not zero.
pub(crate) fn lowest_exponent(layer: &LayerState) -> i32 {
    layer.filters.iter().filter(|f| !is_zero(f)).map(|f| f.exponent).min().unwrap_or(0)
}

/// The refusal of a channel's map.
pub(crate) fn no_integers(unit: &Unit, channel: usize, target: &Target) -> WorkerError {
    let reason = format!("channel {channel} has no integer form within 24 bits ({target:?})");
    Refusal::new(&unit.name, reason).into()
}

/// Codes and tables in the engine's form.
pub(crate) fn pack(weight: &WeightPlan, layer: &LayerState) -> ir::Weights {
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
