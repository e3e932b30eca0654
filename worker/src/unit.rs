//! The units of a plan: all that one operation is stands in one file here.
//!
//! A unit runs in four forms, and only its own file knows how: on real values ([`Unit::float`]), on codes held in floats
//! with gradients ([`Unit::fake`]), as a node of the integer network ([`Unit::export`]), and that node on exact integers
//! held in floats ([`Exact`]). The list below is the only place where all units are named.

mod act;
mod add;
mod average_pool;
mod cast;
mod concat;
pub(crate) mod conv;
mod max_pool;
mod quantizer;
mod rule;
mod scale;
mod select;
mod table;

use dyadic_engine::model as ir;
use tch::{Device, Kind, Tensor};

use crate::error::WorkerError;
use crate::export::Exporter;
use crate::net::{FloatNet, Leaves, Pass, Watch};
use crate::requantize::{Target, choose};
use crate::state::State;
use dyadic_plan::{Act, Coding, Plan, UnitOp};
use quantizer::Quantizer;

/// One unit of the plan.
pub(crate) trait Unit {
    /// Its output on real values.
    fn float(&self, at: &mut Float) -> Tensor;
    /// Its output on codes held in floats, in units of the output's step; the gradient passes straight through.
    fn fake(&self, at: &Fake) -> Tensor;
    /// Its node in the integer network.
    ///
    /// # Errors
    /// [`WorkerError::Overflow`] where 32 bits could not hold a sum, [`WorkerError::Unsupported`] where a channel's map
    /// has no integers.
    fn export(&self, to: &Exporter, unit: &dyadic_plan::Unit) -> Result<ir::Op, WorkerError>;
}

/// One node of the integer network on exact integers, its constants on a device.
pub(crate) trait Exact {
    /// The output's codes (N, C, H, W) from the inputs', in the node's order.
    fn run(&self, inputs: &[&Tensor]) -> Tensor;
}

/// Where a node stands.
pub(crate) struct Site<'a> {
    /// The network around it.
    pub(crate) model: &'a ir::Model,
    /// The node.
    pub(crate) node: &'a ir::Node,
    /// Where its constants go.
    pub(crate) device: Device,
}

/// Each line is an operation: what the plan calls it and its unit, what the integer network calls it and its exact form.
macro_rules! units {
    ($at:ident; $($planned:pat => $unit:expr, $node:pat => $exact:expr;)*) => {
        /// The unit that does `op`.
        pub(crate) fn of(op: &UnitOp) -> Box<dyn Unit + '_> {
            match op { $($planned => Box::new($unit),)* }
        }

        /// The exact form of a node.
        pub(crate) fn exact($at: &Site) -> Box<dyn Exact> {
            match &$at.node.op { $($node => Box::new($exact),)* }
        }
    };
}

units! { at;
    UnitOp::Conv { weights, window, groups, act, logits } =>
        conv::Conv { weights: *weights, window, groups: *groups, act: *act, logits: *logits },
    ir::Op::Conv(conv) => conv::Exact::new(conv, at);
    UnitOp::Cast => cast::Cast, ir::Op::Affine(rule) => cast::Exact::new(rule, at);
    UnitOp::Add(act) => add::Add(*act), ir::Op::Add(add) => add::Exact(*add);
    UnitOp::MaxPool(window) => max_pool::MaxPool(window), ir::Op::MaxPool(window) => max_pool::Exact::new(window);
    UnitOp::AvgPool(window) => average_pool::AveragePool(window),
    ir::Op::AvgPool(window, rule) => average_pool::Exact::new(window, rule, at);
    UnitOp::Unary(function) => table::Table(*function), ir::Op::Lut(table) => table::Exact::new(table, at);
    UnitOp::Concat => concat::Concat, ir::Op::Concat => concat::Exact;
    UnitOp::Scale { act, digits } => scale::Scale { act: *act, digits: *digits },
    ir::Op::Scale(rule) => scale::Exact::new(rule, at);
    UnitOp::Select(channels) => select::Select(channels), ir::Op::Select(channels) => select::Exact::new(channels, at);
}

/// A unit in the float network.
pub(crate) struct Float<'a> {
    /// The weights.
    pub(crate) net: &'a FloatNet,
    /// Real values, in the unit's order.
    pub(crate) inputs: Vec<&'a Tensor>,
    /// Sees the sums of weighted layers.
    pub(crate) watch: &'a mut dyn Watch,
}

/// A unit in the fake-quantized network.
pub(crate) struct Fake<'a> {
    /// The lowered network.
    pub(crate) plan: &'a Plan,
    /// Steps and normalizations.
    pub(crate) state: &'a State,
    /// What collects gradients.
    pub(crate) leaves: &'a Leaves,
    /// Training or evaluation.
    pub(crate) pass: Pass,
    /// This unit.
    pub(crate) unit: &'a dyadic_plan::Unit,
    /// Codes, in the unit's order.
    pub(crate) inputs: Vec<&'a Tensor>,
}

impl<'a> Fake<'a> {
    /// The value of one code unit of a tensor.
    fn step(&self, tensor: usize) -> f64 {
        f64::from(self.state.step_value(self.plan.tensors[tensor].coding))
    }

    /// An input's step in units of the output's.
    fn ratio(&self, input: usize) -> f64 {
        self.step(self.unit.inputs[input]) / self.step(self.unit.output)
    }

    /// Exact sums (f32, with |sum| ≤ `bound`) times `scale`, by the very integers that the engine will use.
    fn uniform(&self, sum: &Tensor, scale: f64, bound: u32) -> Tensor {
        let Some(channel) = choose(&Target::uniform(scale, bound)) else {
            // No integers: the export refuses it.
            return self.quantizer().apply_exact(sum * scale, Act::None);
        };
        let (lo, hi) = self.plan.tensors[self.unit.output].coding.range();
        let codes = {
            let _guard = tch::no_grad_guard();
            let t = (sum * (-f64::from(channel.pre)).exp2()).floor_();
            let t = t * f64::from(channel.multiplier) + f64::from(channel.bias);
            (t * (-f64::from(channel.shift)).exp2()).floor_().clamp_(f64::from(lo), f64::from(hi))
        };
        self.quantizer().replace(sum * channel.slope(), &codes)
    }

    /// The kind that a unit's output has where `x` is its input: f32 where the codes need more bits than bf16 has.
    fn kind(&self, x: &Tensor) -> Kind {
        match self.plan.tensors[self.unit.output].coding {
            Coding::Codes { bits: 9.., .. } => Kind::Float,
            _ => x.kind(),
        }
    }

    /// Rounds to the output's codes.
    fn quantizer(&self) -> Quantizer<'a> {
        Quantizer::new(self.plan, self.state, self.leaves, self.unit.output)
    }
}

/// A window in the engine's form.
fn to_window(window: &dyadic_graph::network::Window) -> ir::Window {
    ir::Window {
        kernel: window.kernel.map(|v| v as u32),
        stride: window.stride.map(|v| v as u32),
        padding: window.padding.map(|v| v as u32),
        dilation: window.dilation.map(|v| v as u32),
    }
}

/// A window in the plan's form.
fn from_window(window: &ir::Window) -> dyadic_graph::network::Window {
    dyadic_graph::network::Window {
        kernel: window.kernel.map(|v| v as usize),
        stride: window.stride.map(|v| v as usize),
        padding: window.padding.map(|v| v as usize),
        dilation: window.dilation.map(|v| v as usize),
    }
}

/// Two extents as libtorch takes them.
fn pair(v: [usize; 2]) -> [i64; 2] {
    v.map(|x| x as i64)
}

#[cfg(test)]
mod tests;
