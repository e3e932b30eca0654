//! Synthetic digits as MNIST's IDX files: a 5 × 7 font, drawn twice as large at a random place with noise, from a seed.

use std::fs;
use std::path::Path;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Images to train with.
pub(crate) const TRAIN: usize = 600;
/// Images to evaluate with.
pub(crate) const TEST: usize = 200;
/// Rows and columns.
const SIZE: usize = 20;

/// Rows of five bits, the highest to the left.
const FONT: [[u8; 7]; 10] = [
    [0x0e, 0x11, 0x13, 0x15, 0x19, 0x11, 0x0e],
    [0x04, 0x0c, 0x04, 0x04, 0x04, 0x04, 0x0e],
    [0x0e, 0x11, 0x01, 0x02, 0x04, 0x08, 0x1f],
    [0x1f, 0x02, 0x04, 0x02, 0x01, 0x11, 0x0e],
    [0x02, 0x06, 0x0a, 0x12, 0x1f, 0x02, 0x02],
    [0x1f, 0x10, 0x1e, 0x01, 0x01, 0x11, 0x0e],
    [0x06, 0x08, 0x10, 0x1e, 0x11, 0x11, 0x0e],
    [0x1f, 0x01, 0x02, 0x04, 0x08, 0x08, 0x08],
    [0x0e, 0x11, 0x11, 0x0e, 0x11, 0x11, 0x0e],
    [0x0e, 0x11, 0x11, 0x0f, 0x01, 0x02, 0x0c],
];

/// Writes the four files into the folder.
pub(crate) fn write(folder: &Path, seed: u64) {
    write_from(folder, seed, 0);
}

/// The same with labels that begin at `first`.
pub(crate) fn write_from(folder: &Path, seed: u64, first: u8) {
    let mut random = StdRng::seed_from_u64(seed);
    for (prefix, count) in [("train", TRAIN), ("t10k", TEST)] {
        let mut images = header(3, &[count, SIZE, SIZE]);
        let mut labels = header(1, &[count]);
        for index in 0..count {
            let digit = index % 10;
            labels.push(first + digit as u8);
            images.extend(draw(digit, &mut random));
        }
        fs::write(folder.join(format!("{prefix}-images-idx3-ubyte")), images).expect("written");
        fs::write(folder.join(format!("{prefix}-labels-idx1-ubyte")), labels).expect("written");
    }
}

fn header(dimensions: u8, sizes: &[usize]) -> Vec<u8> {
    let sizes = sizes.iter().flat_map(|&s| u32::try_from(s).expect("small").to_be_bytes());
    [0, 0, 8, dimensions].into_iter().chain(sizes).collect()
}

fn draw(digit: usize, random: &mut StdRng) -> Vec<u8> {
    let (left, top) = (random.random_range(1..=SIZE - 11), random.random_range(1..=SIZE - 15));
    let mut image = vec![0u8; SIZE * SIZE];
    for (index, pixel) in image.iter_mut().enumerate() {
        let (y, x) = (index / SIZE, index % SIZE);
        let ink = y >= top && x >= left && y < top + 14 && x < left + 10;
        let set = ink && FONT[digit][(y - top) / 2] >> (4 - (x - left) / 2) & 1 == 1;
        *pixel = if set { random.random_range(170..=255) } else { random.random_range(0..40) };
    }
    image
}
