//! Sizes: resizing with Pillow's filters, cutting with torchvision's rounding.

use fast_image_resize::images::TypedImage;
use fast_image_resize::pixels::{U8, U8x3};
use fast_image_resize::{FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer};
use serde::{Deserialize, Serialize};

use crate::error::{DataError, Result};
use crate::picture::Picture;

/// The most pixels that a resized picture may have: a line of one pixel's width becomes long.
const RESIZED_LIMIT: usize = 1 << 26;

/// What a picture is resized to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resize {
    /// The shorter side to so many pixels, the longer one in proportion, rounded down as torchvision does.
    Shorter(u32),
    /// Height and width, whatever the proportions are.
    Exact([u32; 2]),
}

impl Resize {
    /// Rows and columns that a picture of `height` and `width` gets.
    pub(super) fn of(self, height: usize, width: usize) -> [usize; 2] {
        match self {
            Resize::Exact([height, width]) => [height as usize, width as usize],
            Resize::Shorter(side) => {
                let side = side as usize;
                let longer = |long: usize, short: usize| side * long / short.max(1);
                if height <= width { [side, longer(width, height)] } else { [longer(height, width), side] }
            }
        }
    }
}

/// How pixels between pixels are made; bilinear and bicubic widen their filters where a picture is made smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interpolation {
    /// The nearest pixel.
    Nearest,
    /// A triangle.
    #[default]
    Bilinear,
    /// Keys' cubic with a = −0.5.
    Bicubic,
}

/// Rows and columns that are cut from a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) top: usize,
    pub(super) left: usize,
    pub(super) height: usize,
    pub(super) width: usize,
}

/// The picture in another size.
pub(super) fn resized(
    mut picture: Picture,
    [height, width]: [usize; 2],
    interpolation: Interpolation,
    resizer: &mut Resizer,
) -> Result<Picture> {
    if (picture.height, picture.width) == (height, width) {
        return Ok(picture);
    }
    if height.checked_mul(width).is_none_or(|pixels| pixels > RESIZED_LIMIT) {
        let reason = format!("{} × {} pixels would become", picture.width, picture.height);
        return Err(DataError::unusable("resizing", format!("{reason} {width} × {height}")));
    }
    let algorithm = match interpolation {
        Interpolation::Nearest => return Ok(nearest(&picture, [height, width])),
        Interpolation::Bilinear => ResizeAlg::Convolution(FilterType::Bilinear),
        Interpolation::Bicubic => ResizeAlg::Convolution(FilterType::CatmullRom),
    };
    let options = ResizeOptions::new().resize_alg(algorithm).use_alpha(false);
    let mut pixels = vec![0; height * width * picture.channels];
    let done = if picture.channels == 1 {
        run::<U8>(&mut picture, [height, width], &mut pixels, resizer, &options)
    } else {
        run::<U8x3>(&mut picture, [height, width], &mut pixels, resizer, &options)
    };
    done.map_err(|reason| DataError::unusable("resizing", reason))?;
    Ok(Picture { height, width, channels: picture.channels, pixels: pixels.into() })
}

/// Where each of `to` pixels is taken from of `from`: the middle of what it stands for. Pillow walks there by adding up, which
/// is not the same as multiplying: between two pixels, the last bit decides.
pub(super) fn nearest_of(from: usize, to: usize) -> impl Iterator<Item = usize> {
    let step = from as f64 / to.max(1) as f64;
    (0..to).scan(step * 0.5, move |at, _| {
        let index = (*at as usize).min(from.saturating_sub(1));
        *at += step;
        Some(index)
    })
}

fn nearest(picture: &Picture, [height, width]: [usize; 2]) -> Picture {
    let channels = picture.channels;
    let columns: Vec<usize> = nearest_of(picture.width, width).map(|column| column * channels).collect();
    let mut pixels = Vec::with_capacity(height * width * channels);
    for row in nearest_of(picture.height, height) {
        let row = &picture.pixels[row * picture.width * channels..];
        for &at in &columns {
            pixels.extend_from_slice(&row[at..at + channels]);
        }
    }
    Picture { height, width, channels, pixels: pixels.into() }
}

/// One type for all images, though the source is only read: the resizer's code is made anew for every pair of types.
fn run<P: PixelTrait>(
    picture: &mut Picture,
    [height, width]: [usize; 2],
    pixels: &mut [u8],
    resizer: &mut Resizer,
    options: &ResizeOptions,
) -> std::result::Result<(), String> {
    let from = TypedImage::<P>::from_buffer(picture.width as u32, picture.height as u32, &mut picture.pixels);
    let to = TypedImage::<P>::from_buffer(width as u32, height as u32, pixels);
    let (from, mut to) = (from.map_err(|e| e.to_string())?, to.map_err(|e| e.to_string())?);
    resizer.resize_typed(&from, &mut to, options).map_err(|e| e.to_string())
}

/// A part of the picture that lies in it.
pub(super) fn part(picture: &Picture, cut: Cut) -> Picture {
    let Cut { top, left, height, width } = cut;
    let channels = picture.channels;
    let rows = picture.pixels.chunks_exact(picture.width * channels).skip(top).take(height);
    let pixels: Vec<u8> =
        rows.flat_map(|row| &row[left * channels..(left + width) * channels]).copied().collect();
    Picture { height, width, channels, pixels: pixels.into() }
}

/// So much of the middle, with black around it where the picture is smaller.
pub(super) fn center(picture: Picture, [height, width]: [usize; 2]) -> Picture {
    if (picture.height, picture.width) == (height, width) {
        return picture;
    }
    let (from_y, to_y, rows) = middle(picture.height, height);
    let (from_x, to_x, columns) = middle(picture.width, width);
    let channels = picture.channels;
    let mut pixels = vec![0; height * width * channels];
    let from = picture.pixels.chunks_exact(picture.width * channels).skip(from_y);
    let to = pixels.chunks_exact_mut(width * channels).skip(to_y);
    for (from, to) in from.zip(to).take(rows) {
        let count = columns * channels;
        to[to_x * channels..][..count].copy_from_slice(&from[from_x * channels..][..count]);
    }
    Picture { height, width, channels, pixels: pixels.into() }
}

/// Where the middle of `there` begins, where it goes in `wanted`, and how much it is. torchvision rounds halves to even
/// where it cuts, and down where it pads.
fn middle(there: usize, wanted: usize) -> (usize, usize, usize) {
    if there < wanted {
        return (0, (wanted - there) / 2, there);
    }
    let spare = there - wanted;
    let half = spare / 2;
    (if spare % 2 == 1 && half % 2 == 1 { half + 1 } else { half }, 0, wanted)
}
