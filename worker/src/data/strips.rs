//! CIFAR-10 as PNG strips: each PNG has one image a row, 1024 RGB pixels, row-major; labels are JSON arrays.

use std::io::Cursor;
use std::path::Path;

use super::cifar::CLASSES;
use super::{DataError, Dataset, Split, files};

const SIDE: usize = 32;
const TRAIN: [&str; 5] =
    ["data_batch_1.png", "data_batch_2.png", "data_batch_3.png", "data_batch_4.png", "data_batch_5.png"];
/// Images in one strip at most, so that a header cannot ask for more memory than that.
const STRIP_LIMIT: u32 = 100_000;

/// Loads one split. The label files are spelled as the package spells them.
pub(super) fn load(path: &Path, split: Split) -> Result<Dataset, DataError> {
    let (strips, labels): (&[&str], &str) = match split {
        Split::Train => (&TRAIN, "train_lables.json"),
        Split::Test => (&["test_batch.png"], "test_lables.json"),
    };
    let mut wanted = strips.to_vec();
    wanted.push(labels);
    let files = files::read(path, &wanted)?;
    let mut images = Vec::new();
    for name in strips {
        decode(name, files.get(*name).map_or(&[], Vec::as_slice), &mut images)?;
    }
    let text = files.get(labels).map_or(&[] as &[u8], Vec::as_slice);
    let values: Vec<u32> =
        serde_json::from_slice(text).map_err(|e| DataError::malformed(labels, e.to_string()))?;
    let count = images.len() / (3 * SIDE * SIDE);
    if values.len() != count {
        return Err(DataError::malformed(labels, format!("{} labels for {count} images", values.len())));
    }
    if let Some(label) = values.iter().find(|&&l| l >= 10) {
        return Err(DataError::malformed(labels, format!("label {label}, of 10 classes")));
    }
    let classes = CLASSES.map(str::to_string).to_vec();
    Ok(Dataset { images, labels: values, height: SIDE, width: SIDE, channels: 3, classes, mirrors: true })
}

fn decode(name: &str, bytes: &[u8], images: &mut Vec<u8>) -> Result<(), DataError> {
    let bad = |e: &dyn std::fmt::Display| DataError::malformed(name, e.to_string());
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().map_err(|e| bad(&e))?;
    let (width, height) = (reader.info().width, reader.info().height);
    if width as usize != SIDE * SIDE || height == 0 || height > STRIP_LIMIT {
        return Err(bad(&format!(
            "it is {width} × {height}, expected 1024 pixels a row and up to {STRIP_LIMIT} rows"
        )));
    }
    let (color, depth) = reader.output_color_type();
    let samples = color.samples();
    if depth != png::BitDepth::Eight || !(samples == 3 || samples == 4) {
        return Err(bad(&format!("its pixels are {color:?}, expected 8-bit RGB")));
    }
    images.reserve(height as usize * 3 * SIDE * SIDE);
    while let Some(row) = reader.next_row().map_err(|e| bad(&e))? {
        for pixel in row.data().chunks_exact(samples) {
            images.extend_from_slice(&pixel[..3]);
        }
    }
    Ok(())
}
