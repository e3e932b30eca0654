//! How many images run forward at once: so few that what is computed on the way stays in memory that is used again and again.
//!
//! Where floats are added up, the number follows from the network alone, so that any machine comes to the same sums.
//! Where integers are exact, results cannot depend on it, and it follows the memory that a run may take as well.

use dyadic_plan::{Plan, Unit};

use crate::net::last_uses;

/// Bytes of the largest tensor of a batch. Beyond 32 MiB, glibc gives every tensor back to the system at once, and touching
/// fresh pages costs more than computing.
const TENSOR: usize = 24 << 20;
/// Bytes of the largest tensor of [`MOST`] images up to which all of them run at once.
const SMALL: usize = 64 << 20;
/// Multiply-accumulates of one batch: a second or so of an ordinary core.
const MACS: u64 = 1 << 36;
/// Most images in a batch.
const MOST: usize = 250;
/// Tensors of the largest size that a unit's exact form has at once, and copies of them.
const AT_ONCE: usize = 6;

/// Values that one image holds between two units, and what the unit then writes, at the worst unit.
pub fn held_values(plan: &Plan) -> usize {
    worst(plan, |unit| size(plan, unit.output))
}

fn size(plan: &Plan, tensor: usize) -> usize {
    plan.tensors[tensor].shape.iter().product::<usize>().max(1)
}

/// Values of the largest tensor.
fn largest(plan: &Plan) -> usize {
    (0..plan.tensors.len()).map(|t| size(plan, t)).max().unwrap_or(1)
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
    let by_work = usize::try_from(MACS / macs.max(1)).unwrap_or(MOST);
    let bytes = 4 * largest(plan);
    let by_memory = if MOST * bytes <= SMALL { MOST } else { TENSOR / bytes };
    by_memory.min(by_work).clamp(1, MOST)
}

/// Images in a batch of exact integers held in floats, where a run may take `memory` bytes for it.
pub fn exact_images(plan: &Plan, memory: usize) -> usize {
    let bytes = 4 * largest(plan);
    (TENSOR / bytes).min(memory / (AT_ONCE * bytes)).clamp(1, MOST)
}
