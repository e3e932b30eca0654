//! The requantize rule, which ends convolutions, affines and average pools: sums to codes.

use serde::{Deserialize, Serialize};

use crate::artifact::ArtifactError;
use crate::artifact::container::{Reader, Writer};
use crate::check::{BIAS_LIMIT, Problem, SUM_LIMIT, count, in_range};
use crate::digits::Digits;
use crate::model::Tensor;

/// Per output channel c: `t = acc >> pre[c]` (arithmetic, |t| < 2¹⁵), then
/// `y = clamp((t·multiplier[c] + bias[c] + (r << residual_shift[c])) >> shift[c], lo, hi)`, where r is the residual
/// operand's code. Ranges: |multiplier| ≤ 127, |bias| < 2²³, shift ≤ 31, and the sum's absolute value, by the
/// recorded bounds, stays under 2²⁴.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requantize {
    /// First right shift.
    pub pre: Vec<u8>,
    /// Integer multiplier, at most four canonical signed digits.
    pub multiplier: Vec<i8>,
    /// Bias in units of `output step / 2^shift`, rounding included.
    pub bias: Vec<i32>,
    /// Left shift of the residual operand; empty if there is none.
    pub residual_shift: Vec<u8>,
    /// Last right shift.
    pub shift: Vec<u8>,
    /// Lowest output code (a ReLU makes it 0).
    pub lo: i32,
    /// Highest output code.
    pub hi: i32,
}

/// Lowest and highest output code: all of a rule that is not in lists.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Clamp(i32, i32);

impl Requantize {
    /// The rule's meaning: `clamp((t·m + b + (r << k)) >> s, lo, hi)` with `t = acc >> pre`.
    pub(crate) fn apply(&self, channel: usize, acc: i32, residual: i32) -> i32 {
        let t = acc >> self.pre[channel];
        let product = Digits::of(self.multiplier[channel]).product(t);
        let residual = self.residual_shift.get(channel).map_or(0, |&k| residual << k);
        ((product + self.bias[channel] + residual) >> self.shift[channel]).clamp(self.lo, self.hi)
    }

    /// The rule for sums bounded by `bounds`, one a channel.
    pub(crate) fn check(
        &self,
        bounds: &[u64],
        residual: Option<&Tensor>,
        output: &Tensor,
    ) -> Result<(), Problem> {
        let channels = bounds.len() as u64;
        count("pre-shifts", self.pre.len(), channels)?;
        count("multipliers", self.multiplier.len(), channels)?;
        count("biases", self.bias.len(), channels)?;
        count("shifts", self.shift.len(), channels)?;
        count("residual shifts", self.residual_shift.len(), if residual.is_some() { channels } else { 0 })?;
        check_clamp(self.lo, self.hi, output)?;
        for (channel, &sum) in bounds.iter().enumerate() {
            let (pre, multiplier, shift) = (self.pre[channel], self.multiplier[channel], self.shift[channel]);
            in_range("pre-shift", pre.into(), 0, 31)?;
            in_range("multiplier", multiplier.into(), -127, 127)?;
            in_range("shift", shift.into(), 0, 31)?;
            check_bias(self.bias[channel])?;
            if sum > i32::MAX as u64 {
                return Err(Problem::Bound { channel, what: "the sum", value: sum, limit: i32::MAX as u64 });
            }
            // t = acc >> pre lies in −⌈sum / 2^pre⌉ ..= ⌊sum / 2^pre⌋ and must fit 16 bits.
            let (most, least) = (sum >> pre, sum.div_ceil(1 << pre));
            if most > 32_767 || least > 32_768 {
                let what = "the sum after the pre-shift";
                return Err(Problem::Bound { channel, what, value: least, limit: 32_767 });
            }
            let mut total = least * u64::from(multiplier.unsigned_abs());
            total += u64::from(self.bias[channel].unsigned_abs());
            if let Some(residual) = residual {
                let residual_shift = self.residual_shift[channel];
                in_range("residual shift", residual_shift.into(), 0, 31)?;
                total += residual.format.greatest() << residual_shift;
            }
            if total >= SUM_LIMIT {
                let what = "the requantize sum";
                return Err(Problem::Bound { channel, what, value: total, limit: SUM_LIMIT - 1 });
            }
        }
        Ok(())
    }

    /// Appends the numbers to the lists.
    pub(crate) fn encode(&self, lists: &mut Writer) -> Clamp {
        lists.put("requantize.pre", self.pre.iter().copied());
        lists.put("requantize.multiplier", self.multiplier.iter().copied());
        lists.put("requantize.bias", self.bias.iter().copied());
        lists.put("requantize.residual_shift", self.residual_shift.iter().copied());
        lists.put("requantize.shift", self.shift.iter().copied());
        Clamp(self.lo, self.hi)
    }

    /// Takes the numbers of so many channels from the lists.
    pub(crate) fn decode(
        clamp: Clamp,
        channels: u64,
        residual: bool,
        lists: &mut Reader,
    ) -> Result<Self, ArtifactError> {
        Ok(Requantize {
            pre: lists.take("requantize.pre", channels)?,
            multiplier: lists.take("requantize.multiplier", channels)?,
            bias: lists.take("requantize.bias", channels)?,
            residual_shift: lists.take("requantize.residual_shift", if residual { channels } else { 0 })?,
            shift: lists.take("requantize.shift", channels)?,
            lo: clamp.0,
            hi: clamp.1,
        })
    }
}

/// A bias of the rule, or of an addition.
pub(crate) fn check_bias(bias: i32) -> Result<(), Problem> {
    in_range("bias", bias.into(), 1 - BIAS_LIMIT as i64, BIAS_LIMIT as i64 - 1)
}

/// Ends of a clamp, which lie in the output's range.
pub(crate) fn check_clamp(lo: i32, hi: i32, output: &Tensor) -> Result<(), Problem> {
    let (least, most) = output.format.range();
    in_range("lowest output code", lo.into(), least.into(), most.into())?;
    in_range("highest output code", hi.into(), lo.into(), most.into())
}
