//! What is done to a picture before a network reads it: colours, resizing, cropping. Mean and standard deviation stand
//! elsewhere; what comes out here is bytes of one shape.
//!
//! The same numbers as Pillow and torchvision: a picture is converted, then resized with their antialiased filters, then
//! cropped with their rounding; see the tests for how close.

mod color;
mod geometry;
mod training;

use fast_image_resize::Resizer;
use serde::{Deserialize, Serialize};

use crate::error::{DataError, Result};
use crate::picture::Picture;

pub use color::Color;
pub use geometry::{Interpolation, Resize};
pub use training::Training;

pub(crate) use training::Draws;

/// The most rows or columns that may be asked for.
const SIDE_LIMIT: u32 = 8192;

/// How pictures become what a network reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocess {
    /// The size that the whole picture is brought to first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resize: Option<Resize>,
    /// Height and width that are then cut from the middle; where the picture is smaller, black is put around it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crop: Option<[u32; 2]>,
    /// How pixels between pixels are made.
    #[serde(default)]
    pub interpolation: Interpolation,
    /// Channels and their order.
    pub color: Color,
    /// How training images vary.
    #[serde(default)]
    pub training: Training,
}

impl Preprocess {
    /// As torchvision's published classifiers are fed: the shorter side to `resize`, then a square of `crop` from the middle.
    pub fn centered(resize: u32, crop: u32, color: Color) -> Self {
        Preprocess {
            resize: Some(Resize::Shorter(resize)),
            crop: Some([crop, crop]),
            interpolation: Interpolation::Bilinear,
            color,
            training: Training::default(),
        }
    }

    /// Height, width and channels of what comes out.
    ///
    /// # Errors
    /// If the size is not the same for all pictures, or a number is out of range.
    pub fn shape(&self) -> Result<[usize; 3]> {
        let refuse = |reason: String| Err(DataError::unusable("preprocessing", reason));
        let given = self.crop.iter().flatten().chain(match &self.resize {
            Some(Resize::Exact(size)) => &size[..],
            Some(Resize::Shorter(side)) => std::slice::from_ref(side),
            None => &[],
        });
        if let Some(side) = given.copied().find(|side| !(1..=SIDE_LIMIT).contains(side)) {
            return refuse(format!("a side of {side} pixels; 1 to {SIDE_LIMIT} can be asked for"));
        }
        self.training.check()?;
        let [height, width] = match (self.crop, self.resize) {
            (Some(size), _) | (None, Some(Resize::Exact(size))) => size,
            (None, Some(Resize::Shorter(_))) => {
                return refuse("resizing the shorter side leaves the longer one open: give a crop".into());
            }
            (None, None) => return refuse("give a size to resize to, or a crop".into()),
        };
        Ok([height as usize, width as usize, self.color.channels()])
    }

    /// What evaluation and inference read.
    ///
    /// # Errors
    /// If the picture is too long and thin to be resized, or as [`Preprocess::shape`].
    pub fn apply(&self, picture: Picture) -> Result<Picture> {
        self.apply_with(picture, &mut Resizer::new(), None)
    }

    /// The same with a resizer that is kept; a training image where there are draws for one.
    pub(crate) fn apply_with(
        &self,
        picture: Picture,
        resizer: &mut Resizer,
        draws: Option<&mut Draws>,
    ) -> Result<Picture> {
        let [height, width, _] = self.shape()?;
        let picture = self.color.of(picture);
        let mut picture =
            if let (Some(draws), Training::RandomResizedCrop { scale, ratio }) = (draws, self.training) {
                let cut = training::cut(&picture, scale, ratio, draws);
                let part = geometry::part(&picture, cut);
                geometry::resized(part, [height, width], self.interpolation, resizer)?
            } else {
                let size = self.resize.map(|resize| resize.of(picture.height, picture.width));
                let picture = match size {
                    Some(size) => geometry::resized(picture, size, self.interpolation, resizer)?,
                    None => picture,
                };
                geometry::center(picture, [height, width])
            };
        self.color.order(&mut picture.pixels);
        Ok(picture)
    }
}

#[cfg(test)]
mod tests;
