//! The proofs: that levels, shifts and biases keep every sum inside its width.

use super::operation::greatest;
use super::{BIAS_LIMIT, Problem, SUM_LIMIT, count, in_range};
use crate::digits::Digits;
use crate::kernels::levels;
use crate::model::{Add, Requantize, Tensor, Weights};

/// Codes, tables and the recorded bound of every filter. `codes.len()` has been checked.
pub(super) fn check_weights(
    weights: &Weights,
    bounds: &[u32],
    per_filter: usize,
    greatest_code: u64,
) -> Result<(), Problem> {
    in_range("weight bits", weights.bits.into(), 2, 8)?;
    in_range("terms", weights.terms.into(), 0, 4)?;
    count("exponents", weights.exponents.len(), bounds.len() as u64)?;
    for &exponent in &weights.exponents {
        in_range("filter exponent", exponent.into(), i16::MIN.into(), i16::MAX.into())?;
    }
    let entries = if weights.bits == 8 { 0 } else { (bounds.len() as u64) << weights.bits };
    count("level tables", weights.tables.len(), entries)?;
    let terms = terms_of_all(weights.terms);
    for &level in &weights.tables {
        check_level(level, &terms)?;
    }
    let mut part = [0; PART];
    for (filter, &recorded) in bounds.iter().enumerate() {
        let mut sum = 0u64;
        let table = weights.tables.get(filter << weights.bits..(filter + 1) << weights.bits).unwrap_or(&[]);
        for first in (0..per_filter).step_by(PART) {
            let codes = &mut part[..PART.min(per_filter - first)];
            weights.codes.read(filter * per_filter + first, codes);
            if weights.bits == 8 {
                check_levels(codes, &terms)?;
            } else {
                check_codes(codes, table.len(), weights.codes.limit())?;
                levels::look_up(table, codes);
            }
            sum += sum_of_sizes(codes);
        }
        let (proven, recorded) = (sum.saturating_mul(greatest_code), u64::from(recorded));
        if proven != recorded {
            return Err(Problem::RecordedBound { filter, recorded, proven });
        }
        if proven > i32::MAX as u64 {
            return Err(bound(filter, "the sum", proven, i32::MAX as u64));
        }
    }
    Ok(())
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

/// The requantize rule for sums bounded by `bounds`, one a channel.
pub(super) fn check_requantize(
    rule: &Requantize,
    bounds: &[u64],
    residual: Option<&Tensor>,
    output: &Tensor,
) -> Result<(), Problem> {
    let channels = bounds.len() as u64;
    count("pre-shifts", rule.pre.len(), channels)?;
    count("multipliers", rule.multiplier.len(), channels)?;
    count("biases", rule.bias.len(), channels)?;
    count("shifts", rule.shift.len(), channels)?;
    count("residual shifts", rule.residual_shift.len(), if residual.is_some() { channels } else { 0 })?;
    check_clamp(rule.lo, rule.hi, output)?;
    for (channel, &sum) in bounds.iter().enumerate() {
        let (pre, multiplier, shift) = (rule.pre[channel], rule.multiplier[channel], rule.shift[channel]);
        in_range("pre-shift", pre.into(), 0, 31)?;
        in_range("multiplier", multiplier.into(), -127, 127)?;
        in_range("shift", shift.into(), 0, 31)?;
        check_bias(rule.bias[channel])?;
        if sum > i32::MAX as u64 {
            return Err(bound(channel, "the sum", sum, i32::MAX as u64));
        }
        // t = acc >> pre lies in −⌈sum / 2^pre⌉ ..= ⌊sum / 2^pre⌋ and must fit 16 bits.
        let (most, least) = (sum >> pre, sum.div_ceil(1 << pre));
        if most > 32_767 || least > 32_768 {
            return Err(bound(channel, "the sum after the pre-shift", least, 32_767));
        }
        let mut total = least * u64::from(multiplier.unsigned_abs());
        total += u64::from(rule.bias[channel].unsigned_abs());
        if let Some(residual) = residual {
            let residual_shift = rule.residual_shift[channel];
            in_range("residual shift", residual_shift.into(), 0, 31)?;
            total += greatest(residual) << residual_shift;
        }
        if total >= SUM_LIMIT {
            return Err(bound(channel, "the requantize sum", total, SUM_LIMIT - 1));
        }
    }
    Ok(())
}

/// `(acc << shift) + bias` in 32 bits.
pub(super) fn check_logits(shift: &[u8], bias: &[i32], bounds: &[u32]) -> Result<(), Problem> {
    count("logit shifts", shift.len(), bounds.len() as u64)?;
    count("logit biases", bias.len(), bounds.len() as u64)?;
    for (channel, &sum) in bounds.iter().enumerate() {
        in_range("logit shift", shift[channel].into(), 0, 31)?;
        let total = (u64::from(sum) << shift[channel]) + u64::from(bias[channel].unsigned_abs());
        if total > i32::MAX as u64 {
            return Err(bound(channel, "the logit", total, i32::MAX as u64));
        }
    }
    Ok(())
}

/// The addition of two tensors.
pub(super) fn check_add(add: &Add, a: &Tensor, b: &Tensor, output: &Tensor) -> Result<(), Problem> {
    in_range("first operand's shift", add.operand_shift[0].into(), 0, 15)?;
    in_range("second operand's shift", add.operand_shift[1].into(), 0, 15)?;
    in_range("shift", add.shift.into(), 0, 31)?;
    check_bias(add.bias)?;
    check_clamp(add.lo, add.hi, output)?;
    let total = (greatest(a) << add.operand_shift[0])
        + (greatest(b) << add.operand_shift[1])
        + u64::from(add.bias.unsigned_abs());
    if total >= SUM_LIMIT { Err(bound(0, "the addition", total, SUM_LIMIT - 1)) } else { Ok(()) }
}

fn check_bias(bias: i32) -> Result<(), Problem> {
    in_range("bias", bias.into(), 1 - BIAS_LIMIT as i64, BIAS_LIMIT as i64 - 1)
}

fn check_clamp(lo: i32, hi: i32, output: &Tensor) -> Result<(), Problem> {
    let (least, most) = output.format.range();
    in_range("lowest output code", lo.into(), least.into(), most.into())?;
    in_range("highest output code", hi.into(), lo.into(), most.into())
}

fn bound(channel: usize, what: &'static str, value: u64, limit: u64) -> Problem {
    Problem::Bound { channel, what, value, limit }
}
