//! The four IDX files of MNIST and its kin: a big-endian header, then bytes.

use std::path::Path;

use dyadic_proto::v1::DatasetFormat;

use super::Found;
use super::images::Images;
use crate::error::{CliError, Result};

/// Names in the tar, in pairs of images and labels.
const NAMES: [&str; 4] = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
];

pub(super) fn detect(folder: &Path) -> Result<Option<Found>> {
    // Some copies write a dot where the originals have a hyphen.
    let dotted = |name: &str| name.replace("-idx", ".idx");
    let place = |name: &str| {
        [name.to_owned(), dotted(name)].into_iter().map(|n| folder.join(n)).find(|p| p.is_file())
    };
    let places: Vec<_> = NAMES.iter().map(|n| (n, place(n))).collect();
    let missing: Vec<&str> = places.iter().filter(|(_, p)| p.is_none()).map(|(n, _)| **n).collect();
    if missing.len() == NAMES.len() {
        if NAMES.iter().all(|n| folder.join(format!("{n}.gz")).is_file()) {
            return Err(CliError::file(folder, "the IDX files are compressed")
                .hint(format!("unpack them first: gunzip --keep {}/*-ubyte.gz", folder.display())));
        }
        return Ok(None);
    }
    if !missing.is_empty() {
        return Err(CliError::file(folder, format!("lacks {}", missing.join(", "))));
    }
    let mut found = Found::new(DatasetFormat::Idx, &["train", "test"]);
    for (name, path) in places {
        if let Some(path) = path {
            found.add_as(&path, name)?;
        }
    }
    Ok(Some(found))
}

/// The images of a split, at most `limit`.
pub(super) fn read(found: &Found, split: &str, limit: usize) -> Result<Images> {
    let prefix = match split {
        "train" => "train",
        "test" => "t10k",
        _ => return Err(CliError::usage(format!("IDX files have no split {split:?}: train or test"))),
    };
    let path = &found.entry(&format!("{prefix}-images-idx3-ubyte"))?.path;
    let labels_path = &found.entry(&format!("{prefix}-labels-idx1-ubyte"))?.path;
    let (dims, pixels) = parse::<3>(&std::fs::read(path).map_err(|e| CliError::file(path, e))?)
        .map_err(|e| CliError::file(path, e))?;
    let bytes = std::fs::read(labels_path).map_err(|e| CliError::file(labels_path, e))?;
    let ([count], labels) = parse::<1>(&bytes).map_err(|e| CliError::file(labels_path, e))?;
    let [images_count, height, width] = dims;
    if count != images_count || height == 0 || width == 0 {
        return Err(CliError::file(
            path,
            format!("{images_count} images of {height}×{width}, but {count} labels"),
        ));
    }
    let mut images = Images::new(height, width, 1);
    for (image, label) in pixels.chunks_exact(height * width).zip(&labels).take(limit) {
        images.push(image.into(), u32::from(*label));
    }
    Ok(images)
}

/// Dimensions and bytes of an IDX file of unsigned bytes in `N` dimensions.
fn parse<const N: usize>(bytes: &[u8]) -> Result<([usize; N], Vec<u8>), String> {
    let header = bytes.get(..4 + 4 * N).ok_or("too short for an IDX file")?;
    if header[..4] != [0, 0, 8, N as u8] {
        return Err(format!("no IDX file of bytes in {N} dimensions"));
    }
    let mut dims = [0; N];
    for (dim, field) in dims.iter_mut().zip(header[4..].chunks_exact(4)) {
        *dim = field.iter().fold(0usize, |n, &b| n << 8 | usize::from(b));
    }
    let size = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).ok_or("dimensions overflow")?;
    let data = &bytes[header.len()..];
    if data.len() != size {
        return Err(format!("{} bytes where its header says {size}", data.len()));
    }
    Ok((dims, data.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_must_tell_the_truth() {
        let good = [0, 0, 8, 1, 0, 0, 0, 2, 7, 8];
        assert_eq!(parse::<1>(&good).unwrap(), ([2], vec![7, 8]));
        assert!(parse::<1>(&good[..9]).is_err());
        assert!(parse::<1>(&good[..3]).is_err());
        assert!(parse::<3>(&good).is_err());
        let huge = [0, 0, 8, 3, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255];
        assert!(parse::<3>(&huge).is_err());
    }

    #[test]
    fn compressed_files_are_told_apart_from_none() {
        let dir = tempfile::tempdir().unwrap();
        assert!(detect(dir.path()).unwrap().is_none());
        for name in NAMES {
            std::fs::write(dir.path().join(format!("{name}.gz")), b"").unwrap();
        }
        assert!(detect(dir.path()).unwrap_err().hint.unwrap().contains("gunzip"));
    }

    #[test]
    fn dotted_names_get_their_proper_ones() {
        let dir = tempfile::tempdir().unwrap();
        for name in NAMES {
            std::fs::write(dir.path().join(name.replace("-idx", ".idx")), b"").unwrap();
        }
        let found = detect(dir.path()).unwrap().unwrap();
        assert!(NAMES.iter().all(|n| found.entry(n).is_ok()));
    }
}
