//! What is in a dataset, without its pixels: what a job can be checked against before it is queued.

use serde::{Deserialize, Serialize};

use crate::entry::Entry;
use crate::error::Result;
use crate::format::Sink;
use crate::source::Source;
use crate::split::Split;

/// What was found in a dataset's files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// One a split that is there.
    pub splits: Vec<SplitContents>,
    /// Whether all images of a split are of one shape: what training and evaluation need.
    pub uniform: bool,
}

/// What was found of a split.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitContents {
    /// Which.
    pub split: Split,
    /// How many images.
    pub images: u64,
    /// Height, width and channels of every image; none where each is a file with a size of its own.
    pub shape: Option<[usize; 3]>,
    /// The highest label; none if there is no image.
    pub highest_label: Option<u32>,
}

impl Contents {
    /// Reads every file to its end, and keeps none of its pixels.
    ///
    /// # Errors
    /// What [`crate::Dataset::load`] would say of a file.
    pub fn of(source: &Source) -> Result<Self> {
        let mut splits = Vec::new();
        for part in source.parts() {
            let mut count = Count { images: 0, shape: None, highest_label: None };
            source.format().scan(source, part.split, &mut count)?;
            let Count { images, shape, highest_label } = count;
            splits.push(SplitContents { split: part.split, images, shape, highest_label });
        }
        let uniform = splits.iter().all(|split| split.shape.is_some());
        Ok(Contents { splits, uniform })
    }

    /// A split that is there.
    pub fn split(&self, split: Split) -> Option<&SplitContents> {
        self.splits.iter().find(|found| found.split == split)
    }
}

/// Counts images.
struct Count {
    images: u64,
    shape: Option<[usize; 3]>,
    highest_label: Option<u32>,
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

    fn file(&mut self, _file: &Entry, label: u32) -> Result<()> {
        self.image(&[], label)
    }
}
