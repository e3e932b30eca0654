//! CIFAR-10 in its authors' binary form: one label byte, then 3 × 32 × 32 bytes, planes apart.

use crate::entry::Entry;
use crate::error::{DataError, Result};
use crate::format::{Format, Found, Sink};
use crate::listing::Folder;
use crate::source::Source;
use crate::split::Split;

pub(super) const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;

/// Files of the training split, without their endings.
pub(super) const TRAIN: [&str; 5] =
    ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"];

/// The classes, in the order of the labels.
pub(super) const CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// The format.
#[derive(Debug)]
pub(super) struct Cifar10;

impl Format for Cifar10 {
    fn word(&self) -> &'static str {
        "cifar10-binary"
    }

    fn title(&self) -> &'static str {
        "CIFAR-10 binary files"
    }

    fn known_by(&self) -> &'static str {
        "CIFAR-10 binary files (data_batch_1.bin …)"
    }

    fn detect(&self, folder: &Folder) -> Result<Option<Found>> {
        let names: Vec<String> = TRAIN.iter().chain(&["test_batch"]).map(|n| format!("{n}.bin")).collect();
        let Some(entries) = folder.complete(&names)? else { return Ok(None) };
        let classes = CLASSES.map(str::to_owned).to_vec();
        Ok(Some(Found { classes, classes_from: "CIFAR-10's own", ..Found::usual(entries) }))
    }

    fn scan(&self, source: &Source, split: Split, sink: &mut dyn Sink) -> Result<()> {
        let names: Vec<String> = match split {
            Split::Train => TRAIN.iter().map(|n| format!("{n}.bin")).collect(),
            Split::Test => vec!["test_batch.bin".into()],
            Split::Validation => return Err(source.no_split(split)),
        };
        let records = Records { label_bytes: 1, classes: 10 };
        records.scan(source, &names, sink)
    }
}

/// How CIFAR's records are made: label bytes, of which the last counts, then the planes.
pub(super) struct Records {
    pub(super) label_bytes: usize,
    pub(super) classes: u32,
}

impl Records {
    /// Hands over the records of all these files.
    pub(super) fn scan(&self, source: &Source, names: &[String], sink: &mut dyn Sink) -> Result<()> {
        let size = self.label_bytes + 3 * PLANE;
        let entries = names.iter().map(|name| source.entry(name)).collect::<Result<Vec<&Entry>>>()?;
        let mut count = 0;
        for entry in &entries {
            let bytes = entry.size_bytes;
            if bytes == 0 || !bytes.is_multiple_of(size as u64) {
                let reason = format!("{bytes} bytes are not a multiple of {size}");
                return Err(DataError::malformed(entry.shown(), reason));
            }
            count += bytes as usize / size;
        }
        sink.begin([SIDE, SIDE, 3], count)?;
        let (mut record, mut pixels) = (vec![0; size], vec![0; 3 * PLANE]);
        for entry in entries {
            let mut content = entry.open()?;
            for index in 0..entry.size_bytes / size as u64 {
                content.fill(&mut record, "its last image")?;
                let (labels, planes) = record.split_at(self.label_bytes);
                let label = u32::from(labels.last().copied().unwrap_or(0));
                if label >= self.classes {
                    let reason = format!("image {index} has label {label}, of {} classes", self.classes);
                    return Err(DataError::malformed(entry.shown(), reason));
                }
                for (channel, plane) in planes.chunks_exact(PLANE).enumerate() {
                    for (pixel, &value) in pixels.chunks_exact_mut(3).zip(plane) {
                        pixel[channel] = value;
                    }
                }
                sink.image(&pixels, label)?;
            }
        }
        Ok(())
    }
}
