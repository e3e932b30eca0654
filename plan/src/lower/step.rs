//! Which codes share a step, found before anything is emitted.
//!
//! The codes of a value at a width are a member of one class. A concatenation and a maximum hand codes on, so their
//! operands and their output are one class, and whoever writes an operand writes the class's step directly. Operands of
//! another signedness stay apart; they are re-coded, once for each class that reads them.

use std::collections::HashMap;

use super::chain::Chain;
use super::view::View;
use super::width;
use crate::operation::{self, Reads};
use crate::plan::Coding;
use crate::rules::Rules;

/// The coding of every value that is written, and the classes of equal steps.
pub(crate) struct Codings {
    /// Bits, by value.
    pub(crate) width: Vec<u8>,
    /// Whether negative codes exist, by value.
    signed: Vec<bool>,
    /// Union-find over the values at their widths.
    member: HashMap<(usize, u8), usize>,
    parent: Vec<usize>,
    /// Steps of the classes that have one already, by root.
    step: HashMap<usize, usize>,
}

impl Codings {
    /// Widths, signs and classes of a network.
    pub(crate) fn find(view: &View, chains: &[Chain], rules: &Rules) -> Self {
        let mut codings = Codings {
            width: width::widths(view, chains, rules),
            signed: signs(view, chains),
            member: HashMap::new(),
            parent: Vec::new(),
            step: HashMap::new(),
        };
        for chain in chains.iter().filter(|chain| width::reads(view, chain, rules) == Reads::AsWritten) {
            let output = view.holder(chain.output).0;
            let bits = codings.width[output];
            for &input in &view.layer(chain.first).inputs {
                let operand = view.holder(input).0;
                if !view.is_input(input) && codings.signed[operand] == codings.signed[output] {
                    codings.unite((operand, bits), (output, bits));
                }
            }
        }
        codings
    }

    /// Codes of the value `holder`, at most so wide. The class gets its step when it is first asked for.
    pub(crate) fn codes(&mut self, holder: usize, bits: u8, steps: &mut usize) -> Coding {
        let bits = bits.min(self.width[holder]);
        let node = self.node((holder, bits));
        let root = self.root(node);
        let step = *self.step.entry(root).or_insert_with(|| {
            *steps += 1;
            *steps - 1
        });
        Coding::Codes { bits, signed: self.signed[holder], step }
    }

    fn node(&mut self, key: (usize, u8)) -> usize {
        let next = self.parent.len();
        let node = *self.member.entry(key).or_insert(next);
        if node == next {
            self.parent.push(next);
        }
        node
    }

    /// The representative of a class; halves the way to it.
    fn root(&mut self, mut node: usize) -> usize {
        while self.parent[node] != node {
            self.parent[node] = self.parent[self.parent[node]];
            node = self.parent[node];
        }
        node
    }

    fn unite(&mut self, a: (usize, u8), b: (usize, u8)) {
        let [a, b] = [a, b].map(|key| self.node(key));
        let [a, b] = [self.root(a), self.root(b)];
        self.parent[b] = a;
    }
}

/// Whether each value can be negative.
fn signs(view: &View, chains: &[Chain]) -> Vec<bool> {
    let mut signed = vec![true; view.network.values.len()];
    for chain in chains {
        let layer = view.layer(chain.first);
        let operands: Vec<bool> = layer.inputs.iter().map(|&v| signed[view.holder(v).0]).collect();
        if let Some(operation) = operation::of(&layer.op) {
            signed[view.holder(chain.output).0] = operation.is_signed(&layer.op, chain.act, &operands);
        }
    }
    signed
}
