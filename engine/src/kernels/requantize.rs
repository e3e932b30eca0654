//! The requantize rule and the logits' end, over rows of channels.

use super::codes::{Codes, CodesMut};
use crate::model::{Epilogue, Requantize};

/// Channels handled at a time, on the stack.
pub(crate) const CHUNK: usize = 64;

/// What becomes of sums, laid out for loops over channels.
#[derive(Debug, Clone)]
pub(crate) enum Finish {
    /// Codes by the requantize rule.
    Requantize(Rule),
    /// `(acc << shift) + bias`.
    Logits {
        /// One a channel.
        shift: Vec<u32>,
        /// One a channel.
        bias: Vec<i32>,
    },
}

/// [`Requantize`] with its numbers as the loops want them.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    pre: Option<Vec<u32>>,
    multiplier: Vec<i16>,
    bias: Vec<i32>,
    residual_shift: Vec<u32>,
    shift: Vec<u32>,
    lo: i32,
    hi: i32,
}

impl Rule {
    /// Lays a rule out.
    pub(crate) fn new(rule: &Requantize) -> Self {
        let widen = |shifts: &[u8]| shifts.iter().map(|&shift| u32::from(shift)).collect::<Vec<_>>();
        Rule {
            pre: rule.pre.iter().any(|&pre| pre > 0).then(|| widen(&rule.pre)),
            multiplier: rule.multiplier.iter().map(|&m| i16::from(m)).collect(),
            bias: rule.bias.clone(),
            residual_shift: widen(&rule.residual_shift),
            shift: widen(&rule.shift),
            lo: rule.lo,
            hi: rule.hi,
        }
    }

    /// Whether all channels have the same numbers.
    pub(crate) fn is_uniform(&self) -> bool {
        fn same<T: PartialEq>(numbers: &[T]) -> bool {
            numbers.windows(2).all(|pair| pair[0] == pair[1])
        }
        self.pre.as_ref().is_none_or(|pre| same(pre))
            && same(&self.multiplier)
            && same(&self.bias)
            && same(&self.shift)
    }

    /// Channels of the rule.
    pub(crate) fn channels(&self) -> usize {
        self.shift.len()
    }

    /// Turns the sums of channels `first ..` into codes, in place. `residual` has the same positions.
    #[inline(always)]
    pub(crate) fn apply(&self, first: usize, sums: &mut [i32], residual: Option<Codes>) {
        let range = first..first + sums.len();
        if let Some(pre) = &self.pre {
            sums.iter_mut().zip(&pre[range.clone()]).for_each(|(sum, &pre)| *sum >>= pre);
        }
        let scale = self.multiplier[range.clone()].iter().zip(&self.bias[range.clone()]);
        for (sum, (&multiplier, &bias)) in sums.iter_mut().zip(scale) {
            // The check proves that t fits 16 bits.
            *sum = i32::from(*sum as i16) * i32::from(multiplier) + bias;
        }
        if let Some(residual) = residual {
            self.add_residual(first, sums, residual);
        }
        for (sum, &shift) in sums.iter_mut().zip(&self.shift[range]) {
            *sum = (*sum >> shift).max(self.lo).min(self.hi);
        }
    }

    #[inline(always)]
    fn add_residual(&self, first: usize, sums: &mut [i32], residual: Codes) {
        let mut row = [0i32; CHUNK];
        let shifts = &self.residual_shift[first..first + sums.len()];
        for (index, (sums, shifts)) in sums.chunks_mut(CHUNK).zip(shifts.chunks(CHUNK)).enumerate() {
            let row = &mut row[..sums.len()];
            residual.slice(index * CHUNK, sums.len()).widen(row);
            for ((sum, &code), &shift) in sums.iter_mut().zip(&*row).zip(shifts) {
                *sum += code << shift;
            }
        }
    }
}

impl Finish {
    /// Lays an epilogue out.
    pub(crate) fn new(epilogue: &Epilogue) -> Self {
        match epilogue {
            Epilogue::Requantize(rule) => Finish::Requantize(Rule::new(rule)),
            Epilogue::Logits { shift, bias } => Finish::Logits {
                shift: shift.iter().map(|&shift| u32::from(shift)).collect(),
                bias: bias.clone(),
            },
        }
    }

    /// Finishes the sums of channels `first ..` of one pixel, whose first code lies at `start` in `out`.
    #[inline(always)]
    pub(crate) fn finish(
        &self,
        first: usize,
        sums: &mut [i32],
        residual: Option<Codes>,
        start: usize,
        out: &mut CodesMut,
    ) {
        match self {
            Finish::Requantize(rule) => {
                let residual = residual.map(|codes| codes.slice(start, sums.len()));
                rule.apply(first, sums, residual);
            }
            Finish::Logits { shift, bias } => {
                for ((sum, &shift), &bias) in sums.iter_mut().zip(&shift[first..]).zip(&bias[first..]) {
                    *sum = (*sum << shift) + bias;
                }
            }
        }
        out.narrow(start, sums);
    }
}
