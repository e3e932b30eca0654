//! Views of a tensor's codes as they lie in the arena.
//!
//! Codes of at most 8 bits take a byte, signed ones in two's complement; 16-bit codes take a word.

/// Codes to read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Codes<'a> {
    /// Unsigned, at most 8 bits.
    Unsigned(&'a [u8]),
    /// Signed, at most 8 bits, two's complement.
    Signed(&'a [u8]),
    /// Signed, 16 bits.
    Wide(&'a [i16]),
    /// 32-bit sums.
    Sum(&'a [i32]),
}

/// Codes to write. A byte takes the low eight bits of a code, whatever its sign.
#[derive(Debug)]
pub(crate) enum CodesMut<'a> {
    /// At most 8 bits.
    Byte(&'a mut [u8]),
    /// 16 bits.
    Wide(&'a mut [i16]),
    /// 32-bit sums.
    Sum(&'a mut [i32]),
}

impl<'a> Codes<'a> {
    /// Number of codes.
    pub(crate) fn len(&self) -> usize {
        match self {
            Codes::Unsigned(codes) | Codes::Signed(codes) => codes.len(),
            Codes::Wide(codes) => codes.len(),
            Codes::Sum(codes) => codes.len(),
        }
    }

    /// The codes of a range of positions.
    pub(crate) fn slice(&self, start: usize, len: usize) -> Codes<'a> {
        match self {
            Codes::Unsigned(codes) => Codes::Unsigned(&codes[start..start + len]),
            Codes::Signed(codes) => Codes::Signed(&codes[start..start + len]),
            Codes::Wide(codes) => Codes::Wide(&codes[start..start + len]),
            Codes::Sum(codes) => Codes::Sum(&codes[start..start + len]),
        }
    }

    /// Widens all codes into `out`, which has their length.
    #[inline(always)]
    pub(crate) fn widen(&self, out: &mut [i32]) {
        match self {
            Codes::Unsigned(codes) => out.iter_mut().zip(*codes).for_each(|(o, &c)| *o = i32::from(c)),
            Codes::Signed(codes) => out.iter_mut().zip(*codes).for_each(|(o, &c)| *o = i32::from(c as i8)),
            Codes::Wide(codes) => out.iter_mut().zip(*codes).for_each(|(o, &c)| *o = i32::from(c)),
            Codes::Sum(codes) => out.copy_from_slice(codes),
        }
    }

    /// Widens all codes, none of them 32-bit sums, into `out`, which has their length.
    #[inline(always)]
    pub(crate) fn widen_to_words(&self, out: &mut [i16]) {
        match self {
            Codes::Unsigned(codes) => out.iter_mut().zip(*codes).for_each(|(o, &c)| *o = i16::from(c)),
            Codes::Signed(codes) => out.iter_mut().zip(*codes).for_each(|(o, &c)| *o = i16::from(c as i8)),
            Codes::Wide(codes) => out.copy_from_slice(codes),
            Codes::Sum(codes) => out.iter_mut().zip(*codes).for_each(|(o, &c)| *o = c as i16),
        }
    }
}

impl CodesMut<'_> {
    /// Number of codes.
    pub(crate) fn len(&self) -> usize {
        match self {
            CodesMut::Byte(codes) => codes.len(),
            CodesMut::Wide(codes) => codes.len(),
            CodesMut::Sum(codes) => codes.len(),
        }
    }

    /// Writes codes from position `start` on.
    #[inline(always)]
    pub(crate) fn narrow(&mut self, start: usize, codes: &[i32]) {
        let range = start..start + codes.len();
        match self {
            CodesMut::Byte(out) => out[range].iter_mut().zip(codes).for_each(|(o, &c)| *o = c as u8),
            CodesMut::Wide(out) => out[range].iter_mut().zip(codes).for_each(|(o, &c)| *o = c as i16),
            CodesMut::Sum(out) => out[range].copy_from_slice(codes),
        }
    }
}
