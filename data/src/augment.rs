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
        // A series has one row; nothing of it would be left a row further.
        let shift = |drawn: u64, extent: usize| if extent > 1 { (drawn % span) as usize } else { PADDING };
        let (dy, dx) = (shift(bits, height), shift(bits >> 20, width));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_shifted_along_itself_alone() {
        let source: Vec<u8> = (1..=50).collect();
        for index in 0..64 {
            let mut target = vec![0; 50];
            Augment { seed: 7, epoch: 1 }.shift([1, 50, 1], false, index, &source, &mut target);
            let shift =
                (0..=2 * PADDING).find(|&dx| target[20] == source[20 + dx - PADDING]).expect("it is there");
            let moved = |x: usize| (x + shift).checked_sub(PADDING).and_then(|at| source.get(at)).copied();
            assert!((0..50).all(|x| target[x] == moved(x).unwrap_or(0)), "{index}");
        }
    }
}
