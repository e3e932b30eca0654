//! BMP images.

use zune_bmp::BmpDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::{Decode, Decoded, Head, PIXELS_LIMIT, check_size, failed};

type Decoder<'a> = BmpDecoder<ZCursor<&'a [u8]>>;

pub(super) fn head(bytes: &[u8]) -> Decode<Head> {
    open(bytes).map(|(_, head)| head)
}

/// Decodes to gray or RGB, with or without alpha.
pub(super) fn decode(bytes: &[u8]) -> Decode<Decoded> {
    let (mut decoder, head) = open(bytes)?;
    let pixels = decoder.decode().map_err(|e| failed(format!("{e:?}")))?;
    Ok(Decoded { head, pixels })
}

fn open(bytes: &[u8]) -> Decode<(Decoder<'_>, Head)> {
    check_rows(bytes)?;
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(PIXELS_LIMIT)
        .set_max_height(PIXELS_LIMIT);
    let mut decoder = BmpDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|e| failed(format!("{e:?}")))?;
    let (width, height) = decoder.dimensions().ok_or_else(|| failed("it has no dimensions"))?;
    check_size(width, height, bytes)?;
    let space = decoder.colorspace().ok_or_else(|| failed("it has no colours"))?;
    Ok((decoder, Head { height, width, channels: space.num_components(), orientation: 1 }))
}

/// Refuses run-length coding, and files that end before their last row, which the decoder fills with black.
fn check_rows(bytes: &[u8]) -> Decode<()> {
    let number = |at: usize, size: usize| -> Option<u64> {
        let field = bytes.get(at..at + size)?;
        Some(field.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    };
    let short = || failed("it ends in its header");
    let old = number(14, 4).ok_or_else(short)? == 12;
    let places = if old { [(18, 2), (20, 2), (24, 2)] } else { [(18, 4), (22, 4), (28, 2)] };
    let [width, height, bits] = places.map(|(at, size)| number(at, size));
    let (Some(start), Some(width), Some(height), Some(bits)) = (number(10, 4), width, height, bits) else {
        return Err(short());
    };
    if !old && matches!(number(30, 4), Some(1 | 2)) {
        return Err("is run-length coded, which is not read: store it without compression".into());
    }
    if !matches!(bits, 8 | 24 | 32) {
        return Err(format!("has {bits} bits a pixel; of BMP images 8, 24 and 32 are read"));
    }
    // Rows from the top down have a negative height.
    let height = if old { height } else { u64::from((height as u32 as i32).unsigned_abs()) };
    let end = (width * bits).div_ceil(32).checked_mul(4 * height).and_then(|rows| rows.checked_add(start));
    match end {
        Some(end) if end <= bytes.len() as u64 => Ok(()),
        _ => Err(failed("it ends before its last row")),
    }
}
