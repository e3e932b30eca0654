//! Rules that say something of no layer, with the names that may have been meant.

use dyadic_graph::network::Op;

use super::chain::Chain;
use super::view::View;
use super::width;
use crate::operation::Reads;
use crate::refusal::Refusal;
use crate::rules::read::nearest;
use crate::rules::{Rule, Rules};

/// Most rules whose nearest names are looked for: each is compared with every layer's name.
const MAX_SEARCHES: usize = 10;
/// Names that are told.
const TOLD: usize = 3;

/// A unit's layer, and what a rule can say of it.
struct Target<'a> {
    name: &'a str,
    weights: bool,
    reads: bool,
}

/// All rules without an effect, in their order.
pub(super) fn without(view: &View, chains: &[Chain], rules: &Rules) -> Vec<Refusal> {
    let target = |chain: &Chain| {
        let layer = view.layer(chain.first);
        Target {
            name: &layer.name,
            weights: matches!(layer.op, Op::Conv(_) | Op::Linear(_)),
            reads: matches!(width::reads(view, chain, rules), Reads::Bits(_)),
        }
    };
    let targets: Vec<Target> = chains.iter().map(target).collect();
    let mut refusals = Vec::new();
    for rule in rules.rules() {
        if let Some((reason, meant)) = reason(rule, &targets) {
            let nearest = match refusals.len() {
                0..MAX_SEARCHES => near(rule, &targets, meant),
                _ => String::new(),
            };
            let place = rule.place.map(|place| format!("{place}: ")).unwrap_or_default();
            refusals.push(Refusal::of_rule(rule.layers.as_str(), format!("{place}{reason}{nearest}")));
        }
    }
    refusals
}

type Meant = fn(&Target) -> bool;

/// Why a rule has no effect, and of what kind the layers are that may have been meant.
fn reason(rule: &Rule, targets: &[Target]) -> Option<(&'static str, Meant)> {
    let (mut any, mut weights, mut reads) = (false, false, false);
    for target in targets.iter().filter(|target| rule.layers.matches(target.name)) {
        (any, weights, reads) = (true, weights | target.weights, reads | target.reads);
    }
    if !any {
        return Some(("it matches no layer that becomes a unit", |_| true));
    }
    if rule.weights.is_some() && !weights {
        return Some(("it says a codebook, and matches only layers without weights", |t| t.weights));
    }
    if rule.weights.is_none() && rule.input_bits.is_some() && !reads {
        return Some(("it says input_bits, and matches only layers that hand codes on", |t| t.reads));
    }
    None
}

fn near(rule: &Rule, targets: &[Target], meant: Meant) -> String {
    let names = targets.iter().filter(|target| meant(target)).map(|target| target.name);
    match nearest(rule.layers.as_str(), names, TOLD)[..] {
        [] => String::new(),
        ref names => format!("; the nearest are '{}'", names.join("', '")),
    }
}
