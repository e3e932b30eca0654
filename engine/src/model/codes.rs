//! Weight codes as they are kept: packed as in an artifact's file, often in the very bytes that were read.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// How a layer's codes lie in bytes. Every layer starts on a byte of its own; what is left over in its last byte is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Packing {
    /// `bits` bits a code, the first code in the lowest bits, running on across bytes.
    Bits,
    /// Five three-valued codes a byte: `c₀ + 3·c₁ + 9·c₂ + 27·c₃ + 81·c₄`.
    Base3,
}

impl Packing {
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

/// A list of codes, at most eight bits each. Its clones share memory, and so do all layers of an artifact that was read.
#[derive(Clone)]
pub struct Codes {
    packing: Packing,
    /// Width of a code, 2 ..= 8; 2 with [`Packing::Base3`].
    bits: u8,
    len: usize,
    storage: Arc<Vec<u8>>,
    /// The first byte.
    start: usize,
}

/// Codes that are unpacked at a time.
const PART: usize = 1024;

impl Codes {
    /// Packs codes as tightly as their largest allows.
    pub fn new(codes: &[u8]) -> Self {
        let largest = codes.iter().copied().max().unwrap_or(0);
        let packing = if largest < 3 { Packing::Base3 } else { Packing::Bits };
        let bits = (8 - largest.leading_zeros() as u8).max(2);
        let storage = Arc::new(pack(packing, bits, codes.iter().copied(), codes.len()));
        Codes { packing, bits, len: codes.len(), storage, start: 0 }
    }

    /// Takes `len` packed codes from byte `start` on; the reason why not, where they are not canonical. The bytes must be
    /// there, and `bits` 2 ..= 8, or 2 in base 3.
    pub(crate) fn packed_in(
        storage: &Arc<Vec<u8>>,
        start: usize,
        packing: Packing,
        bits: u8,
        len: usize,
    ) -> Result<Self, &'static str> {
        let codes = Codes { packing, bits, len, storage: Arc::clone(storage), start };
        let bytes = codes.bytes();
        let Some(&last) = bytes.last() else { return Ok(codes) };
        let after_last = "codes after the last one are not zero";
        if packing == Packing::Base3 {
            if bytes.iter().fold(0, |largest, &byte| largest.max(byte)) > 242 {
                return Err("a byte above 242 in a base-3 packing");
            }
            let used = len - (bytes.len() - 1) * 5;
            return if FIVE[usize::from(last)][used..].iter().any(|&code| code != 0) {
                Err(after_last)
            } else {
                Ok(codes)
            };
        }
        let (bits, used) = (usize::from(bits), (len * usize::from(bits) - 1) % 8 + 1);
        // Above the last code there may be room for whole codes, and above these for less than one.
        let (rest, part) = (u32::from(last) >> used, bytes.len() * 8 % bits);
        match rest {
            0 => Ok(codes),
            rest if rest >> (8 - used).saturating_sub(part) != 0 => {
                Err("bits after the last code are not zero")
            }
            _ => Err(after_last),
        }
    }

    /// Number of codes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// No code exceeds this.
    pub fn limit(&self) -> u8 {
        match self.packing {
            Packing::Base3 => 2,
            Packing::Bits => ((1u32 << self.bits) - 1) as u8,
        }
    }

    /// Code `index`.
    pub fn get(&self, index: usize) -> u8 {
        assert!(index < self.len, "code {index} of {}", self.len);
        let bytes = self.bytes();
        match (self.packing, self.bits) {
            (Packing::Base3, _) => FIVE[usize::from(bytes[index / 5])][index % 5],
            (_, 2) => bytes[index / 4] >> (2 * (index % 4)) & 3,
            (_, 4) => bytes[index / 2] >> (4 * (index % 2)) & 15,
            (_, 8) => bytes[index],
            (_, bits) => bits_at(bytes, bits, index),
        }
    }

    /// Unpacks the codes from `first` on, as many as `out` takes.
    pub fn read(&self, first: usize, out: &mut [u8]) {
        assert!(first <= self.len && out.len() <= self.len - first, "codes of {}", self.len);
        let bytes = self.bytes();
        match (self.packing, self.bits) {
            (Packing::Base3, _) => look_up::<5, 8>(&FIVE, bytes, first, out),
            (_, 2) => look_up::<4, 4>(&FOUR, bytes, first, out),
            (_, 4) => halves(bytes, first, out),
            (_, 8) => out.copy_from_slice(&bytes[first..first + out.len()]),
            (_, bits) => {
                for (index, code) in (first..).zip(out) {
                    *code = bits_at(bytes, bits, index);
                }
            }
        }
    }

    /// All codes in order.
    pub fn iter(&self) -> impl Iterator<Item = u8> + '_ {
        (0..self.len).step_by(PART).flat_map(|first| {
            let mut part = [0; PART];
            let count = PART.min(self.len - first);
            self.read(first, &mut part[..count]);
            part.into_iter().take(count)
        })
    }

    /// All codes, one a byte.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut codes = vec![0; self.len];
        self.read(0, &mut codes);
        codes
    }

    /// The codes packed in a given way, which they fit.
    pub(crate) fn pack(&self, packing: Packing, bits: u8) -> Vec<u8> {
        if (packing, bits) == (self.packing, self.bits) {
            return self.bytes().to_vec();
        }
        pack(packing, bits, self.iter(), self.len)
    }

    fn bytes(&self) -> &[u8] {
        &self.storage[self.start..][..self.packing.bytes(self.bits, self.len as u64) as usize]
    }
}

impl From<Vec<u8>> for Codes {
    fn from(codes: Vec<u8>) -> Self {
        Codes::new(&codes)
    }
}

/// The same codes, however they are packed.
impl PartialEq for Codes {
    fn eq(&self, other: &Self) -> bool {
        let alike = (self.packing, self.bits, self.len) == (other.packing, other.bits, other.len);
        if alike {
            self.bytes() == other.bytes()
        } else {
            self.len == other.len && self.iter().eq(other.iter())
        }
    }
}

impl Eq for Codes {}

impl std::fmt::Debug for Codes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Codes")
            .field("packing", &self.packing)
            .field("bits", &self.bits)
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

/// The codes of each byte, and zeros: in base 3 and of two bits.
static FIVE: [[u8; 8]; 256] = table::<8>(3, 5);
static FOUR: [[u8; 4]; 256] = table::<4>(4, 4);

const fn table<const ROOM: usize>(base: usize, count: usize) -> [[u8; ROOM]; 256] {
    let mut all = [[0; ROOM]; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut rest, mut index) = (byte, 0);
        while index < count {
            all[byte][index] = (rest % base) as u8;
            rest /= base;
            index += 1;
        }
        byte += 1;
    }
    all
}

/// Unpacks `OF` codes a byte, of which the table has `ROOM`.
fn look_up<const OF: usize, const ROOM: usize>(
    table: &[[u8; ROOM]; 256],
    bytes: &[u8],
    first: usize,
    out: &mut [u8],
) {
    let codes = |byte: u8| &table[usize::from(byte)][..OF];
    // Up to the first whole byte.
    let (mut at, skipped) = (first / OF, first % OF);
    let mut out = out;
    if skipped > 0 && !out.is_empty() {
        let count = (OF - skipped).min(out.len());
        let (head, rest) = out.split_at_mut(count);
        head.copy_from_slice(&codes(bytes[at])[skipped..skipped + count]);
        (at, out) = (at + 1, rest);
    }
    // Bytes behind which there is room for all entries.
    let whole = (out.len() + OF - ROOM.min(out.len() + OF)) / OF;
    let mut done = 0;
    for four in bytes[at..at + whole].as_chunks::<4>().0 {
        // One look at the length for four bytes; near the end there may be less room than that.
        let Some(target) = out[done..].first_chunk_mut::<24>() else { break };
        for (index, &byte) in four.iter().enumerate() {
            target[OF * index..][..ROOM].copy_from_slice(&table[usize::from(byte)]);
        }
        done += 4 * OF;
    }
    for &byte in &bytes[at + done / OF..at + whole] {
        out[done..][..ROOM].copy_from_slice(&table[usize::from(byte)]);
        done += OF;
    }
    for (out, &byte) in out[OF * whole..].chunks_mut(OF).zip(&bytes[at + whole..]) {
        out.copy_from_slice(&codes(byte)[..out.len()]);
    }
}

/// Unpacks two codes a byte.
fn halves(bytes: &[u8], first: usize, out: &mut [u8]) {
    let odd = (first % 2).min(out.len());
    let (head, rest) = out.split_at_mut(odd);
    head.fill(bytes.get(first / 2).map_or(0, |byte| byte >> 4));
    let bytes = &bytes[first / 2 + odd..];
    let (pairs, last) = rest.as_chunks_mut::<2>();
    for (pair, &byte) in pairs.iter_mut().zip(bytes) {
        *pair = [byte & 15, byte >> 4];
    }
    last.iter_mut().zip(&bytes[pairs.len()..]).for_each(|(code, &byte)| *code = byte & 15);
}

/// One code of any width.
fn bits_at(bytes: &[u8], bits: u8, index: usize) -> u8 {
    let position = index * usize::from(bits);
    let low = bytes[position / 8];
    let high = bytes.get(position / 8 + 1).copied().unwrap_or(0);
    (u16::from_le_bytes([low, high]) >> (position % 8)) as u8 & ((1u32 << bits) - 1) as u8
}

/// Packs codes that fit the packing.
fn pack(packing: Packing, bits: u8, codes: impl Iterator<Item = u8>, count: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(packing.bytes(bits, count as u64) as usize);
    if packing == Packing::Base3 {
        const POWERS: [u8; 5] = [1, 3, 9, 27, 81];
        let mut byte = 0;
        for (index, code) in codes.enumerate() {
            byte += code * POWERS[index % 5];
            if index % 5 == 4 || index + 1 == count {
                bytes.push(std::mem::take(&mut byte));
            }
        }
        return bytes;
    }
    let (mut waiting, mut held) = (0u32, 0u32);
    for code in codes {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn unpack(packing: Packing, bits: u8, bytes: &[u8], count: usize) -> Result<Codes, &'static str> {
        // Not at the storage's beginning, nor to its end.
        let mut storage = vec![0xFF; 3];
        storage.extend_from_slice(bytes);
        storage.push(0xFF);
        Codes::packed_in(&Arc::new(storage), 3, packing, bits, count)
    }

    fn every_way(codes: &Codes, expected: &[u8]) {
        assert_eq!(codes.len(), expected.len());
        assert_eq!(codes.to_vec(), expected);
        assert!(codes.iter().eq(expected.iter().copied()));
        for first in 0..=expected.len() {
            for end in first..=expected.len() {
                let mut out = vec![0xAA; end - first];
                codes.read(first, &mut out);
                assert_eq!(out, expected[first..end], "{codes:?} from {first} to {end}");
            }
        }
        for (index, &code) in expected.iter().enumerate() {
            assert_eq!(codes.get(index), code);
            assert!(code <= codes.limit());
        }
        assert_eq!(*codes, Codes::new(expected));
    }

    #[test]
    fn every_width_and_length_comes_back() {
        for bits in 2..=8u8 {
            for count in 1..40usize {
                let codes: Vec<u8> =
                    (0..count).map(|i| ((i * 37 + 11) as u32 & ((1 << bits) - 1)) as u8).collect();
                let bytes = Codes::new(&codes).pack(Packing::Bits, bits);
                assert_eq!(bytes.len() as u64, Packing::Bits.bytes(bits, count as u64));
                every_way(&unpack(Packing::Bits, bits, &bytes, count).expect("canonical"), &codes);
            }
        }
        for count in 1..40usize {
            let codes: Vec<u8> = (0..count).map(|i| (i * 7 % 3) as u8).collect();
            let bytes = Codes::new(&codes).pack(Packing::Base3, 2);
            assert_eq!(bytes.len(), count.div_ceil(5));
            every_way(&unpack(Packing::Base3, 2, &bytes, count).expect("canonical"), &codes);
        }
    }

    #[test]
    fn many_codes_come_back() {
        for largest in [2u8, 3, 6, 15, 255] {
            let codes: Vec<u8> = (0..5000u32).map(|i| (i * i % (u32::from(largest) + 1)) as u8).collect();
            let packed = Codes::new(&codes);
            assert_eq!(packed.to_vec(), codes);
            assert!(packed.iter().eq(codes.iter().copied()));
        }
    }

    #[test]
    fn equality_is_of_codes_not_of_bytes() {
        let codes = [0, 1, 2, 2, 1, 0, 1];
        let two_bits = Codes::new(&codes).pack(Packing::Bits, 2);
        assert_eq!(unpack(Packing::Bits, 2, &two_bits, 7), Ok(Codes::new(&codes)));
        assert_ne!(unpack(Packing::Bits, 2, &two_bits, 7), Ok(Codes::new(&codes[..6])));
        assert_ne!(unpack(Packing::Bits, 2, &two_bits, 7), Ok(Codes::new(&[0, 1, 2, 2, 1, 0, 2])));
    }

    #[test]
    fn bytes_that_no_encoder_writes_are_refused() {
        let of_part = Err("bits after the last code are not zero");
        let of_codes = Err("codes after the last one are not zero");
        assert!(unpack(Packing::Base3, 2, &[243], 5).is_err());
        assert_eq!(unpack(Packing::Base3, 2, &[81], 4), of_codes);
        assert_eq!(unpack(Packing::Bits, 2, &[0b0100_0000], 3), of_codes);
        assert_eq!(unpack(Packing::Bits, 3, &[0, 0b1000_0000], 5), of_part);
        assert_eq!(unpack(Packing::Bits, 3, &[0b0000_1000], 1), of_codes);
        assert_eq!(unpack(Packing::Bits, 3, &[0b0100_0000], 1), of_part);
        assert_eq!(unpack(Packing::Bits, 7, &[0b1000_0000], 1), of_part);
    }
}
