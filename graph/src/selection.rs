//! Selections of channels, joined: one after another, and side by side in a concatenation.

use crate::forms::View;
use crate::network::{BatchNorm, Layer, Network, Op, ValueId};

/// A concatenation of channels of one value, which nothing else reads.
struct Joined {
    /// Layers, by index.
    concat: usize,
    first: usize,
    /// The value, and its channels in the order of the concatenation.
    of: ValueId,
    channels: Vec<usize>,
    /// Where some of the parts are normalized.
    norm: Option<BatchNorm>,
}

impl Network {
    /// Makes one selection of a selection of a selection, and one selection (and one normalization) of a
    /// concatenation of several of one value; takes away selections of all channels in order.
    pub(crate) fn join_selections(&mut self) {
        let view = View::of(self);
        let found: Vec<Joined> = (0..self.layers.len()).filter_map(|index| parts(&view, index)).collect();
        for joined in found {
            self.join(joined);
        }
        self.prune();
        let mut writer = vec![None; self.values.len()];
        let mut same: Vec<ValueId> = (0..self.values.len()).map(ValueId).collect();
        for index in 0..self.layers.len() {
            for input in &mut self.layers[index].inputs {
                *input = same[input.0];
            }
            let output = self.layers[index].output;
            writer[output.0] = Some(index);
            let (Op::Select { channels }, &[input]) =
                (&self.layers[index].op, &self.layers[index].inputs[..])
            else {
                continue;
            };
            let (mut input, mut channels) = (input, channels);
            let joined: Vec<usize>;
            if let Some(before) = writer[input.0].map(|before: usize| &self.layers[before])
                && let (Op::Select { channels: first }, &[further]) = (&before.op, &before.inputs[..])
            {
                joined = channels.iter().filter_map(|&channel| first.get(channel).copied()).collect();
                (input, channels) = (further, &joined);
            }
            let all = self.shape(input).first().is_some_and(|&count| channels.iter().copied().eq(0..count));
            if all && output != self.output {
                same[output.0] = input;
            }
            let op = Op::Select { channels: channels.clone() };
            (self.layers[index].op, self.layers[index].inputs) = (op, vec![input]);
        }
        self.prune();
    }

    fn join(&mut self, joined: Joined) {
        let Joined { concat, first, of, channels, norm } = joined;
        let Some(norm) = norm else {
            self.layers[concat].op = Op::Select { channels };
            self.layers[concat].inputs = vec![of];
            return;
        };
        // The first part's selection becomes that of all parts.
        let selected = self.layers[first].output;
        self.values[selected.0].shape = self.shape(self.layers[concat].output).to_vec();
        self.layers[first].op = Op::Select { channels };
        self.layers[concat].op = Op::BatchNorm(norm);
        self.layers[concat].inputs = vec![selected];
    }
}

/// The concatenation of this index, if its operands are channels of one value, normalized or not.
fn parts(view: &View<'_>, concat: usize) -> Option<Joined> {
    let layer = view.layer(concat).filter(|layer| layer.op == Op::Concat)?;
    let mut joined: Option<Joined> = None;
    let (mut scale, mut shift) = (Vec::new(), Vec::new());
    let mut normalized = false;
    for &part in &layer.inputs {
        let (norm, selection) = match view.inner(part)? {
            Layer { op: Op::BatchNorm(norm), inputs, .. } => (Some(norm), view.writer(*inputs.first()?)?),
            _ => (None, view.writer(part)?),
        };
        let Layer { op: Op::Select { channels }, inputs, output, .. } = view.layer(selection)? else {
            return None;
        };
        view.inner(*output)?;
        let &[of] = inputs.as_slice() else { return None };
        let all = joined.get_or_insert_with(|| Joined {
            concat,
            first: selection,
            of,
            channels: Vec::new(),
            norm: None,
        });
        if all.of != of {
            return None;
        }
        all.channels.extend(channels);
        normalized |= norm.is_some();
        for channel in 0..channels.len() {
            let (factor, offset) = norm.map_or((1.0, 0.0), |norm| norm.affine(channel));
            scale.push(factor as f32);
            shift.push(offset as f32);
        }
    }
    let norm = normalized.then(|| BatchNorm::from_affine(scale, shift));
    joined.map(|joined| Joined { norm, ..joined })
}
