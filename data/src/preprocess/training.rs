//! How training images vary; every choice is counted from (seed, epoch, index).

use serde::{Deserialize, Serialize};

use super::geometry::Cut;
use crate::error::{DataError, Result};
use crate::order::{draw, mix};
use crate::picture::Picture;

/// What is done to a training image. Images of classes that a mirror changes (digits) are never flipped.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Training {
    /// What evaluation reads, shifted by up to 4 pixels each way with black beyond its edge, and half of the time flipped.
    #[default]
    PadAndCrop,
    /// torchvision's `RandomResizedCrop`: a part of the picture, resized; half of the time flipped.
    RandomResizedCrop {
        /// Least and largest share of the picture's area; torchvision's are 0.08 and 1.
        scale: [f64; 2],
        /// Least and largest width over height; torchvision's are 3/4 and 4/3.
        ratio: [f64; 2],
    },
    /// What evaluation reads, half of the time flipped.
    Flip,
    /// What evaluation reads.
    Plain,
}

impl Training {
    /// torchvision's `RandomResizedCrop` as it is where nothing is given.
    pub const RANDOM_RESIZED_CROP: Training =
        Training::RandomResizedCrop { scale: [0.08, 1.0], ratio: [3.0 / 4.0, 4.0 / 3.0] };

    /// Refuses numbers that make no sense.
    pub(super) fn check(&self) -> Result<()> {
        let Training::RandomResizedCrop { scale, ratio } = self else { return Ok(()) };
        let sound =
            |[least, most]: [f64; 2], from: f64, to: f64| from <= least && least <= most && most <= to;
        if sound(*scale, 1e-4, 1.0) && sound(*ratio, 0.01, 100.0) {
            return Ok(());
        }
        let reason = format!(
            "a random crop of {scale:?} of the area and {ratio:?} for width over height; the least comes first, areas are \
             0.0001 to 1, ratios 0.01 to 100"
        );
        Err(DataError::unusable("preprocessing", reason))
    }
}

/// Random numbers for one image.
#[derive(Debug)]
pub(crate) struct Draws {
    base: u64,
    count: u64,
}

impl Draws {
    pub(crate) fn new(seed: u64, epoch: u64, index: usize) -> Self {
        Draws { base: draw(seed, 4, epoch, index as u64), count: 0 }
    }

    fn bits(&mut self) -> u64 {
        self.count += 1;
        mix(self.base ^ mix(self.count))
    }

    /// From `least` up to `most`.
    fn between(&mut self, [least, most]: [f64; 2]) -> f64 {
        let unit = (self.bits() >> 11) as f64 / (1u64 << 53) as f64;
        least + (most - least) * unit
    }

    /// Below `count`.
    fn below(&mut self, count: usize) -> usize {
        ((u128::from(self.bits()) * count as u128) >> 64) as usize
    }

    /// Half of the time.
    pub(crate) fn coin(&mut self) -> bool {
        self.bits() >> 63 == 1
    }
}

/// The part that torchvision's `RandomResizedCrop.get_params` would choose of the picture, with these draws.
pub(super) fn cut(picture: &Picture, scale: [f64; 2], ratio: [f64; 2], draws: &mut Draws) -> Cut {
    let (height, width) = (picture.height, picture.width);
    let area = height as f64 * width as f64;
    for _ in 0..10 {
        let wanted = area * draws.between(scale);
        let aspect = draws.between(ratio.map(f64::ln)).exp();
        let (w, h) = ((wanted * aspect).sqrt().round() as usize, (wanted / aspect).sqrt().round() as usize);
        if (1..=width).contains(&w) && (1..=height).contains(&h) {
            let top = draws.below(height - h + 1);
            return Cut { top, left: draws.below(width - w + 1), height: h, width: w };
        }
    }
    // The most of the middle whose proportions are allowed.
    let [least, most] = ratio;
    let there = width as f64 / height as f64;
    let (w, h) = if there < least {
        (width, (width as f64 / least).round() as usize)
    } else if there > most {
        ((height as f64 * most).round() as usize, height)
    } else {
        (width, height)
    };
    let (w, h) = (w.clamp(1, width), h.clamp(1, height));
    Cut { top: (height - h) / 2, left: (width - w) / 2, height: h, width: w }
}
