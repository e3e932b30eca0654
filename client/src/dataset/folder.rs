//! Image folders: split/class/image.

use std::collections::BTreeSet;
use std::path::Path;

use dyadic_proto::v1::{DatasetFormat, Split};

use super::images::{Images, Source};
use super::{Entry, Found};
use crate::error::{CliError, Result};

/// Folder names of splits, and what they mean.
const SPLITS: [(&str, &str); 5] = [
    ("train", "train"),
    ("validation", "validation"),
    ("valid", "validation"),
    ("val", "validation"),
    ("test", "test"),
];

/// Names of the folders in a folder, sorted; hidden ones and links are left out.
pub(super) fn folders_in(folder: &Path) -> Result<Vec<String>> {
    names_in(folder, std::fs::FileType::is_dir)
}

fn names_in(folder: &Path, wanted: impl Fn(&std::fs::FileType) -> bool) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|e| CliError::file(folder, e))? {
        let entry = entry.map_err(|e| CliError::file(folder, e))?;
        if !wanted(&entry.file_type().map_err(|e| CliError::file(&entry.path(), e))?) {
            continue;
        }
        let name = entry.file_name().into_string();
        let name = name.map_err(|_| CliError::file(&entry.path(), "has a name that is not UTF-8"))?;
        if !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn is_image(name: &str) -> bool {
    let extension = name.rsplit_once('.').map(|(_, e)| e.to_ascii_lowercase());
    matches!(extension.as_deref(), Some("png" | "jpg" | "jpeg"))
}

pub(super) fn detect(folder: &Path) -> Result<Option<Found>> {
    let there = folders_in(folder)?;
    let splits: Vec<(&str, &str)> =
        SPLITS.iter().copied().filter(|(name, _)| there.iter().any(|t| t == name)).collect();
    if splits.is_empty() {
        return Ok(None);
    }
    let mut found = Found::new(DatasetFormat::ImageFolder, &[]);
    let mut classes = BTreeSet::new();
    let mut others = 0usize;
    for (name, meaning) in splits {
        if found.splits.iter().any(|s| s.name == meaning) {
            return Err(CliError::file(folder, format!("has several folders for the {meaning} split")));
        }
        let before = found.entries.len();
        for class in folders_in(&folder.join(name))? {
            let class_folder = folder.join(name).join(&class);
            for image in names_in(&class_folder, std::fs::FileType::is_file)? {
                if !is_image(&image) {
                    others += 1;
                    continue;
                }
                found.add_as(&class_folder.join(&image), &format!("{name}/{class}/{image}"))?;
                classes.insert(class.clone());
            }
        }
        if found.entries.len() > before {
            found.splits.push(Split { name: meaning.to_owned(), paths: vec![name.to_owned()] });
        }
    }
    if found.entries.is_empty() {
        return Ok(None);
    }
    found.labels = classes.into_iter().collect();
    found.labels_from = "the class folders, in alphabetical order";
    if others > 0 {
        found.notes.push(format!("{others} files that are no .png or .jpg are left out"));
    }
    if !found.splits.iter().any(|s| s.name == "test") {
        found.notes.push("there is no test split: jobs need --eval-split validation".into());
    }
    Ok(Some(found))
}

/// The images of a split, at most `limit`, in the order of their paths; they are decoded when asked for.
pub(super) fn read(found: &Found, split: &str, limit: usize) -> Result<Images> {
    let wanted = found.splits.iter().find(|s| s.name == split);
    let there: Vec<&str> = found.splits.iter().map(|s| s.name.as_str()).collect();
    let wanted = wanted
        .ok_or_else(|| CliError::usage(format!("no split {split:?}: {} are there", there.join(", "))))?;
    let mut images = Images::new(0, 0, 0);
    for entry in &found.entries {
        let Some((folder, class)) = parts(entry) else { continue };
        if images.len() >= limit || !wanted.paths.iter().any(|p| p == folder) {
            continue;
        }
        let label = found.labels.iter().position(|l| l == class);
        images.push_source(Source::File(entry.path.clone()), label.map(|l| l as u32));
    }
    Ok(images)
}

/// Split folder and class of an image.
fn parts(entry: &Entry) -> Option<(&str, &str)> {
    let mut parts = entry.name.split('/');
    Some((parts.next()?, parts.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_and_classes_come_from_the_folders() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "train/dog/b.png",
            "train/dog/a.JPG",
            "train/cat/x.png",
            "val/cat/y.jpeg",
            "train/cat/notes.txt",
            ".git/x/a.png",
        ] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"").unwrap();
        }
        let found = detect(dir.path()).unwrap().unwrap();
        assert_eq!(found.labels, ["cat", "dog"]);
        let splits: Vec<_> = found.splits.iter().map(|s| (s.name.as_str(), s.paths.join(","))).collect();
        assert_eq!(splits, [("train", "train".into()), ("validation", "val".into())]);
        assert_eq!(found.notes.len(), 2);
        let images = read(&found, "train", 10).unwrap();
        assert_eq!((images.len(), images.label(0), images.label(2)), (3, Some(0), Some(1)));
        assert!(read(&found, "test", 10).is_err());
    }

    #[test]
    fn two_folders_for_one_split_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["val/a", "valid/a"] {
            std::fs::create_dir_all(dir.path().join(name)).unwrap();
            std::fs::write(dir.path().join(name).join("x.png"), b"").unwrap();
        }
        assert!(detect(dir.path()).is_err());
    }
}
