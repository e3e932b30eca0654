//! The plan as it is written: tensors, casts between them, units.

use std::collections::{HashMap, HashSet};

use dyadic_engine::cost::Cost;
use dyadic_graph::network::{Layer, ValueId};

use super::chain::Chain;
use super::step::Codings;
use super::view::View;
use super::width;
use crate::codebook::Choice;
use crate::expected::{Expectations, Expected};
use crate::operation::{self, Reads, UnitOp};
use crate::plan::{Coding, Plan, TensorPlan, Unit, WeightPlan};
use crate::refusal::Refusal;
use crate::rules::{Role, Rules};

/// What operations write units with. Values are those of the network; tensors are indices into the plan's.
pub(crate) struct Emitter<'a> {
    pub(crate) view: &'a View<'a>,
    pub(crate) rules: &'a Rules,
    codings: Codings,
    expectations: Expectations,
    /// First layers of the chains whose sums no other weighted layer reads.
    last: HashSet<usize>,
    /// The tensor that each value was written to, by its holder.
    written: Vec<Option<usize>>,
    /// Re-coded copies.
    casts: HashMap<(usize, Coding), usize>,
    tensor_names: HashSet<String>,
    unit_names: HashSet<String>,
    plan: Plan,
}

impl<'a> Emitter<'a> {
    pub(crate) fn new(view: &'a View, rules: &'a Rules, codings: Codings, last: HashSet<usize>) -> Self {
        let network = view.network;
        let plan = Plan {
            name: network.name.clone(),
            input_name: view.name(network.input).to_owned(),
            output_name: view.name(network.output).to_owned(),
            output: 0,
            softmax: view.softmax,
            log: view.log,
            tensors: Vec::new(),
            units: Vec::new(),
            weights: Vec::new(),
            steps: 0,
            rules: rules.clone(),
        };
        let mut emitter = Emitter {
            view,
            rules,
            codings,
            expectations: Expectations::default(),
            last,
            written: vec![None; network.values.len()],
            casts: HashMap::new(),
            tensor_names: HashSet::new(),
            // Layers' names are unique; those of casts must not take one.
            unit_names: network.layers.iter().map(|layer| layer.name.clone()).collect(),
            plan,
        };
        let input = emitter.new_tensor(network.input, Coding::Input, "");
        emitter.written[network.input.0] = Some(input);
        emitter
    }

    pub(crate) fn layer(&self, chain: &Chain) -> &'a Layer {
        self.view.layer(chain.first)
    }

    pub(crate) fn tensor(&self, tensor: usize) -> &TensorPlan {
        &self.plan.tensors[tensor]
    }

    /// Where a chain's weighted layer stands.
    pub(crate) fn role(&self, chain: &Chain) -> Role {
        let reads_input = self.layer(chain).inputs.iter().any(|&v| self.view.is_input(v));
        match (reads_input, self.last.contains(&chain.first)) {
            (_, true) => Role::Last,
            (true, false) => Role::First,
            (false, false) => Role::Middle,
        }
    }

    /// What to expect of a codebook.
    pub(crate) fn expected(&mut self, choice: Choice) -> Expected {
        self.expectations.of(choice)
    }

    /// The tensor that holds `value` in codes at most so wide, or the network's input as it is.
    pub(crate) fn read(&mut self, value: ValueId, bits: u8) -> Result<usize, Refusal> {
        if self.view.is_input(value) { self.source(value) } else { self.read_codes(value, bits) }
    }

    /// The same, with the network's input re-coded to a power-of-two step.
    pub(crate) fn read_codes(&mut self, value: ValueId, bits: u8) -> Result<usize, Refusal> {
        let holder = self.view.holder(value);
        let coding = self.codings.codes(holder.0, bits, &mut self.plan.steps);
        self.read_as(value, coding, None)
    }

    /// The tensor that holds `value` in this very coding; `reader` names the cast where a width alone does not.
    pub(crate) fn read_as(
        &mut self,
        value: ValueId,
        coding: Coding,
        reader: Option<&str>,
    ) -> Result<usize, Refusal> {
        let source = self.source(value)?;
        if self.plan.tensors[source].coding == coding {
            return Ok(source);
        }
        let holder = self.view.holder(value);
        if let Some(&cast) = self.casts.get(&(holder.0, coding)) {
            return Ok(cast);
        }
        let suffix = match (reader, coding) {
            (None, Coding::Codes { bits, .. }) => format!(":{bits}"),
            (reader, _) => format!(":{}", reader.unwrap_or_default()),
        };
        let output = self.new_tensor(holder, coding, &suffix);
        let wanted = format!("{}:cast", self.plan.tensors[output].name);
        let name = unique(&mut self.unit_names, wanted);
        let cost = Cost::requantize(self.plan.tensors[output].shape[0] as u64);
        self.plan.units.push(Unit { name, inputs: vec![source], output, op: UnitOp::Cast, cost });
        self.casts.insert((holder.0, coding), output);
        Ok(output)
    }

    /// Codes of what a chain writes, in the format and the class that its readers need.
    pub(crate) fn output_coding(&mut self, chain: &Chain) -> Coding {
        self.codings.codes(self.view.holder(chain.output).0, u8::MAX, &mut self.plan.steps)
    }

    /// Bits that a chain's first layer wants of its operands, by the rules; of one that hands codes on, as many as it writes.
    pub(crate) fn wanted(&self, chain: &Chain) -> u8 {
        match width::reads(self.view, chain, self.rules) {
            Reads::Bits(bits) => bits,
            Reads::AsWritten => self.codings.width[self.view.holder(chain.output).0],
        }
    }

    /// Whether what a chain writes is what the network gives, and no unit reads it.
    pub(crate) fn is_output(&self, chain: &Chain) -> bool {
        let no_unit = |&reader: &usize| {
            reader >= self.view.layers()
                || operation::of(&self.view.layer(reader).op)
                    .is_some_and(super::super::operation::Operation::only_reshapes)
        };
        self.view.holder(self.view.output) == self.view.holder(chain.output)
            && self.view.consumers(chain.output).iter().all(no_unit)
    }

    /// A chain's unit.
    pub(crate) fn write(
        &mut self,
        chain: &Chain,
        inputs: Vec<usize>,
        op: UnitOp,
        coding: Coding,
        cost: Cost,
    ) {
        let output = self.new_tensor(chain.output, coding, "");
        self.written[self.view.holder(chain.output).0] = Some(output);
        let name = self.layer(chain).name.clone();
        self.plan.units.push(Unit { name, inputs, output, op, cost });
    }

    /// A weighted layer; answers its index.
    pub(crate) fn weights(&mut self, weights: WeightPlan) -> usize {
        self.plan.weights.push(weights);
        self.plan.weights.len() - 1
    }

    /// A tensor in place of what a refused chain would have written, so that its readers can be judged.
    pub(crate) fn stand_in(&mut self, chain: &Chain) {
        let holder = self.view.holder(chain.output);
        if self.written[holder.0].is_none() {
            let coding = self.output_coding(chain);
            self.written[holder.0] = Some(self.new_tensor(chain.output, coding, ""));
        }
    }

    /// The finished plan, of which the network's output is known.
    pub(crate) fn finish(mut self) -> Result<Plan, Refusal> {
        let missing = || Refusal::new(&self.plan.output_name, "the network's output is its input");
        if self.view.is_input(self.view.output) {
            return Err(missing());
        }
        self.plan.output = self.written[self.view.holder(self.view.output).0].ok_or_else(missing)?;
        Ok(self.plan)
    }

    fn source(&self, value: ValueId) -> Result<usize, Refusal> {
        self.written[self.view.holder(value).0]
            .ok_or_else(|| Refusal::new(self.view.name(value), "it is read before it is written"))
    }

    fn new_tensor(&mut self, value: ValueId, coding: Coding, suffix: &str) -> usize {
        let elements = || self.view.network.shape(value).iter().product();
        // Another rank has been refused; its elements still tell what reads it.
        let shape = self.view.chw(value).unwrap_or_else(|| [elements(), 1, 1]);
        let name = unique(&mut self.tensor_names, format!("{}{suffix}", self.view.name(value)));
        self.plan.tensors.push(TensorPlan { name, shape, coding });
        self.plan.tensors.len() - 1
    }
}

/// The name, with as many marks behind it as make it new.
fn unique(taken: &mut HashSet<String>, mut name: String) -> String {
    while !taken.insert(name.clone()) {
        name.push('\'');
    }
    name
}
