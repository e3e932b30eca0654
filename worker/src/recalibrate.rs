//! The last step before an artifact: normalization statistics measured in the integer network itself.
//!
//! Training sees roundings of its own (bf16, batch statistics); the integer network has others. So the network is built
//! unit by unit, each weighted layer's mean and variance taken from its exact integer sums over training images that came
//! through everything already built, and only then folded into that layer's integers.
//!
//! Statistics are added up image after image, so that neither the number of images that run at once nor of threads can show.

mod moments;

use dyadic_engine::model as ir;
use tch::{Device, Kind, Tensor};

use crate::batch;
use crate::error::WorkerError;
use crate::export::{Exporter, Naming};
use crate::observer::{Observer, Phase};
use crate::stage::report;
use crate::state::State;
use crate::unit::conv::{self, Sums};
use crate::unit::{self, Site};
use dyadic_plan::{Coding, Plan, Unit, UnitOp};
use moments::Moments;

/// Memory that the codes of all calibration images may take, bytes.
const BYTES: usize = 384 << 20;
/// Memory up to which [`IMAGES`] of them are taken without further counting.
const SMALL: usize = 640 << 20;
/// Images that are enough whatever the memory.
const IMAGES: usize = 4096;
/// Share of the run's memory in which a layer's sums are kept between being measured and being used.
const KEPT_SHARE: usize = 4;

/// How many calibration images to give to [`build`]: a matter of the network alone, so that every machine takes the same.
pub fn images(plan: &Plan) -> usize {
    let held = batch::held_values(plan);
    if held * IMAGES <= SMALL { IMAGES } else { (BYTES / held).clamp(16, IMAGES) }
}

/// What [`build`] reads.
pub struct Folding<'a> {
    /// The lowered network.
    pub plan: &'a Plan,
    /// Names and normalization.
    pub naming: &'a Naming,
    /// Input codes (N, C, H, W) of the calibration images, of any kind that holds them, some images a batch.
    pub batches: &'a [Tensor],
    /// Bytes of memory that may be used; they decide over speed, never over the result.
    pub memory: usize,
}

/// Builds the integer network from a state whose filters are fitted, replacing the state's statistics by those of the
/// integer network over the batches.
///
/// All images go through a unit before the next is built; between units their codes lie in single bytes.
///
/// # Errors
/// [`WorkerError::Overflow`], [`WorkerError::Unsupported`], and [`WorkerError::Stopped`] if the observer says so.
pub fn build(
    folding: &Folding,
    state: &mut State,
    observer: &mut dyn Observer,
) -> Result<ir::Model, WorkerError> {
    let _guard = tch::no_grad_guard();
    let Folding { plan, naming, batches, memory } = *folding;
    let mut model = Exporter::new(plan, state, naming).skeleton();
    let mut values: Vec<Vec<Option<Tensor>>> = batches.iter().map(|b| first_value(plan, b)).collect();
    let last_use = crate::net::last_uses(plan);
    let mut ticks = Ticks { done: 0, total: 2 * plan.units.len() * batches.len(), observer };
    for (at, unit) in plan.units.iter().enumerate() {
        let mut kept = measure(plan, state, unit, &values, memory / KEPT_SHARE, &mut ticks)?;
        let node = Exporter::new(plan, state, naming).node(unit)?;
        let exact = Form::new(&Site { model: &model, node: &node, device: Device::Cpu });
        for (values, sums) in values.iter_mut().zip(&mut kept) {
            ticks.tick()?;
            // Nothing reads the output.
            if unit.output == plan.output {
                continue;
            }
            let y = {
                let inputs: Vec<Tensor> =
                    unit.inputs.iter().filter_map(|&i| wide(values[i].as_ref())).collect();
                exact.run(&inputs.iter().collect::<Vec<_>>(), sums.take())
            };
            values[unit.output] = Some(y.to_kind(byte(plan.tensors[unit.output].coding)));
            crate::net::release(values, unit, at, &last_use, plan.output);
        }
        model.nodes.push(node);
    }
    model.check().map_err(|e| WorkerError::Model(e.to_string()))?;
    Ok(model)
}

/// A node's exact form; a weighted layer's begins where its sums are at hand.
enum Form {
    Weighted(conv::Exact),
    Other(Box<dyn unit::Exact>),
}

impl Form {
    fn new(at: &Site) -> Self {
        match &at.node.op {
            ir::Op::Conv(conv) => Form::Weighted(conv::Exact::new(conv, at)),
            _ => Form::Other(unit::exact(at)),
        }
    }

    fn run(&self, inputs: &[&Tensor], sums: Option<Tensor>) -> Tensor {
        match (self, sums) {
            (Form::Weighted(exact), Some(sums)) => exact.end(&sums, inputs.get(1).copied()),
            (Form::Weighted(exact), None) => unit::Exact::run(exact, inputs),
            (Form::Other(exact), _) => exact.run(inputs),
        }
    }
}

/// Tells of every batch that went through a unit.
struct Ticks<'a> {
    done: usize,
    total: usize,
    observer: &'a mut dyn Observer,
}

impl Ticks<'_> {
    fn tick(&mut self) -> Result<(), WorkerError> {
        self.done += 1;
        report(self.observer, Phase::Fold, self.done, self.total)
    }
}

/// A kind of one byte that holds a tensor's codes.
fn byte(coding: Coding) -> Kind {
    match coding {
        Coding::Codes { bits: 9.., .. } => Kind::Float,
        Coding::Codes { signed: false, .. } => Kind::Uint8,
        Coding::Input | Coding::Codes { .. } => Kind::Int8,
        Coding::Sums => Kind::Double,
    }
}

/// Codes as the exact forms take them.
fn wide(codes: Option<&Tensor>) -> Option<Tensor> {
    codes.map(|c| c.to_kind(Kind::Float))
}

fn first_value(plan: &Plan, codes: &Tensor) -> Vec<Option<Tensor>> {
    let mut values: Vec<Option<Tensor>> = plan.tensors.iter().map(|_| None).collect();
    values[0] = Some(codes.to_device(Device::Cpu).to_kind(byte(plan.tensors[0].coding)));
    values
}

/// Takes mean and variance of each filter's `2^μ·acc` over all images and positions. Returns each batch's sums, as far as they
/// fit into `memory`.
fn measure(
    plan: &Plan,
    state: &mut State,
    unit: &Unit,
    values: &[Vec<Option<Tensor>>],
    memory: usize,
    ticks: &mut Ticks,
) -> Result<Vec<Option<Tensor>>, WorkerError> {
    let mut kept: Vec<Option<Tensor>> = values.iter().map(|_| None).collect();
    let UnitOp::Conv { weights, window, groups, logits: false, .. } = &unit.op else {
        ticks.done += values.len();
        return Ok(kept);
    };
    let layer = &mut state.layers[*weights];
    let (lo, hi) = plan.tensors[unit.inputs[0]].coding.range();
    let reach = lo.unsigned_abs().max(hi.unsigned_abs());
    let levels: Vec<f32> = layer
        .filters
        .iter()
        .flat_map(|f| f.codes.iter().map(|&c| f.levels.get(usize::from(c)).copied().map_or(0.0, f32::from)))
        .collect();
    let levels = Tensor::from_slice(&levels).view(plan.weights[*weights].shape.map(|d| d as i64));
    let sums = Sums::new(&levels, *window, *groups, reach, Device::Cpu);
    let mut moments = Moments::new(layer.filters.len());
    let mut room = memory;
    for (values, kept) in values.iter().zip(&mut kept) {
        ticks.tick()?;
        let Some(x) = wide(values[unit.inputs[0]].as_ref()) else { continue };
        let acc = sums.run(&x);
        moments.add(&acc);
        let bytes = acc.numel() * if acc.kind() == Kind::Double { 8 } else { 4 };
        if bytes <= room {
            room -= bytes;
            *kept = Some(acc);
        }
    }
    for (filter, (mean, variance)) in moments.finish().into_iter().enumerate() {
        let unit = f64::from(layer.filters[filter].exponent).exp2();
        layer.mean[filter] = (mean * unit) as f32;
        layer.variance[filter] = (variance * unit * unit) as f32;
    }
    Ok(kept)
}
