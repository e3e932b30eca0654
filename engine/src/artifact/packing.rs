//! How a layer's weight codes lie in bytes.

use serde::{Deserialize, Serialize};

use crate::model::Weights;

/// Codes to bytes. Every layer starts on a byte of its own; what is left over in its last byte is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Packing {
    /// `bits` bits a code, the first code in the lowest bits, running on across bytes.
    Bits,
    /// Five three-valued codes a byte: `c₀ + 3·c₁ + 9·c₂ + 27·c₃ + 81·c₄`.
    Base3,
}

impl Packing {
    /// The packing that is written for these weights: base 3 where no code and no table uses the fourth level.
    pub fn of(weights: &Weights) -> Self {
        let three = weights.bits == 2
            && weights.codes.iter().all(|&code| code < 3)
            && weights.tables.chunks_exact(4).all(|table| table[3] == 0);
        if three { Packing::Base3 } else { Packing::Bits }
    }

    /// Entries of a filter's level table in the file.
    pub fn levels(self, bits: u8) -> usize {
        match self {
            Packing::Base3 => 3,
            Packing::Bits if bits >= 8 => 0,
            Packing::Bits => 1 << bits,
        }
    }

    /// Bytes that `count` codes take.
    pub fn bytes(self, bits: u8, count: u64) -> u64 {
        match self {
            Packing::Base3 => count.div_ceil(5),
            Packing::Bits => count.saturating_mul(bits.into()).div_ceil(8),
        }
    }
}

/// Packs codes that fit the packing.
pub(super) fn pack(packing: Packing, bits: u8, codes: &[u8]) -> Vec<u8> {
    if packing == Packing::Base3 {
        return codes
            .chunks(5)
            .map(|five| five.iter().rev().fold(0, |byte, &code| byte * 3 + code))
            .collect();
    }
    let mut bytes = Vec::with_capacity(packing.bytes(bits, codes.len() as u64) as usize);
    let (mut waiting, mut held) = (0u32, 0u32);
    for &code in codes {
        waiting |= u32::from(code) << held;
        held += u32::from(bits);
        while held >= 8 {
            bytes.push(waiting as u8);
            waiting >>= 8;
            held -= 8;
        }
    }
    if held > 0 {
        bytes.push(waiting as u8);
    }
    bytes
}

/// Unpacks `count` codes; the reason why not, where a byte is not canonical. `bytes` has the packing's length.
pub(super) fn unpack(
    packing: Packing,
    bits: u8,
    bytes: &[u8],
    count: usize,
) -> Result<Vec<u8>, &'static str> {
    let mut codes = Vec::with_capacity(count);
    if packing == Packing::Base3 {
        for &byte in bytes {
            if byte > 242 {
                return Err("a byte above 242 in a base-3 packing");
            }
            codes.extend([byte % 3, byte / 3 % 3, byte / 9 % 3, byte / 27 % 3, byte / 81]);
        }
    } else {
        let (mut waiting, mut held) = (0u32, 0u32);
        let mask = (1u32 << bits) - 1;
        for &byte in bytes {
            waiting |= u32::from(byte) << held;
            held += 8;
            while held >= u32::from(bits) {
                codes.push((waiting & mask) as u8);
                waiting >>= bits;
                held -= u32::from(bits);
            }
        }
        if waiting != 0 {
            return Err("bits after the last code are not zero");
        }
    }
    if codes.len() < count || codes[count..].iter().any(|&code| code != 0) {
        return Err("codes after the last one are not zero");
    }
    codes.truncate(count);
    Ok(codes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_width_and_length_comes_back() {
        for bits in 2..=8u8 {
            for count in 1..40usize {
                let codes: Vec<u8> =
                    (0..count).map(|i| ((i * 37 + 11) as u32 & ((1 << bits) - 1)) as u8).collect();
                let bytes = pack(Packing::Bits, bits, &codes);
                assert_eq!(bytes.len() as u64, Packing::Bits.bytes(bits, count as u64));
                assert_eq!(unpack(Packing::Bits, bits, &bytes, count), Ok(codes));
            }
        }
        for count in 1..40usize {
            let codes: Vec<u8> = (0..count).map(|i| (i * 7 % 3) as u8).collect();
            let bytes = pack(Packing::Base3, 2, &codes);
            assert_eq!(bytes.len(), count.div_ceil(5));
            assert_eq!(unpack(Packing::Base3, 2, &bytes, count), Ok(codes));
        }
    }

    #[test]
    fn bytes_that_no_encoder_writes_are_refused() {
        assert!(unpack(Packing::Base3, 2, &[243], 5).is_err());
        assert!(unpack(Packing::Base3, 2, &[81], 4).is_err());
        assert!(unpack(Packing::Bits, 2, &[0b0100_0000], 3).is_err());
        assert!(unpack(Packing::Bits, 3, &[0, 0b1000_0000], 5).is_err());
    }
}
