//! APTQ, sign-split reading, with the angle boundary: where a normalization follows, it absorbs any scale of a filter.
//!
//! To be maximized is `J = ⟨w,T⟩²/‖T‖²` over ternary T ∈ {−1, 0, r}, r ∈ {½, 1, 2}. For each r the best T takes a prefix
//! of the weights in descending order of their key, `2w/r` (w > 0) or `2|w|` (w < 0); with A and D the numerator's root
//! and the denominator of a prefix, its scale is `s = A/D`. Leaving out the last weight of the best prefix, or taking in
//! the next one, gains nothing; written out, this says `last key ≥ s ≥ next key`. So the weights are counted by the
//! leading bits of their keys, every prefix of whole buckets is looked at, and only buckets in which that inequality can
//! hold are sorted.

use super::Filter;
use super::histogram::{self, Histogram, OCTAVE, leading};

/// Scratch space of a fit.
#[derive(Debug, Default)]
pub(super) struct Angle {
    positive: Histogram,
    negative: Histogram,
    inside: Vec<u64>,
    open: Vec<Bucket>,
}

/// A and D of a prefix.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    a: f64,
    d: f64,
}

/// The best prefix so far.
#[derive(Debug, Clone, Copy)]
struct Prefix {
    /// A²/D.
    objective: f64,
    /// A/D, the scale that T would have.
    scale: f64,
    /// Weights whose key is at least this are in.
    key: f32,
    /// `r = 2^p / 2^q`.
    ratio: f32,
}

/// A bucket of keys in which the best prefix may end.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    ratio: f32,
    /// Leading bits of its keys; `None`: all keys are in it.
    bits: Option<i64>,
    /// Of the keys above.
    before: Sums,
    /// No prefix that ends here has a larger A²/D.
    limit: f64,
}

/// Magnitudes between which keys and counts are sure to be ordinary floats.
const ORDINARY: std::ops::Range<f32> = 1e-25..1e30;

/// The best levels and codes.
pub(super) fn fit(angle: &mut Angle, w: &[f32], out: &mut Filter) {
    let Some(prefix) = angle.best(w, &[1.0, 0.5, 2.0]) else { return };
    let q = (4.0 * prefix.scale / 3.0).log2().floor() as i32;
    let (negative, positive, exponent) = match prefix.ratio {
        0.5 => (2, 1, q - 1),
        1.0 => (1, 1, q),
        _ => (1, 2, q),
    };
    out.levels.clear();
    out.levels.extend([-negative, 0, positive]);
    (out.exponent, out.scale) = (exponent, 1.0);
    take(w, prefix, out);
}

/// The best codes for the levels that `out` has.
pub(super) fn assign(angle: &mut Angle, w: &[f32], out: &mut Filter) {
    let &[negative, 0, positive] = out.levels.as_slice() else {
        return super::ladder::assign_nearest(w, out);
    };
    match angle.best(w, &[f32::from(positive) / -f32::from(negative)]) {
        Some(prefix) => take(w, prefix, out),
        None => super::ladder::assign_nearest(w, out),
    }
}

/// Exact: a ratio is a power of two.
fn key(x: f32, ratio: f32) -> f32 {
    if x > 0.0 { x * (2.0 / ratio) } else { -2.0 * x }
}

fn take(w: &[f32], prefix: Prefix, out: &mut Filter) {
    let code = |&x: &f32| {
        let sign = u8::from(x > 0.0) * 2;
        if key(x, prefix.ratio) >= prefix.key && x != 0.0 { sign } else { 1 }
    };
    out.codes.clear();
    out.codes.extend(w.iter().map(code));
}

impl Angle {
    /// Half the scale of the best T over {−1, 0, 1}, between the weights that are 0 in it and the others.
    pub(super) fn even_threshold(&mut self, w: &[f32]) -> f32 {
        self.best(w, &[1.0]).map_or(0.0, |prefix| (prefix.scale / 2.0) as f32)
    }

    /// The best prefix over the given ratios, earlier ones first where they are equal; `None` if all weights are 0.
    fn best(&mut self, w: &[f32], ratios: &[f32]) -> Option<Prefix> {
        self.positive.count(w, |x| x.max(0.0));
        self.negative.count(w, |x| (-x).max(0.0));
        self.open.clear();
        let mut best: Option<Prefix> = None;
        for &ratio in ratios {
            self.whole_buckets(ratio, &mut best);
        }
        for bucket in std::mem::take(&mut self.open) {
            if best.is_none_or(|b| bucket.limit >= b.objective) {
                self.inside(w, bucket, &mut best);
            }
        }
        best
    }

    /// Looks at every prefix of whole buckets, and notes the buckets in which a better one may end.
    fn whole_buckets(&mut self, ratio: f32, best: &mut Option<Prefix>) {
        let everything = Bucket { ratio, bits: None, before: Sums::default(), limit: f64::INFINITY };
        let (positive, negative) = (&self.positive, &self.negative);
        let ordinary = |side: &Histogram| side.largest == 0.0 || ORDINARY.contains(&side.largest);
        if !ordinary(positive) || !ordinary(negative) {
            self.open.push(everything);
            return;
        }
        let r = f64::from(ratio);
        // Leading bits of a key above those of its weight.
        let shift = OCTAVE - OCTAVE * ratio.log2() as i64;
        let sums = |bits: i64| {
            let (p, n) = (positive.with_leading(bits - shift)?, negative.with_leading(bits - OCTAVE)?);
            Some(Sums { a: r * p.sum + n.sum, d: r * r * p.count + n.count })
        };
        let all = r * r * positive.all.count + negative.all.count;
        let top = (positive.top() + shift).max(negative.top() + OCTAVE);
        let mut before = Sums::default();
        for bits in (0..=top).rev() {
            if before.d == all {
                return;
            }
            let Some(here) = sums(bits) else { break };
            if here.d == before.d {
                continue;
            }
            let objective = here.a * here.a / here.d;
            let (least, above) = (histogram::least(bits), f64::from(histogram::least(bits + 1)));
            if best.is_none_or(|b| objective > b.objective) {
                *best = Some(Prefix { objective, scale: here.a / here.d, key: least, ratio });
            }
            let slack = 1.0 + 1e-9;
            let may_end = above * slack >= here.a / here.d && before.a * slack >= f64::from(least) * before.d;
            if may_end {
                // A²/D is quasiconvex in what is taken at the largest weight over level: largest at an end.
                let most = before.a + (here.d - before.d) * above / 2.0;
                let limit = slack * (most * most / here.d).max(before.a * before.a / before.d.max(1e-300));
                self.open.push(Bucket { ratio, bits: Some(bits), before, limit });
            }
            before = here;
            // If all that is left had the largest key possible and that would not do, nothing below will.
            let most = here.a + (all - here.d) * f64::from(least) / 2.0;
            if best.is_some_and(|b| slack * most * most < b.objective * all) {
                return;
            }
        }
        self.open.push(everything);
    }

    /// Looks at every prefix that ends in a bucket: one sort of its weights and one walk.
    fn inside(&mut self, w: &[f32], bucket: Bucket, best: &mut Option<Prefix>) {
        let ratio = bucket.ratio;
        let is_in = |x: f32| bucket.bits.is_none_or(|bits| leading(key(x, ratio)) == bits);
        // Positive floats order as their bits do; the sign rides in the low half.
        let entry = |&x: &f32| (u64::from(key(x, ratio).to_bits()) << 32) | u64::from(x > 0.0);
        self.inside.clear();
        self.inside.extend(w.iter().filter(|&&x| x != 0.0 && is_in(x)).map(entry));
        self.inside.sort_unstable();
        let r = f64::from(ratio);
        let Sums { mut a, mut d } = bucket.before;
        let mut walk = self.inside.iter().rev().peekable();
        while let Some(&entry) = walk.next() {
            let key = f32::from_bits((entry >> 32) as u32);
            let level = if entry & 1 == 1 { r } else { 1.0 };
            a += level * level * f64::from(key) / 2.0;
            d += level * level;
            // Equal keys are taken together, since codes are given by the key.
            let tied = walk.peek().is_some_and(|&&next| next >> 32 == entry >> 32);
            let objective = a * a / d;
            if !tied && best.is_none_or(|b| objective > b.objective) {
                *best = Some(Prefix { objective, scale: a / d, key, ratio });
            }
        }
    }
}
