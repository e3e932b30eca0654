//! Unlabelled byte images from a NumPy file: uint8 of shape (N, H, W, C).

use std::fs::File;
use std::io::{BufReader, Cursor, Read};
use std::path::Path;

use anyhow::{Context, bail, ensure};

use crate::data::Dataset;

/// Largest file that is read.
const BYTES: u64 = 8 << 30;
/// Longest header: the words of a plain array take about a hundred bytes.
const HEADER: usize = 4096;
/// Digits in a header; with so many no product of its numbers passes 64 bits.
const DIGITS: usize = 18;

/// Reads the images of an `.npy` file, all of class 0.
///
/// # Errors
/// What the file is, where it is not a C-ordered uint8 array of four axes.
pub(super) fn read(path: &Path) -> anyhow::Result<Dataset> {
    parse(path).with_context(|| format!("{} cannot be used for calibration", path.display()))
}

fn parse(path: &Path) -> anyhow::Result<Dataset> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    ensure!(size <= BYTES, "it has {size} bytes, more than {BYTES}");
    let mut file = BufReader::new(file);
    let header = npyz::NpyHeader::from_reader(Cursor::new(header(&mut file)?))?;
    if header.dtype().descr() != "'|u1'" || header.order() != npyz::Order::C {
        bail!(
            "it holds {} in {:?} order; images are uint8 ('|u1') in C order",
            header.dtype().descr(),
            header.order()
        );
    }
    let &[count, height, width, channels] = header.shape() else {
        bail!("it has the shape {:?}; images have four axes: (N, H, W, C)", header.shape());
    };
    let mut images = Vec::new();
    file.read_to_end(&mut images)?;
    let wanted: u64 = header.shape().iter().product();
    ensure!(wanted > 0, "it holds no image: its shape is {:?}", header.shape());
    ensure!(
        images.len() as u64 == wanted,
        "its shape {:?} wants {wanted} bytes and it has {}",
        header.shape(),
        images.len()
    );
    Ok(Dataset {
        images,
        labels: vec![0; count as usize],
        height: height as usize,
        width: width as usize,
        channels: channels as usize,
        classes: Vec::new(),
        mirrors: false,
    })
}

/// The file's beginning up to its data, bounded before it is parsed.
fn header(file: &mut impl Read) -> anyhow::Result<Vec<u8>> {
    let mut head = vec![0; 10];
    file.read_exact(&mut head).context("it is not an .npy file")?;
    ensure!(head.starts_with(b"\x93NUMPY"), "it is not an .npy file");
    // Version 1 counts the header in two bytes, later ones in four.
    let mut length = usize::from(head[8]) | usize::from(head[9]) << 8;
    if head[6] > 1 {
        let mut more = [0; 2];
        file.read_exact(&mut more)?;
        length |= usize::from(more[0]) << 16 | usize::from(more[1]) << 24;
        head.extend(more);
    }
    ensure!(length <= HEADER, "its header has {length} bytes, more than {HEADER}");
    let start = head.len();
    head.resize(start + length, 0);
    file.read_exact(&mut head[start..])?;
    let digits = head[start..].iter().filter(|b| b.is_ascii_digit()).count();
    ensure!(digits <= DIGITS, "its header names sizes of {digits} digits in all, more than {DIGITS}");
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn npy(header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        let padded = format!("{header:<117}\n");
        bytes.extend((padded.len() as u16).to_le_bytes());
        bytes.extend(padded.as_bytes());
        bytes.extend(data);
        bytes
    }

    fn read_bytes(bytes: &[u8]) -> anyhow::Result<Dataset> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("x.npy");
        std::fs::write(&path, bytes)?;
        read(&path)
    }

    #[test]
    fn byte_images_are_read_as_they_lie() {
        let data: Vec<u8> = (0..2 * 3 * 4).collect();
        let file = npy("{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3, 4, 1), }", &data);
        let set = read_bytes(&file).expect("a plain array");
        assert_eq!((set.len(), set.height, set.width, set.channels), (2, 3, 4, 1));
        assert_eq!(set.images, data);
    }

    #[test]
    fn what_is_not_an_array_of_byte_images_is_refused_in_words() {
        let good = "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3, 4, 1), }";
        let cases = [
            (npy(good, &[0; 23]), "24 bytes"),
            (npy(&good.replace("|u1", "<f4"), &[0; 96]), "uint8"),
            (npy(&good.replace("False", "True"), &[0; 24]), "C order"),
            (npy(&good.replace("(2, 3, 4, 1)", "(2, 12)"), &[0; 24]), "four axes"),
            (npy(&good.replace("(2, ", "(0, "), &[]), "no image"),
            (npy(&good.replace("(2, 3, ", "(9999999999999999999, 9999999999999999999, "), &[]), "digits"),
            (b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec(), "header"),
            (b"PK".to_vec(), "not an .npy"),
        ];
        for (bytes, word) in cases {
            let error = format!("{:#}", read_bytes(&bytes).expect_err(word));
            assert!(error.contains(word), "{error} does not say '{word}'");
        }
    }
}
