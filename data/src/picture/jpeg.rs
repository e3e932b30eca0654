//! JPEG images. Decoders differ by a unit here and there; for figures that must agree to the last digit, use PNG.

use std::io::Cursor;

use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::{Picture, check_size};
use crate::entry::Entry;
use crate::error::{DataError, Result};

/// Decodes to gray if the file is gray, else to RGB.
pub(super) fn decode(bytes: &[u8], entry: &Entry) -> Result<Picture> {
    let (picture, own) = with(bytes, ColorSpace::RGB, entry)?;
    if own == ColorSpace::Luma { Ok(with(bytes, ColorSpace::Luma, entry)?.0) } else { Ok(picture) }
}

/// Decodes into a colour space; also tells the file's own.
fn with(bytes: &[u8], space: ColorSpace, entry: &Entry) -> Result<(Picture, ColorSpace)> {
    let bad =
        |e: &dyn std::fmt::Debug| DataError::malformed(entry.shown(), format!("cannot be decoded: {e:?}"));
    let options = DecoderOptions::default().jpeg_set_out_colorspace(space);
    let mut decoder = JpegDecoder::new_with_options(Cursor::new(bytes), options);
    decoder.decode_headers().map_err(|e| bad(&e))?;
    let (width, height) = decoder.dimensions().ok_or_else(|| bad(&"no dimensions"))?;
    check_size(entry, width, height)?;
    let pixels = decoder.decode().map_err(|e| bad(&e))?;
    let channels = space.num_components();
    if pixels.len() != width * height * channels {
        return Err(bad(&"the number of pixels is off"));
    }
    let own = decoder.input_colorspace().unwrap_or(space);
    Ok((Picture { height, width, channels, pixels: pixels.into() }, own))
}
