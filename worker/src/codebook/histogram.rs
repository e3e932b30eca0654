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
    /// Entry `i` is of what lies in the topmost `i` buckets.
    above: Vec<Above>,
    /// Leading bits of the topmost bucket.
    top: i64,
    /// Largest magnitude; 0 if there is none but zeros.
    pub(super) largest: f32,
    /// Mean of the magnitudes that are not 0.
    pub(super) mean: f64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { above: vec![Above::default(); BUCKETS + 1], top: 0, largest: 0.0, mean: 0.0 }
    }
}

impl Histogram {
    /// Counts anew the magnitudes of those weights that `side` is true for.
    pub(super) fn count(&mut self, w: &[f32], side: impl Fn(f32) -> bool) {
        let (mut sum, mut number) = (0.0, 0.0);
        self.largest = 0.0;
        for &x in w.iter().filter(|&&x| x != 0.0 && side(x)) {
            sum += f64::from(x.abs());
            number += 1.0;
            self.largest = self.largest.max(x.abs());
        }
        self.mean = if number > 0.0 { sum / number } else { 0.0 };
        self.top = (leading(self.largest) | ((1 << BITS) - 1)).max(0);
        self.above.fill(Above::default());
        for &x in w.iter().filter(|&&x| side(x)) {
            let bucket = (self.top - leading(x.abs())) as usize;
            if let Some(entry) = self.above.get_mut(bucket + 1) {
                entry.sum += f64::from(x.abs());
                entry.count += 1.0;
            }
        }
        let mut running = Above::default();
        for entry in &mut self.above {
            running.sum += entry.sum;
            running.count += entry.count;
            *entry = running;
        }
    }

    /// What lies at or above `boundary`; `None` if that is not a boundary between buckets, or is below the last.
    pub(super) fn above(&self, boundary: f64) -> Option<Above> {
        if boundary > f64::from(self.largest) {
            return Some(Above::default());
        }
        let single = boundary as f32;
        let exact = f64::from(single) == boundary && single.to_bits().trailing_zeros() >= DROPPED;
        if !exact || !single.is_normal() {
            return None;
        }
        self.above.get((self.top - leading(single) + 1) as usize).copied()
    }
}

/// Exponent and leading bits of a magnitude; orders as the magnitudes do.
fn leading(magnitude: f32) -> i64 {
    i64::from(magnitude.to_bits() >> DROPPED)
}
