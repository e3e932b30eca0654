//! The images of one split, all of one shape, in any order: from memory, or decoded when they are asked for.
//!
//! What an image becomes depends on its bytes and on (seed, epoch, index) alone, so that batches are the same bit for bit
//! whatever number of threads makes them.

mod batches;

use std::sync::Arc;

use crate::augment::Augment;
use crate::dataset::Dataset;
use crate::error::{DataError, Result};
use crate::order;
use crate::source::Source;
use crate::split::Split;

pub use batches::{Batch, Batches};

/// How a split is read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reading {}

/// The images of one split in one shape. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Loader {
    set: Arc<Dataset>,
}

impl Loader {
    /// Images that are in memory already.
    pub fn in_memory(set: Dataset) -> Self {
        Loader { set: Arc::new(set) }
    }

    /// A split of a source.
    ///
    /// # Errors
    /// See [`DataError`].
    pub fn open(source: &Source, split: Split, reading: &Reading) -> Result<Self> {
        let Reading {} = reading;
        Ok(Self::in_memory(Dataset::load(source, split)?))
    }

    /// How many images.
    pub fn len(&self) -> usize {
        self.set.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Height, width and channels of every image that comes out.
    pub fn shape(&self) -> [usize; 3] {
        [self.set.height, self.set.width, self.set.channels]
    }

    /// Bytes of one image.
    pub fn image_len(&self) -> usize {
        self.shape().iter().product()
    }

    /// The class of an image, if it is known.
    pub fn label(&self, index: usize) -> Option<u32> {
        self.set.labels.get(index).copied()
    }

    /// The highest class that occurs.
    pub fn highest_label(&self) -> Option<u32> {
        (0..self.len()).filter_map(|index| self.label(index)).max()
    }

    /// Class names in the order of the labels; empty if unknown.
    pub fn classes(&self) -> &[String] {
        &self.set.classes
    }

    /// These images, or where `limit` is less than all, the [`sample`](order::sample) of them; images are counted anew.
    #[must_use]
    pub fn sample(&self, limit: Option<usize>, seed: u64) -> Self {
        match limit {
            Some(limit) if limit < self.len() => {
                Self::in_memory(self.set.sample(Some(limit), seed).into_owned())
            }
            _ => self.clone(),
        }
    }

    /// SHA-256 over images and labels of these and `other`'s, hex; for sets in memory as [`Dataset::sha256`].
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn sha256(&self, other: &Loader) -> Result<String> {
        Ok(self.set.sha256(&other.set))
    }

    /// A batch for each list of indices in `order`, in that order, augmented if asked. `threads` threads make them ahead of
    /// what is asked for, a bounded number of them; with 0, each is made when it is asked for.
    pub fn batches<I: IntoIterator<Item = Vec<usize>>>(
        &self,
        order: I,
        augment: Option<Augment>,
        threads: usize,
    ) -> Batches<I::IntoIter> {
        Batches::new(self.clone(), order.into_iter(), augment, threads)
    }

    /// One batch, made here and now.
    ///
    /// # Errors
    /// As [`Batches`].
    pub fn batch(&self, indices: &[usize], augment: Option<Augment>) -> Result<Batch> {
        let part = self.part(indices, augment)?;
        Ok(Batch { indices: part.indices, pixels: part.pixels, labels: part.labels })
    }

    /// The images at `indices`, one behind the other.
    fn part(&self, indices: &[usize], augment: Option<Augment>) -> Result<Batch> {
        if let Some(&beyond) = indices.iter().find(|&&index| index >= self.len()) {
            let reason = format!("there is no image {beyond}; they are {}", self.len());
            return Err(DataError::unusable("dataset", reason));
        }
        let mut pixels = vec![0; indices.len() * self.image_len()];
        self.set.fill(indices, augment, &mut pixels);
        let labels = indices.iter().map(|&index| self.label(index)).collect();
        Ok(Batch { indices: indices.to_vec(), pixels, labels })
    }

    /// How many images a thread takes at a time.
    fn stride(&self) -> usize {
        usize::MAX
    }
}

#[cfg(test)]
mod tests;
