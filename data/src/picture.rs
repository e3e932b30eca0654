//! Image files to pixels: PNG and JPEG, told apart by their first bytes, with limits on what a header can ask for.

mod jpeg;
mod png;

use crate::entry::Entry;
use crate::error::{DataError, Result};

/// The most that an image file may hold.
const FILE_LIMIT: u64 = 256 << 20;
/// The most pixels that an image may have.
const PIXELS_LIMIT: usize = 1 << 28;

/// A decoded picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// 1 or 3.
    pub channels: usize,
    /// (height, width, channels).
    pub pixels: Box<[u8]>,
}

impl Picture {
    /// Decodes an image file.
    ///
    /// # Errors
    /// If it is no PNG and no JPEG, damaged, too large, or has transparent pixels.
    pub fn decode(entry: &Entry) -> Result<Self> {
        let bytes = entry.read(FILE_LIMIT)?;
        match &bytes[..] {
            [0x89, b'P', b'N', b'G', ..] => png::decode(&bytes, entry),
            [0xff, 0xd8, 0xff, ..] => jpeg::decode(&bytes, entry),
            _ => Err(DataError::malformed(entry.shown(), "is neither a PNG nor a JPEG image")),
        }
    }
}

/// Refuses images that are larger than is held in memory.
fn check_size(entry: &Entry, width: usize, height: usize) -> Result<()> {
    match width.checked_mul(height) {
        Some(pixels) if pixels <= PIXELS_LIMIT => Ok(()),
        _ => Err(DataError::malformed(
            entry.shown(),
            format!("is too large: {width} × {height} pixels; up to {PIXELS_LIMIT} are read"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn png(path: &Path, color: ::png::ColorType, width: u32, height: u32, data: &[u8]) {
        let file = std::fs::File::create(path).unwrap();
        let mut encoder = ::png::Encoder::new(file, width, height);
        encoder.set_color(color);
        encoder.set_depth(::png::BitDepth::Eight);
        encoder.write_header().unwrap().write_image_data(data).unwrap();
    }

    fn decode(path: &Path) -> Result<Picture> {
        Picture::decode(&Entry::file(path, "a.png").unwrap())
    }

    #[test]
    fn pngs_decode_to_gray_or_rgb() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.png");
        png(&path, ::png::ColorType::Grayscale, 2, 1, &[5, 6]);
        assert_eq!(
            decode(&path).unwrap(),
            Picture { height: 1, width: 2, channels: 1, pixels: [5, 6].into() }
        );
        png(&path, ::png::ColorType::Rgba, 1, 1, &[1, 2, 3, 255]);
        assert_eq!(*decode(&path).unwrap().pixels, [1, 2, 3]);
        png(&path, ::png::ColorType::Rgba, 1, 1, &[1, 2, 3, 254]);
        assert!(decode(&path).unwrap_err().to_string().contains("transparent"));
    }

    #[test]
    fn other_files_and_headers_that_ask_for_gigabytes_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.png");
        for bytes in [&b""[..], b"GIF89a", b"\x89PNG\r\n\x1a\nbroken"] {
            std::fs::write(&path, bytes).unwrap();
            assert!(decode(&path).is_err());
        }
        // A sound header of 30,000 × 30,000 pixels, and nothing behind it.
        let file = std::fs::File::create(&path).unwrap();
        let encoder = ::png::Encoder::new(file, 30_000, 30_000);
        encoder.write_header().unwrap().write_chunk(::png::chunk::IDAT, b"").unwrap();
        let refusal = decode(&path).unwrap_err().to_string();
        assert!(refusal.contains("too large"), "{refusal}");
    }
}
