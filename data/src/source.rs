//! A dataset as it lies on disk or in an archive: its format, its splits, its classes, its files. Exactly one format must
//! fit; nothing is guessed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::archive::{self, Kind};
use crate::entry::Entry;
use crate::error::{DataError, Result};
use crate::format::{self, Format, Found};
use crate::listing::Folder;
use crate::manifest::{self, Listed, Manifest};
use crate::split::Split;

/// How deep below the given path a dataset may lie (`package/data`, `cifar-10-batches-bin`).
const DEPTH: usize = 3;
/// Folders that are looked through on one level.
const WIDTH: usize = 64;

/// A split that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Which.
    pub split: Split,
    /// Folders that it is made of; empty where the format's files have their fixed places.
    pub folders: Vec<String>,
}

/// A dataset that was found.
#[derive(Debug, Clone)]
pub struct Source {
    format: &'static dyn Format,
    parts: Vec<Part>,
    classes: Vec<String>,
    classes_from: &'static str,
    entries: Vec<Entry>,
    notes: Vec<String>,
    /// Where the files are listed, if they are elsewhere.
    manifest: Option<(Arc<Manifest>, Entry)>,
    /// Keeps what was unpacked.
    _unpacked: Option<Arc<tempfile::TempDir>>,
}

impl Source {
    /// Finds the dataset in a folder or archive.
    ///
    /// # Errors
    /// If there is none, or more than one, or one that is not whole.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_telling(path, &mut |_| {})
    }

    /// The same; `read` is told of every byte of an archive that has to be unpacked.
    ///
    /// # Errors
    /// As [`Source::open`].
    pub fn open_telling(path: &Path, read: &mut dyn FnMut(u64)) -> Result<Self> {
        let meta = std::fs::metadata(path).map_err(DataError::io(path))?;
        if meta.is_dir() {
            return find(&Folder::on_disk(path), path, &format::ALL);
        }
        if path.extension().is_some_and(|ending| ending == "jsonl") {
            return listed(Entry::file(path, manifest::NAME)?, &format::ALL);
        }
        match archive::kind(path)? {
            Kind::Gzip => {
                let unpacked = Arc::new(archive::unpack(path, read)?);
                let found = find(&Folder::on_disk(unpacked.path()), path, &format::ALL)?;
                Ok(Source { _unpacked: Some(unpacked), ..found })
            }
            Kind::Tar => find(&archive::index(path, path)?, path, &format::ALL),
            Kind::Zip if !is_array_file(path) => {
                let unpacked = Arc::new(archive::zip::unpack(path, read)?);
                let found = find(&Folder::on_disk(unpacked.path()), path, &format::ALL)?;
                Ok(Source { _unpacked: Some(unpacked), ..found })
            }
            Kind::Zip | Kind::Other if is_array_file(path) => {
                find(&Folder::of_file(path, meta.len())?, path, &format::ALL)
            }
            Kind::Zip | Kind::Other => {
                let reason =
                    "is neither a folder nor a .tgz, .tar.gz, .tar or .zip archive nor a .jsonl manifest";
                Err(DataError::unusable(path.display(), reason))
            }
        }
    }

    /// The dataset of this format in a tar, which messages call "the tar".
    ///
    /// # Errors
    /// As [`Source::open`].
    pub fn in_tar(path: &Path, format: &'static dyn Format) -> Result<Self> {
        let shown = Path::new("the tar");
        find(&archive::index(path, shown)?, shown, &[format])
    }

    /// The manifest that lists the files, if they are elsewhere.
    pub fn manifest(&self) -> Option<&Manifest> {
        self.manifest.as_ref().map(|(manifest, _)| manifest.as_ref())
    }

    /// The same dataset, with its files where `place` says that they are. Each is held to its hash when it is read.
    ///
    /// # Errors
    /// What `place` says.
    pub fn located<E>(
        mut self,
        place: &mut dyn FnMut(&str, &Listed) -> std::result::Result<PathBuf, E>,
    ) -> std::result::Result<Self, E> {
        for entry in &mut self.entries {
            let Some(listed) = entry.claim() else { continue };
            let path = place(&entry.name, listed)?;
            *entry = entry.clone().at(path);
        }
        Ok(self)
    }

    /// The files that travel to a server: all, or the manifest that lists them.
    pub fn packed(&self) -> Vec<Entry> {
        match &self.manifest {
            Some((_, file)) => vec![file.clone()],
            None => self.entries.clone(),
        }
    }

    /// What it is.
    pub fn format(&self) -> &'static dyn Format {
        self.format
    }

    /// The splits that are there.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Class names in the order of the labels; empty if unknown.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Where the class names are from, for people; empty if there are none.
    pub fn classes_from(&self) -> &'static str {
        self.classes_from
    }

    /// The files, sorted by name.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Remarks for people: what was left out and why.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The file of that name.
    pub(crate) fn entry(&self, name: &str) -> Result<&Entry> {
        let at = self.entries.binary_search_by(|entry| entry.name.as_str().cmp(name));
        at.ok()
            .and_then(|at| self.entries.get(at))
            .ok_or_else(|| DataError::malformed(name, "the dataset does not have it"))
    }

    /// A split that is there.
    pub(crate) fn part(&self, split: Split) -> Result<&Part> {
        self.parts.iter().find(|part| part.split == split).ok_or_else(|| self.no_split(split))
    }

    pub(crate) fn no_split(&self, asked: Split) -> DataError {
        let known: Vec<&str> = self.parts.iter().map(|part| part.split.name()).collect();
        DataError::NoSplit { asked, known: known.join(" and ") }
    }

    fn new(format: &'static dyn Format, found: Found) -> Self {
        let Found { parts, classes, classes_from, mut entries, notes } = found;
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Source { format, parts, classes, classes_from, entries, notes, manifest: None, _unpacked: None }
    }
}

/// A way to look for a format's files in a folder.
type Way = fn(&'static dyn Format, &Folder) -> Result<Option<Found>>;

/// Whether a file is a dataset by itself, by its name.
fn is_array_file(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "npz" || ending == "safetensors")
}

/// Finds the dataset in a folder or a little below; `shown` is what messages call it. What is only guessed counts where
/// nothing else is found at any depth.
fn find(root: &Folder, shown: &Path, formats: &[&'static dyn Format]) -> Result<Source> {
    if let Some(entry) = root.file(manifest::NAME)? {
        return listed(entry, formats);
    }
    let ways: [Way; 2] = [|format, folder| format.detect(folder), |format, folder| format.guess(folder)];
    for way in ways {
        let mut level = vec![root.clone()];
        for _ in 0..=DEPTH {
            if let Some(source) = on_level(&level, shown, formats, way)? {
                return Ok(source);
            }
            level = below(&level)?;
            if level.is_empty() || level.len() > WIDTH {
                break;
            }
        }
    }
    Err(DataError::Unknown { path: shown.display().to_string() })
}

/// The dataset whose files a manifest lists: its pictures in folders, for nothing else can be told by names alone.
fn listed(file: Entry, formats: &[&'static dyn Format]) -> Result<Source> {
    let manifest = Arc::new(Manifest::read(&file)?);
    let folders: Vec<&dyn Format> = formats.iter().copied().filter(|format| format.is_of_folders()).collect();
    let found = find(&Folder::listed(&manifest), Path::new("the manifest"), &folders)?;
    Ok(Source { manifest: Some((manifest, file)), ..found })
}

/// The one dataset in these folders.
fn on_level(
    level: &[Folder],
    shown: &Path,
    formats: &[&'static dyn Format],
    way: Way,
) -> Result<Option<Source>> {
    let mut found = Vec::new();
    for folder in level {
        for &format in formats {
            found.extend(way(format, folder)?.map(|f| (folder, format, f)));
        }
    }
    if found.len() > 1 {
        let places: Vec<String> = found
            .iter()
            .map(|(folder, format, _)| format!("{} in {}", format.title(), folder.inside()))
            .collect();
        return Err(DataError::hinted(
            shown.display(),
            format!("could be several datasets: {}", places.join("; ")),
            "name the folder of the one that you mean",
        ));
    }
    Ok(found.pop().map(|(_, format, found)| Source::new(format, found)))
}

/// The folders inside these folders.
fn below(folders: &[Folder]) -> Result<Vec<Folder>> {
    let mut inner = Vec::new();
    for folder in folders {
        inner.extend(folder.folders()?.iter().map(|name| folder.folder(name)));
    }
    Ok(inner)
}

#[cfg(test)]
mod tests;
