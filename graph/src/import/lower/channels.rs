//! Channels that are split off, picked and moved, and the rows and columns of a slice.

use super::constants::Cut;
use super::reshape::{BATCH_MOVED, TRANSPOSED, permutation, transposed};
use super::{Call, Lowering, Refusal, Slot, View, axis_of, known, unsupported};
use crate::import::attributes::extent;
use crate::import::constant::{Constant, Data, Number};
use crate::import::structure::label;
use crate::network::{Op, Window};

/// Why a slice is refused.
pub(super) const PART: &str = "it takes a part of an axis other than the channels'";

/// Why a part without elements is refused.
const EMPTY: &str = "a part without elements";

/// Why channels are not taken along another axis.
pub(super) fn other_axis(op: &str, axis: i64) -> String {
    let verb = if op == "Split" { "splits" } else { "gathers" };
    format!("it {verb} along axis {axis}; channels (1) are supported")
}

impl<'a> Lowering<'a> {
    /// One result an output, each a run of channels.
    pub(super) fn split(&mut self, call: &Call<'a>) -> Result<Vec<Slot<'a>>, Refusal> {
        let view = call.view(0)?;
        let axis = call.attributes.int("axis", 0)?;
        if axis_of(axis, view.shape.len() + 1)? != 1 {
            return unsupported(other_axis(call.op, axis));
        }
        let channels = view.shape[0];
        let sizes = sizes(call, channels)?;
        if sizes.contains(&0) {
            return unsupported(EMPTY);
        }
        let mut slots = Vec::with_capacity(sizes.len());
        let mut first = 0;
        for (index, size) in sizes.into_iter().enumerate() {
            self.charge(8 * size as u64)?;
            slots.push(self.select(call, index, view, (first..first + size).collect())?);
            first += size;
        }
        Ok(slots)
    }

    /// Channels by constant indices; a single one leaves without its axis.
    pub(super) fn gather_view(&mut self, call: &Call<'a>, view: &View<'a>) -> Result<Slot<'a>, Refusal> {
        let axis = call.attributes.int("axis", 0)?;
        if axis_of(axis, view.shape.len() + 1)? != 1 {
            return unsupported(other_axis(call.op, axis));
        }
        let Some(indices) = call.constant(1)? else { return Err("operand 1 is missing".to_owned().into()) };
        let single = match indices.shape.len() {
            0 => true,
            1 => false,
            rank => return unsupported(format!("indices of rank {rank}")),
        };
        let count = view.shape[0];
        let from_front = |&index: &i64| {
            let channel = if index < 0 { index.saturating_add(count as i64) } else { index };
            usize::try_from(channel)
                .ok()
                .filter(|&channel| channel < count)
                .ok_or_else(|| format!("index {index} of {count} channels"))
        };
        let channels: Vec<usize> = known(indices)?.iter().map(from_front).collect::<Result<_, _>>()?;
        if channels.is_empty() {
            return unsupported(EMPTY);
        }
        self.charge(8 * channels.len() as u64)?;
        let slot = self.select(call, 0, view, channels)?;
        match slot {
            Slot::View(mut view) if single => {
                view.shape.remove(0);
                Ok(Slot::View(view))
            }
            slot => Ok(slot),
        }
    }

    /// Any cut of channels; every s-th row and column, as a maximum over windows of one element.
    pub(super) fn slice_view(&mut self, call: &Call<'a>) -> Result<Slot<'a>, Refusal> {
        let view = call.view(0)?;
        let rank = view.shape.len() + 1;
        let mut stride = [1, 1];
        let mut channels = None;
        for cut in Cut::of(call, rank)? {
            let (axis, step) = (cut.axis, cut.step);
            let Some(&extent) = axis.checked_sub(1).and_then(|axis| view.shape.get(axis)) else {
                let whole = cut.start == 0 && (cut.end == i64::MAX || Some(cut.end) == self.batch);
                if whole && step == 1 {
                    continue;
                }
                return unsupported(PART);
            };
            if cut.is_whole(extent) {
                continue;
            }
            let taken = cut.count(extent);
            if taken == 0 {
                return unsupported(EMPTY);
            }
            match (axis, step) {
                (1, _) => {
                    self.charge(8 * taken as u64)?;
                    channels = Some(cut.rows(extent));
                }
                // From the first one on to the end. A series has columns only.
                (2 | 3, 1..=1024) if matches!(rank, 3 | 4) && Cut { step: 1, ..cut }.is_whole(extent) => {
                    stride[axis + 2 - rank] = step as usize;
                }
                _ => return unsupported(PART),
            }
        }
        let slot = match channels {
            Some(channels) => self.select(call, 0, view, channels)?,
            None => Slot::View(view.clone()),
        };
        match slot {
            Slot::View(view) if stride != [1, 1] => {
                let input = self.settled(&view)?;
                let window = Window { kernel: [1, 1], stride, padding: [0; 4], dilation: [1, 1] };
                self.layer(call, Op::MaxPool(window), vec![input])
            }
            slot => Ok(slot),
        }
    }

    /// The view itself if these are all of its channels in order, else a layer that writes the node's output
    /// of this index.
    fn select(
        &mut self,
        call: &Call<'a>,
        index: usize,
        view: &View<'a>,
        channels: Vec<usize>,
    ) -> Result<Slot<'a>, Refusal> {
        if channels.iter().copied().eq(0..view.shape[0]) {
            return Ok(Slot::View(view.clone()));
        }
        let input = self.settled(view)?;
        self.layer_of(call, index, Op::Select { channels }, vec![input])
    }

    /// A permutation of axes is a reshape if those of extent greater than 1 stay in order, and one of
    /// channels if it moves only axes that together make up the channels of the value underneath.
    pub(super) fn transpose(&mut self, call: &Call<'a>, view: &View<'a>) -> Result<Slot<'a>, Refusal> {
        let order = permutation(call.attributes.ints("perm")?, view.shape.len() + 1)?;
        let [0, order @ ..] = order.as_slice() else { return unsupported(BATCH_MOVED) };
        let order: Vec<usize> = order.iter().map(|axis| axis - 1).collect();
        let shape: Vec<usize> = order.iter().map(|&axis| view.shape[axis]).collect();
        let output = call.node.output.first().map_or("", String::as_str);
        let seen = |value| {
            Slot::View(View {
                value,
                shape: shape.clone(),
                padding: [0; 4],
                origin: (label(call.node), output),
            })
        };
        let long = |axis: &usize| view.shape[*axis] != 1;
        let moved: Vec<usize> = order.iter().copied().filter(long).collect();
        if moved.is_sorted() {
            return Ok(seen(view.value));
        }
        if !self.is_computed(view.value) {
            if !may_shuffle(&order, self.series) {
                return unsupported(TRANSPOSED);
            }
            let value = self.value(output, shape.clone());
            return Ok(seen(value));
        }
        let channels = self.network.shape(view.value).first().copied().unwrap_or_default();
        let mut still = moved.clone();
        still.sort_unstable();
        let mut product = 1;
        let leading = still.iter().take_while(|&&axis| {
            let more = product < channels;
            product *= if more { view.shape[axis] } else { 1 };
            more
        });
        let leading = leading.count();
        if product != channels || moved[leading..] != still[leading..] {
            return unsupported(TRANSPOSED);
        }
        self.charge(40 * channels as u64)?;
        let extents = still[..leading].iter().map(|&axis| view.shape[axis]).collect();
        let numbers = (0..channels as i64).map(Number::Known).collect();
        let place = |axis: &usize| still.partition_point(|other| other < axis) as i64;
        let perm: Vec<i64> = moved[..leading].iter().map(place).collect();
        let shuffled = transposed(&Constant::new(extents, Data::Integers(numbers)), Some(&perm))?;
        let channels = known_channels(&shuffled);
        match self.layer(call, Op::Select { channels }, vec![view.value])? {
            Slot::View(selected) => Ok(seen(selected.value)),
            slot => Ok(slot),
        }
    }
}

/// Whether a permutation of a sample's axes may be one of channels, whatever was reshaped to them: rows and
/// columns stay. A series has columns only.
pub(super) fn may_shuffle(order: &[usize], series: bool) -> bool {
    let (rank, positions) = (order.len(), if series { 1 } else { 2 });
    rank > positions + 1 && order[rank - positions..].iter().copied().eq(rank - positions..rank)
}

fn known_channels(constant: &Constant) -> Vec<usize> {
    let channel = |number: &Number| match number {
        Number::Known(channel) => usize::try_from(*channel).ok(),
        Number::Batch | Number::Unknown => None,
    };
    constant.integers().unwrap_or_default().iter().filter_map(channel).collect()
}

/// How many channels each output of a `Split` has.
fn sizes(call: &Call<'_>, channels: usize) -> Result<Vec<usize>, Refusal> {
    let outputs = call.node.output.len();
    let number = call.attributes.int("num_outputs", outputs as i64)?;
    if number != outputs as i64 {
        return Err(format!("num_outputs of {number} for {outputs} outputs").into());
    }
    let Some(given) = call.constant(1)? else {
        let part = channels.div_ceil(outputs.max(1));
        if !call.attributes.has("num_outputs") && part * outputs != channels {
            return Err(format!("{channels} channels in {outputs} equal parts").into());
        }
        let size = |index: usize| part.min(channels.saturating_sub(part.saturating_mul(index)));
        return Ok((0..outputs).map(size).collect());
    };
    if call.attributes.has("num_outputs") {
        return Err("both the sizes and the number of its outputs".to_owned().into());
    }
    let sizes = known(given)?.iter().map(|&size| extent("split", size, 0)).collect::<Result<Vec<_>, _>>()?;
    let sum = sizes.iter().try_fold(0usize, |sum, &size| sum.checked_add(size));
    if sizes.len() != outputs || sum != Some(channels) {
        return Err(format!("sizes {sizes:?} for {outputs} outputs of {channels} channels").into());
    }
    Ok(sizes)
}
