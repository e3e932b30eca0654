//! Operations that look at one position at a time.

use super::codes::{Codes, CodesMut};
use super::level::{Level, by_level};
use super::requantize::{CHUNK, Rule};
use crate::model::{Add, Format, Scale};

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
    /// `y = clamp((x·factor(gate) + bias) >> shift, lo, hi)` of two tensors of one shape; factors by the byte of a gate's code.
    scale = scale_body(rule: &Scale, factors: &[i32; 256], x: Codes, gates: Codes, out: &mut CodesMut)
}

#[inline(always)]
fn scale_body(rule: &Scale, factors: &[i32; 256], x: Codes, gates: Codes, out: &mut CodesMut) {
    let (mut left, mut right) = ([0i32; CHUNK], [0i32; CHUNK]);
    for start in (0..out.len()).step_by(CHUNK) {
        let len = CHUNK.min(out.len() - start);
        let (left, right) = (&mut left[..len], &mut right[..len]);
        x.slice(start, len).widen(left);
        gates.slice(start, len).widen(right);
        look_up(factors, right);
        scale_row(rule, left, right);
        out.narrow(start, left);
    }
}

by_level! {
    /// The same with one gate a channel.
    scale_channels = scale_channels_body(rule: &Scale, factors: &[i32; 256], x: Codes, gates: Codes, out: &mut CodesMut)
}

#[inline(always)]
fn scale_channels_body(rule: &Scale, factors: &[i32; 256], x: Codes, gates: Codes, out: &mut CodesMut) {
    let channels = gates.len();
    let (mut row, mut gate) = ([0i32; CHUNK], [0i32; CHUNK]);
    for first in (0..channels).step_by(CHUNK) {
        let len = CHUNK.min(channels - first);
        let (row, gate) = (&mut row[..len], &mut gate[..len]);
        gates.slice(first, len).widen(gate);
        look_up(factors, gate);
        for at in (first..out.len()).step_by(channels) {
            x.slice(at, len).widen(row);
            scale_row(rule, row, gate);
            out.narrow(at, row);
        }
    }
}

/// Gates' codes to what they multiply with.
#[inline(always)]
fn look_up(factors: &[i32; 256], gates: &mut [i32]) {
    for gate in gates {
        *gate = factors[usize::from(*gate as u8)];
    }
}

#[inline(always)]
fn scale_row(rule: &Scale, x: &mut [i32], factors: &[i32]) {
    for (x, factor) in x.iter_mut().zip(factors) {
        *x = ((*x * factor + rule.bias) >> rule.shift).max(rule.lo).min(rule.hi);
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
    copy_channels(part, part_channels, 0, part_channels, channels, first, out);
}

/// Copies `count` channels, those from `first` on of `from`, to `at` and behind of `to`.
pub(crate) fn copy_channels(
    x: Codes,
    from: usize,
    first: usize,
    count: usize,
    to: usize,
    at: usize,
    out: &mut CodesMut,
) {
    let (codes, out) = bytes(x, out);
    for (from, to) in codes.chunks_exact(from).zip(out.chunks_exact_mut(to)) {
        to[at..at + count].copy_from_slice(&from[first..first + count]);
    }
}

/// The channels of these numbers of each pixel, which has `from`.
pub(crate) fn select(x: Codes, from: usize, channels: &[u32], out: &mut CodesMut) {
    let (codes, out) = bytes(x, out);
    for (from, to) in codes.chunks_exact(from).zip(out.chunks_exact_mut(channels.len())) {
        for (to, &channel) in to.iter_mut().zip(channels) {
            *to = from[channel as usize];
        }
    }
}

fn bytes<'a>(x: Codes<'a>, out: &'a mut CodesMut) -> (&'a [u8], &'a mut [u8]) {
    let (Codes::Unsigned(codes) | Codes::Signed(codes), CodesMut::Byte(out)) = (x, out) else {
        unreachable!("the check lets only codes of at most 8 bits be copied");
    };
    (codes, out)
}
