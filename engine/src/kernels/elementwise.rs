//! Operations that look at one position at a time.

use super::codes::{Codes, CodesMut};
use super::level::{Level, by_level};
use super::requantize::{CHUNK, Rule};
use crate::model::{Add, Format};

by_level! {
    /// `y = clamp(((a << a_shift) + (b << b_shift) + bias) >> shift, lo, hi)`.
    add = add_body(rule: &Add, a: Codes, b: Codes, out: &mut CodesMut)
}

#[inline(always)]
fn add_body(rule: &Add, a: Codes, b: Codes, out: &mut CodesMut) {
    let (mut left, mut right) = ([0i32; CHUNK], [0i32; CHUNK]);
    for start in (0..out.len()).step_by(CHUNK) {
        let len = CHUNK.min(out.len() - start);
        let (left, right) = (&mut left[..len], &mut right[..len]);
        a.slice(start, len).widen(left);
        b.slice(start, len).widen(right);
        for (left, right) in left.iter_mut().zip(&*right) {
            let sum = (*left << rule.operand_shift[0]) + (right << rule.operand_shift[1]) + rule.bias;
            *left = (sum >> rule.shift).max(rule.lo).min(rule.hi);
        }
        out.narrow(start, left);
    }
}

by_level! {
    /// The requantize rule on codes.
    affine = affine_body(rule: &Rule, x: Codes, out: &mut CodesMut)
}

#[inline(always)]
fn affine_body(rule: &Rule, x: Codes, out: &mut CodesMut) {
    let channels = rule.channels();
    let mut row = [0i32; CHUNK];
    for pixel in (0..out.len()).step_by(channels) {
        for first in (0..channels).step_by(CHUNK) {
            let row = &mut row[..CHUNK.min(channels - first)];
            x.slice(pixel + first, row.len()).widen(row);
            rule.apply(first, row, None);
            out.narrow(pixel + first, row);
        }
    }
}

/// Table look-up by the low byte of a code; see [`by_byte`].
pub(crate) fn lut(level: Level, table: &[i16; 256], x: Codes, out: &mut CodesMut) {
    let (Codes::Unsigned(codes) | Codes::Signed(codes)) = x else {
        unreachable!("the check lets tables read codes of at most 8 bits only");
    };
    match out {
        CodesMut::Byte(out) => {
            let table = table.map(|entry| entry as u8);
            #[cfg(target_arch = "x86_64")]
            if level.looks_up_bytes() {
                return super::x86::lookup::bytes(level, &table, codes, out);
            }
            out.iter_mut().zip(codes).for_each(|(o, &c)| *o = table[usize::from(c)]);
        }
        CodesMut::Wide(out) => out.iter_mut().zip(codes).for_each(|(o, &c)| *o = table[usize::from(c)]),
        CodesMut::Sum(_) => unreachable!("the check lets logits alone write sums"),
    }
}

/// The rule as a table, where that is faster: one rule for all channels, bytes in and out, and quick look-ups.
pub(crate) fn affine_table(level: Level, rule: &Rule, from: Format, to: Format) -> Option<Box<[i16; 256]>> {
    let bytes = from.bytes() == 1 && to.bytes() == 1;
    if !(level.looks_up_bytes() && bytes && rule.is_uniform()) {
        return None;
    }
    let (lo, hi) = from.range();
    let entries = (lo..=hi).map(|code| {
        let mut y = [code];
        rule.apply(0, &mut y, None);
        y[0] as i16
    });
    Some(Box::new(by_byte(&entries.collect::<Vec<_>>(), lo)))
}

/// A table that starts at the lowest code, rearranged to be indexed by a code's byte.
pub(crate) fn by_byte(table: &[i16], lowest: i32) -> [i16; 256] {
    let mut arranged = [0; 256];
    for (code, &entry) in (lowest..).zip(table) {
        arranged[usize::from(code as u8)] = entry;
    }
    arranged
}

/// Copies an operand of `part` channels into channels `first ..` of an output of `channels`.
pub(crate) fn place(part: Codes, part_channels: usize, first: usize, channels: usize, out: &mut CodesMut) {
    let (Codes::Unsigned(codes) | Codes::Signed(codes), CodesMut::Byte(out)) = (part, out) else {
        unreachable!("the check lets only codes of at most 8 bits be concatenated");
    };
    for (from, to) in codes.chunks_exact(part_channels).zip(out.chunks_exact_mut(channels)) {
        to[first..first + part_channels].copy_from_slice(from);
    }
}
