//! How many images run forward at once: as many as a budget of memory allows, and so few that progress is told often.

use dyadic_plan::{Plan, Unit, UnitOp};

use crate::net::last_uses;

/// Bytes that the live tensors of one batch may take.
const BYTES: usize = 768 << 20;
/// Multiply-accumulates of one batch: a second or so of an ordinary core.
const MACS: u64 = 1 << 36;
/// Most images in a batch.
const MOST: usize = 250;

/// Values that one image holds between two units, and what the unit then writes, at the worst unit.
pub fn held_values(plan: &Plan) -> usize {
    worst(plan, |unit| size(plan, unit.output))
}

/// Values that one image takes while it runs, at the worst unit: what it holds and what the unit computes on the way.
fn live_values(plan: &Plan) -> usize {
    worst(plan, |unit| match &unit.op {
        // A convolution has its sums beside its output, and a copy of its input where the padding is uneven.
        UnitOp::Conv { .. } => 2 * size(plan, unit.output) + size(plan, unit.inputs[0]),
        _ => 2 * size(plan, unit.output),
    })
}

fn size(plan: &Plan, tensor: usize) -> usize {
    plan.tensors[tensor].shape.iter().product::<usize>().max(1)
}

/// The largest sum over the units of what is held for them and later ones, and of what each works with.
fn worst(plan: &Plan, working: impl Fn(&Unit) -> usize) -> usize {
    let last_use = last_uses(plan);
    let mut alive: Vec<usize> = vec![0];
    let mut worst = 1;
    for (at, unit) in plan.units.iter().enumerate() {
        let held: usize = alive.iter().map(|&t| size(plan, t)).sum();
        worst = worst.max(held + working(unit));
        alive.push(unit.output);
        alive.retain(|&t| last_use[t] > at || t == plan.output);
    }
    worst
}

/// Images in a batch of a forward pass in f32.
pub fn images(plan: &Plan) -> usize {
    let macs: u64 = plan.weights.iter().map(|w| w.macs).sum();
    let by_memory = BYTES / (4 * live_values(plan));
    let by_work = usize::try_from(MACS / macs.max(1)).unwrap_or(MOST);
    by_memory.min(by_work).clamp(1, MOST)
}
