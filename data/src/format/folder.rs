//! Image folders: split/class/image.

use std::collections::BTreeSet;

use crate::entry::Entry;
use crate::error::{DataError, Result};
use crate::format::{Format, Found, Sink};
use crate::listing::Folder;
use crate::source::{Part, Source};
use crate::split::Split;

/// Folder names of splits, and what they mean.
const SPLITS: [(&str, Split); 5] = [
    ("train", Split::Train),
    ("validation", Split::Validation),
    ("valid", Split::Validation),
    ("val", Split::Validation),
    ("test", Split::Test),
];

/// What is said wherever a job would need one.
pub(crate) const UNUSABLE: &str = "jobs cannot train on or evaluate with image folders yet; it can be kept here, and \
    `dyadic infer --dataset` reads it from disk";

/// The format.
#[derive(Debug)]
pub(super) struct ImageFolder;

impl Format for ImageFolder {
    fn word(&self) -> &'static str {
        "image-folder"
    }

    fn title(&self) -> &'static str {
        "image folder"
    }

    fn known_by(&self) -> &'static str {
        "an image folder (train/CLASS/*.png, test/CLASS/*.png)"
    }

    fn detect(&self, folder: &Folder) -> Result<Option<Found>> {
        let there = folder.folders()?;
        let splits = SPLITS.into_iter().filter(|(name, _)| there.iter().any(|t| t == name));
        let mut found = Found::default();
        let mut classes = BTreeSet::new();
        let mut others = 0usize;
        for (name, split) in splits {
            if found.parts.iter().any(|part| part.split == split) {
                let reason = format!("has several folders for the {split} split");
                return Err(DataError::unusable(folder.shown(), reason));
            }
            let before = found.entries.len();
            let split_folder = folder.folder(name);
            for class in split_folder.folders()? {
                let class_folder = split_folder.folder(&class);
                for image in class_folder.files()? {
                    if !is_image(&image) {
                        others += 1;
                        continue;
                    }
                    if let Some(entry) = class_folder.file(&image)? {
                        found.entries.push(entry.renamed(&format!("{name}/{class}/{image}")));
                        classes.insert(class.clone());
                    }
                }
            }
            if found.entries.len() > before {
                found.parts.push(Part { split, folders: vec![name.to_owned()] });
            }
        }
        if found.entries.is_empty() {
            return Ok(None);
        }
        found.classes = classes.into_iter().collect();
        found.classes_from = "the class folders, in alphabetical order";
        if others > 0 {
            found.notes.push(format!("{others} files that are no .png or .jpg are left out"));
        }
        found.notes.push(UNUSABLE.to_owned());
        Ok(Some(found))
    }

    fn unusable(&self) -> Option<&'static str> {
        Some(UNUSABLE)
    }

    fn scan(&self, source: &Source, split: Split, sink: &mut dyn Sink) -> Result<()> {
        let part = source.part(split)?;
        for entry in source.entries() {
            let Some((folder, class)) = parts(entry) else { continue };
            if !part.folders.iter().any(|name| name == folder) {
                continue;
            }
            if let Ok(label) = source.classes().binary_search_by(|name| name.as_str().cmp(class)) {
                sink.file(entry, label as u32)?;
            }
        }
        Ok(())
    }
}

fn is_image(name: &str) -> bool {
    let extension = name.rsplit_once('.').map(|(_, e)| e.to_ascii_lowercase());
    matches!(extension.as_deref(), Some("png" | "jpg" | "jpeg"))
}

/// Split folder and class of an image.
fn parts(entry: &Entry) -> Option<(&str, &str)> {
    let mut parts = entry.name.split('/');
    Some((parts.next()?, parts.next()?))
}
