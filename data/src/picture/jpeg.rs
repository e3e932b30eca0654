//! JPEG images. Decoders differ by a unit here and there; for figures that must agree to the last digit, use PNG.

use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::{Decode, Decoded, Head, check_size, failed, orientation};

/// Rows and columns that the format can state.
const SIDE_LIMIT: usize = 65_535;
/// Scans of a progressive image; encoders make about ten.
const SCANS_LIMIT: usize = 64;

type Decoder<'a> = JpegDecoder<ZCursor<&'a [u8]>>;

pub(super) fn head(bytes: &[u8]) -> Decode<Head> {
    open(bytes).map(|(_, head)| head)
}

/// Decodes to gray if the file is gray, else to RGB.
pub(super) fn decode(bytes: &[u8]) -> Decode<Decoded> {
    let (mut decoder, head) = open(bytes)?;
    let space = if head.channels == 1 { ColorSpace::Luma } else { ColorSpace::RGB };
    decoder.set_options(options().jpeg_set_out_colorspace(space));
    let pixels = decoder.decode().map_err(|e| failed(format!("{e:?}")))?;
    Ok(Decoded { head, pixels })
}

/// Strict: an image that is cut short is told, not filled with gray.
fn options() -> DecoderOptions {
    DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(SIDE_LIMIT)
        .set_max_height(SIDE_LIMIT)
        .jpeg_set_max_scans(SCANS_LIMIT)
}

fn open(bytes: &[u8]) -> Decode<(Decoder<'_>, Head)> {
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options());
    decoder.decode_headers().map_err(|e| failed(format!("{e:?}")))?;
    let (width, height) = decoder.dimensions().ok_or_else(|| failed("it has no dimensions"))?;
    check_size(width, height, bytes)?;
    let channels = match decoder.input_colorspace() {
        Some(ColorSpace::Luma) => 1,
        Some(ColorSpace::YCbCr | ColorSpace::RGB) => 3,
        Some(ColorSpace::CMYK | ColorSpace::YCCK) => {
            return Err("is in CMYK, which is not read: convert it to RGB".into());
        }
        other => return Err(failed(format!("its colour space is {other:?}"))),
    };
    let orientation = decoder.exif().map_or(1, |raw| orientation::of(raw));
    Ok((decoder, Head { height, width, channels, orientation }))
}
