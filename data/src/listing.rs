//! Folders of a dataset, whether they lie on disk, in a tar or in a manifest: what detection looks at.

use std::collections::BTreeMap;
use std::fs::FileType;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::entry::Entry;
use crate::error::{DataError, Result};
use crate::manifest::Manifest;

/// Where files are listed from.
#[derive(Debug, Clone)]
enum Place {
    Disk(PathBuf),
    Tar(Arc<Index>),
    Manifest(Arc<Manifest>),
}

/// The files of a tar: path to position and size.
#[derive(Debug, Default)]
pub(crate) struct Index {
    pub(crate) archive: PathBuf,
    pub(crate) files: BTreeMap<String, (u64, u64)>,
}

/// A folder.
#[derive(Debug, Clone)]
pub struct Folder {
    place: Place,
    /// Path below the place, empty or ending in a slash.
    inside: String,
}

impl Folder {
    /// A folder on disk.
    pub(crate) fn on_disk(path: &Path) -> Self {
        Folder { place: Place::Disk(path.to_owned()), inside: String::new() }
    }

    /// The root of a tar.
    pub(crate) fn in_tar(index: Index) -> Self {
        Folder { place: Place::Tar(Arc::new(index)), inside: String::new() }
    }

    /// The root of what a manifest lists.
    pub(crate) fn listed(manifest: &Arc<Manifest>) -> Self {
        Folder { place: Place::Manifest(Arc::clone(manifest)), inside: String::new() }
    }

    /// One file by itself.
    pub(crate) fn of_file(path: &Path, size: u64) -> Result<Self> {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| DataError::unusable(path.display(), "has a name that is not UTF-8"))?;
        let files = BTreeMap::from([(name.to_owned(), (0, size))]);
        Ok(Self::in_tar(Index { archive: path.to_owned(), files }))
    }

    /// A folder in this one.
    pub(crate) fn folder(&self, name: &str) -> Self {
        Folder { place: self.place.clone(), inside: format!("{}{name}/", self.inside) }
    }

    /// What messages call it.
    pub(crate) fn shown(&self) -> String {
        match &self.place {
            Place::Disk(root) => root.join(&self.inside).display().to_string(),
            Place::Tar(_) if self.inside.is_empty() => "the archive".into(),
            Place::Manifest(_) if self.inside.is_empty() => "the manifest".into(),
            Place::Tar(_) | Place::Manifest(_) => self.inside.clone(),
        }
    }

    /// Its path below the root; empty for the root.
    pub(crate) fn inside(&self) -> &str {
        &self.inside
    }

    /// Names of the folders in it, sorted; hidden ones and links are left out.
    pub(crate) fn folders(&self) -> Result<Vec<String>> {
        match &self.place {
            Place::Disk(root) => on_disk(&root.join(&self.inside), FileType::is_dir),
            Place::Tar(index) => Ok(children(&index.files, &self.inside).folders),
            Place::Manifest(manifest) => Ok(children(manifest.files(), &self.inside).folders),
        }
    }

    /// Names of the files in it, sorted; hidden ones and links are left out.
    pub(crate) fn files(&self) -> Result<Vec<String>> {
        match &self.place {
            Place::Disk(root) => on_disk(&root.join(&self.inside), FileType::is_file),
            Place::Tar(index) => Ok(children(&index.files, &self.inside).files),
            Place::Manifest(manifest) => Ok(children(manifest.files(), &self.inside).files),
        }
    }

    /// How many hidden files are in it.
    pub(crate) fn hidden(&self) -> Result<usize> {
        match &self.place {
            Place::Disk(root) => {
                let folder = root.join(&self.inside);
                let names = std::fs::read_dir(&folder).map_err(DataError::io(&folder))?;
                Ok(names
                    .flatten()
                    .filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b"."))
                    .count())
            }
            Place::Tar(index) => Ok(children(&index.files, &self.inside).hidden),
            Place::Manifest(manifest) => Ok(children(manifest.files(), &self.inside).hidden),
        }
    }

    /// A file in it, under the name that it has here.
    pub(crate) fn file(&self, name: &str) -> Result<Option<Entry>> {
        match &self.place {
            Place::Disk(root) => {
                let path = root.join(&self.inside).join(name);
                if path.is_file() { Entry::file(&path, name).map(Some) } else { Ok(None) }
            }
            Place::Tar(index) => {
                let found = index.files.get(&format!("{}{name}", self.inside));
                Ok(found.map(|&(start, size)| Entry::within(&index.archive, name, start, size)))
            }
            Place::Manifest(manifest) => {
                let found = manifest.files().get(&format!("{}{name}", self.inside));
                Ok(found.map(|listed| Entry::listed(name, listed)))
            }
        }
    }

    /// Those of these files that are there, if all are; some but not all is told, since it is hardly what was meant.
    pub(crate) fn complete(&self, names: &[String]) -> Result<Option<Vec<Entry>>> {
        let (mut there, mut missing) = (Vec::new(), Vec::new());
        for name in names {
            match self.file(name)? {
                Some(entry) => there.push(entry),
                None => missing.push(name.as_str()),
            }
        }
        match (there.is_empty(), missing.is_empty()) {
            (_, true) => Ok(Some(there)),
            (true, false) => Ok(None),
            (false, false) => {
                Err(DataError::Incomplete { folder: self.shown(), missing: missing.join(", ") })
            }
        }
    }
}

fn on_disk(folder: &Path, wanted: impl Fn(&FileType) -> bool) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(DataError::io(folder))? {
        let entry = entry.map_err(DataError::io(folder))?;
        if !wanted(&entry.file_type().map_err(DataError::io(&entry.path()))?) {
            continue;
        }
        let name = entry
            .file_name()
            .into_string()
            .map_err(|_| DataError::unusable(entry.path().display(), "has a name that is not UTF-8"))?;
        if !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// What lies directly in a folder of a tar or a manifest.
struct Children {
    folders: Vec<String>,
    files: Vec<String>,
    hidden: usize,
}

fn children<T>(files: &BTreeMap<String, T>, folder: &str) -> Children {
    let mut children = Children { folders: Vec::new(), files: Vec::new(), hidden: 0 };
    let mut from = Bound::Excluded(folder.to_owned());
    while let Some((path, _)) = files.range((from, Bound::Unbounded)).next() {
        let Some(rest) = path.strip_prefix(folder) else { break };
        let (name, list, next) = match rest.split_once('/') {
            // What follows the slash in the order of bytes is past the whole folder.
            Some((name, _)) => (name, &mut children.folders, Bound::Included(format!("{folder}{name}0"))),
            None => (rest, &mut children.files, Bound::Excluded(path.clone())),
        };
        if name.starts_with('.') {
            children.hidden += 1;
        } else if !name.is_empty() {
            list.push(name.to_owned());
        }
        from = next;
    }
    children
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_a_tar_list_like_those_of_a_disk() {
        let names = ["a", "a-b/x", "a.d/y/z", "a.d/y0", "b/.hidden", "b/c/d/e", "b/f", ".git/x"];
        let dir = tempfile::tempdir().unwrap();
        let mut index = Index::default();
        for name in names {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"").unwrap();
            index.files.insert(name.to_owned(), (512, 0));
        }
        let (disk, tar) = (Folder::on_disk(dir.path()), Folder::in_tar(index));
        for inside in ["", "a.d", "b", "b/c"] {
            let (disk, tar) = match inside {
                "" => (disk.clone(), tar.clone()),
                name => (disk.folder(name), tar.folder(name)),
            };
            assert_eq!(disk.folders().unwrap(), tar.folders().unwrap(), "{inside}");
            assert_eq!(disk.files().unwrap(), tar.files().unwrap(), "{inside}");
        }
        assert_eq!(tar.folders().unwrap(), ["a-b", "a.d", "b"]);
        assert!(tar.folder("b").file("f").unwrap().is_some());
        assert!(tar.folder("b").file("c").unwrap().is_none());
    }
}
