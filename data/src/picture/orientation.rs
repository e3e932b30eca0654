//! The way in which a picture lies, by EXIF's tag 274.

use exif::{In, Reader, Tag};

use super::Picture;

/// The number that EXIF data give, 1 (upright) if they give none that has a meaning.
pub(super) fn of(raw: &[u8]) -> u32 {
    let raw = raw.strip_prefix(b"Exif\0\0").unwrap_or(raw);
    let number = Reader::new()
        .read_raw(raw.to_vec())
        .ok()
        .and_then(|exif| exif.get_field(Tag::Orientation, In::PRIMARY)?.value.get_uint(0));
    number.filter(|number| (1..=8).contains(number)).unwrap_or(1)
}

/// The picture as it is to be looked at.
pub(super) fn upright(picture: Picture, orientation: u32) -> Picture {
    let (height, width, channels) = (picture.height, picture.width, picture.channels);
    let (bottom, right) = (height.saturating_sub(1), width.saturating_sub(1));
    // Where the pixel of row y and column x comes from.
    let from: &dyn Fn(usize, usize) -> (usize, usize) = match orientation {
        2 => &|y, x| (y, right - x),
        3 => &|y, x| (bottom - y, right - x),
        4 => &|y, x| (bottom - y, x),
        5 => &|y, x| (x, y),
        6 => &|y, x| (bottom - x, y),
        7 => &|y, x| (bottom - x, right - y),
        8 => &|y, x| (x, right - y),
        _ => return picture,
    };
    let (rows, columns) = if orientation > 4 { (width, height) } else { (height, width) };
    let mut pixels = Vec::with_capacity(picture.pixels.len());
    for y in 0..rows {
        for x in 0..columns {
            let (sy, sx) = from(y, x);
            let at = (sy * width + sx) * channels;
            pixels.extend_from_slice(&picture.pixels[at..at + channels]);
        }
    }
    Picture { height: rows, width: columns, channels, pixels: pixels.into() }
}
