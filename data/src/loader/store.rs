//! Where a loader's images are, and what one of them becomes.

use std::collections::BTreeMap;
use std::io::Read as _;

use fast_image_resize::Resizer;
use sha2::{Digest as _, Sha256};

use crate::augment::Augment;
use crate::dataset::Dataset;
use crate::entry::Entry;
use crate::error::{DataError, Result};
use crate::format::Sink;
use crate::picture::Picture;
use crate::preprocess::{Color, Draws, Preprocess, Training};
use crate::source::Source;
use crate::split::Split;

/// The images of a split, all of them.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) images: Images,
    pub(super) labels: Vec<Option<u32>>,
    pub(super) classes: Vec<String>,
    /// Height, width and channels of what comes out.
    pub(super) shape: [usize; 3],
    preprocess: Option<Preprocess>,
    /// Whether a mirrored image is still of its class.
    mirrors: bool,
    /// Keeps files that were unpacked.
    _source: Option<Source>,
}

/// Where they are.
#[derive(Debug)]
pub(super) enum Images {
    Memory(Dataset),
    Files(Vec<Entry>),
}

/// Broken images, by their index.
pub(super) type Reasons = BTreeMap<usize, String>;

impl Store {
    pub(super) fn of_memory(set: Dataset) -> Self {
        Store {
            shape: [set.height, set.width, set.channels],
            labels: set.labels.iter().copied().map(Some).collect(),
            classes: set.classes.clone(),
            preprocess: None,
            mirrors: set.mirrors,
            images: Images::Memory(set),
            _source: None,
        }
    }

    /// Gathers a split: formats of one file for all images are decoded, files of their own are listed.
    pub(super) fn scan(source: &Source, split: Split) -> Result<Self> {
        let mut gathered = Gathered { set: Dataset::empty(source), files: Vec::new(), labels: Vec::new() };
        source.format().scan(source, split, &mut gathered)?;
        let Gathered { mut set, files, labels } = gathered;
        if files.is_empty() {
            set.name_classes(source);
            return Ok(Self::of_memory(set));
        }
        Ok(Store {
            shape: [0; 3],
            labels,
            classes: set.classes,
            preprocess: None,
            mirrors: set.mirrors,
            images: Images::Files(files),
            _source: Some(source.clone()),
        })
    }

    /// Settles the shape: by the preprocessing, or by what all images have. Tells what cannot be read.
    pub(super) fn settle(&mut self, preprocess: Option<Preprocess>) -> Result<Reasons> {
        if let Some(preprocess) = preprocess {
            self.shape = preprocess.shape()?;
            self.preprocess = Some(preprocess);
            return Ok(Reasons::new());
        }
        let Images::Files(files) = &self.images else { return Ok(Reasons::new()) };
        let mut reasons = Reasons::new();
        let mut first: Option<([usize; 3], &Entry)> = None;
        for (index, file) in files.iter().enumerate() {
            let [height, width, channels] = match Picture::shape(file) {
                Ok(shape) => shape,
                Err(DataError::Malformed { file, reason }) => {
                    reasons.insert(index, format!("{file}: {reason}"));
                    continue;
                }
                Err(error) => return Err(error),
            };
            let (shape, other) = first.get_or_insert(([height, width, channels], file));
            if shape[..2] != [height, width] {
                let (a, b) = (format!("{} × {}", shape[0], shape[1]), format!("{height} × {width}"));
                return Err(DataError::hinted(
                    "dataset",
                    format!("its images differ in size: {} is {a}, {} is {b}", other.name, file.name),
                    "give a preprocessing that brings them to one size",
                ));
            }
            shape[2] = shape[2].max(channels);
        }
        self.shape = first.map_or([0; 3], |(shape, _)| shape);
        Ok(reasons)
    }

    /// Whether images lie in memory as they come out.
    pub(super) fn is_plain(&self) -> bool {
        matches!(self.images, Images::Memory(_)) && self.preprocess.is_none()
    }

    /// Writes an image; what is wrong with its file is [`DataError::Malformed`].
    pub(super) fn image(
        &self,
        index: usize,
        augment: Option<Augment>,
        resizer: &mut Resizer,
        target: &mut [u8],
    ) -> Result<()> {
        let (picture, name) = match &self.images {
            Images::Memory(set) if self.preprocess.is_none() => {
                set.fill(&[index], augment, target);
                return Ok(());
            }
            Images::Memory(set) => (set.picture(index), None),
            Images::Files(files) => {
                let file = files.get(index).ok_or_else(|| DataError::unusable("dataset", "no such image"))?;
                (Picture::decode(file)?, Some(file))
            }
        };
        let picture = self.prepared(picture, index, augment, resizer).map_err(|error| match name {
            Some(file) => DataError::malformed(file.shown(), error),
            None => error,
        })?;
        let training = self.preprocess.as_ref().map_or(Training::default(), |p| p.training);
        match augment {
            Some(augment) if training == Training::PadAndCrop => {
                augment.shift(self.shape, self.mirrors, index, &picture.pixels, target);
            }
            Some(augment) if training != Training::Plain && self.mirrors && flips(augment, index) => {
                flip(self.shape, &picture.pixels, target);
            }
            _ => target.copy_from_slice(&picture.pixels),
        }
        Ok(())
    }

    /// The picture in the shape that comes out.
    fn prepared(
        &self,
        picture: Picture,
        index: usize,
        augment: Option<Augment>,
        resizer: &mut Resizer,
    ) -> Result<Picture> {
        let [height, width, channels] = self.shape;
        let picture = match &self.preprocess {
            Some(preprocess) => {
                let mut draws = augment.map(|augment| Draws::new(augment.seed, augment.epoch, index));
                preprocess.apply_with(picture, resizer, draws.as_mut())?
            }
            None => match Color::usual(channels) {
                Some(color) => color.of(picture),
                None => picture,
            },
        };
        if [picture.height, picture.width, picture.channels] != self.shape {
            let found = format!("{} × {} pixels of {}", picture.height, picture.width, picture.channels);
            let reason = format!("it has {found} channels; the others have {height} × {width} of {channels}");
            return Err(DataError::unusable("dataset", reason));
        }
        Ok(picture)
    }

    /// Adds `count` images, those at `indices`, to a digest.
    pub(super) fn digest(
        &self,
        indices: impl Iterator<Item = usize> + Clone,
        count: usize,
        hash: &mut Sha256,
    ) -> Result<()> {
        match &self.images {
            Images::Memory(set) => {
                for extent in [count, set.height, set.width, set.channels] {
                    hash.update((extent as u64).to_le_bytes());
                }
                indices.clone().for_each(|index| hash.update(set.bytes(index)));
            }
            Images::Files(files) => {
                hash.update((count as u64).to_le_bytes());
                let mut buffer = vec![0; 1 << 16];
                for file in indices.clone().filter_map(|index| files.get(index)) {
                    hash.update((file.name.len() as u64).to_le_bytes());
                    hash.update(file.name.as_bytes());
                    hash.update(file.size_bytes.to_le_bytes());
                    let io = |source| DataError::Io { path: file.shown(), source };
                    let mut raw = file.raw(0).map_err(io)?;
                    loop {
                        match raw.read(&mut buffer).map_err(io)? {
                            0 => break,
                            read => hash.update(&buffer[..read]),
                        }
                    }
                }
            }
        }
        for label in indices.map(|index| self.labels.get(index).copied().flatten()) {
            hash.update(label.unwrap_or(u32::MAX).to_le_bytes());
        }
        Ok(())
    }
}

/// Whether this variation of the image is mirrored.
fn flips(augment: Augment, index: usize) -> bool {
    Draws::new(augment.seed ^ 0x00F1_1B5E, augment.epoch, index).coin()
}

fn flip([_, width, channels]: [usize; 3], source: &[u8], target: &mut [u8]) {
    let size = width * channels;
    for (from, to) in source.chunks_exact(size).zip(target.chunks_exact_mut(size)) {
        for (from, to) in from.chunks_exact(channels).rev().zip(to.chunks_exact_mut(channels)) {
            to.copy_from_slice(from);
        }
    }
}

/// Takes both kinds of images.
struct Gathered {
    set: Dataset,
    files: Vec<Entry>,
    labels: Vec<Option<u32>>,
}

impl Sink for Gathered {
    fn begin(&mut self, shape: [usize; 3], count: usize) -> Result<()> {
        self.set.begin(shape, count)
    }

    fn image(&mut self, pixels: &[u8], label: u32) -> Result<()> {
        self.set.image(pixels, label)
    }

    fn file(&mut self, file: &Entry, label: Option<u32>) -> Result<()> {
        self.files.push(file.clone());
        self.labels.push(label);
        Ok(())
    }
}
