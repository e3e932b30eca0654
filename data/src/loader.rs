//! The images of one split, all of one shape, in any order: from memory, or decoded when they are asked for.
//!
//! What an image becomes depends on its bytes and on (seed, epoch, index) alone, so that batches are the same bit for bit
//! whatever number of threads makes them.

mod batches;
mod broken;
mod reading;
mod store;

use std::sync::Arc;

use fast_image_resize::Resizer;
use sha2::{Digest as _, Sha256};

use crate::augment::Augment;
use crate::dataset::{self, Dataset};
use crate::error::{DataError, Result};
use crate::order;
use crate::source::Source;
use crate::split::Split;
use broken::Tally;
use store::{Images, Store};

pub use batches::{Batch, Batches};
pub use broken::Broken;
pub use reading::{Outputs, Reading};

/// Images that a thread decodes at a time.
const STRIDE: usize = 4;

/// The images of one split in one shape. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Loader {
    store: Arc<Store>,
    /// Which of the store's they are; none for all.
    chosen: Option<Arc<[u32]>>,
    /// Shared by clones, not by samples.
    tally: Arc<Tally>,
}

impl Loader {
    /// Images that are in memory already, as they are.
    pub fn in_memory(set: Dataset) -> Self {
        Self::of(Store::of_memory(set), None, 0.0)
    }

    /// A split of a source; images that lie in files of their own are decoded when they are asked for.
    ///
    /// # Errors
    /// See [`DataError`]: there is no such split, what is asked for does not fit it, or files without a preprocessing are
    /// not all of one size.
    pub fn open(source: &Source, split: Split, reading: &Reading) -> Result<Self> {
        reading.check()?;
        let held = reading.held_out(source, split)?;
        let mut store = Store::scan(source, held.as_ref().map_or(split, |held| held.from))?;
        let chosen = held.map(|held| held.choose(&store.labels));
        if let Some(outputs) = &reading.outputs {
            outputs.apply(&mut store)?;
        }
        let broken = store.settle(reading.preprocess.clone())?;
        let loader = Self::of(store, chosen.map(Arc::from), reading.skip_broken);
        for (index, reason) in broken {
            loader.tally.add(index, reason, loader.len())?;
        }
        Ok(loader)
    }

    fn of(store: Store, chosen: Option<Arc<[u32]>>, skip: f64) -> Self {
        Loader { store: Arc::new(store), chosen, tally: Arc::new(Tally::new(skip)) }
    }

    /// How many images; those that turn out to be broken are among them.
    pub fn len(&self) -> usize {
        self.chosen.as_ref().map_or(self.store.labels.len(), |chosen| chosen.len())
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Height, width and channels of every image that comes out.
    pub fn shape(&self) -> [usize; 3] {
        self.store.shape
    }

    /// Bytes of one image.
    pub fn image_len(&self) -> usize {
        self.shape().iter().product()
    }

    /// The class of an image, if it is known.
    pub fn label(&self, index: usize) -> Option<u32> {
        self.store.labels.get(self.inner(index)?).copied().flatten()
    }

    /// The highest class that occurs; none if no image has one.
    pub fn highest_label(&self) -> Option<u32> {
        (0..self.len()).filter_map(|index| self.label(index)).max()
    }

    /// Class names in the order of the labels; empty if unknown.
    pub fn classes(&self) -> &[String] {
        &self.store.classes
    }

    /// What messages call an image.
    pub fn name(&self, index: usize) -> String {
        match (&self.store.images, self.inner(index)) {
            (Images::Files(files), Some(inner)) => {
                files.get(inner).map_or_else(String::new, |file| file.name.clone())
            }
            _ => format!("image {index}"),
        }
    }

    /// What could not be read so far and was left out.
    pub fn broken(&self) -> Broken {
        self.tally.so_far()
    }

    /// These images, or where `limit` is less than all, the [`sample`](order::sample) of them; images are counted anew.
    #[must_use]
    pub fn sample(&self, limit: Option<usize>, seed: u64) -> Self {
        let Some(limit) = limit.filter(|&limit| limit < self.len()) else { return self.clone() };
        if let (Images::Memory(set), None, true) = (&self.store.images, &self.chosen, self.store.is_plain()) {
            return Self::in_memory(set.sample(Some(limit), seed).into_owned());
        }
        let indices = order::sample(self.len(), limit, seed);
        let chosen = indices.iter().filter_map(|&index| Some(self.inner(index)? as u32)).collect();
        Loader {
            store: Arc::clone(&self.store),
            chosen: Some(chosen),
            tally: Arc::new(Tally::new(self.tally.share())),
        }
    }

    /// SHA-256 over images and labels of these and `other`'s, hex; for sets in memory as [`Dataset::sha256`], for files
    /// over their bytes as they are, so that all of them are read.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn sha256(&self, other: &Loader) -> Result<String> {
        let mut hash = Sha256::new();
        for loader in [self, other] {
            let indices = (0..loader.len()).filter_map(|index| loader.inner(index));
            loader.store.digest(indices, loader.len(), &mut hash)?;
        }
        Ok(dataset::hex(hash))
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
    /// If there is no such image, or more are broken than may be left out.
    pub fn batch(&self, indices: &[usize], augment: Option<Augment>) -> Result<Batch> {
        let mut batch = Batch {
            indices: Vec::with_capacity(indices.len()),
            pixels: vec![0; indices.len() * self.image_len()],
            labels: Vec::with_capacity(indices.len()),
        };
        let mut resizer = Resizer::new();
        let mut at = 0;
        for &index in indices {
            let inner = self.inner(index).ok_or_else(|| {
                DataError::unusable("dataset", format!("there is no image {index}; they are {}", self.len()))
            })?;
            let target = &mut batch.pixels[at..at + self.image_len()];
            match self.store.image(inner, augment, &mut resizer, target) {
                Ok(()) => {
                    at += self.image_len();
                    batch.indices.push(index);
                    batch.labels.push(self.label(index));
                }
                Err(DataError::Malformed { file, reason }) => {
                    self.tally.add(inner, format!("{file}: {reason}"), self.len())?;
                }
                Err(error) => return Err(error),
            }
        }
        batch.pixels.truncate(at);
        Ok(batch)
    }

    /// Where an image is in the store.
    fn inner(&self, index: usize) -> Option<usize> {
        match &self.chosen {
            None => (index < self.store.labels.len()).then_some(index),
            Some(chosen) => chosen.get(index).map(|&inner| inner as usize),
        }
    }

    /// How many images a thread takes at a time.
    fn stride(&self) -> usize {
        if self.store.is_plain() { usize::MAX } else { STRIDE }
    }
}

#[cfg(test)]
mod tests;
