//! Labelled image datasets, as byte images in memory, and the reproducible order and augmentation of their epochs.
//!
//! Formats are recognized by the names of the files, in a folder or in a tar archive (gzipped or not): CIFAR-10 and
//! CIFAR-100 in binary, CIFAR-10 as PNG strips, and IDX (MNIST and its kin). Everything is checked before use.

mod augment;
mod cifar;
mod files;
mod idx;
mod strips;

use std::path::{Path, PathBuf};

use dyadic_store::blob::Digest;
use sha2::{Digest as _, Sha256};

pub use augment::{Augment, Epoch};

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

/// A part of a dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// Images to learn from.
    Train,
    /// Images to measure on.
    Test,
}

/// Why a dataset cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file or folder cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// No known format's files are there.
    #[error(
        "{path} holds no known dataset. Expected one of: CIFAR binary (data_batch_1.bin … test_batch.bin, or train.bin and \
         test.bin), CIFAR-10 PNG strips (data_batch_1.png … test_batch.png), IDX (train-images-idx3-ubyte …), in a folder or a \
         .tar/.tgz archive; missing: {missing}"
    )]
    Unknown {
        /// What was searched.
        path: PathBuf,
        /// The first file of the likeliest format that is not there.
        missing: String,
    },
    /// A file does not hold what its name promises.
    #[error("{file}: {reason}")]
    Malformed {
        /// The file's base name.
        file: String,
        /// Expected and actual.
        reason: String,
    },
}

impl DataError {
    fn malformed(file: &str, reason: impl Into<String>) -> Self {
        DataError::Malformed { file: file.to_string(), reason: reason.into() }
    }
}

impl Dataset {
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
                Some(augment) => augment.apply(self, index, source, target),
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
        Digest::from(<[u8; 32]>::from(hash.finalize())).to_string()
    }
}

/// Reads one split of the dataset at `path`: a folder or an archive.
///
/// # Errors
/// See [`DataError`].
pub fn load(path: &Path, split: Split) -> Result<Dataset, DataError> {
    let names = files::names(path)?;
    let has = |name: &str| names.iter().any(|n| n == name);
    if has("test_batch.png") {
        return strips::load(path, split);
    }
    if has("test_batch.bin") || (has("train.bin") && has("test.bin")) {
        return cifar::load(path, split, has("test_batch.bin"));
    }
    if names.iter().any(|n| n.contains("-idx3-ubyte")) {
        return idx::load(path, split, &names);
    }
    Err(DataError::Unknown { path: path.to_path_buf(), missing: "test_batch.bin".into() })
}

/// Seeded random images, all of class 0: for speed figures and tests, without meaning.
pub fn random(count: usize, [height, width, channels]: [usize; 3], seed: u64) -> Dataset {
    let mut state = seed;
    let bytes = (0..count * height * width * channels).map(|_| {
        state = state.wrapping_add(1);
        augment::mix(state) as u8
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
