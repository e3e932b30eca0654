//! The float network seen by its values: who writes each, who reads it, and which of them are one tensor.

use dyadic_graph::network::{Layer, Network, Op, ValueId};

use crate::operation;

/// A checked network with the two directions of its edges.
pub(crate) struct View<'a> {
    pub(crate) network: &'a Network,
    /// Layers that read each value.
    consumers: Vec<Vec<usize>>,
    /// The layer that writes each value.
    producer: Vec<Option<usize>>,
    /// The value that holds the codes of each: where a layer only gives another shape, its operand's.
    holder: Vec<ValueId>,
    /// What the integer network gives: the output, or what a softmax at the end reads.
    pub(crate) output: ValueId,
    /// Whether a softmax follows the integer network.
    pub(crate) softmax: bool,
    /// Whether its logarithm does.
    pub(crate) log: bool,
}

impl<'a> View<'a> {
    /// `network` has passed [`Network::check`].
    pub(crate) fn new(network: &'a Network) -> Self {
        let count = network.values.len();
        let mut view = View {
            network,
            consumers: vec![Vec::new(); count],
            producer: vec![None; count],
            holder: (0..count).map(ValueId).collect(),
            output: network.output,
            softmax: false,
            log: false,
        };
        for (index, layer) in network.layers.iter().enumerate() {
            for input in &layer.inputs {
                view.consumers[input.0].push(index);
            }
            view.producer[layer.output.0] = Some(index);
            if operation::of(&layer.op).is_some_and(super::super::operation::Operation::only_reshapes) {
                view.holder[layer.output.0] = view.holder[layer.inputs[0].0];
            }
        }
        if let Some(last) = network.layers.last().filter(|last| last.output == network.output)
            && matches!(last.op, Op::Softmax | Op::LogSoftmax)
        {
            view.softmax = true;
            view.log = matches!(last.op, Op::LogSoftmax);
            view.output = last.inputs[0];
        }
        view
    }

    /// Layers that become units: all but a softmax at the end.
    pub(crate) fn layers(&self) -> usize {
        self.network.layers.len() - usize::from(self.softmax)
    }

    pub(crate) fn layer(&self, index: usize) -> &'a Layer {
        &self.network.layers[index]
    }

    pub(crate) fn consumers(&self, value: ValueId) -> &[usize] {
        &self.consumers[value.0]
    }

    /// The layer that writes a value; none writes the network's input.
    pub(crate) fn producer(&self, value: ValueId) -> Option<usize> {
        self.producer[value.0]
    }

    /// See the field.
    pub(crate) fn holder(&self, value: ValueId) -> ValueId {
        self.holder[value.0]
    }

    /// Whether a value is the network's input, in whatever shape.
    pub(crate) fn is_input(&self, value: ValueId) -> bool {
        self.holder(value) == self.network.input
    }

    /// The only reader of a value, if there is just one and the value is not the output.
    pub(crate) fn sole_consumer(&self, value: ValueId) -> Option<usize> {
        match self.consumers(value) {
            [one] if value != self.output => Some(*one),
            _ => None,
        }
    }

    pub(crate) fn name(&self, value: ValueId) -> &'a str {
        &self.network.values[value.0].name
    }

    /// Channels, height and width of a value; `None` for more than three extents, or none.
    pub(crate) fn chw(&self, value: ValueId) -> Option<[usize; 3]> {
        match *self.network.shape(value) {
            [c] => Some([c, 1, 1]),
            [c, w] => Some([c, 1, w]),
            [c, h, w] => Some([c, h, w]),
            _ => None,
        }
    }
}
