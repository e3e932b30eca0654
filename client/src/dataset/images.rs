//! Images with labels, for inference: bytes, rows of interleaved pixels.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use dyadic_proto::v1::DatasetFormat;

use super::{Found, cifar, folder, idx, strips};
use crate::error::{CliError, Result};

/// Bytes of one image, (height, width, channels).
pub(crate) type Image = Box<[u8]>;

/// Where an image's bytes are.
#[derive(Debug, Clone)]
pub(super) enum Source {
    Memory(Image),
    File(PathBuf),
}

/// A decoded picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Picture {
    pub(crate) height: usize,
    pub(crate) width: usize,
    /// 1 or 3.
    pub(crate) channels: usize,
    /// (height, width, channels).
    pub(crate) pixels: Image,
}

/// The images of a split.
#[derive(Debug)]
pub(crate) struct Images {
    /// Of images in memory; those in files bring their own.
    shape: [usize; 3],
    images: Vec<(Source, Option<u32>)>,
}

impl Images {
    pub(super) fn new(height: usize, width: usize, channels: usize) -> Self {
        Images { shape: [height, width, channels], images: Vec::new() }
    }

    pub(super) fn push(&mut self, image: Image, label: u32) {
        self.images.push((Source::Memory(image), Some(label)));
    }

    pub(super) fn push_source(&mut self, source: Source, label: Option<u32>) {
        self.images.push((source, label));
    }

    /// Reads a split, at most `limit` images.
    pub(crate) fn of(found: &Found, split: &str, limit: usize) -> Result<Self> {
        match found.format {
            DatasetFormat::Cifar10Binary | DatasetFormat::Cifar100Binary => cifar::read(found, split, limit),
            DatasetFormat::Cifar10PngStrips => strips::read(found, split, limit),
            DatasetFormat::Idx => idx::read(found, split, limit),
            DatasetFormat::ImageFolder => folder::read(found, split, limit),
            DatasetFormat::Unspecified => Err(CliError::usage("the dataset's format is not known")),
        }
    }

    /// Image files without labels.
    pub(crate) fn of_files(paths: &[PathBuf]) -> Self {
        let images = paths.iter().map(|p| (Source::File(p.clone()), None)).collect();
        Images { shape: [0; 3], images }
    }

    pub(crate) fn len(&self) -> usize {
        self.images.len()
    }

    pub(crate) fn label(&self, index: usize) -> Option<u32> {
        self.images.get(index)?.1
    }

    /// What messages call the image.
    pub(crate) fn name(&self, index: usize) -> String {
        match self.images.get(index) {
            Some((Source::File(path), _)) => path.display().to_string(),
            _ => format!("image {index}"),
        }
    }

    /// The picture, decoded if it lies in a file.
    pub(crate) fn picture(&self, index: usize) -> Result<Picture> {
        let [height, width, channels] = self.shape;
        match self.images.get(index) {
            Some((Source::Memory(pixels), _)) => {
                Ok(Picture { height, width, channels, pixels: pixels.clone() })
            }
            Some((Source::File(path), _)) => decode(path),
            None => Err(CliError::usage(format!("there is no image {index}"))),
        }
    }

    #[cfg(test)]
    pub(super) fn pixels(&self, index: usize) -> Result<Image> {
        self.picture(index).map(|p| p.pixels)
    }
}

/// Decodes an image file by its first bytes.
pub(crate) fn decode(path: &Path) -> Result<Picture> {
    use std::io::Read;
    let mut magic = [0; 8];
    let mut file = File::open(path).map_err(|e| CliError::file(path, e))?;
    let n = file.read(&mut magic).map_err(|e| CliError::file(path, e))?;
    match &magic[..n] {
        [0x89, b'P', b'N', b'G', ..] => decode_png(path),
        [0xff, 0xd8, 0xff, ..] => super::jpeg::decode(path),
        _ => Err(CliError::file(path, "is neither a PNG nor a JPEG image")),
    }
}

/// Decodes a PNG to 8 bits a channel, gray or RGB. An alpha channel is dropped if it is opaque everywhere, else refused,
/// since what lies behind would be a guess.
pub(crate) fn decode_png(path: &Path) -> Result<Picture> {
    let bad = |e: png::DecodingError| CliError::file(path, format!("cannot be decoded: {e}"));
    let file = File::open(path).map_err(|e| CliError::file(path, e))?;
    let mut decoder = png::Decoder::new(BufReader::new(file));
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().map_err(bad)?;
    let size = reader.output_buffer_size().ok_or_else(|| CliError::file(path, "is too large"))?;
    let mut pixels = vec![0; size];
    let info = reader.next_frame(&mut pixels).map_err(bad)?;
    pixels.truncate(info.buffer_size());
    let (height, width) = (info.height as usize, info.width as usize);
    let (channels, pixels) = match info.color_type {
        png::ColorType::Grayscale => (1, pixels),
        png::ColorType::Rgb => (3, pixels),
        png::ColorType::GrayscaleAlpha => (1, opaque(&pixels, 2, path)?),
        png::ColorType::Rgba => (3, opaque(&pixels, 4, path)?),
        png::ColorType::Indexed => {
            return Err(CliError::file(path, "has a palette that could not be expanded"));
        }
    };
    Ok(Picture { height, width, channels, pixels: pixels.into() })
}

/// The pixels without their last channel, which must be opaque.
fn opaque(pixels: &[u8], channels: usize, path: &Path) -> Result<Vec<u8>> {
    if pixels.chunks_exact(channels).any(|p| p.last() != Some(&255)) {
        return Err(CliError::file(path, "has transparent pixels")
            .hint("flatten it onto the background that you mean"));
    }
    Ok(pixels.chunks_exact(channels).flat_map(|p| &p[..channels - 1]).copied().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png(path: &Path, color: png::ColorType, width: u32, height: u32, data: &[u8]) {
        let mut encoder = png::Encoder::new(File::create(path).unwrap(), width, height);
        encoder.set_color(color);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.write_header().unwrap().write_image_data(data).unwrap();
    }

    #[test]
    fn pngs_decode_to_gray_or_rgb() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.png");
        png(&path, png::ColorType::Grayscale, 2, 1, &[5, 6]);
        assert_eq!(
            decode(&path).unwrap(),
            Picture { height: 1, width: 2, channels: 1, pixels: [5, 6].into() }
        );
        png(&path, png::ColorType::Rgba, 1, 1, &[1, 2, 3, 255]);
        assert_eq!(*decode(&path).unwrap().pixels, [1, 2, 3]);
        png(&path, png::ColorType::Rgba, 1, 1, &[1, 2, 3, 254]);
        assert!(decode(&path).unwrap_err().message.contains("transparent"));
    }

    #[test]
    fn other_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.png");
        for bytes in [&b""[..], b"GIF89a", b"\x89PNG\r\n\x1a\nbroken"] {
            std::fs::write(&path, bytes).unwrap();
            assert!(decode(&path).is_err());
        }
    }
}
