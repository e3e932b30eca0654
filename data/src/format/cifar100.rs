//! CIFAR-100 in its authors' binary form: a coarse and a fine label byte, then 3 × 32 × 32 bytes, planes apart.

use crate::error::Result;
use crate::format::cifar10::Records;
use crate::format::{Format, Found, Sink};
use crate::listing::Folder;
use crate::source::Source;
use crate::split::Split;

/// Names of the fine classes, one a line.
const NAMES: &str = "fine_label_names.txt";
/// The most that file may hold.
const NAMES_LIMIT: u64 = 64 << 10;

/// The format; the fine label counts.
#[derive(Debug)]
pub(super) struct Cifar100;

impl Format for Cifar100 {
    fn word(&self) -> &'static str {
        "cifar100-binary"
    }

    fn title(&self) -> &'static str {
        "CIFAR-100 binary files"
    }

    fn known_by(&self) -> &'static str {
        "CIFAR-100 binary files (train.bin, test.bin)"
    }

    fn detect(&self, folder: &Folder) -> Result<Option<Found>> {
        let mut entries = Vec::new();
        for name in ["train.bin", "test.bin"] {
            let Some(entry) = folder.file(name)? else { return Ok(None) };
            entries.push(entry);
        }
        let mut found = Found::usual(entries);
        let names = folder.file(NAMES)?.and_then(|entry| entry.read(NAMES_LIMIT).ok());
        if let Some(text) = names.and_then(|bytes| String::from_utf8(bytes).ok()) {
            found.classes =
                text.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned).collect();
            found.classes_from = NAMES;
        }
        Ok(Some(found))
    }

    fn scan(&self, source: &Source, split: Split, sink: &mut dyn Sink) -> Result<()> {
        let name = match split {
            Split::Train => "train.bin",
            Split::Test => "test.bin",
            Split::Validation => return Err(source.no_split(split)),
        };
        Records { label_bytes: 2, classes: 100 }.scan(source, &[name.to_owned()], sink)
    }
}
