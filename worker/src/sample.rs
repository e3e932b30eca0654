//! Which images stand for a set of which only some are used.

use crate::data::Epoch;

/// An epoch's number that no training reaches: the choice depends on the set's size and the limit alone.
const CHOICE: u64 = u64::MAX - 1;

/// Images spread over a set, in its order; all of them without a limit.
#[derive(Debug, Clone)]
pub struct Sample {
    len: usize,
    chosen: Option<Vec<usize>>,
}

impl Sample {
    /// At most `limit` of `len` images.
    pub fn new(len: usize, limit: Option<u32>) -> Self {
        let limit = limit.map_or(len, |l| len.min(l as usize));
        if limit == len {
            return Sample { len, chosen: None };
        }
        let order = Epoch::new(len, 0, CHOICE);
        let mut chosen: Vec<usize> = (0..limit).map(|i| order.index(i)).collect();
        chosen.sort_unstable();
        Sample { len: limit, chosen: Some(chosen) }
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The set's index of the image at position `at`, which is below [`Sample::len`].
    pub fn index(&self, at: usize) -> usize {
        self.chosen.as_ref().map_or(at, |chosen| chosen[at])
    }
}
