//! CIFAR-10 and CIFAR-100 in their binary form: labels, then 3072 bytes of red, green and blue planes.

use std::path::Path;

use super::{DataError, Dataset, Split, files};

const SIDE: usize = 32;
const PIXELS: usize = SIDE * SIDE;

/// CIFAR-10's classes, in the order of the labels.
pub(super) const CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// Loads CIFAR-10 (`ten`) or CIFAR-100 with its fine labels.
pub(super) fn load(path: &Path, split: Split, ten: bool) -> Result<Dataset, DataError> {
    let names: &[&str] = match (split, ten) {
        (Split::Train, true) => &[
            "data_batch_1.bin",
            "data_batch_2.bin",
            "data_batch_3.bin",
            "data_batch_4.bin",
            "data_batch_5.bin",
        ],
        (Split::Test, true) => &["test_batch.bin"],
        (Split::Train, false) => &["train.bin"],
        (Split::Test, false) => &["test.bin"],
    };
    let (label_bytes, classes) = if ten { (1, 10) } else { (2, 100) };
    let mut files = files::read(path, names)?;
    let mut set = Dataset {
        images: Vec::new(),
        labels: Vec::new(),
        height: SIDE,
        width: SIDE,
        channels: 3,
        classes: if ten { CLASSES.map(str::to_string).to_vec() } else { Vec::new() },
        mirrors: true,
    };
    for name in names {
        let bytes = files.remove(*name).unwrap_or_default();
        let record = label_bytes + 3 * PIXELS;
        if bytes.is_empty() || bytes.len() % record != 0 {
            return Err(DataError::malformed(
                name,
                format!("{} bytes are not a multiple of {record}", bytes.len()),
            ));
        }
        for (index, record) in bytes.chunks_exact(record).enumerate() {
            let (labels, planes) = record.split_at(label_bytes);
            let label = u32::from(labels[label_bytes - 1]);
            if label >= classes {
                return Err(DataError::malformed(
                    name,
                    format!("image {index} has label {label}, of {classes} classes"),
                ));
            }
            set.labels.push(label);
            for pixel in 0..PIXELS {
                set.images.extend([planes[pixel], planes[PIXELS + pixel], planes[2 * PIXELS + pixel]]);
            }
        }
    }
    Ok(set)
}
