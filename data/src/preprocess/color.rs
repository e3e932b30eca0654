//! Colours: to gray as Pillow does, and the order of channels.

use serde::{Deserialize, Serialize};

use crate::picture::Picture;

/// The channels that a network reads, and their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Color {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
    /// One channel.
    Gray,
}

impl Color {
    /// What networks that read so many channels usually take: gray or RGB.
    pub fn usual(channels: usize) -> Option<Self> {
        match channels {
            1 => Some(Color::Gray),
            3 => Some(Color::Rgb),
            _ => None,
        }
    }

    /// How many.
    pub fn channels(self) -> usize {
        if self == Color::Gray { 1 } else { 3 }
    }

    /// The picture in as many channels: Pillow's `convert("RGB")` or `convert("L")`, which is ITU-R 601's luma in 16 bits
    /// of fraction. The order stays red, green, blue.
    pub(crate) fn of(self, picture: Picture) -> Picture {
        let pixels: Vec<u8> = match (picture.channels, self.channels()) {
            (1, 3) => picture.pixels.iter().flat_map(|&value| [value; 3]).collect(),
            (3, 1) => picture.pixels.chunks_exact(3).map(luma).collect(),
            _ => return picture,
        };
        Picture { channels: self.channels(), pixels: pixels.into(), ..picture }
    }

    /// Brings red, green, blue into this order.
    pub(crate) fn order(self, pixels: &mut [u8]) {
        if self == Color::Bgr {
            pixels.chunks_exact_mut(3).for_each(|pixel| pixel.swap(0, 2));
        }
    }
}

fn luma(pixel: &[u8]) -> u8 {
    let weighted =
        pixel.iter().zip([19_595u32, 38_470, 7471]).map(|(&value, weight)| u32::from(value) * weight);
    ((weighted.sum::<u32>() + 0x8000) >> 16) as u8
}
