//! CIFAR-10 and CIFAR-100 in their authors' binary form: one or two label bytes, then 3 × 32 × 32 bytes, planes apart.

use std::path::Path;

use dyadic_proto::v1::DatasetFormat;

use super::Found;
use super::detect::complete;
use super::images::{Image, Images};
use crate::error::{CliError, Result};

/// Bytes of one image.
const PIXELS: usize = 3 * 32 * 32;

pub(super) const TRAIN: [&str; 5] =
    ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"];

/// CIFAR-10's classes, in the order of its labels.
pub(super) const CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

pub(super) fn detect10(folder: &Path) -> Result<Option<Found>> {
    let names: Vec<String> = TRAIN.iter().chain(&["test_batch"]).map(|n| format!("{n}.bin")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    if !complete(folder, &names)? {
        return Ok(None);
    }
    let mut found = Found::new(DatasetFormat::Cifar10Binary, &["train", "test"]);
    found.add(folder, &names)?;
    found.labels = CLASSES.map(str::to_owned).to_vec();
    found.labels_from = "CIFAR-10's own";
    Ok(Some(found))
}

pub(super) fn detect100(folder: &Path) -> Result<Option<Found>> {
    let names = ["train.bin", "test.bin"];
    if !names.iter().all(|n| folder.join(n).is_file()) {
        return Ok(None);
    }
    let mut found = Found::new(DatasetFormat::Cifar100Binary, &["train", "test"]);
    found.add(folder, &names)?;
    if let Ok(text) = std::fs::read_to_string(folder.join("fine_label_names.txt")) {
        found.labels = text.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned).collect();
        found.labels_from = "fine_label_names.txt";
    }
    Ok(Some(found))
}

/// The images of a split, at most `limit`.
pub(super) fn read(found: &Found, split: &str, limit: usize) -> Result<Images> {
    let (label_bytes, files): (usize, Vec<String>) = match (found.format, split) {
        (DatasetFormat::Cifar100Binary, "train" | "test") => (2, vec![format!("{split}.bin")]),
        (_, "train") => (1, TRAIN.iter().map(|n| format!("{n}.bin")).collect()),
        (_, "test") => (1, vec!["test_batch.bin".into()]),
        _ => return Err(CliError::usage(format!("CIFAR has no split {split:?}: train or test"))),
    };
    let mut images = Images::new(32, 32, 3);
    for name in files {
        let entry = found.entry(&name)?;
        let bytes = std::fs::read(&entry.path).map_err(|e| CliError::file(&entry.path, e))?;
        let records = bytes.chunks_exact(label_bytes + PIXELS);
        if bytes.is_empty() || !records.remainder().is_empty() {
            return Err(CliError::file(
                &entry.path,
                format!("{} bytes are no whole number of images", bytes.len()),
            ));
        }
        for record in records.take(limit.saturating_sub(images.len())) {
            let (labels, planes) = record.split_at(label_bytes);
            let label = labels.last().copied().unwrap_or(0);
            images.push(interleave(planes), u32::from(label));
        }
    }
    Ok(images)
}

/// Three planes of 32 × 32 to pixels.
fn interleave(planes: &[u8]) -> Image {
    let plane = PIXELS / 3;
    (0..plane).flat_map(|i| [planes[i], planes[plane + i], planes[2 * plane + i]]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_become_pixels_and_the_fine_label_counts() {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = vec![9, 42];
        bytes.extend((0..PIXELS).map(|i| (i / 1024 * 10) as u8));
        std::fs::write(dir.path().join("train.bin"), &bytes).unwrap();
        std::fs::write(dir.path().join("test.bin"), &bytes[1..]).unwrap();
        std::fs::write(dir.path().join("fine_label_names.txt"), "apple\nbaby\n\n").unwrap();
        let found = detect100(dir.path()).unwrap().unwrap();
        assert_eq!(found.labels, ["apple", "baby"]);
        let images = read(&found, "train", 5).unwrap();
        assert_eq!((images.len(), images.label(0)), (1, Some(42)));
        assert_eq!(images.pixels(0).unwrap()[..4], [0, 10, 20, 0]);
        assert!(read(&found, "test", 5).is_err());
        assert!(read(&found, "validation", 5).is_err());
    }
}
