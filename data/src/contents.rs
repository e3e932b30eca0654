//! What is in a dataset, without its pixels: what a job can be checked against before it is queued.

use serde::{Deserialize, Serialize};

use crate::entry::Entry;
use crate::error::{DataError, Result};
use crate::format::Sink;
use crate::loader::Broken;
use crate::picture::Picture;
use crate::source::Source;
use crate::split::Split;

/// What was found in a dataset's files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// One a split that is there.
    pub splits: Vec<SplitContents>,
    /// Whether the format has all images of a split in one shape and in places of its own.
    pub uniform: bool,
    /// Class names in the order of the labels; empty if unknown.
    #[serde(default)]
    pub classes: Vec<String>,
    /// Images in files of their own whose headers cannot be read; they are counted in their splits.
    #[serde(default)]
    pub broken: Broken,
    /// The folder or S3 prefix that the files stay in, if a manifest only lists them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
}

/// What was found of a split.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitContents {
    /// Which.
    pub split: Split,
    /// How many images.
    pub images: u64,
    /// Height, width and channels of every image; none where each is a file with a size of its own. Of files that are all
    /// of one size, the largest number of channels.
    pub shape: Option<[usize; 3]>,
    /// The highest label; none if no image has one.
    pub highest_label: Option<u32>,
}

impl Contents {
    /// Reads every file to its end, and keeps none of its pixels; of images in files of their own the headers only.
    ///
    /// # Errors
    /// What [`crate::Dataset::load`] would say of a file; images in files of their own are counted instead.
    pub fn of(source: &Source) -> Result<Self> {
        let mut contents = Contents {
            splits: Vec::new(),
            uniform: true,
            classes: source.classes().to_vec(),
            broken: Broken::default(),
            base: source.manifest().map(|manifest| manifest.base().to_owned()),
        };
        for part in source.parts() {
            let mut count = Count { broken: contents.broken, ..Count::default() };
            source.format().scan(source, part.split, &mut count)?;
            let Count { images, shape, highest_label, broken, files, differ } = count;
            let shape = shape.filter(|_| !differ);
            contents.splits.push(SplitContents { split: part.split, images, shape, highest_label });
            contents.uniform &= !files;
            contents.broken = broken;
        }
        Ok(contents)
    }

    /// A split that is there.
    pub fn split(&self, split: Split) -> Option<&SplitContents> {
        self.splits.iter().find(|found| found.split == split)
    }
}

/// Counts images.
#[derive(Default)]
struct Count {
    images: u64,
    shape: Option<[usize; 3]>,
    highest_label: Option<u32>,
    broken: Broken,
    /// Whether images are files of their own.
    files: bool,
    /// Whether those differ in size.
    differ: bool,
}

impl Sink for Count {
    fn begin(&mut self, shape: [usize; 3], _count: usize) -> Result<()> {
        self.shape = Some(shape);
        Ok(())
    }

    fn image(&mut self, _pixels: &[u8], label: u32) -> Result<()> {
        self.images += 1;
        self.highest_label = self.highest_label.max(Some(label));
        Ok(())
    }

    fn file(&mut self, file: &Entry, label: Option<u32>) -> Result<()> {
        self.files = true;
        self.images += 1;
        self.highest_label = self.highest_label.max(label);
        match Picture::shape(file) {
            Ok(found) => {
                let shape = self.shape.get_or_insert(found);
                self.differ |= shape[..2] != found[..2];
                shape[2] = shape[2].max(found[2]);
            }
            Err(DataError::Malformed { file, reason }) => self.broken.add(format!("{file}: {reason}")),
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
