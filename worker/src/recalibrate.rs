//! The last step before an artifact: normalization statistics measured in the integer network itself.
//!
//! Training sees roundings of its own (bf16, batch statistics); the integer network has others. So the network is built
//! unit by unit, each weighted layer's mean and variance taken from its exact integer sums over training images that came
//! through everything already built, and only then folded into that layer's integers.

use dyadic_engine::model as ir;
use tch::{Device, Kind, Tensor};

use crate::batch;
use crate::error::WorkerError;
use crate::export::{Exporter, Naming};
use crate::observer::{Control, Observer, Phase, Progress};
use crate::state::State;
use crate::unit::conv::convolve;
use crate::unit::{self, Site};
use dyadic_plan::{Coding, Plan, Unit, UnitOp};

/// Memory that the codes of all calibration images may take, bytes.
const BYTES: usize = 1 << 30;
/// Images that are enough whatever the memory.
const IMAGES: usize = 4096;

/// How many calibration images to give to [`build`].
pub fn images(plan: &Plan) -> usize {
    (BYTES / batch::held_values(plan)).clamp(16, IMAGES)
}

/// Builds the integer network from a state whose filters are fitted, replacing the state's statistics by those of the
/// integer network over `batches` of input codes (N, C, H, W), which may be of any kind that holds them.
///
/// All images go through a unit before the next is built; between units their codes lie in single bytes.
///
/// # Errors
/// [`WorkerError::Overflow`], [`WorkerError::Unsupported`], and [`WorkerError::Stopped`] if the observer says so.
pub fn build(
    plan: &Plan,
    state: &mut State,
    naming: &Naming,
    batches: &[Tensor],
    observer: &mut dyn Observer,
) -> Result<ir::Model, WorkerError> {
    let _guard = tch::no_grad_guard();
    let mut model = Exporter::new(plan, state, naming).skeleton();
    let mut values: Vec<Vec<Option<Tensor>>> = batches.iter().map(|b| first_value(plan, b)).collect();
    let last_use = crate::net::last_uses(plan);
    let mut ticks = Ticks { done: 0, total: 2 * plan.units.len() * batches.len(), observer };
    for (at, unit) in plan.units.iter().enumerate() {
        measure(state, unit, &values, &mut ticks)?;
        let node = Exporter::new(plan, state, naming).node(unit)?;
        let exact = unit::exact(&Site { model: &model, node: &node, device: Device::Cpu });
        for values in &mut values {
            ticks.tick()?;
            // Nothing reads the output.
            if unit.output == plan.output {
                continue;
            }
            let y = {
                let inputs: Vec<Tensor> =
                    unit.inputs.iter().filter_map(|&i| wide(values[i].as_ref())).collect();
                exact.run(&inputs.iter().collect::<Vec<_>>())
            };
            values[unit.output] = Some(y.to_kind(byte(plan.tensors[unit.output].coding)));
            crate::net::release(values, unit, at, &last_use, plan.output);
        }
        model.nodes.push(node);
    }
    model.check().map_err(|e| WorkerError::Model(e.to_string()))?;
    Ok(model)
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
        let progress = Progress { phase: Phase::Export, done: self.done as u64, total: self.total as u64 };
        if self.observer.progress(progress) == Control::Stop { Err(WorkerError::Stopped) } else { Ok(()) }
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

/// Mean and variance of each filter's `2^μ·acc` over all images and positions.
fn measure(
    state: &mut State,
    unit: &Unit,
    values: &[Vec<Option<Tensor>>],
    ticks: &mut Ticks,
) -> Result<(), WorkerError> {
    let UnitOp::Conv { weights, window, groups, logits: false, .. } = &unit.op else {
        ticks.done += values.len();
        return Ok(());
    };
    let layer = &mut state.layers[*weights];
    let mut data = vec![0f32; layer.filters.iter().map(|f| f.codes.len()).sum()];
    let per_filter = data.len() / layer.filters.len().max(1);
    for (filter, out) in layer.filters.iter().zip(data.chunks_exact_mut(per_filter.max(1))) {
        filter.dequantize(out);
    }
    let filters = layer.filters.len() as i64;
    let (mut sum, mut squares, mut count) =
        (Tensor::zeros([filters], (Kind::Double, Device::Cpu)), None::<Tensor>, 0.0);
    for values in values {
        ticks.tick()?;
        let Some(x) = wide(values[unit.inputs[0]].as_ref()) else { continue };
        let channels = x.size()[1] / *groups as i64;
        let [kh, kw] = window.kernel.map(|k| k as i64);
        let weight = Tensor::from_slice(&data).view([filters, channels, kh, kw]);
        let z = convolve(&x, &weight, window, *groups);
        let dims = [0i64, 2, 3].as_slice();
        sum += z.sum_dim_intlist(dims, false, Kind::Double);
        let q = z.square().sum_dim_intlist(dims, false, Kind::Double);
        squares = Some(squares.map_or_else(|| q.shallow_clone(), |s| s + &q));
        count += (z.numel() as i64 / filters) as f64;
    }
    let Some(squares) = squares else { return Ok(()) };
    let mean = Vec::<f64>::try_from(sum / count)?;
    let squares = Vec::<f64>::try_from(squares / count)?;
    layer.variance = squares.iter().zip(&mean).map(|(q, m)| (q - m * m).max(0.0) as f32).collect();
    layer.mean = mean.iter().map(|m| *m as f32).collect();
    Ok(())
}
