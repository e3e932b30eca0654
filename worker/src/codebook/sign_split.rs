//! APTQ, sign-split reading: `ŵ = 2^p·[w > t⁺] − 2^q·[−w > t⁻]`, levels {−2^q, 0, 2^p}.

use super::Filter;
use super::histogram::Histogram;

/// Exact L2 fit; the two signs separate. With p fixed, the best boundary is `2^(p−1)`, and
/// `G(p) = Σ_{v > 2^(p−1)} (2^(p+1)·v − 4^p)` is to be maximized.
pub(super) fn fit_l2(counts: &mut Histogram, w: &[f32], out: &mut Filter) {
    let positive = best_exponent(counts, w, 1.0);
    let negative = best_exponent(counts, w, -1.0);
    set_levels(negative, positive, out);
    super::ladder::assign_nearest(w, out);
}

/// The exponent of one side, `None` if no weight has that sign; ties go to the smaller.
fn best_exponent(counts: &mut Histogram, w: &[f32], sign: f32) -> Option<i32> {
    counts.count(w, |x| sign * x > 0.0);
    if counts.largest == 0.0 {
        return None;
    }
    // Exact bounds on the best exponent, from the mean and the largest of the side.
    let low = (4.0 * counts.mean / 3.0).log2().floor() as i32;
    let high = (4.0 * f64::from(counts.largest) / 3.0).log2().floor() as i32;
    let gain = |p: i32| {
        let level = f64::from(p).exp2();
        match counts.above(level / 2.0) {
            // A magnitude right at the boundary counts nothing.
            Some(above) => level * (2.0 * above.sum - level * above.count),
            None => gain_of_each(w, sign, level),
        }
    };
    let mut best = (f64::NEG_INFINITY, low);
    for p in low..=high {
        let g = gain(p);
        if g > best.0 {
            best = (g, p);
        }
    }
    Some(best.1)
}

/// `G` for boundaries below the counted range.
fn gain_of_each(w: &[f32], sign: f32, level: f64) -> f64 {
    let side = w.iter().map(|&x| f64::from(sign * x)).filter(|&v| v > level / 2.0);
    side.map(|v| level * (2.0 * v - level)).sum()
}

/// Integer levels and a common exponent for −2^q and 2^p. Where the sides lie more than 2^6 apart, the weaker one is
/// raised to that distance, since levels are 7-bit.
fn set_levels(q: Option<i32>, p: Option<i32>, out: &mut Filter) {
    let top = q.into_iter().chain(p).max().unwrap_or(0);
    let base = q.into_iter().chain(p).min().unwrap_or(0).max(top - 6);
    let level = |e: i32| 1i8 << (e.max(base) - base);
    out.levels.clear();
    out.levels.extend(q.map(|q| -level(q)));
    out.levels.push(0);
    out.levels.extend(p.map(level));
    out.exponent = base;
}

/// The magnitudes of either sign in ascending order, as the bits of the floats: positive ones order alike.
#[derive(Debug, Default)]
pub(super) struct Sorted {
    positive: Vec<u32>,
    negative: Vec<u32>,
}

impl Sorted {
    fn sort(&mut self, w: &[f32]) {
        self.positive.clear();
        self.negative.clear();
        self.positive.extend(w.iter().filter(|&&x| x > 0.0).map(|x| x.to_bits()));
        self.negative.extend(w.iter().filter(|&&x| x < 0.0).map(|x| x.abs().to_bits()));
        self.positive.sort_unstable();
        self.negative.sort_unstable();
    }

    /// The best prefix of the weights in descending order of their key: one walk, merging the two sides.
    fn best_prefix(&self, ratio: f32) -> Prefix {
        let r = f64::from(ratio);
        let mut positive = self.positive.iter().rev().map(|&b| f32::from_bits(b)).peekable();
        let mut negative = self.negative.iter().rev().map(|&b| f32::from_bits(b)).peekable();
        let next_key = |side: Option<&f32>, scale: f32| side.map_or(0.0, |v| 2.0 * v / scale);
        let (mut sum, mut norm) = (0.0, 0.0);
        let mut best = Prefix { objective: f64::NEG_INFINITY, scale: 0.0, key: f32::INFINITY };
        let (mut plus, mut minus) = (next_key(positive.peek(), ratio), next_key(negative.peek(), 1.0));
        while plus > 0.0 || minus > 0.0 {
            let key = plus.max(minus);
            // Equal keys are taken together, since codes are given by the key.
            while plus == key {
                sum += r * positive.next().map_or(0.0, f64::from);
                norm += r * r;
                plus = next_key(positive.peek(), ratio);
            }
            while minus == key {
                sum += negative.next().map_or(0.0, f64::from);
                norm += 1.0;
                minus = next_key(negative.peek(), 1.0);
            }
            let objective = sum * sum / norm;
            if objective > best.objective {
                best = Prefix { objective, scale: sum / norm, key };
            }
        }
        best
    }
}

/// The best prefix for one ratio `r = 2^p / 2^q`.
struct Prefix {
    /// ⟨w,T⟩²/‖T‖².
    objective: f64,
    /// The scale that T would have.
    scale: f64,
    /// Weights whose key is at least this are in.
    key: f32,
}

/// Maximizes `J = ⟨w,T⟩²/‖T‖²` over ternary T ∈ {−1, 0, r}, r ∈ {½, 1, 2}: for each r, over the prefixes of the weights
/// in descending order of `2w/r` (w > 0) and `2|w|` (w < 0).
pub(super) fn fit_angle(sorted: &mut Sorted, w: &[f32], out: &mut Filter) {
    sorted.sort(w);
    let mut best: Option<(Prefix, f32)> = None;
    for ratio in [1.0, 0.5, 2.0] {
        let prefix = sorted.best_prefix(ratio);
        if best.as_ref().is_none_or(|(b, _)| prefix.objective > b.objective) {
            best = Some((prefix, ratio));
        }
    }
    let Some((prefix, ratio)) = best else { return };
    let q = (4.0 * prefix.scale / 3.0).log2().floor() as i32;
    let (negative, positive, exponent) = match ratio {
        0.5 => (2, 1, q - 1),
        1.0 => (1, 1, q),
        _ => (1, 2, q),
    };
    out.levels.clear();
    out.levels.extend([-negative, 0, positive]);
    out.exponent = exponent;
    take(w, ratio, prefix.key, out);
}

/// Codes for the levels that `out` has.
pub(super) fn assign_angle(sorted: &mut Sorted, w: &[f32], out: &mut Filter) {
    let &[negative, 0, positive] = out.levels.as_slice() else {
        return super::ladder::assign_nearest(w, out);
    };
    let ratio = f32::from(positive) / -f32::from(negative);
    sorted.sort(w);
    let prefix = sorted.best_prefix(ratio);
    take(w, ratio, prefix.key, out);
}

fn take(w: &[f32], ratio: f32, least: f32, out: &mut Filter) {
    let code = |&x: &f32| {
        let key = if x > 0.0 { 2.0 * x / ratio } else { -2.0 * x };
        if key < least || x == 0.0 {
            1
        } else if x > 0.0 {
            2
        } else {
            0
        }
    };
    out.codes.clear();
    out.codes.extend(w.iter().map(code));
}
