//! What is fused: chains of layers that become one unit.
//!
//! A weighted layer takes in the normalization that follows it, an addition that it hosts, and the activation; an addition
//! and a normalization that stand alone take in the activation. All but the last layer of a chain are read by the next alone.

use dyadic_graph::network::{Op, ValueId};

use super::view::View;
use crate::operation::{self, Act};

/// Layers that become one unit.
#[derive(Debug)]
pub(crate) struct Chain {
    /// The layer that the unit is named after.
    pub(crate) first: usize,
    /// The last layer, in the network's order.
    pub(crate) last: usize,
    /// The normalization behind the first layer.
    pub(crate) norm: Option<usize>,
    /// The other operand of the addition that was taken in.
    pub(crate) residual: Option<ValueId>,
    /// The activation at the end.
    pub(crate) act: Act,
    /// What the last layer writes.
    pub(crate) output: ValueId,
}

/// What a layer at the head of a chain takes in of those behind it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Absorbs {
    /// A normalization.
    pub(crate) norm: bool,
    /// An addition whose other operand comes from elsewhere.
    pub(crate) addition: bool,
    /// An activation.
    pub(crate) act: bool,
}

/// Groups the layers into chains, ordered so that each follows what it reads.
pub(crate) fn chains(view: &View) -> Vec<Chain> {
    let mut taken = vec![false; view.layers()];
    let mut chains = Vec::new();
    for first in 0..view.layers() {
        if !taken[first] {
            chains.push(chain_from(view, first, &mut taken));
        }
    }
    chains.sort_by_key(|chain| chain.last);
    chains
}

fn chain_from(view: &View, first: usize, taken: &mut [bool]) -> Chain {
    let output = view.layer(first).output;
    let mut chain = Chain { first, last: first, norm: None, residual: None, act: Act::None, output };
    taken[first] = true;
    let absorbs = absorbs(view, first);
    let mut next = view.sole_consumer(output);
    let mut take = |chain: &mut Chain, layer: usize| {
        taken[layer] = true;
        chain.last = layer;
        chain.output = view.layer(layer).output;
        view.sole_consumer(chain.output)
    };
    if let Some(norm) = next.filter(|&n| absorbs.norm && is_norm(view, n)) {
        chain.norm = Some(norm);
        next = take(&mut chain, norm);
    }
    if let Some(add) = next.filter(|&n| absorbs.addition && addition_host(view, n) == Some(first)) {
        chain.residual = view.layer(add).inputs.iter().copied().find(|&v| v != chain.output);
        next = take(&mut chain, add);
    }
    if let Some(layer) = next.filter(|_| absorbs.act)
        && let Some(act) = act_of(&view.layer(layer).op)
    {
        chain.act = act;
        take(&mut chain, layer);
    }
    chain
}

fn absorbs(view: &View, layer: usize) -> Absorbs {
    operation::of(&view.layer(layer).op).map(|o| o.absorbs(&view.layer(layer).op)).unwrap_or_default()
}

fn is_norm(view: &View, layer: usize) -> bool {
    matches!(view.layer(layer).op, Op::BatchNorm(_))
}

fn act_of(op: &Op) -> Option<Act> {
    match *op {
        Op::Relu => Some(Act::Relu),
        Op::Clip { lo, hi } if lo == 0.0 && hi > 0.0 => Some(Act::Clip(hi)),
        _ => None,
    }
}

/// The layer whose sum (after its own normalization) is `value`, where it can take in an addition and is read by nothing else.
fn foldable_operand(view: &View, value: ValueId) -> Option<usize> {
    view.sole_consumer(value)?;
    let layer = view.producer(value)?;
    if absorbs(view, layer).addition {
        return Some(layer);
    }
    let before = *view.layer(layer).inputs.first().filter(|_| is_norm(view, layer))?;
    view.sole_consumer(before)?;
    view.producer(before).filter(|&l| absorbs(view, l).addition && absorbs(view, l).norm)
}

/// The layer that takes in an addition: the one with more multiply-accumulates, the later on a tie.
fn addition_host(view: &View, add: usize) -> Option<usize> {
    let layer = view.layer(add);
    let [a, b] = layer.inputs[..] else { return None };
    if !matches!(layer.op, Op::Add) || a == b {
        return None;
    }
    let hosts = [a, b].into_iter().filter_map(|v| foldable_operand(view, v));
    hosts.max_by_key(|&l| (view.layer(l).macs(view.network), l))
}
