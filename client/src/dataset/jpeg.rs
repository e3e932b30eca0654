//! JPEG images. Decoders differ by a unit here and there; for figures that must agree to the last digit, use PNG.

use std::io::Cursor;
use std::path::Path;

use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::images::Picture;
use crate::error::{CliError, Result};

/// Decodes to gray if the file is gray, else to RGB.
pub(super) fn decode(path: &Path) -> Result<Picture> {
    let bytes = std::fs::read(path).map_err(|e| CliError::file(path, e))?;
    let mut picture = with(&bytes, ColorSpace::RGB, path)?;
    if picture.1 == ColorSpace::Luma {
        picture = with(&bytes, ColorSpace::Luma, path)?;
    }
    Ok(picture.0)
}

/// Decodes into a colour space; also tells the file's own.
fn with(bytes: &[u8], space: ColorSpace, path: &Path) -> Result<(Picture, ColorSpace)> {
    let bad = |e: &dyn std::fmt::Debug| CliError::file(path, format!("cannot be decoded: {e:?}"));
    let options = DecoderOptions::default().jpeg_set_out_colorspace(space);
    let mut decoder = JpegDecoder::new_with_options(Cursor::new(bytes), options);
    let pixels = decoder.decode().map_err(|e| bad(&e))?;
    let (width, height) = decoder.dimensions().ok_or_else(|| bad(&"no dimensions"))?;
    let channels = space.num_components();
    if pixels.len() != width * height * channels {
        return Err(bad(&"the number of pixels is off"));
    }
    let own = decoder.input_colorspace().unwrap_or(space);
    Ok((Picture { height, width, channels, pixels: pixels.into() }, own))
}
