//! PNG images.

use std::io::Cursor;

use super::{Decode, Decoded, Head, check_size, failed, orientation};

type Reader<'a> = png::Reader<Cursor<&'a [u8]>>;

pub(super) fn head(bytes: &[u8]) -> Decode<Head> {
    open(bytes).map(|(_, head)| head)
}

/// Decodes to 8 bits a channel, gray or RGB, with or without alpha.
pub(super) fn decode(bytes: &[u8]) -> Decode<Decoded> {
    let (mut reader, head) = open(bytes)?;
    let size = reader.output_buffer_size().ok_or_else(|| failed("it is too large"))?;
    let mut pixels = vec![0; size];
    let info = reader.next_frame(&mut pixels).map_err(failed)?;
    pixels.truncate(info.buffer_size());
    Ok(Decoded { head, pixels })
}

fn open(bytes: &[u8]) -> Decode<(Reader<'_>, Head)> {
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let reader = decoder.read_info().map_err(failed)?;
    let info = reader.info();
    let (width, height) = (info.width as usize, info.height as usize);
    check_size(width, height, bytes)?;
    let orientation = info.exif_metadata.as_ref().map_or(1, |raw| orientation::of(raw));
    let (color, _) = reader.output_color_type();
    if color == png::ColorType::Indexed {
        return Err(failed("its palette could not be expanded"));
    }
    let head = Head { height, width, channels: color.samples(), orientation };
    Ok((reader, head))
}
