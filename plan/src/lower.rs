//! From the float network's layers to quantized units.
//!
//! In this order: which layers are fused ([`chain`]), how wide codes are ([`width`]), which share a step ([`step`]), and
//! then each chain's unit, which its operation writes ([`crate::operation`], [`emitter`]). A refusal does not end the
//! walk: what a refused layer would have written stands in for it, so that all that follow are judged too.

pub(crate) mod chain;
mod effect;
pub(crate) mod emitter;
mod step;
mod view;
mod width;

use std::collections::HashSet;

use dyadic_graph::network::{Network, Op, ValueId};

use crate::limits;
use crate::operation;
use crate::plan::Plan;
use crate::refusal::Refusal;
use crate::rules::Rules;
use chain::Chain;
use emitter::Emitter;
use view::View;

/// Lowers `network` by `rules`.
///
/// What a plan cannot know is how far the steps of an addition's operands will lie apart, and whether the slope and offset
/// that training gives each channel fit the requantize rule: both are refused after calibration.
///
/// # Errors
/// Every [`Refusal`], in the order of the layers.
pub fn lower(network: &Network, rules: &Rules) -> Result<Plan, Vec<Refusal>> {
    if let Err(reason) = network.check() {
        return Err(vec![Refusal::new(&network.name, reason)]);
    }
    let view = View::new(network);
    let chains = chain::chains(&view);
    let codings = step::Codings::find(&view, &chains, rules);
    let mut emitter = Emitter::new(&view, rules, codings, last_weighted(&view, &chains));
    let mut refusals = shapes(&view, &chains);
    for chain in &chains {
        if let Err(refusal) = emit(chain, &mut emitter) {
            refusals.push(refusal);
            emitter.stand_in(chain);
        }
    }
    refusals.extend(effect::without(&view, &chains, rules));
    let plan = match emitter.finish() {
        Ok(plan) => plan,
        Err(refusal) => {
            refusals.push(refusal);
            return Err(refusals);
        }
    };
    if plan.weights.is_empty() && refusals.is_empty() {
        refusals
            .push(Refusal::new(&plan.name, "the network has no convolution and no fully connected layer"));
    }
    limits::plan(&plan, &mut refusals);
    if refusals.is_empty() { Ok(plan) } else { Err(refusals) }
}

/// The rules that say something of no layer of `network`: most likely slips of the pen. [`lower`] tells them, too; this is
/// for rules of which not all could be read.
pub fn without_effect(network: &Network, rules: &Rules) -> Vec<Refusal> {
    if network.check().is_err() {
        return Vec::new();
    }
    let view = View::new(network);
    effect::without(&view, &chain::chains(&view), rules)
}

fn emit(chain: &Chain, emitter: &mut Emitter) -> Result<(), Refusal> {
    let layer = emitter.layer(chain);
    match operation::of(&layer.op) {
        Some(operation) => operation.emit(chain, emitter),
        None => Err(Refusal::new(&layer.name, format!("{} has no integer form here", layer.op.name()))),
    }
}

/// Values that are not channels × height × width.
fn shapes(view: &View, chains: &[Chain]) -> Vec<Refusal> {
    let wrong = |(name, value): (&String, ValueId)| {
        let shape = view.network.shape(value);
        let reason = format!("its output of {shape:?} is not channels × height × width");
        view.chw(value).is_none().then(|| Refusal::new(name, reason))
    };
    let written = chains.iter().map(|chain| (&view.layer(chain.first).name, chain.output));
    let input = (&view.network.values[view.network.input.0].name, view.network.input);
    std::iter::once(input).chain(written).filter_map(wrong).collect()
}

/// First layers of the chains behind which, on a way without branches, there is no other weighted layer.
fn last_weighted(view: &View, chains: &[Chain]) -> HashSet<usize> {
    let mut on_way = view.holder(view.output);
    let mut last = HashSet::new();
    for chain in chains.iter().rev() {
        if view.holder(chain.output) != on_way {
            continue;
        }
        let layer = view.layer(chain.first);
        match (&layer.op, &layer.inputs[..]) {
            (Op::Conv(_) | Op::Linear(_), _) => {
                last.insert(chain.first);
                break;
            }
            (_, [input]) => on_way = view.holder(*input),
            _ => break,
        }
    }
    last
}
