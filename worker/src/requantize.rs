//! Chooses the integers of the requantize rule for one channel.
//!
//! The rule is the engine's (`dyadic_engine::model::Requantize`): `t = acc >> pre`,
//! `y = clamp((t·m + b + (r << k)) >> s, lo, hi)`. Given the real-valued map it must follow, this module picks the
//! largest `s` that keeps every range, so that the multiplier uses as many of its seven bits as possible.

/// Largest |multiplier|.
const MULTIPLIER_MAX: f64 = 127.0;
/// Largest power of two among the multipliers.
const SHIFT_MULTIPLIER_MAX: f64 = 64.0;
/// No code is this far from 0.
const BEYOND: f64 = 512.0;
/// Offsets beyond this many codes are cut.
const OFFSET_LIMIT: f64 = (1u32 << 22) as f64;
/// |t| stays below 2^15.
const T_BITS: u32 = 15;
/// |bias| stays below 2^23.
const BIAS_LIMIT: f64 = (1u32 << 23) as f64;
/// The whole sum stays below 2^24.
const SUM_LIMIT: f64 = (1u32 << 24) as f64;

/// The real-valued map of one channel: `code = acc·scale + offset + r·2^residual_log2`, in units of the output step.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Output codes per unit of the sum.
    pub scale: f64,
    /// Output codes added.
    pub offset: f64,
    /// The mean of the sum: there the map is kept, whatever the multiplier rounds to.
    pub mean: f64,
    /// Proven bound on |acc|.
    pub bound: u32,
    /// `log2(residual step / output step)` and the bound on |r|, where there is a residual operand.
    pub residual: Option<(i32, u32)>,
    /// Only ±2^j as multipliers.
    pub shift_only: bool,
}

impl Target {
    /// A multiplication.
    pub fn uniform(scale: f64, bound: u32) -> Self {
        Target { scale, offset: 0.0, mean: 0.0, bound, residual: None, shift_only: false }
    }
}

/// The integers of one channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Channel {
    /// First right shift.
    pub pre: u8,
    /// Multiplier.
    pub multiplier: i8,
    /// Bias with rounding.
    pub bias: i32,
    /// Left shift of the residual operand.
    pub residual_shift: u8,
    /// Last right shift.
    pub shift: u8,
}

impl Channel {
    /// Output codes per unit of the sum.
    pub fn slope(&self) -> f64 {
        f64::from(self.multiplier) * (-f64::from(self.pre) - f64::from(self.shift)).exp2()
    }
}

/// Picks the integers for `target`. `None` where no choice keeps the ranges: an offset or a residual ratio too large
/// to be represented beside the sum.
pub fn choose(target: &Target) -> Option<Channel> {
    let pre = (32 - target.bound.leading_zeros()).saturating_sub(T_BITS);
    let t_max = f64::from(target.bound >> pre) + if pre > 0 { 1.0 } else { 0.0 };
    let target = &gentled(target, f64::from(1u32 << pre), t_max);
    let scale = target.scale * f64::from(1u32 << pre);
    let exact = (0..=31).rev().find_map(|shift| at_shift(target, pre, t_max, scale, shift));
    // A channel that lies far outside its output's range is saturated there whatever its sum: a bounded offset does.
    exact.or_else(|| {
        let offset = target.offset.clamp(-OFFSET_LIMIT, OFFSET_LIMIT);
        at_shift(&Target { offset, ..*target }, pre, t_max, scale, 0)
    })
}

/// A slope past the largest multiplier (a channel whose sum hardly varies) runs through the output's range between two
/// neighbouring sums. The steepest slope there is does so too; it is laid through the value at the sum next to zero's.
fn gentled(target: &Target, step: f64, t_max: f64) -> Target {
    let scale = target.scale * step;
    let steepest = if target.shift_only { SHIFT_MULTIPLIER_MAX } else { MULTIPLIER_MAX }.copysign(scale);
    if scale.abs() <= steepest.abs() {
        return *target;
    }
    let pivot = (-target.offset / scale).round().clamp(-t_max, t_max);
    let value = (scale * pivot + target.offset).clamp(-BEYOND, BEYOND);
    Target { scale: steepest / step, offset: value - steepest * pivot, ..*target }
}

/// The integers at a given last shift, if they keep the ranges.
fn at_shift(target: &Target, pre: u32, t_max: f64, scale: f64, shift: u32) -> Option<Channel> {
    let unit = f64::from(shift).exp2();
    let mut multiplier = (scale * unit + 0.5).floor();
    if target.shift_only && multiplier != 0.0 {
        // The nearest power of two in the logarithm, at most 64.
        multiplier = multiplier.signum() * (scale * unit).abs().log2().round().clamp(0.0, 6.0).exp2();
        if shift > 0 && (scale * unit).abs() > 90.5 {
            return None;
        }
    }
    if multiplier.abs() > MULTIPLIER_MAX {
        if shift > 0 {
            return None;
        }
        multiplier = multiplier.clamp(-MULTIPLIER_MAX, MULTIPLIER_MAX);
    }
    let rounding = if shift > 0 { f64::from(shift - 1).exp2() } else { 0.0 };
    let floor_bias = if pre > 0 { multiplier / 2.0 } else { 0.0 };
    let kept = (scale - multiplier / unit) * target.mean * (-f64::from(pre)).exp2();
    let bias = ((target.offset + kept) * unit + rounding + floor_bias + 0.5).floor();
    if bias.abs() >= BIAS_LIMIT {
        return None;
    }
    let (residual_shift, residual_max) = match target.residual {
        None => (0, 0.0),
        Some((log2, bound)) => {
            let k = shift as i32 + log2;
            if !(0..=22).contains(&k) {
                return None;
            }
            (k as u8, f64::from(bound) * f64::from(k).exp2())
        }
    };
    if t_max * multiplier.abs() + bias.abs() + residual_max >= SUM_LIMIT {
        return None;
    }
    Some(Channel {
        pre: pre as u8,
        multiplier: multiplier as i8,
        bias: bias as i32,
        residual_shift,
        shift: shift as u8,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(c: Channel, acc: i32, r: i32) -> i32 {
        ((acc >> c.pre) * i32::from(c.multiplier) + c.bias + (r << c.residual_shift)) >> c.shift
    }

    #[test]
    fn rounds_to_within_the_multipliers_precision() {
        let mut state = 1u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as f64 / f64::from(1u32 << 31)
        };
        for _ in 0..2000 {
            let bound = 2f64.powf(6.0 + 20.0 * random()) as u32;
            // A scale under which the whole range of sums spans between 64 and 1000 codes.
            let scale =
                (64.0 + 936.0 * random()) / f64::from(bound) * if random() < 0.3 { -1.0 } else { 1.0 };
            let offset = 200.0 * (random() - 0.5);
            let residual = (random() < 0.5).then_some((-(3.0 * random()) as i32, 255));
            let target = Target { scale, offset, mean: 0.0, bound, residual, shift_only: false };
            let channel = choose(&target).expect("an ordinary channel is representable");
            for _ in 0..20 {
                let acc = (f64::from(bound) * (2.0 * random() - 1.0)) as i32;
                let r = if residual.is_some() { (255.0 * random()) as i32 } else { 0 };
                let exact = f64::from(acc) * scale
                    + offset
                    + residual.map_or(0.0, |(l, _)| f64::from(r) * f64::from(l).exp2());
                let got = f64::from(apply(channel, acc, r));
                let slack = 0.51
                    + (f64::from(acc) * scale).abs() / 127.0
                    + scale.abs() * f64::from(1u32 << channel.pre);
                assert!((got - exact).abs() <= slack, "{target:?} {channel:?} acc {acc}: {got} for {exact}");
            }
        }
    }

    #[test]
    fn shift_only_multipliers_are_powers_of_two() {
        for i in 1..200 {
            let target = Target {
                scale: 1e-4 * f64::from(i),
                offset: 3.0,
                mean: 0.0,
                bound: 100_000,
                residual: None,
                shift_only: true,
            };
            let channel = choose(&target).expect("representable");
            assert_eq!(channel.multiplier.unsigned_abs().count_ones(), 1, "{channel:?}");
            let effective = f64::from(channel.multiplier)
                / f64::from(channel.shift).exp2()
                / f64::from(1u32 << channel.pre);
            let ratio = effective / target.scale;
            assert!((0.70..1.42).contains(&ratio), "scale {} became {effective}", target.scale);
        }
    }

    #[test]
    fn the_mean_of_the_sums_keeps_its_place_whatever_the_multiplier_is_rounded_to() {
        for shift_only in [false, true] {
            for i in 0..200 {
                let scale = 1e-3 * 1.013f64.powi(i);
                let (mean, bound) = (-40_000.0, 100_000);
                let target =
                    Target { mean, offset: 30.0 - scale * mean, shift_only, ..Target::uniform(scale, bound) };
                let channel = choose(&target).expect("representable");
                let got = f64::from(apply(channel, mean as i32, 0));
                // One code of rounding, and what the first shift drops.
                let slack = 0.51 + scale * f64::from(1u32 << channel.pre);
                assert!((got - 30.0).abs() <= slack, "{target:?} {channel:?}: {got}");
            }
        }
    }

    #[test]
    fn a_sum_that_hardly_varies_keeps_its_place() {
        for shift_only in [false, true] {
            for (scale, bound) in [(3e6, 5610), (-700.0, 300), (130.0, 30_000), (3e6, 0)] {
                for (mean, code) in [(28.0, 5.0), (-13.0, 40.0), (0.0, 0.0)] {
                    let (mean, bound): (f64, u32) = if bound == 0 { (0.0, 0) } else { (mean, bound) };
                    let offset = code - scale * mean;
                    let target = Target { scale, offset, mean: 0.0, bound, residual: None, shift_only };
                    let channel = choose(&target).expect("representable");
                    for acc in mean as i32 - 3..=mean as i32 + 3 {
                        let exact = (f64::from(acc) * scale + offset).clamp(0.0, 63.0);
                        let got = f64::from(apply(channel, acc, 0).clamp(0, 63));
                        assert!(
                            (got - exact).abs() < 0.51,
                            "{target:?} {channel:?} acc {acc}: {got} for {exact}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_channel_far_outside_its_range_saturates() {
        for offset in [-8.5e7, 8.5e7] {
            let target =
                Target { scale: 3e6, offset, mean: 0.0, bound: 5610, residual: None, shift_only: false };
            let channel = choose(&target).expect("saturated, not refused");
            let code = apply(channel, 0, 0).clamp(0, 63);
            assert_eq!(code, if offset < 0.0 { 0 } else { 63 });
        }
    }

    #[test]
    fn a_residual_far_coarser_than_the_output_is_refused() {
        let target = Target { residual: Some((24, 255)), ..Target::uniform(0.01, 1000) };
        assert_eq!(choose(&target), None);
    }
}
