//! Augmentation, counted from (seed, epoch, index).

use crate::order::draw;

/// Pixels of padding around an image before it is cropped.
const PADDING: usize = 4;

/// Which of all variations of an image it is. What varies is said by a preprocessing's [`Training`](crate::Training); without
/// one it is a random crop with 4 pixels of black padding and, where the classes allow it, a horizontal flip.
#[derive(Debug, Clone, Copy)]
pub struct Augment {
    /// The run's seed.
    pub seed: u64,
    /// The epoch.
    pub epoch: u64,
}

impl Augment {
    /// Writes the shifted and perhaps flipped form of image `index`, which has this height, width and channels.
    pub(crate) fn shift(
        self,
        [height, width, channels]: [usize; 3],
        mirrors: bool,
        index: usize,
        source: &[u8],
        target: &mut [u8],
    ) {
        let bits = draw(self.seed, 2, self.epoch, index as u64);
        let span = 2 * PADDING as u64 + 1;
        let (dy, dx) = ((bits % span) as usize, ((bits >> 20) % span) as usize);
        let flip = mirrors && (bits >> 40) & 1 == 1;
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
