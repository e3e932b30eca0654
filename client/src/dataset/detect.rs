//! Which of the known formats a path holds. Exactly one must fit; nothing is guessed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Found, archive, cifar, folder, idx, strips};
use crate::error::{CliError, Result};
use crate::output::Output;

const KNOWN: &str = "\
known are: CIFAR-10 (data_batch_1.bin …) or CIFAR-100 (train.bin, test.bin) binary files, CIFAR-10 PNG strips (data_batch_1.png …), \
MNIST IDX files (train-images-idx3-ubyte …), an image folder (train/CLASS/*.png, test/CLASS/*.png), and .tgz or .tar.gz archives of these";

/// How deep below the given path a dataset may lie (`package/data`, `cifar-10-batches-bin`).
const DEPTH: usize = 3;

/// Finds the dataset in a folder or archive.
pub(crate) fn open(path: &Path, output: Output) -> Result<Found> {
    let meta = std::fs::metadata(path).map_err(|e| CliError::file(path, e))?;
    if meta.is_dir() {
        return in_folder(path, path);
    }
    let unpacked = Arc::new(archive::unpack(path, output)?);
    let mut found = in_folder(unpacked.path(), path)?;
    found.unpacked = Some(unpacked);
    Ok(found)
}

/// Finds the dataset in a folder or a little below; `shown` is what messages call it.
fn in_folder(root: &Path, shown: &Path) -> Result<Found> {
    let mut level = vec![root.to_owned()];
    for _ in 0..=DEPTH {
        let mut found = Vec::new();
        for folder in &level {
            found.extend(all_formats(folder)?.into_iter().map(|f| (folder.clone(), f)));
        }
        match found.len() {
            0 => level = below(&level)?,
            1 => {
                let Some((_, mut only)) = found.pop() else { break };
                only.entries.sort_by(|a, b| a.name.cmp(&b.name));
                return Ok(only);
            }
            _ => {
                let formats: Vec<String> = found
                    .iter()
                    .map(|(p, f)| {
                        format!(
                            "{} in {}",
                            super::format_name(f.format),
                            p.strip_prefix(root).unwrap_or(p).join("").display()
                        )
                    })
                    .collect();
                return Err(CliError::file(
                    shown,
                    format!("could be several datasets: {}", formats.join("; ")),
                )
                .hint("name the folder of the one that you mean"));
            }
        }
        if level.is_empty() || level.len() > 64 {
            break;
        }
    }
    Err(CliError::file(shown, "holds no dataset of a known format").hint(KNOWN))
}

fn all_formats(path: &Path) -> Result<Vec<Found>> {
    let mut all = Vec::new();
    for detect in [cifar::detect10, cifar::detect100, strips::detect, idx::detect, folder::detect] {
        all.extend(detect(path)?);
    }
    Ok(all)
}

/// The folders inside these folders.
fn below(folders: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut inner = Vec::new();
    for folder in folders {
        inner.extend(self::folder::folders_in(folder)?.into_iter().map(|name| folder.join(name)));
    }
    Ok(inner)
}

/// Whether all these files are there; some but not all is told, since it is hardly what was meant.
pub(super) fn complete(folder: &Path, names: &[&str]) -> Result<bool> {
    let missing: Vec<&str> = names.iter().copied().filter(|n| !folder.join(n).is_file()).collect();
    match missing.len() {
        0 => Ok(true),
        n if n == names.len() => Ok(false),
        _ => Err(CliError::file(folder, format!("lacks {}", missing.join(", ")))
            .hint("the other files of this dataset are there; is a download incomplete?")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dyadic_proto::v1::DatasetFormat;
    use std::fs;

    fn write(root: &Path, names: &[&str]) {
        for name in names {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"x").unwrap();
        }
    }

    #[test]
    fn each_format_is_known_by_its_files_at_any_depth() {
        let ten =
            ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"];
        let bin: Vec<String> = ten.iter().map(|n| format!("cifar-10-batches-bin/{n}.bin")).collect();
        let png: Vec<String> = ten.iter().map(|n| format!("package/{n}.png")).collect();
        let mut png: Vec<&str> = png.iter().map(String::as_str).collect();
        png.extend(["package/train_lables.json", "package/test_lables.json", "package/package.json"]);
        let idx = [
            "train-images-idx3-ubyte",
            "train-labels-idx1-ubyte",
            "t10k-images-idx3-ubyte",
            "t10k-labels-idx1-ubyte",
        ];
        let idx: Vec<String> = idx.iter().map(|n| format!("package/data/{n}")).collect();
        let cases: [(Vec<&str>, DatasetFormat, usize); 5] = [
            (bin.iter().map(String::as_str).collect(), DatasetFormat::Cifar10Binary, 6),
            (vec!["a/train.bin", "a/test.bin"], DatasetFormat::Cifar100Binary, 2),
            (png, DatasetFormat::Cifar10PngStrips, 8),
            (idx.iter().map(String::as_str).collect(), DatasetFormat::Idx, 4),
            (vec!["train/cat/1.png", "train/dog/1.jpg", "test/cat/2.png"], DatasetFormat::ImageFolder, 3),
        ];
        for (files, format, entries) in cases {
            let dir = tempfile::tempdir().unwrap();
            write(dir.path(), &files);
            let found = open(dir.path(), Output::silent()).unwrap();
            assert_eq!((found.format, found.entries.len()), (format, entries));
            assert!(found.entries.is_sorted_by(|a, b| a.name < b.name));
        }
    }

    #[test]
    fn what_is_incomplete_ambiguous_or_unknown_is_refused() {
        let of = |files: &[&str]| {
            let dir = tempfile::tempdir().unwrap();
            write(dir.path(), files);
            open(dir.path(), Output::silent()).unwrap_err().message
        };
        assert!(of(&["data_batch_1.bin", "test_batch.bin"]).contains("lacks data_batch_2.bin"));
        assert!(of(&["a/train.bin", "a/test.bin", "b/train.bin", "b/test.bin"]).contains("several"));
        assert!(of(&["notes.txt"]).contains("no dataset"));
        assert!(of(&[]).contains("no dataset"));
    }
}
