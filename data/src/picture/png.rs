//! PNG images.

use std::io::Cursor;

use super::{Picture, check_size};
use crate::entry::Entry;
use crate::error::{DataError, Result};

/// Decodes to 8 bits a channel, gray or RGB. An alpha channel is dropped if it is opaque everywhere, else refused, since
/// what lies behind would be a guess.
pub(super) fn decode(bytes: &[u8], entry: &Entry) -> Result<Picture> {
    let bad = |e: png::DecodingError| DataError::malformed(entry.shown(), format!("cannot be decoded: {e}"));
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().map_err(bad)?;
    check_size(entry, reader.info().width as usize, reader.info().height as usize)?;
    let size = reader.output_buffer_size();
    let size = size.ok_or_else(|| DataError::malformed(entry.shown(), "is too large"))?;
    let mut pixels = vec![0; size];
    let info = reader.next_frame(&mut pixels).map_err(bad)?;
    pixels.truncate(info.buffer_size());
    let (height, width) = (info.height as usize, info.width as usize);
    let (channels, pixels) = match info.color_type {
        png::ColorType::Grayscale => (1, pixels),
        png::ColorType::Rgb => (3, pixels),
        png::ColorType::GrayscaleAlpha => (1, opaque(&pixels, 2, entry)?),
        png::ColorType::Rgba => (3, opaque(&pixels, 4, entry)?),
        png::ColorType::Indexed => {
            return Err(DataError::malformed(entry.shown(), "has a palette that could not be expanded"));
        }
    };
    Ok(Picture { height, width, channels, pixels: pixels.into() })
}

/// The pixels without their last channel, which must be opaque.
fn opaque(pixels: &[u8], channels: usize, entry: &Entry) -> Result<Vec<u8>> {
    if pixels.chunks_exact(channels).any(|p| p.last() != Some(&255)) {
        return Err(DataError::hinted(
            entry.shown(),
            "has transparent pixels",
            "flatten it onto the background that you mean",
        ));
    }
    Ok(pixels.chunks_exact(channels).flat_map(|p| &p[..channels - 1]).copied().collect())
}
