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
    counts.count(w, |x| (sign * x).max(0.0));
    if counts.largest == 0.0 {
        return None;
    }
    // Exact bounds on the best exponent, from the mean and the largest of the side.
    let low = (4.0 * counts.mean() / 3.0).log2().floor() as i32;
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
