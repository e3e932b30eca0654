//! Rewrites that keep what a network computes: batch normalizations into weights, dead layers away.

use crate::network::{BatchNorm, Network, Op, ValueId};

impl BatchNorm {
    /// The channel's factor and offset: `y = factor·x + offset`, in f64. Zeros for a channel that is not there.
    pub fn affine(&self, channel: usize) -> (f64, f64) {
        let at = |numbers: &[f32]| numbers.get(channel).map_or(0.0, |&number| f64::from(number));
        let factor = at(&self.scale) / (at(&self.variance) + f64::from(self.epsilon)).sqrt();
        (factor, at(&self.shift) - at(&self.mean) * factor)
    }

    /// One that multiplies by `scale` and adds `shift`, exactly.
    pub fn from_affine(scale: Vec<f32>, shift: Vec<f32>) -> Self {
        let channels = scale.len();
        Self { scale, shift, mean: vec![0.0; channels], variance: vec![1.0; channels], epsilon: 0.0 }
    }

    /// Whether it is one of [`from_affine`](Self::from_affine)'s: no statistics.
    pub(crate) fn is_plain(&self) -> bool {
        self.epsilon == 0.0
            && self.mean.iter().all(|&mean| mean == 0.0)
            && self.variance.iter().all(|&v| v == 1.0)
    }
}

impl Network {
    /// Multiplies each batch normalization into the convolution, fully connected layer or normalization before it, where
    /// nothing else reads that layer's output. Returns how many were folded.
    pub fn fold_batch_norms(&mut self) -> usize {
        self.fold_where(|_, _| true)
    }

    /// Joins sums and products with constants to each other and, where no weight changes, to the layer before: a sum
    /// becomes its bias.
    pub(crate) fn fold_constants(&mut self) -> usize {
        self.fold_where(|before, norm| match before {
            Op::BatchNorm(before) => before.is_plain() && norm.is_plain(),
            _ => norm.is_plain() && norm.scale.iter().all(|&factor| factor == 1.0),
        })
    }

    fn fold_where(&mut self, wanted: impl Fn(&Op, &BatchNorm) -> bool) -> usize {
        let mut readers = vec![0usize; self.values.len()];
        let mut writer = vec![None; self.values.len()];
        for value in self.layers.iter().flat_map(|layer| &layer.inputs).chain([&self.output]) {
            readers[value.0] += 1;
        }
        for (index, layer) in self.layers.iter().enumerate() {
            writer[layer.output.0] = Some(index);
        }
        let mut folded = vec![false; self.layers.len()];
        for (index, done) in folded.iter_mut().enumerate() {
            let Op::BatchNorm(norm) = &self.layers[index].op else { continue };
            let &[input] = self.layers[index].inputs.as_slice() else { continue };
            let before = writer[input.0].filter(|_| readers[input.0] == 1);
            let Some(before) = before.filter(|&before| wanted(&self.layers[before].op, norm)) else {
                continue;
            };
            let norm = norm.clone();
            if absorb(&mut self.layers[before].op, &norm) {
                let output = self.layers[index].output;
                self.layers[before].output = output;
                writer[output.0] = Some(before);
                *done = true;
            }
        }
        let count = folded.iter().filter(|&&folded| folded).count();
        let mut keep = folded.iter().map(|folded| !folded);
        self.layers.retain(|_| keep.next().unwrap_or(true));
        self.prune();
        count
    }

    /// Removes layers that the output does not depend on, and values that nothing writes or reads; renumbers the rest.
    pub fn prune(&mut self) {
        let mut live = vec![false; self.values.len()];
        live[self.output.0] = true;
        for layer in self.layers.iter().rev() {
            if live[layer.output.0] {
                for input in &layer.inputs {
                    live[input.0] = true;
                }
            }
        }
        self.layers.retain(|layer| live[layer.output.0]);
        live[self.input.0] = true;
        let mut next = 0;
        let renumbered: Vec<ValueId> = live
            .iter()
            .map(|&live| {
                let id = ValueId(next);
                next += usize::from(live);
                id
            })
            .collect();
        let mut keep = live.iter();
        self.values.retain(|_| keep.next().copied().unwrap_or(false));
        let renumber = |id: &mut ValueId| *id = renumbered[id.0];
        renumber(&mut self.input);
        renumber(&mut self.output);
        for layer in &mut self.layers {
            layer.inputs.iter_mut().for_each(renumber);
            renumber(&mut layer.output);
        }
    }
}

/// Whether the operation could take the normalization in.
fn absorb(op: &mut Op, norm: &BatchNorm) -> bool {
    let (weight, bias) = match op {
        Op::Conv(conv) => (&mut conv.weight, &mut conv.bias),
        Op::Linear(linear) => (&mut linear.weight, &mut linear.bias),
        Op::BatchNorm(before) if before.scale.len() == norm.scale.len() => {
            *before = compose(before, norm);
            return true;
        }
        _ => return false,
    };
    let filters = norm.scale.len();
    if filters == 0 || weight.shape.first() != Some(&filters) {
        return false;
    }
    let per_filter = weight.data.len() / filters;
    let mut folded = Vec::with_capacity(filters);
    for channel in 0..filters {
        let (factor, offset) = norm.affine(channel);
        let old = bias.as_ref().map_or(0.0, |bias| f64::from(bias[channel]));
        folded.push((old * factor + offset) as f32);
        if factor != 1.0 {
            for weight in &mut weight.data[channel * per_filter..][..per_filter] {
                *weight = (f64::from(*weight) * factor) as f32;
            }
        }
    }
    *bias = Some(folded);
    true
}

/// One normalization for two, the first one's output being the second one's input.
fn compose(first: &BatchNorm, second: &BatchNorm) -> BatchNorm {
    let both = |channel| {
        let ((a, b), (c, d)) = (first.affine(channel), second.affine(channel));
        ((a * c) as f32, (b * c + d) as f32)
    };
    let (scale, shift) = (0..first.scale.len()).map(both).unzip();
    BatchNorm::from_affine(scale, shift)
}
