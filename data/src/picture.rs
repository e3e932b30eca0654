//! Image files to pixels: PNG, JPEG, WebP and BMP, told apart by their first bytes.
//!
//! What comes out is what Pillow's `convert("RGB")` or `convert("L")` gives: of 16 bits the upper 8, palettes expanded, an
//! alpha channel dropped; turned as EXIF says. What a file can ask for is bounded before anything is set aside for it, and
//! a decoder that fails in whatever way fails as an error that names the file.

mod bmp;
mod jpeg;
mod orientation;
mod png;
mod webp;

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::entry::Entry;
use crate::error::{DataError, Result};

/// The most that an image file may hold.
const FILE_LIMIT: u64 = 256 << 20;
/// The most pixels that an image may have.
const PIXELS_LIMIT: usize = 1 << 28;
/// Pixels that any file may have, however small it is.
const PIXELS_FREE: usize = 1 << 24;
/// The most pixels beyond those for a byte of the file: deflate packs up to 1032 bytes into one.
const PIXELS_A_BYTE: usize = 1024;
/// Read of a file for its header at first.
const HEAD: u64 = 256 << 10;

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

/// What a decoder finds in the bytes: pixels of 1 to 4 channels, the last of 2 or 4 being alpha.
struct Decoded {
    head: Head,
    pixels: Vec<u8>,
}

/// What stands before the pixels.
struct Head {
    height: usize,
    width: usize,
    channels: usize,
    /// EXIF's number of the way in which the picture lies, 1 to 8.
    orientation: u32,
}

/// What a decoder says against a file.
type Decode<T> = std::result::Result<T, String>;

/// Looks into the bytes of a file.
type Look<T> = fn(&[u8]) -> Decode<T>;

/// A kind of image file.
struct Kind {
    head: Look<Head>,
    decode: Look<Decoded>,
}

/// The kind that these first bytes are of.
fn kind(bytes: &[u8]) -> Option<Kind> {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => Some(Kind { head: png::head, decode: png::decode }),
        [0xff, 0xd8, 0xff, ..] => Some(Kind { head: jpeg::head, decode: jpeg::decode }),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => {
            Some(Kind { head: webp::head, decode: webp::decode })
        }
        [b'B', b'M', ..] => Some(Kind { head: bmp::head, decode: bmp::decode }),
        _ => None,
    }
}

impl Picture {
    /// Decodes an image file.
    ///
    /// # Errors
    /// If it is no PNG, JPEG, WebP or BMP image, damaged, too large, or in CMYK.
    pub fn decode(entry: &Entry) -> Result<Self> {
        let bytes = entry.read(FILE_LIMIT)?;
        let Decoded { head, pixels } = guarded(entry, &bytes, |kind| kind.decode)?;
        let colors = if head.channels < 3 { 1 } else { 3 };
        let pixels = match head.channels {
            1 | 3 => pixels,
            with_alpha => pixels.chunks_exact(with_alpha).flat_map(|p| &p[..colors]).copied().collect(),
        };
        if pixels.len() != head.height * head.width * colors {
            return Err(DataError::malformed(
                entry.shown(),
                "cannot be decoded: the number of pixels is off",
            ));
        }
        let lying =
            Picture { height: head.height, width: head.width, channels: colors, pixels: pixels.into() };
        Ok(orientation::upright(lying, head.orientation))
    }

    /// Height, width and channels that [`Picture::decode`] would give, from what stands before the pixels, or from the manifest
    /// that lists the file.
    ///
    /// # Errors
    /// As [`Picture::decode`], as far as that tells.
    pub fn shape(entry: &Entry) -> Result<[usize; 3]> {
        if let Some(listed) = entry.claim() {
            let unread =
                || DataError::malformed(entry.shown(), "its header could not be read for the manifest");
            return listed.shape.ok_or_else(unread);
        }
        let bytes = entry.head(HEAD)?;
        let head = match guarded(entry, &bytes, |kind| kind.head) {
            Err(_) if entry.size_bytes > HEAD => guarded(entry, &entry.read(FILE_LIMIT)?, |kind| kind.head)?,
            found => found?,
        };
        let (height, width) =
            if head.orientation > 4 { (head.width, head.height) } else { (head.height, head.width) };
        Ok([height, width, if head.channels < 3 { 1 } else { 3 }])
    }
}

/// Calls a decoder; whatever goes wrong in it is the file's.
fn guarded<T>(entry: &Entry, bytes: &[u8], of: fn(&Kind) -> Look<T>) -> Result<T> {
    let Some(kind) = kind(bytes) else {
        return Err(DataError::malformed(entry.shown(), "is no PNG, JPEG, WebP or BMP image"));
    };
    let outcome = catch_unwind(AssertUnwindSafe(|| of(&kind)(bytes)));
    let reason = match outcome {
        Ok(Ok(found)) => return Ok(found),
        Ok(Err(reason)) => reason,
        Err(_) => failed("its decoder gave up"),
    };
    Err(DataError::malformed(entry.shown(), reason))
}

fn failed(cause: impl Display) -> String {
    format!("cannot be decoded: {cause}")
}

/// Refuses images that are larger than is held in memory, or than a file of so many bytes can be believed to hold.
fn check_size(width: usize, height: usize, bytes: &[u8]) -> Decode<()> {
    let limit = PIXELS_LIMIT.min(PIXELS_FREE.max(bytes.len().saturating_mul(PIXELS_A_BYTE)));
    match width.checked_mul(height) {
        Some(0) => Err("has no pixels".into()),
        Some(pixels) if pixels <= limit => Ok(()),
        _ => Err(format!("is too large: {width} × {height} pixels; of such a file up to {limit} are read")),
    }
}

#[cfg(test)]
mod tests;
