//! Image folders: split/class/image, one level of class/image, or images without classes.

use std::collections::BTreeSet;

use crate::entry::Entry;
use crate::error::{DataError, Result};
use crate::format::{Format, Found, Sink};
use crate::listing::Folder;
use crate::source::{Part, Source};
use crate::split::Split;

/// Endings of image files.
const ENDINGS: [&str; 5] = ["png", "jpg", "jpeg", "webp", "bmp"];

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
        "an image folder (train/CLASS/*.jpg, test/CLASS/*.jpg; CLASS/*.jpg; or *.jpg without classes)"
    }

    /// Folders named as splits, each with classes or with images.
    fn detect(&self, folder: &Folder) -> Result<Option<Found>> {
        let there = folder.folders()?;
        let splits = Split::NAMES.into_iter().filter(|(name, _)| there.iter().any(|t| t == name));
        let mut gathered = Gathered::default();
        for (name, split) in splits {
            let before = gathered.found.entries.len();
            let split_folder = folder.folder(name);
            gathered.images(&split_folder, &format!("{name}/"), None)?;
            for class in split_folder.folders()? {
                gathered.images(&split_folder.folder(&class), &format!("{name}/{class}/"), Some(&class))?;
            }
            if gathered.found.entries.len() == before {
                continue;
            }
            if gathered.found.parts.iter().any(|part| part.split == split) {
                let reason = format!("has several folders for the {split} split");
                return Err(DataError::unusable(folder.shown(), reason));
            }
            gathered.found.parts.push(Part { split, folders: vec![name.to_owned()] });
        }
        gathered.finish(folder)
    }

    /// One level of at least two classes, or images and no classes.
    fn guess(&self, folder: &Folder) -> Result<Option<Found>> {
        let mut gathered = Gathered::default();
        for class in folder.folders()? {
            gathered.images(&folder.folder(&class), &format!("{class}/"), Some(&class))?;
        }
        if gathered.classes.is_empty() {
            gathered.images(folder, "", None)?;
        } else if gathered.classes.len() < 2 {
            return Ok(None);
        } else {
            gathered.others += folder.files()?.len();
            gathered.hidden += folder.hidden()?;
        }
        gathered.found.parts.push(Part { split: Split::Train, folders: Vec::new() });
        gathered.finish(folder)
    }

    fn orders_classes(&self) -> bool {
        false
    }

    fn is_of_folders(&self) -> bool {
        true
    }

    fn scan(&self, source: &Source, split: Split, sink: &mut dyn Sink) -> Result<()> {
        let part = source.part(split)?;
        for entry in source.entries() {
            let inner = if part.folders.is_empty() {
                entry.name.as_str()
            } else {
                let Some((folder, inner)) = entry.name.split_once('/') else { continue };
                if !part.folders.iter().any(|name| name == folder) {
                    continue;
                }
                inner
            };
            let class = inner.split_once('/').map(|(class, _)| class);
            let label = class
                .and_then(|class| source.classes().binary_search_by(|name| name.as_str().cmp(class)).ok());
            sink.file(entry, label.map(|label| label as u32))?;
        }
        Ok(())
    }
}

/// What is found while folders are looked through.
#[derive(Default)]
struct Gathered {
    found: Found,
    classes: BTreeSet<String>,
    unlabelled: usize,
    /// Files that are no images.
    others: usize,
    hidden: usize,
    /// Folders below those of the classes.
    deeper: usize,
}

impl Gathered {
    /// Takes the images that lie directly in a folder.
    fn images(&mut self, folder: &Folder, prefix: &str, class: Option<&str>) -> Result<()> {
        self.hidden += folder.hidden()?;
        for image in folder.files()? {
            if !is_image(&image) {
                self.others += 1;
                continue;
            }
            let Some(entry) = folder.file(&image)? else { continue };
            let entry: Entry = entry.renamed(&format!("{prefix}{image}"));
            self.found.entries.push(entry);
            match class {
                Some(class) => drop(self.classes.insert(class.to_owned())),
                None => self.unlabelled += 1,
            }
        }
        if class.is_some() {
            self.deeper += folder.folders()?.len();
        }
        Ok(())
    }

    fn finish(mut self, folder: &Folder) -> Result<Option<Found>> {
        if self.found.entries.is_empty() {
            return Ok(None);
        }
        if self.unlabelled > 0 && !self.classes.is_empty() {
            let reason = format!(
                "has {} images outside of class folders beside {} classes",
                self.unlabelled,
                self.classes.len()
            );
            let hint = "put each image into the folder of its class, or take the class folders away";
            return Err(DataError::hinted(folder.shown(), reason, hint));
        }
        self.found.classes = self.classes.into_iter().collect();
        if !self.found.classes.is_empty() {
            self.found.classes_from = "the class folders, in alphabetical order";
        }
        for (count, what) in [
            (self.others, "files that are no .png, .jpg, .webp or .bmp are left out"),
            (self.hidden, "hidden files are left out"),
            (self.deeper, "folders inside class folders are left out"),
            (self.unlabelled, "images have no class"),
        ] {
            if count > 0 {
                self.found.notes.push(format!("{count} {what}"));
            }
        }
        Ok(Some(self.found))
    }
}

fn is_image(name: &str) -> bool {
    let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
    ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str()))
}
