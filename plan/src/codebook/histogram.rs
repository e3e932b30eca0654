//! Magnitudes counted and summed by their leading bits: all that the squared error depends on, under any power-of-two
//! scale, as long as the boundaries between levels have few bits.

/// Bits kept after the leading one. No boundary between two levels of a method has more, 8-bit integers excepted.
const BITS: u32 = 4;
/// Octaves counted, from that of the largest magnitude down.
const OCTAVES: usize = 16;
const BUCKETS: usize = OCTAVES << BITS;
/// Bits of an f32 below those that select the bucket.
const DROPPED: u32 = 23 - BITS;

/// What lies at or above a boundary.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Above {
    /// Sum of the magnitudes.
    pub(super) sum: f64,
    /// Their number.
    pub(super) count: f64,
}

/// The counts of one filter, or of one side of it.
#[derive(Debug)]
pub(super) struct Histogram {
    /// Entry `i` is of what lies in the topmost `i` buckets; the last one takes what lies below all.
    above: Vec<Above>,
    /// Leading bits of the topmost bucket.
    top: i64,
    /// Largest magnitude; 0 if there is none but zeros.
    pub(super) largest: f32,
    /// Everything that is not 0.
    pub(super) all: Above,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { above: vec![Above::default(); BUCKETS + 2], top: 0, largest: 0.0, all: Above::default() }
    }
}

impl Histogram {
    /// Counts anew the magnitudes that `magnitude` makes of the weights; zeros do not count.
    pub(super) fn count(&mut self, w: &[f32], magnitude: impl Fn(f32) -> f32) {
        self.largest = w.iter().fold(0.0, |m, &x| m.max(magnitude(x)));
        self.top = leading(self.largest) | ((1 << BITS) - 1);
        self.above.fill(Above::default());
        for &x in w {
            let v = magnitude(x);
            let bucket = (self.top - leading(v)) as usize;
            if let Some(entry) = self.above.get_mut((bucket + 1).min(BUCKETS + 1)) {
                entry.sum += f64::from(v);
                entry.count += if v > 0.0 { 1.0 } else { 0.0 };
            }
        }
        self.all = Above::default();
        for entry in &mut self.above {
            self.all.sum += entry.sum;
            self.all.count += entry.count;
            *entry = self.all;
        }
    }

    /// Mean of the magnitudes that are not 0; NaN if all are.
    pub(super) fn mean(&self) -> f64 {
        self.all.sum / self.all.count
    }

    /// What lies at or above `boundary`; `None` if that is not a boundary between buckets, or is below the last.
    pub(super) fn above(&self, boundary: f64) -> Option<Above> {
        if boundary > f64::from(self.largest) {
            return Some(Above::default());
        }
        let single = boundary as f32;
        let exact = f64::from(single) == boundary && single.to_bits().trailing_zeros() >= DROPPED;
        if exact && single.is_normal() { self.with_leading(leading(single)) } else { None }
    }

    /// What has at least these leading bits; `None` below the last bucket.
    pub(super) fn with_leading(&self, bits: i64) -> Option<Above> {
        let buckets = (self.top - bits + 1).max(0) as usize;
        self.above.get(buckets).filter(|_| buckets <= BUCKETS).copied()
    }

    /// Leading bits of the topmost bucket.
    pub(super) fn top(&self) -> i64 {
        self.top
    }
}

/// Exponent and leading bits of a magnitude; orders as the magnitudes do.
pub(super) fn leading(magnitude: f32) -> i64 {
    i64::from(magnitude.to_bits() >> DROPPED)
}

/// The least magnitude with these leading bits.
pub(super) fn least(bits: i64) -> f32 {
    f32::from_bits((bits.max(0) as u32) << DROPPED)
}

/// Leading bits that differ between a magnitude and its double.
pub(super) const OCTAVE: i64 = 1 << BITS;
