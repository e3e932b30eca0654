//! Order and augmentation of an epoch, counted from (seed, epoch, index): any batch can be made again by itself.

use super::Dataset;

/// Pixels of padding around an image before it is cropped.
const PADDING: usize = 4;

/// SplitMix64's output function: a bijection of 64 bits without visible structure.
pub(super) fn mix(state: u64) -> u64 {
    let z = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// 64 random bits for (seed, stream, epoch, index).
fn draw(seed: u64, stream: u64, epoch: u64, index: u64) -> u64 {
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

/// Random crop with 4 pixels of black padding and, where the classes allow it, horizontal flip.
#[derive(Debug, Clone, Copy)]
pub struct Augment {
    /// The run's seed.
    pub seed: u64,
    /// The epoch.
    pub epoch: u64,
}

impl Augment {
    /// Writes the augmented form of image `index`.
    pub(super) fn apply(self, set: &Dataset, index: usize, source: &[u8], target: &mut [u8]) {
        let bits = draw(self.seed, 2, self.epoch, index as u64);
        let span = 2 * PADDING as u64 + 1;
        let (dy, dx) = ((bits % span) as usize, ((bits >> 20) % span) as usize);
        let flip = set.mirrors && (bits >> 40) & 1 == 1;
        let (height, width, channels) = (set.height, set.width, set.channels);
        target.fill(0);
        for y in 0..height {
            // Row and columns of the source, shifted by −PADDING ..= PADDING.
            let Some(sy) = (y + dy).checked_sub(PADDING).filter(|&sy| sy < height) else { continue };
            for x in 0..width {
                let Some(sx) = (x + dx).checked_sub(PADDING).filter(|&sx| sx < width) else { continue };
                let tx = if flip { width - 1 - x } else { x };
                let from = (sy * width + sx) * channels;
                let to = (y * width + tx) * channels;
                target[to..to + channels].copy_from_slice(&source[from..from + channels]);
            }
        }
    }
}
