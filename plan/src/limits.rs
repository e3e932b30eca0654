//! What the engine takes of any layer, asked before there are weights: extents, windows, sums.
//!
//! A plan that passes makes a network that [`dyadic_engine::check`] accepts, but for what calibration alone can tell: how
//! far the steps of an addition's operands lie apart, and whether each channel's slope and offset fit the requantize rule.

use dyadic_engine::certificate::MAX_CODES;
use dyadic_engine::check::{MAX_DIM, MAX_LAYER_WEIGHTS, MAX_MACS, MAX_TENSOR_CODES, MAX_TENSORS, MAX_WINDOW};
use dyadic_graph::network::Window;

use crate::codebook::{Filter, Fitter};
use crate::expected::Expected;
use crate::plan::{Coding, Plan, WeightPlan};
use crate::refusal::Refusal;

/// Golden inputs of an artifact that are made from a seed.
pub const GOLDEN_SEEDS: u64 = 2;
/// Golden inputs that are images, where an image is small enough.
pub const GOLDEN_IMAGES: u64 = 2;
/// Most codes of an image that becomes a golden input; larger ones would outweigh the weights.
pub const GOLDEN_IMAGE_CODES: u64 = 4096;

/// A sum stays below this.
const SUM: u64 = 1 << 31;

/// Largest |code|.
pub(crate) fn reach(coding: Coding) -> u64 {
    let (lo, hi) = coding.range();
    u64::from(lo.unsigned_abs().max(hi.unsigned_abs()))
}

/// A window over an input of this shape.
pub(crate) fn window(layer: &str, window: &Window, [c, h, w]: [usize; 3]) -> Result<(), Refusal> {
    let max = MAX_WINDOW as usize;
    let sides = window.kernel.iter().chain(&window.stride).chain(&window.dilation);
    if sides.copied().any(|side| side == 0 || side > max) || window.padding.iter().any(|&side| side > max) {
        let reason = format!("a kernel, stride, dilation or padding beyond {MAX_WINDOW}");
        return Err(Refusal::new(layer, reason));
    }
    let [top, left, bottom, right] = window.padding;
    let codes = product([c, h.saturating_add(top + bottom), w.saturating_add(left + right)]);
    if codes > MAX_TENSOR_CODES {
        let reason = format!("its padded input has {codes} codes; {MAX_TENSOR_CODES} are allowed");
        return Err(Refusal::new(layer, reason));
    }
    Ok(())
}

/// A pool's window, which must lie on the input with a part of it everywhere.
pub(crate) fn pool(layer: &str, pool: &Window, shape @ [_, h, w]: [usize; 3]) -> Result<(), Refusal> {
    window(layer, pool, shape)?;
    let Some(outputs) = pool.output_extents(h, w) else {
        return Err(Refusal::new(layer, "its window is larger than its padded input"));
    };
    for (axis, extent) in [h, w].into_iter().enumerate() {
        // Between the first and the last position the window only moves further onto the input, and off it.
        let touches = |position: usize| {
            let start = (position * pool.stride[axis]) as i64 - pool.padding[axis] as i64;
            let (dilation, kernel) = (pool.dilation[axis] as i64, pool.kernel[axis] as i64);
            let first = if start >= 0 { 0 } else { (-start + dilation - 1) / dilation };
            first < kernel && start + first * dilation < extent as i64
        };
        if !(0..outputs[axis]).all(touches) {
            return Err(Refusal::new(layer, "a window that lies wholly in the padding"));
        }
    }
    Ok(())
}

/// A sum of so many codes.
pub(crate) fn sum(layer: &str, codes: u64, reach: u64) -> Result<(), Refusal> {
    let bound = codes.saturating_mul(reach);
    if bound >= SUM {
        return Err(Refusal::new(layer, format!("the sum of its window may reach {bound}, past 2^31")));
    }
    Ok(())
}

/// The sums of a weighted layer that reads codes of this coding.
///
/// Where the codebook's largest level at every weight keeps 32 bits, nothing can go wrong. Where the smallest does not,
/// nothing helps. In between, and for logits, which bring all filters to one exponent, the present weights tell.
pub(crate) fn weights(
    weights: &WeightPlan,
    expected: &Expected,
    reads: Coding,
    logits: bool,
) -> Result<(), Refusal> {
    let count = product(weights.shape);
    if count > MAX_LAYER_WEIGHTS {
        let reason = format!("it has {count} weights; {MAX_LAYER_WEIGHTS} are allowed");
        return Err(Refusal::new(&weights.name, reason));
    }
    let codes = (weights.per_filter() as u64).saturating_mul(reach(reads));
    let least = codes.saturating_mul(expected.least);
    if least >= SUM {
        let reason = format!("its sums reach {least}, past 2^31, whatever its levels are");
        return Err(Refusal::new(&weights.name, reason));
    }
    if codes.saturating_mul(expected.largest) < SUM && !logits {
        return Ok(());
    }
    let bound = bound_of_present(weights, reach(reads), logits)?;
    if bound >= SUM as f64 {
        let reason =
            format!("its sums may reach {bound:.0}, past 2^31; narrower weights or activations would do");
        return Err(Refusal::new(&weights.name, reason));
    }
    Ok(())
}

/// Largest |sum| of the filters that fit the present weights, for logits in units of the finest filter.
fn bound_of_present(weights: &WeightPlan, reach: u64, logits: bool) -> Result<f64, Refusal> {
    let (mut fitter, mut filter) = (Fitter::default(), Filter::default());
    let (mut largest, mut finest, mut aligned) = (0f64, i32::MAX, 0f64);
    for (index, w) in weights.data.chunks_exact(weights.per_filter().max(1)).enumerate() {
        let refuse = |why| Refusal::new(&weights.name, format!("filter {index}: {why}"));
        let latent = weights.method.codebook().start(weights.method.objective(), w);
        fitter.fit(weights.method, &latent, &mut filter).map_err(|why| refuse(why.to_string()))?;
        let level = |code: &u8| filter.levels.get(usize::from(*code)).copied().unwrap_or(0);
        let levels: u64 = filter.codes.iter().map(|code| u64::from(level(code).unsigned_abs())).sum();
        if levels > 0 {
            let bound = levels as f64 * reach as f64;
            largest = largest.max(bound);
            finest = finest.min(filter.exponent);
            aligned = aligned.max(bound * f64::from(filter.exponent).exp2());
        }
    }
    if logits && finest < i32::MAX {
        largest = largest.max(aligned * f64::from(-finest).exp2());
    }
    Ok(largest)
}

/// What concerns the network as a whole, and every tensor.
pub(crate) fn plan(plan: &Plan, refusals: &mut Vec<Refusal>) {
    let mut whole = |what: &str, actual: u64, limit: u64| {
        if actual > limit {
            let reason = format!("it takes {actual} {what}; {limit} are allowed");
            refusals.push(Refusal::new(&plan.name, reason));
        }
    };
    whole("tensors", plan.tensors.len() as u64, MAX_TENSORS as u64);
    whole("units", plan.units.len() as u64, MAX_TENSORS as u64);
    let macs = plan.weights.iter().fold(0u64, |sum, weights| sum.saturating_add(weights.macs));
    whole("multiply-accumulates", macs, MAX_MACS);
    certificate(plan, macs, refusals);
    let writers = plan.units.iter().map(|unit| (unit.output, unit.name.as_str()));
    for (tensor, name) in std::iter::once((0, plan.input_name.as_str())).chain(writers) {
        let Some(shape) = plan.tensors.get(tensor).map(|tensor| tensor.shape) else { continue };
        if shape.iter().any(|&extent| extent == 0 || extent > MAX_DIM as usize)
            || product(shape) > MAX_TENSOR_CODES
        {
            let reason = format!(
                "its output of {shape:?} is not 1 to {MAX_DIM} along each side, {MAX_TENSOR_CODES} in all"
            );
            refusals.push(Refusal::new(name, reason));
        }
    }
}

/// What the proof of exactness that goes with the artifact can cover, over all its golden inputs.
fn certificate(plan: &Plan, macs: u64, refusals: &mut Vec<Refusal>) {
    let codes = |tensor: usize| plan.tensors.get(tensor).map_or(0, |tensor| product(tensor.shape));
    let inputs = GOLDEN_SEEDS + if codes(0) <= GOLDEN_IMAGE_CODES { GOLDEN_IMAGES } else { 0 };
    let all = (0..plan.tensors.len()).map(codes).fold(0u64, u64::saturating_add);
    let limit = MAX_CODES / inputs;
    if all > limit {
        let largest = plan.units.iter().max_by_key(|unit| codes(unit.output));
        let (name, most) = largest.map_or((plan.name.as_str(), 0), |u| (u.name.as_str(), codes(u.output)));
        let reason = format!(
            "the network has {all} codes a sample, and its proof of exactness covers {limit}; this layer writes the most, \
             {most}: a smaller input would do"
        );
        refusals.push(Refusal::new(name, reason));
    }
    let limit = MAX_MACS / inputs;
    if macs > limit && macs <= MAX_MACS {
        let largest = plan.units.iter().max_by_key(|unit| unit.cost.macs);
        let name = largest.map_or(plan.name.as_str(), |unit| unit.name.as_str());
        let reason = format!(
            "the network takes {macs} multiply-accumulates a sample, and its proof of exactness covers {limit}; this \
             layer takes the most"
        );
        refusals.push(Refusal::new(name, reason));
    }
}

fn product<const N: usize>(extents: [usize; N]) -> u64 {
    extents.iter().fold(1u64, |product, &extent| product.saturating_mul(extent as u64))
}
