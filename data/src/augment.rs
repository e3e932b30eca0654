//! Augmentation, counted from (seed, epoch, index).

use crate::dataset::Dataset;
use crate::order::draw;

/// Pixels of padding around an image before it is cropped.
const PADDING: usize = 4;

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
    pub(crate) fn apply(self, set: &Dataset, index: usize, source: &[u8], target: &mut [u8]) {
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
