//! The filters of a convolution: codes, the levels that they stand for, and the proof of every filter's bound.

use crate::artifact::ArtifactError;
use crate::artifact::container::{Reader, Writer};
use crate::check::{Problem, count, in_range};
use crate::digits::Digits;
use crate::kernels::levels;
use crate::model::{Codes, Packing};
use crate::summary::WeightSummary;

/// Quantized filters. The real weight is `level · 2^exponent[filter]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights {
    /// Code width, 2 ..= 8.
    pub bits: u8,
    /// Most signed powers of two that any level needs (the shift-adds of a weight).
    pub terms: u8,
    /// One code a weight, order `[filter][kernel row][kernel column][input channel of the group]`. With 8 bits the
    /// code is the level itself in two's complement; below, an index into the filter's table.
    pub codes: Codes,
    /// `filters × 2^bits` levels, each −127 ..= 127, unused entries 0; empty with 8 bits.
    pub tables: Vec<i8>,
    /// One exponent a filter; already absorbed in the epilogue, kept for hardware and people.
    pub exponents: Vec<i32>,
}

impl Weights {
    /// The packing that is written for these weights: base 3 where no code and no table uses the fourth level.
    pub fn packing(&self) -> Packing {
        let three = self.bits == 2
            && self.tables.chunks_exact(4).all(|table| table[3] == 0)
            && (self.codes.limit() < 3 || self.codes.iter().all(|code| code < 3));
        if three { Packing::Base3 } else { Packing::Bits }
    }

    /// The level of weight `index` of `filter`, where each filter has `per_filter` weights.
    pub fn level(&self, filter: usize, index: usize, per_filter: usize) -> i32 {
        let code = self.codes.get(filter * per_filter + index);
        if self.bits == 8 {
            i32::from(code as i8)
        } else {
            i32::from(self.tables[(filter << self.bits) + usize::from(code)])
        }
    }

    /// Codes, tables and the recorded bound of every filter, for input codes of at most this size. `codes.len()` has been
    /// checked.
    pub(super) fn check(&self, bounds: &[u32], per_filter: usize, greatest_code: u64) -> Result<(), Problem> {
        in_range("weight bits", self.bits.into(), 2, 8)?;
        in_range("terms", self.terms.into(), 0, 4)?;
        count("exponents", self.exponents.len(), bounds.len() as u64)?;
        for &exponent in &self.exponents {
            in_range("filter exponent", exponent.into(), i16::MIN.into(), i16::MAX.into())?;
        }
        let entries = if self.bits == 8 { 0 } else { (bounds.len() as u64) << self.bits };
        count("level tables", self.tables.len(), entries)?;
        let terms = terms_of_all(self.terms);
        for &level in &self.tables {
            check_level(level, &terms)?;
        }
        let mut part = [0; PART];
        for (filter, &recorded) in bounds.iter().enumerate() {
            let mut sum = 0u64;
            let table = self.tables.get(filter << self.bits..(filter + 1) << self.bits).unwrap_or(&[]);
            for first in (0..per_filter).step_by(PART) {
                let codes = &mut part[..PART.min(per_filter - first)];
                self.codes.read(filter * per_filter + first, codes);
                if self.bits == 8 {
                    check_levels(codes, &terms)?;
                } else {
                    check_codes(codes, table.len(), self.codes.limit())?;
                    levels::look_up(table, codes);
                }
                sum += sum_of_sizes(codes);
            }
            let (proven, recorded) = (sum.saturating_mul(greatest_code), u64::from(recorded));
            if proven != recorded {
                return Err(Problem::RecordedBound { filter, recorded, proven });
            }
            if proven > i32::MAX as u64 {
                let (what, limit) = ("the sum", i32::MAX as u64);
                return Err(Problem::Bound { channel: filter, what, value: proven, limit });
            }
        }
        Ok(())
    }

    /// Appends codes, levels and exponents to the lists.
    pub(super) fn encode(&self, lists: &mut Writer) -> Result<Packing, ArtifactError> {
        let packing = self.packing();
        let levels = packing.levels(self.bits);
        lists.put("weights.codes", self.codes.pack(packing, self.bits));
        if levels > 0 {
            for table in self.tables.chunks_exact(1 << self.bits) {
                lists.put("weights.levels", table[..levels].iter().copied());
            }
        }
        let narrow = |&exponent: &i32| {
            i16::try_from(exponent)
                .map_err(|_| ArtifactError::Metadata(format!("filter exponent {exponent} exceeds 16 bits")))
        };
        let exponents: Result<Vec<i16>, _> = self.exponents.iter().map(narrow).collect();
        lists.put("weights.exponents", exponents?);
        Ok(packing)
    }

    /// Takes `count` codes, and the levels and exponents of so many filters, from the lists.
    pub(super) fn decode(
        (packing, bits, terms): (Packing, u8, u8),
        filters: u64,
        count: u64,
        lists: &mut Reader,
    ) -> Result<Self, ArtifactError> {
        let codes = lists.take_codes("weights.codes", packing, bits, count)?;
        let levels = packing.levels(bits);
        let stored: Vec<i8> = lists.take("weights.levels", filters * levels as u64)?;
        let tables = widen_tables(&stored, levels, bits);
        let exponents: Vec<i16> = lists.take("weights.exponents", filters)?;
        Ok(Weights { bits, terms, codes, tables, exponents: exponents.into_iter().map(i32::from).collect() })
    }

    /// What people are told about the weights of so many filters.
    pub(super) fn summary(&self, filters: usize) -> WeightSummary {
        let count = self.codes.len();
        let per_filter = count / filters.max(1);
        let costs: Vec<u64> = (0..=255u8).map(|level| Digits::of(level as i8).len() as u64).collect();
        let (mut zeros, mut shift_adds, mut most) = (0, 0, 0);
        for filter in 0..filters {
            let mut seen = [false; 256];
            for index in 0..per_filter {
                let level = self.level(filter, index, per_filter) as u8;
                seen[usize::from(level)] = true;
                zeros += u64::from(level == 0);
                shift_adds += costs[usize::from(level)];
            }
            most = most.max(seen.iter().filter(|&&seen| seen).count());
        }
        let count = count as u64;
        let packed_bytes = self.packing().bytes(self.bits, count);
        WeightSummary { bits: self.bits, levels: most, count, zeros, shift_adds, packed_bytes }
    }
}

/// Weights that are looked at together.
const PART: usize = 4096;

/// [`check_level`] of all.
fn check_levels(levels: &[u8], allowed: &[bool; 256]) -> Result<(), Problem> {
    // Without an end before the last one, the loop is quicker.
    if levels.iter().fold(true, |all, &level| all & allowed[usize::from(level)]) {
        return Ok(());
    }
    levels.iter().try_for_each(|&level| check_level(level as i8, allowed))
}

/// Whether codes have entries in a table; none of them exceeds `limit`.
fn check_codes(codes: &[u8], entries: usize, limit: u8) -> Result<(), Problem> {
    if usize::from(limit) < entries {
        return Ok(());
    }
    let largest = codes.iter().fold(0, |largest, &code| largest.max(code));
    if usize::from(largest) < entries {
        return Ok(());
    }
    Err(Problem::Range { what: "weight code", value: largest.into(), min: 0, max: entries as i64 - 1 })
}

/// `Σ |level|`.
fn sum_of_sizes(levels: &[u8]) -> u64 {
    // So few that sixteen bits hold their sum: vectors of these are quick.
    let of_some =
        |some: &[u8]| some.iter().map(|&level| u16::from((level as i8).unsigned_abs())).sum::<u16>();
    levels.chunks(256).map(|some| u64::from(of_some(some))).sum()
}

/// For every level's byte, whether it is allowed with at most `terms` signed powers of two.
fn terms_of_all(terms: u8) -> [bool; 256] {
    let mut allowed = [false; 256];
    for level in -127..=127i8 {
        allowed[usize::from(level as u8)] = Digits::of(level).len() <= usize::from(terms);
    }
    allowed
}

fn check_level(level: i8, allowed: &[bool; 256]) -> Result<(), Problem> {
    in_range("level", level.into(), -127, 127)?;
    if allowed[usize::from(level as u8)] {
        Ok(())
    } else {
        Err(Problem::Rule("a level needs more signed powers of two than the layer states"))
    }
}

/// Stored level tables to `2^bits` entries a filter.
fn widen_tables(stored: &[i8], levels: usize, bits: u8) -> Vec<i8> {
    if levels == 0 {
        return Vec::new();
    }
    let filler = (1usize << bits) - levels;
    let mut tables = Vec::with_capacity((stored.len() / levels) << bits);
    for table in stored.chunks_exact(levels) {
        tables.extend_from_slice(table);
        tables.extend(std::iter::repeat_n(0, filler));
    }
    tables
}
