//! Datasets as they lie on disk: what they are, how they travel, how their images are read.

pub(crate) mod archive;
pub(crate) mod cifar;
pub(crate) mod detect;
pub(crate) mod folder;
pub(crate) mod idx;
pub(crate) mod images;
pub(crate) mod jpeg;
pub(crate) mod strips;
pub(crate) mod tar;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dyadic_proto::v1::{DatasetFormat, Split};

use crate::error::{CliError, Result};

/// One file that goes into the tar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its path inside the tar: relative, `/` between the parts.
    pub(crate) name: String,
    /// Where it is.
    pub(crate) path: PathBuf,
    pub(crate) size_bytes: u64,
}

/// A dataset found on disk.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) format: DatasetFormat,
    pub(crate) splits: Vec<Split>,
    /// Class names in the order of the labels; empty if unknown.
    pub(crate) labels: Vec<String>,
    /// Where the class names are from, for people.
    pub(crate) labels_from: &'static str,
    /// Sorted by name.
    pub(crate) entries: Vec<Entry>,
    /// Remarks for people: what was left out and why.
    pub(crate) notes: Vec<String>,
    /// Keeps what was unpacked.
    pub(crate) unpacked: Option<Arc<tempfile::TempDir>>,
}

impl Found {
    fn new(format: DatasetFormat, splits: &[&str]) -> Self {
        let splits = splits.iter().map(|&name| Split { name: name.to_owned(), paths: Vec::new() }).collect();
        Found {
            format,
            splits,
            labels: Vec::new(),
            labels_from: "",
            entries: Vec::new(),
            notes: Vec::new(),
            unpacked: None,
        }
    }

    /// The file of that name in the tar.
    pub(crate) fn entry(&self, name: &str) -> Result<&Entry> {
        self.entries
            .iter()
            .find(|e| e.name == name)
            .ok_or_else(|| CliError::usage(format!("the dataset has no {name}")))
    }

    /// Adds files of a folder under their own names.
    fn add(&mut self, folder: &Path, names: &[&str]) -> Result<()> {
        for name in names {
            self.add_as(&folder.join(name), name)?;
        }
        Ok(())
    }

    fn add_as(&mut self, path: &Path, name: &str) -> Result<()> {
        let meta = std::fs::metadata(path).map_err(|e| CliError::file(path, e))?;
        if !meta.is_file() {
            return Err(CliError::file(path, "is not a file"));
        }
        self.entries.push(Entry { name: name.to_owned(), path: path.to_owned(), size_bytes: meta.len() });
        Ok(())
    }
}

/// What people call the format.
pub(crate) fn format_name(format: DatasetFormat) -> &'static str {
    match format {
        DatasetFormat::Cifar10Binary => "CIFAR-10 binary files",
        DatasetFormat::Cifar100Binary => "CIFAR-100 binary files",
        DatasetFormat::Cifar10PngStrips => "CIFAR-10 as PNG strips",
        DatasetFormat::Idx => "MNIST-like IDX files",
        DatasetFormat::ImageFolder => "image folder",
        DatasetFormat::Unspecified => "unknown",
    }
}
