//! Labelled byte images in memory: what training and evaluation read.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::augment::Augment;
use crate::entry::Entry;
use crate::error::{DataError, Result};
use crate::format::{Format, Sink};
use crate::order;
use crate::picture::Picture;
use crate::source::Source;
use crate::split::Split;

/// Byte images and their labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// `len × height × width × channels` bytes.
    pub images: Vec<u8>,
    /// Class of each image.
    pub labels: Vec<u32>,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Channels, interleaved.
    pub channels: usize,
    /// Class names; empty if unknown.
    pub classes: Vec<String>,
    /// Whether a mirrored image is still of its class (false for digits).
    pub mirrors: bool,
}

/// Images that memory is set aside for on a header's word, bytes.
const RESERVE: usize = 1 << 28;

impl Dataset {
    /// Decodes a split.
    ///
    /// # Errors
    /// See [`DataError`].
    pub fn load(source: &Source, split: Split) -> Result<Self> {
        let mut set = Self::empty(source);
        source.format().scan(source, split, &mut set)?;
        set.name_classes(source);
        Ok(set)
    }

    /// None of a source's images yet.
    pub(crate) fn empty(source: &Source) -> Self {
        Dataset {
            images: Vec::new(),
            labels: Vec::new(),
            height: 0,
            width: 0,
            channels: 0,
            classes: source.classes().to_vec(),
            mirrors: source.format().mirrors(),
        }
    }

    /// Names the classes as the format does where the files do not.
    pub(crate) fn name_classes(&mut self, source: &Source) {
        if self.classes.is_empty() {
            self.classes = source.format().names(self.labels.iter().max().copied());
        }
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Bytes of one image.
    pub fn image_len(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// The bytes of an image; none if there is no such image.
    pub(crate) fn bytes(&self, index: usize) -> &[u8] {
        let size = self.image_len();
        self.images.get(index * size..(index + 1) * size).unwrap_or_default()
    }

    /// An image as a picture.
    pub(crate) fn picture(&self, index: usize) -> Picture {
        let (height, width, channels) = (self.height, self.width, self.channels);
        Picture { height, width, channels, pixels: self.bytes(index).into() }
    }

    /// The set, or where `limit` is less than all, a [`sample`](order::sample) of it.
    pub fn sample(&self, limit: Option<usize>, seed: u64) -> Cow<'_, Dataset> {
        let Some(limit) = limit.filter(|&limit| limit < self.len()) else { return Cow::Borrowed(self) };
        let chosen = order::sample(self.len(), limit, seed);
        let mut images = vec![0; chosen.len() * self.image_len()];
        self.fill(&chosen, None, &mut images);
        Cow::Owned(Dataset {
            images,
            labels: chosen.iter().map(|&index| self.labels[index]).collect(),
            classes: self.classes.clone(),
            ..*self
        })
    }

    /// Copies the images at `indices` into `out`, augmented if asked.
    ///
    /// # Panics
    /// If an index is not below [`Dataset::len`] or `out` is not `indices.len() × image_len` long.
    pub fn fill(&self, indices: &[usize], augment: Option<Augment>, out: &mut [u8]) {
        let size = self.image_len();
        assert_eq!(out.len(), indices.len() * size, "one image's room for each index");
        for (&index, target) in indices.iter().zip(out.chunks_exact_mut(size.max(1))) {
            let source = &self.images[index * size..(index + 1) * size];
            match augment {
                None => target.copy_from_slice(source),
                Some(augment) => {
                    let shape = [self.height, self.width, self.channels];
                    augment.shift(shape, self.mirrors, index, source, target);
                }
            }
        }
    }

    /// SHA-256 over images and labels of this set and `other`, hex.
    pub fn sha256(&self, other: &Dataset) -> String {
        let mut hash = Sha256::new();
        for set in [self, other] {
            for extent in [set.len(), set.height, set.width, set.channels] {
                hash.update((extent as u64).to_le_bytes());
            }
            hash.update(&set.images);
            for label in &set.labels {
                hash.update(label.to_le_bytes());
            }
        }
        hex(hash)
    }
}

pub(crate) fn hex(hash: Sha256) -> String {
    hash.finalize().iter().fold(String::with_capacity(64), |mut hex, byte| {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

impl Sink for Dataset {
    fn begin(&mut self, [height, width, channels]: [usize; 3], count: usize) -> Result<()> {
        (self.height, self.width, self.channels) = (height, width, channels);
        self.images.reserve(count.saturating_mul(self.image_len()).min(RESERVE));
        Ok(())
    }

    fn image(&mut self, pixels: &[u8], label: u32) -> Result<()> {
        self.images.extend_from_slice(pixels);
        self.labels.push(label);
        Ok(())
    }

    fn file(&mut self, file: &Entry, _label: Option<u32>) -> Result<()> {
        let reason = "is an image in a file of its own; such datasets are not decoded into memory as a whole";
        Err(DataError::unusable(file.shown(), reason))
    }
}

/// Reads one split of the tar at `path`, which holds a dataset of this format.
///
/// # Errors
/// See [`DataError`].
pub fn load_as(path: &Path, format: &'static dyn Format, split: Split) -> Result<Dataset> {
    Dataset::load(&Source::in_tar(path, format)?, split)
}

/// Reads one split of the dataset at `path`: a folder or an archive.
///
/// # Errors
/// See [`DataError`].
pub fn load(path: &Path, split: Split) -> Result<Dataset> {
    Dataset::load(&Source::open(path)?, split)
}

/// Seeded random images, all of class 0: for speed figures and tests, without meaning.
pub fn random(count: usize, [height, width, channels]: [usize; 3], seed: u64) -> Dataset {
    let mut state = seed;
    let bytes = (0..count * height * width * channels).map(|_| {
        state = state.wrapping_add(1);
        order::mix(state) as u8
    });
    Dataset {
        images: bytes.collect(),
        labels: vec![0; count],
        height,
        width,
        channels,
        classes: Vec::new(),
        mirrors: true,
    }
}

#[cfg(test)]
mod tests;
