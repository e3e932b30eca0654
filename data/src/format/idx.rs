//! The four IDX files of MNIST and its kin: a big-endian header, then bytes.

use crate::entry::{Content, Entry, FILE_LIMIT};
use crate::error::{DataError, Result};
use crate::format::{Format, Found, Sink};
use crate::listing::Folder;
use crate::source::Source;
use crate::split::Split;

const IMAGES_MAGIC: u32 = 0x0803;
const LABELS_MAGIC: u32 = 0x0801;

/// Names in the tar, in pairs of images and labels.
const NAMES: [&str; 4] = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
];

/// The format.
#[derive(Debug)]
pub(super) struct Idx;

impl Format for Idx {
    fn word(&self) -> &'static str {
        "idx"
    }

    fn title(&self) -> &'static str {
        "MNIST-like IDX files"
    }

    fn known_by(&self) -> &'static str {
        "MNIST-like IDX files (train-images-idx3-ubyte …)"
    }

    fn detect(&self, folder: &Folder) -> Result<Option<Found>> {
        let (mut entries, mut missing) = (Vec::new(), Vec::new());
        for name in NAMES {
            match file(folder, name)? {
                Some(entry) => entries.push(entry),
                None => missing.push(name),
            }
        }
        if entries.is_empty() {
            return Ok(None);
        }
        if !missing.is_empty() {
            return Err(DataError::Incomplete { folder: folder.shown(), missing: missing.join(", ") });
        }
        Ok(Some(Found::usual(entries)))
    }

    fn scan(&self, source: &Source, split: Split, sink: &mut dyn Sink) -> Result<()> {
        let prefix = match split {
            Split::Train => "train",
            Split::Test => "t10k",
            Split::Validation => return Err(source.no_split(split)),
        };
        let entry = |rest: &str| {
            let plain = format!("{prefix}-{rest}");
            source.entry(&plain).or_else(|missing| source.entry(&format!("{plain}.gz")).map_err(|_| missing))
        };
        let (images_entry, labels_entry) = (entry("images-idx3-ubyte")?, entry("labels-idx1-ubyte")?);
        let (mut images, mut labels) = (images_entry.open()?, labels_entry.open()?);
        let [count, height, width] = extents(images_entry, &mut images, IMAGES_MAGIC)?;
        let [labels_count] = extents(labels_entry, &mut labels, LABELS_MAGIC)?;
        if labels_count != count {
            let reason = format!("{labels_count} labels for {count} images");
            return Err(DataError::malformed(labels_entry.shown(), reason));
        }
        if height == 0 || width == 0 {
            return Err(DataError::malformed(images_entry.shown(), format!("images of {height} × {width}")));
        }
        sink.begin([height, width, 1], count)?;
        let (mut pixels, mut label) = (vec![0; height * width], [0]);
        for index in 0..count {
            images.fill(&mut pixels, &format!("image {index} of the {count} in its header"))?;
            labels.fill(&mut label, &format!("label {index} of the {count} in its header"))?;
            sink.image(&pixels, u32::from(label[0]))?;
        }
        images.end(&format!("the {count} images in its header"))?;
        labels.end(&format!("the {count} labels in its header"))
    }

    fn mirrors(&self) -> bool {
        false
    }

    /// Numbers.
    fn names(&self, highest: Option<u32>) -> Vec<String> {
        highest.map_or(0..0, |highest| 0..highest + 1).map(|class| class.to_string()).collect()
    }
}

/// One of the four, under its proper name: some copies write a dot where the originals have a hyphen, some are compressed.
fn file(folder: &Folder, name: &str) -> Result<Option<Entry>> {
    for ending in ["", ".gz"] {
        for form in [name.to_owned(), name.replace("-idx", ".idx")] {
            if let Some(entry) = folder.file(&format!("{form}{ending}"))? {
                return Ok(Some(entry.renamed(&format!("{name}{ending}"))));
            }
        }
    }
    Ok(None)
}

/// The sizes in a file's header; their product is at most what is read of a file.
fn extents<const N: usize>(entry: &Entry, content: &mut Content, magic: u32) -> Result<[usize; N]> {
    let bad = |reason: String| DataError::malformed(entry.shown(), reason);
    let mut word = [0; 4];
    content.fill(&mut word, "the end of its header")?;
    if u32::from_be_bytes(word) != magic {
        return Err(bad(format!("it does not begin with 0x{magic:08x}")));
    }
    let mut extents = [0; N];
    for extent in &mut extents {
        content.fill(&mut word, "the end of its header")?;
        *extent = u32::from_be_bytes(word) as usize;
    }
    let size = extents.iter().try_fold(1usize, |n, &extent| n.checked_mul(extent));
    match size.filter(|&size| size as u64 <= FILE_LIMIT) {
        None => Err(bad(format!("its header says {extents:?}; up to {FILE_LIMIT} bytes are read"))),
        Some(_) => Ok(extents),
    }
}
