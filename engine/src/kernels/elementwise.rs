//! Operations that look at one position at a time.

use super::codes::{Codes, CodesMut};
use super::requantize::{CHUNK, Rule};
use crate::model::Add;

/// `y = clamp(((a << a_shift) + (b << b_shift) + bias) >> shift, lo, hi)`.
pub(crate) fn add(rule: &Add, a: Codes, b: Codes, out: &mut CodesMut) {
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

/// The requantize rule on codes.
pub(crate) fn affine(rule: &Rule, x: Codes, out: &mut CodesMut) {
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
pub(crate) fn lut(table: &[i16; 256], x: Codes, out: &mut CodesMut) {
    let (Codes::Unsigned(codes) | Codes::Signed(codes)) = x else {
        unreachable!("the check lets tables read codes of at most 8 bits only");
    };
    match out {
        CodesMut::Byte(out) => {
            out.iter_mut().zip(codes).for_each(|(o, &c)| *o = table[usize::from(c)] as u8);
        }
        CodesMut::Wide(out) => out.iter_mut().zip(codes).for_each(|(o, &c)| *o = table[usize::from(c)]),
        CodesMut::Sum(_) => unreachable!("the check lets logits alone write sums"),
    }
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
