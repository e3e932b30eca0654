//! Randomness that is counted, not drawn: the order of an epoch and every choice in it follow from (seed, epoch, index),
//! so that any batch can be made again by itself.

/// SplitMix64's output function: a bijection of 64 bits without visible structure.
pub(crate) fn mix(state: u64) -> u64 {
    let z = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// 64 random bits for (seed, stream, epoch, index).
pub(crate) fn draw(seed: u64, stream: u64, epoch: u64, index: u64) -> u64 {
    mix(mix(mix(mix(seed) ^ stream) ^ epoch) ^ index)
}

/// The order of one epoch's images.
#[derive(Debug, Clone)]
pub struct Epoch {
    order: Vec<u32>,
}

impl Epoch {
    /// A permutation of `0..images` that depends on nothing but the arguments.
    pub fn new(images: usize, seed: u64, epoch: u64) -> Self {
        let mut keyed: Vec<(u64, u32)> =
            (0..images as u32).map(|i| (draw(seed, 1, epoch, u64::from(i)), i)).collect();
        keyed.sort_unstable();
        Epoch { order: keyed.into_iter().map(|(_, i)| i).collect() }
    }

    /// The image at position `at`.
    pub fn index(&self, at: usize) -> usize {
        self.order[at] as usize
    }
}

/// What evaluation images are sampled with, whatever the run's seed: accuracies of different runs, and of what is served
/// afterwards, are of the same images.
pub const EVALUATION_SEED: u64 = 0;

/// `limit` of `images` images, in their order: one from each of `limit` equal stretches of the whole, so that a set that is
/// sorted by class, or that goes through its classes in turns, is sampled evenly. All of them if there are no more.
pub fn sample(images: usize, limit: usize, seed: u64) -> Vec<usize> {
    if limit >= images {
        return (0..images).collect();
    }
    // Widened: images × limit may pass 64 bits.
    let start = |i: usize| (i as u128 * images as u128 / limit as u128) as usize;
    let pick = |i: usize| start(i) + (draw(seed, 3, 0, i as u64) % (start(i + 1) - start(i)) as u64) as usize;
    (0..limit).map(pick).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_a_permutation_that_its_numbers_decide() {
        let order = |seed, epoch| -> Vec<usize> {
            let e = Epoch::new(1000, seed, epoch);
            (0..1000).map(|i| e.index(i)).collect()
        };
        let mut sorted = order(1, 0);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..1000).collect::<Vec<_>>());
        assert_eq!(order(1, 0), order(1, 0));
        assert_ne!(order(1, 0), order(1, 1));
        assert_ne!(order(1, 0), order(2, 0));
    }

    #[test]
    fn a_sample_is_spread_over_the_whole_set_and_its_seed_decides_it() {
        for (images, limit) in [(1000, 10), (1000, 999), (7, 3), (10, 10), (3, 10), (5, 0), (0, 5)] {
            let chosen = sample(images, limit, 1);
            assert_eq!(chosen.len(), limit.min(images));
            assert!(chosen.windows(2).all(|pair| pair[0] < pair[1]) && chosen.iter().all(|&i| i < images));
        }
        assert_eq!(sample(1000, 50, 1), sample(1000, 50, 1));
        assert_ne!(sample(1000, 50, 1), sample(1000, 50, 2));
        // Sorted by class, and in turns.
        let chosen = sample(1000, 200, 1);
        for class in 0..10 {
            assert_eq!(chosen.iter().filter(|&&i| i / 100 == class).count(), 20);
            assert!((8..=36).contains(&chosen.iter().filter(|&&i| i % 10 == class).count()));
        }
    }
}
