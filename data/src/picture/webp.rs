//! WebP images; of a moving one the first picture.

use std::io::Cursor;

use image_webp::WebPDecoder;

use super::{Decode, Decoded, Head, check_size, failed, orientation};

/// The most that metadata may hold.
const METADATA_LIMIT: usize = 1 << 20;

type Decoder<'a> = WebPDecoder<Cursor<&'a [u8]>>;

pub(super) fn head(bytes: &[u8]) -> Decode<Head> {
    open(bytes).map(|(_, head)| head)
}

/// Decodes to RGB, with or without alpha.
pub(super) fn decode(bytes: &[u8]) -> Decode<Decoded> {
    let (mut decoder, head) = open(bytes)?;
    let size = decoder.output_buffer_size().ok_or_else(|| failed("it is too large"))?;
    decoder.set_memory_limit(size.saturating_mul(2));
    let mut pixels = vec![0; size];
    decoder.read_image(&mut pixels).map_err(failed)?;
    Ok(Decoded { head, pixels })
}

fn open(bytes: &[u8]) -> Decode<(Decoder<'_>, Head)> {
    let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(failed)?;
    let (width, height) = decoder.dimensions();
    let (width, height) = (width as usize, height as usize);
    check_size(width, height, bytes)?;
    decoder.set_memory_limit(METADATA_LIMIT);
    let exif = decoder.exif_metadata().ok().flatten();
    let orientation = exif.map_or(1, |raw| orientation::of(&raw));
    let channels = if decoder.has_alpha() { 4 } else { 3 };
    Ok((decoder, Head { height, width, channels, orientation }))
}
