//! The pictures of a split, or of image files, one at a time: decoded when asked for if they lie in files.

use std::path::{Path, PathBuf};

use crate::entry::Entry;
use crate::error::{DataError, Result};
use crate::format::Sink;
use crate::order::{EVALUATION_SEED, sample};
use crate::picture::Picture;
use crate::source::Source;
use crate::split::Split;

/// Where an image's bytes are.
#[derive(Debug, Clone)]
enum Place {
    /// Bytes of [`Images::pixels`], from here on.
    Memory(usize),
    File(Entry),
}

/// The images of a split.
#[derive(Debug, Default)]
pub struct Images {
    /// Of images in memory; those in files bring their own.
    shape: [usize; 3],
    pixels: Vec<u8>,
    all: Vec<(Place, Option<u32>)>,
}

impl Images {
    /// Those of a split, or a [`sample`] of `limit` of them: the same images that a job's evaluation takes.
    ///
    /// # Errors
    /// See [`DataError`].
    pub fn of(source: &Source, split: Split, limit: usize) -> Result<Self> {
        let mut images = Images::default();
        source.format().scan(source, split, &mut images)?;
        if limit < images.all.len() {
            let chosen = sample(images.all.len(), limit, EVALUATION_SEED);
            images.all = chosen.iter().filter_map(|&index| images.all.get(index).cloned()).collect();
        }
        Ok(images)
    }

    /// Image files without labels.
    ///
    /// # Errors
    /// If one is not there.
    pub fn of_files(paths: &[PathBuf]) -> Result<Self> {
        let entry = |path: &PathBuf| Entry::file(path, path.display().to_string());
        let all = paths.iter().map(|path| Ok((Place::File(entry(path)?), None))).collect::<Result<_>>()?;
        Ok(Images { all, ..Images::default() })
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The class, if it is known.
    pub fn label(&self, index: usize) -> Option<u32> {
        self.all.get(index)?.1
    }

    /// What messages call the image.
    pub fn name(&self, index: usize) -> String {
        match self.all.get(index) {
            Some((Place::File(entry), _)) => entry.shown(),
            _ => format!("image {index}"),
        }
    }

    /// The picture, decoded if it lies in a file.
    ///
    /// # Errors
    /// If it cannot be read or decoded.
    pub fn picture(&self, index: usize) -> Result<Picture> {
        let [height, width, channels] = self.shape;
        match self.all.get(index) {
            Some((Place::File(entry), _)) => Picture::decode(entry),
            Some((Place::Memory(at), _)) => {
                let pixels = self.pixels.get(*at..at + height * width * channels).unwrap_or_default().into();
                Ok(Picture { height, width, channels, pixels })
            }
            None => {
                Err(DataError::unusable(Path::new("dataset").display(), format!("there is no image {index}")))
            }
        }
    }
}

impl Sink for Images {
    fn begin(&mut self, shape: [usize; 3], _count: usize) -> Result<()> {
        self.shape = shape;
        Ok(())
    }

    fn image(&mut self, pixels: &[u8], label: u32) -> Result<()> {
        self.all.push((Place::Memory(self.pixels.len()), Some(label)));
        self.pixels.extend_from_slice(pixels);
        Ok(())
    }

    fn file(&mut self, file: &Entry, label: Option<u32>) -> Result<()> {
        self.all.push((Place::File(file.clone()), label));
        Ok(())
    }
}
