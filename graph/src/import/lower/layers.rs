//! The network as it grows: values, layers with unique names, and the layer that flattens a value.

use super::call::Call;
use super::{Lowering, Refusal, Slot, View, check_size, unsupported};
use crate::import::structure::label;
use crate::network::{Layer, Op, Value, ValueId, Window, image};

impl<'a> Lowering<'a> {
    pub(super) fn value(&mut self, name: &str, shape: Vec<usize>) -> ValueId {
        self.network.values.push(Value { name: name.to_owned(), shape });
        ValueId(self.network.values.len() - 1)
    }

    /// Appends a layer named after the node, and views its output.
    pub(super) fn layer(
        &mut self,
        call: &Call<'a>,
        op: Op,
        inputs: Vec<ValueId>,
    ) -> Result<Slot<'a>, Refusal> {
        self.layer_of(call, 0, op, inputs)
    }

    /// Appends a layer that writes the node's output of this index, and views it as the node does: with the height of 1 that
    /// its operands are seen with and their values do not say, or the other way round.
    pub(super) fn layer_of(
        &mut self,
        call: &Call<'a>,
        index: usize,
        op: Op,
        inputs: Vec<ValueId>,
    ) -> Result<Slot<'a>, Refusal> {
        let output = call.node.output.get(index).map_or("", String::as_str);
        let value = self.push(label(call.node), output, op, inputs)?;
        let ranks = call.operands.iter().flatten().filter_map(|slot| match slot {
            Slot::View(view) => Some(view.shape.len()),
            Slot::Constant(_) | Slot::Beyond(_) => None,
        });
        let shape = match (self.network.shape(value), ranks.max()) {
            (&[channels, width], Some(3)) => vec![channels, 1, width],
            (&[channels, 1, width], Some(2)) => vec![channels, width],
            (shape, _) => shape.to_vec(),
        };
        Ok(Slot::View(View { value, shape, padding: [0; 4], origin: (label(call.node), output) }))
    }

    fn push(&mut self, name: &str, output: &str, op: Op, inputs: Vec<ValueId>) -> Result<ValueId, Refusal> {
        let shapes: Vec<&[usize]> = inputs.iter().map(|input| self.network.shape(*input)).collect();
        if let (Some(window), [_, width]) = (window(&op), shapes.first().copied().unwrap_or_default())
            && let Some([height, _]) = window.output_extents(1, *width)
            && height > 1
        {
            return unsupported(format!("an output of height {height} of a value that has no height"));
        }
        let shape = op.output_shape(&shapes)?;
        check_size(output, &shape).map_err(Refusal::Error)?;
        let value = self.value(output, shape);
        let name = self.unique(name);
        self.writers.insert(value, self.network.layers.len());
        self.network.layers.push(Layer { name, op, inputs, output: value });
        Ok(value)
    }

    fn unique(&mut self, name: &str) -> String {
        let mut unique = name.to_owned();
        while !self.layer_names.insert(unique.clone()) {
            let count = self.taken.entry(name.to_owned()).or_insert(1);
            *count += 1;
            unique = format!("{name}_{count}");
        }
        unique
    }

    /// Whether a value is the input or a layer's; what an unsupported node would have written is not.
    pub(super) fn is_computed(&self, value: ValueId) -> bool {
        value == self.network.input || self.writers.contains_key(&value)
    }

    /// The value that a view with this shape, give or take a height of 1, reads; a flat view of an image becomes a layer.
    pub(super) fn settled(&mut self, view: &View<'a>) -> Result<ValueId, Refusal> {
        if view.padding != [0; 4] {
            return unsupported("it reads padding, which only a convolution or pool can take up");
        }
        let actual = self.network.shape(view.value);
        if actual == view.shape || image(actual).is_some() && image(actual) == image(&view.shape) {
            return Ok(view.value);
        }
        if !self.is_computed(view.value) {
            // What an unsupported node would have written: any shape will do to judge the nodes behind it.
            let shape = view.shape.clone();
            return Ok(self.value(view.origin.1, shape));
        }
        if view.shape.len() != 1 {
            return unsupported(reads_as(actual, &view.shape));
        }
        if let Some(flat) = self.flat.get(&view.value) {
            return Ok(*flat);
        }
        let (node, output) = view.origin;
        let flat = self.push(node, output, Op::Flatten, vec![view.value])?;
        self.flat.insert(view.value, flat);
        Ok(flat)
    }
}

/// Why a view is not a layer's input, or the network's output.
pub(super) fn reads_as(actual: &[usize], shape: &[usize]) -> String {
    format!("it reads a value of shape {actual:?} as {shape:?}")
}

/// The windows of an operation that has some.
fn window(op: &Op) -> Option<Window> {
    match op {
        Op::Conv(conv) => Some(conv.window),
        Op::MaxPool(window) | Op::AvgPool { window, .. } => Some(*window),
        _ => None,
    }
}
