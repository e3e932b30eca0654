//! Datasets that are plain arrays in one file: uint8 images of N × H × W or N × H × W × C, and a whole number for each. A series
//! is an image of one row: N × L, or N × 1 × L × C.
//!
//! Which array is which is said by its name, as Keras and many others call them: `x_train` and `y_train`, or `train_images`
//! and `train_labels`; in the same way for `test` and `validation` (or `val`).

use std::fmt::Debug;
use std::io::{BufReader, Read};

use crate::entry::Entry;
use crate::error::{DataError, Result};
use crate::format::{Format, Found, Sink};
use crate::listing::Folder;
use crate::source::{Part, Source};
use crate::split::Split;

/// What splits are called in names of arrays.
const SPLITS: [(&str, Split); 4] = [
    ("train", Split::Train),
    ("validation", Split::Validation),
    ("val", Split::Validation),
    ("test", Split::Test),
];
/// The most that the images of a split may take.
const BYTES_LIMIT: u64 = 8 << 30;
/// The most images.
const COUNT_LIMIT: u64 = 1 << 28;

/// A series is at least so many times as long as it has channels, if these are more than four.
const LONG: u64 = 8;

/// Numbers of an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    /// So many bytes each, the lowest first.
    Unsigned(usize),
    /// The same, with a sign.
    Signed(usize),
}

/// An array while it is read.
pub(super) struct Array<'a> {
    pub(super) shape: Vec<u64>,
    pub(super) element: Element,
    pub(super) data: &'a mut dyn Read,
}

/// Does something with an array.
pub(super) type Use<'a> = &'a mut dyn FnMut(Array<'_>) -> Result<()>;

/// A kind of file that holds named arrays, and thereby a [`Format`].
pub(super) trait Arrays: Debug + Sync {
    /// [`Format::word`].
    const WORD: &'static str;
    /// [`Format::title`].
    const TITLE: &'static str;
    /// [`Format::known_by`].
    const KNOWN_BY: &'static str;
    /// How its names end.
    const ENDING: &'static str;

    /// The names in it.
    fn names(&self, entry: &Entry) -> Result<Vec<String>>;

    /// Hands over an array that is there.
    fn with(&self, entry: &Entry, name: &str, with: Use<'_>) -> Result<()>;
}

impl<A: Arrays> Format for A {
    fn word(&self) -> &'static str {
        A::WORD
    }

    fn title(&self) -> &'static str {
        A::TITLE
    }

    fn known_by(&self) -> &'static str {
        A::KNOWN_BY
    }

    fn detect(&self, folder: &Folder) -> Result<Option<Found>> {
        detect(self, folder)
    }

    fn scan(&self, source: &Source, split: Split, sink: &mut dyn Sink) -> Result<()> {
        scan(self, source, split, sink)
    }

    /// Nobody knows what the images show.
    fn mirrors(&self) -> bool {
        false
    }
}

/// Names of a split's images and labels.
struct Pair {
    split: Split,
    images: String,
    labels: String,
}

/// The pairs among these names.
fn pairs(entry: &Entry, names: &[String]) -> Result<Vec<Pair>> {
    let find = |candidates: [String; 3]| names.iter().find(|&name| candidates.contains(name)).cloned();
    let mut pairs: Vec<Pair> = Vec::new();
    for (word, split) in SPLITS {
        let images = find([format!("x_{word}"), format!("{word}_images"), format!("{word}_x")]);
        let labels = find([format!("y_{word}"), format!("{word}_labels"), format!("{word}_y")]);
        match (images, labels) {
            (None, _) => {}
            (Some(images), None) => {
                let reason = format!("has the images '{images}' without labels ('y_{word}')");
                return Err(DataError::malformed(entry.shown(), reason));
            }
            (Some(_), Some(_)) if pairs.iter().any(|pair| pair.split == split) => {
                let reason = format!("has several arrays of images for the {split} split");
                return Err(DataError::malformed(entry.shown(), reason));
            }
            (Some(images), Some(labels)) => pairs.push(Pair { split, images, labels }),
        }
    }
    Ok(pairs)
}

/// The one file in a folder that holds such arrays.
fn detect<A: Arrays>(arrays: &A, folder: &Folder) -> Result<Option<Found>> {
    let mut found: Option<Found> = None;
    for name in folder.files()?.iter().filter(|name| name.ends_with(A::ENDING)) {
        let Some(entry) = folder.file(name)? else { continue };
        let pairs = pairs(&entry, &arrays.names(&entry)?)?;
        if pairs.is_empty() {
            continue;
        }
        if found.is_some() {
            let reason = format!("has several {} files with images", A::ENDING);
            return Err(DataError::unusable(folder.shown(), reason));
        }
        let parts = pairs.iter().map(|pair| Part { split: pair.split, folders: Vec::new() }).collect();
        found = Some(Found { parts, entries: vec![entry], ..Found::default() });
    }
    Ok(found)
}

/// Hands over a split.
fn scan<A: Arrays>(arrays: &A, source: &Source, split: Split, sink: &mut dyn Sink) -> Result<()> {
    let entry = source.entries().first().ok_or_else(|| source.no_split(split))?;
    let pairs = pairs(entry, &arrays.names(entry)?)?;
    let pair = pairs.iter().find(|pair| pair.split == split).ok_or_else(|| source.no_split(split))?;
    let mut labels = Vec::new();
    arrays.with(entry, &pair.labels, &mut |array| {
        labels = read_labels(array)
            .map_err(|e| DataError::malformed(entry.shown(), format!("'{}' {e}", pair.labels)))?;
        Ok(())
    })?;
    arrays.with(entry, &pair.images, &mut |array| {
        let bad = |reason: String| DataError::malformed(entry.shown(), format!("'{}' {reason}", pair.images));
        let shape = image_shape(&array, labels.len()).map_err(bad)?;
        sink.begin(shape, labels.len())?;
        let mut pixels = vec![0; shape.iter().product()];
        let mut data = BufReader::with_capacity(1 << 16, array.data);
        for (index, &label) in labels.iter().enumerate() {
            data.read_exact(&mut pixels).map_err(|e| bad(format!("ends before its image {index}: {e}")))?;
            sink.image(&pixels, label)?;
        }
        Ok(())
    })
}

/// Height, width and channels of the images, of which there are as many as labels.
fn image_shape(array: &Array<'_>, labels: usize) -> std::result::Result<[usize; 3], String> {
    if array.element != Element::Unsigned(1) {
        return Err("does not hold uint8; images are whole numbers from 0 to 255".into());
    }
    let (count, shape) = match array.shape[..] {
        [count, length] => (count, [1, length, 1]),
        [count, height, width] => (count, [height, width, 1]),
        [_, 3, _, more] if more > 4 => {
            return Err(format!("has the shape {:?}; channels come last: N × H × W × C", array.shape));
        }
        // A series of many channels is long; an image that is not so has its channel first.
        [_, 1, extent, more] if more > 4 && extent < LONG * more => {
            return Err(format!("has the shape {:?}; channels come last: N × H × W × C", array.shape));
        }
        [count, height, width, channels] => (count, [height, width, channels]),
        _ => {
            let known = "images have N × H × W or N × H × W × C, series N × L or N × 1 × L × C";
            return Err(format!("has the shape {:?}; {known}", array.shape));
        }
    };
    if count != labels as u64 {
        return Err(format!("has {count} images for {labels} labels"));
    }
    let bytes = shape.iter().try_fold(count.max(1), |product, &extent| product.checked_mul(extent));
    match bytes {
        Some(1..=BYTES_LIMIT) => Ok(shape.map(|extent| extent as usize)),
        _ => Err(format!("has the shape {:?}; 1 to {BYTES_LIMIT} bytes are read", array.shape)),
    }
}

fn read_labels(array: Array<'_>) -> std::result::Result<Vec<u32>, String> {
    let count = match array.shape[..] {
        [count] | [count, 1] if count <= COUNT_LIMIT => count,
        _ => return Err(format!("has the shape {:?}; labels have N, up to {COUNT_LIMIT}", array.shape)),
    };
    let (Element::Unsigned(size) | Element::Signed(size)) = array.element;
    let mut data = BufReader::with_capacity(1 << 16, array.data);
    let mut bytes = [0; 8];
    let mut labels = Vec::new();
    for index in 0..count {
        bytes.fill(0);
        let room = bytes.get_mut(..size).ok_or("holds numbers that are too long")?;
        data.read_exact(room).map_err(|e| format!("ends before label {index}: {e}"))?;
        let value = u64::from_le_bytes(bytes);
        let negative = matches!(array.element, Element::Signed(_)) && value >> (8 * size - 1) & 1 == 1;
        match u32::try_from(value) {
            Ok(label) if !negative && label < u32::MAX => labels.push(label),
            _ => return Err(format!("has a label {index} that is no class's number")),
        }
    }
    Ok(labels)
}

#[cfg(test)]
mod tests;
