//! The formats that are known. A new one is a file in `format/` and a line in [`ALL`].

mod arrays;
mod cifar10;
mod cifar100;
pub(crate) mod folder;
mod idx;
mod npz;
mod safetensors;
mod strips;

use std::fmt::Debug;

use crate::entry::Entry;
use crate::error::Result;
use crate::listing::Folder;
use crate::source::{Part, Source};
use crate::split::Split;

/// Every format, in the order in which they are named to people.
pub const ALL: [&dyn Format; 7] = [
    &cifar10::Cifar10,
    &cifar100::Cifar100,
    &strips::Strips,
    &idx::Idx,
    &npz::Npz,
    &safetensors::Safetensors,
    &folder::ImageFolder,
];

/// A way in which labelled images lie in files.
pub trait Format: Debug + Sync {
    /// The word that is stored for it, as in `cifar10-binary`.
    fn word(&self) -> &'static str;

    /// What people call it.
    fn title(&self) -> &'static str;

    /// What it is known by, as part of the list of all formats.
    fn known_by(&self) -> &'static str;

    /// What is in a folder, if it is of this format.
    ///
    /// # Errors
    /// If some of the format's files are there, but not all.
    fn detect(&self, folder: &Folder) -> Result<Option<Found>>;

    /// What is in a folder that could be of this format if no dataset is found anywhere.
    ///
    /// # Errors
    /// As [`Format::detect`].
    fn guess(&self, folder: &Folder) -> Result<Option<Found>> {
        let _ = folder;
        Ok(None)
    }

    /// Hands every image of a split that the source has to the sink, in the order that is the dataset's own.
    ///
    /// # Errors
    /// What a file says that cannot be, and what the sink says.
    fn scan(&self, source: &Source, split: Split, sink: &mut dyn Sink) -> Result<()>;

    /// Whether a mirrored image is still of its class (false for digits).
    fn mirrors(&self) -> bool {
        true
    }

    /// Whether its labels are numbers that its authors gave, so that a network's outputs are in their order. Folders are
    /// only sorted: what stands for which of them has to be said.
    fn orders_classes(&self) -> bool {
        true
    }

    /// Whether names of files and folders alone tell what is in it.
    fn is_of_folders(&self) -> bool {
        false
    }

    /// Names of the classes where the files have none, for labels up to `highest`; empty if they are unknown.
    fn names(&self, highest: Option<u32>) -> Vec<String> {
        let _ = highest;
        Vec::new()
    }
}

/// What detection finds in a folder.
#[derive(Debug, Default)]
pub struct Found {
    /// The splits that are there.
    pub(crate) parts: Vec<Part>,
    /// Class names in the order of the labels; empty if unknown.
    pub(crate) classes: Vec<String>,
    /// Where the class names are from, for people.
    pub(crate) classes_from: &'static str,
    /// The files.
    pub(crate) entries: Vec<Entry>,
    /// Remarks for people.
    pub(crate) notes: Vec<String>,
}

impl Found {
    /// Splits that are the format's usual ones: training and test.
    fn usual(entries: Vec<Entry>) -> Self {
        let parts = [Split::Train, Split::Test].map(|split| Part { split, folders: Vec::new() }).to_vec();
        Found { parts, entries, ..Found::default() }
    }
}

/// Takes the images of a split.
pub trait Sink {
    /// Called first where all images have one shape (height, width, channels), of which there should be `count`.
    ///
    /// # Errors
    /// If the sink has no use for such images.
    fn begin(&mut self, shape: [usize; 3], count: usize) -> Result<()>;

    /// An image of that shape, rows of interleaved pixels, and its class.
    ///
    /// # Errors
    /// If the sink has no use for it.
    fn image(&mut self, pixels: &[u8], label: u32) -> Result<()>;

    /// An image in a file of its own, and its class, if it is known.
    ///
    /// # Errors
    /// If the sink has no use for it.
    fn file(&mut self, file: &Entry, label: Option<u32>) -> Result<()>;
}

/// The format that is stored as this word.
pub fn by_word(word: &str) -> Option<&'static dyn Format> {
    ALL.into_iter().find(|format| format.word() == word)
}

/// All formats in a sentence.
pub(crate) fn known() -> String {
    let all: Vec<&str> = ALL.iter().map(|format| format.known_by()).collect();
    format!("known are: {}, and .tgz, .tar.gz, .tar or .zip archives of these", all.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_has_a_word_of_its_own() {
        for format in ALL {
            let found = by_word(format.word()).unwrap();
            assert_eq!(found.title(), format.title());
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(format.word().chars().all(plain), "{}", format.word());
            assert!(known().contains(format.known_by()));
        }
        assert!(by_word("tfrecord").is_none());
    }
}
