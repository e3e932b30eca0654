//! IDX files, as of MNIST: a big-endian header, then bytes.

use std::path::Path;

use super::{DataError, Dataset, Split, files};

const IMAGES_MAGIC: u32 = 0x0803;
const LABELS_MAGIC: u32 = 0x0801;

/// Loads one split; names may carry a `.gz`.
pub(super) fn load(path: &Path, split: Split, names: &[String]) -> Result<Dataset, DataError> {
    let prefix = match split {
        Split::Train => "train",
        Split::Test => "t10k",
    };
    let find = |rest: &str| {
        let plain = format!("{prefix}-{rest}");
        let zipped = format!("{plain}.gz");
        if names.contains(&zipped) && !names.contains(&plain) { zipped } else { plain }
    };
    let (images_name, labels_name) = (find("images-idx3-ubyte"), find("labels-idx1-ubyte"));
    let files = files::read(path, &[&images_name, &labels_name])?;
    let content = |name: &str| files.get(name).map_or(&[] as &[u8], Vec::as_slice);
    let (extents, images) = parse(&images_name, content(&images_name), IMAGES_MAGIC, 3)?;
    let (counts, labels) = parse(&labels_name, content(&labels_name), LABELS_MAGIC, 1)?;
    if counts[0] != extents[0] {
        return Err(DataError::malformed(
            &labels_name,
            format!("{} labels for {} images", counts[0], extents[0]),
        ));
    }
    let labels: Vec<u32> = labels.iter().map(|&l| u32::from(l)).collect();
    let classes = labels.iter().max().map_or(0, |&m| m + 1);
    Ok(Dataset {
        images: images.to_vec(),
        labels,
        height: extents[1],
        width: extents[2],
        channels: 1,
        classes: (0..classes).map(|c| c.to_string()).collect(),
        mirrors: false,
    })
}

/// Extents and data of one file.
fn parse<'a>(
    name: &str,
    bytes: &'a [u8],
    magic: u32,
    rank: usize,
) -> Result<(Vec<usize>, &'a [u8]), DataError> {
    let word = |i: usize| bytes.get(4 * i..4 * i + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
    if word(0) != Some(magic) {
        return Err(DataError::malformed(name, format!("it does not begin with 0x{magic:08x}")));
    }
    let extents: Option<Vec<usize>> = (1..=rank).map(|i| word(i).map(|w| w as usize)).collect();
    let extents = extents.ok_or_else(|| DataError::malformed(name, "its header is cut short"))?;
    let data = &bytes[4 * (rank + 1)..];
    let expected = extents.iter().try_fold(1usize, |n, &e| n.checked_mul(e));
    if expected != Some(data.len()) {
        return Err(DataError::malformed(
            name,
            format!("its header says {extents:?} and {} bytes follow", data.len()),
        ));
    }
    Ok((extents, data))
}
