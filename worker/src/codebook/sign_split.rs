//! APTQ, sign-split reading: `ŵ = 2^p·[w > t⁺] − 2^q·[−w > t⁻]`, levels {−2^q, 0, 2^p}.

use super::Filter;

/// Exact L2 fit; the two signs separate. With p fixed, the best boundary is `2^(p−1)`, and
/// `G(p) = Σ_{v > 2^(p−1)} (2^(p+1)·v − 4^p)` is to be maximized.
pub(super) fn fit_l2(w: &[f32], out: &mut Filter) {
    let positive = best_exponent(w, 1.0);
    let negative = best_exponent(w, -1.0);
    set_levels(negative, positive, out);
    super::ladder::assign_nearest(w, out);
}

/// The exponent of one side, `None` if no weight has that sign; ties go to the smaller.
fn best_exponent(w: &[f32], sign: f32) -> Option<i32> {
    let side = || w.iter().map(move |&x| f64::from(sign * x)).filter(|&v| v > 0.0);
    let (mut sum, mut count, mut largest) = (0.0, 0u32, 0.0f64);
    for v in side() {
        sum += v;
        count += 1;
        largest = largest.max(v);
    }
    if count == 0 {
        return None;
    }
    // Exact bounds on the best exponent, from the mean and the largest of the side.
    let low = (4.0 * sum / f64::from(count) / 3.0).log2().floor() as i32;
    let high = (4.0 * largest / 3.0).log2().floor() as i32;
    let gain = |p: i32| {
        let level = f64::from(p).exp2();
        side().filter(|&v| v > level / 2.0).map(|v| 2.0 * level * v - level * level).sum::<f64>()
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
pub(super) fn fit_angle(keys: &mut Vec<u64>, w: &[f32], out: &mut Filter) {
    let mut best: Option<(Prefix, f32)> = None;
    for ratio in [1.0, 0.5, 2.0] {
        let prefix = best_prefix(keys, w, ratio);
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
pub(super) fn assign_angle(keys: &mut Vec<u64>, w: &[f32], out: &mut Filter) {
    let &[negative, 0, positive] = out.levels.as_slice() else {
        return super::ladder::assign_nearest(w, out);
    };
    let ratio = f32::from(positive) / -f32::from(negative);
    let prefix = best_prefix(keys, w, ratio);
    take(w, ratio, prefix.key, out);
}

fn key(x: f32, ratio: f32) -> f32 {
    if x > 0.0 { 2.0 * x / ratio } else { -2.0 * x }
}

fn take(w: &[f32], ratio: f32, least: f32, out: &mut Filter) {
    let code = |&x: &f32| match key(x, ratio) {
        k if k < least || k == 0.0 => 1,
        _ if x > 0.0 => 2,
        _ => 0,
    };
    out.codes.clear();
    out.codes.extend(w.iter().map(code));
}

/// One sort and one walk. Keys are positive floats, whose bits order as they do; the sign rides in the low half.
fn best_prefix(keys: &mut Vec<u64>, w: &[f32], ratio: f32) -> Prefix {
    keys.clear();
    let entry = |&x: &f32| (u64::from(key(x, ratio).to_bits()) << 32) | u64::from(x > 0.0);
    keys.extend(w.iter().filter(|&&x| x != 0.0).map(entry));
    keys.sort_unstable();
    let r = f64::from(ratio);
    let (mut sum, mut norm) = (0.0, 0.0);
    let mut best = Prefix { objective: f64::NEG_INFINITY, scale: 0.0, key: f32::INFINITY };
    let mut walk = keys.iter().rev().peekable();
    while let Some(&entry) = walk.next() {
        let key = f32::from_bits((entry >> 32) as u32);
        let (weight, level) =
            if entry & 1 == 1 { (f64::from(key) * r / 2.0, r) } else { (f64::from(key) / 2.0, 1.0) };
        sum += level * weight;
        norm += level * level;
        // Equal keys are taken together, since codes are given by the key.
        let tied = walk.peek().is_some_and(|&&next| next >> 32 == entry >> 32);
        let objective = sum * sum / norm;
        if !tied && objective > best.objective {
            best = Prefix { objective, scale: sum / norm, key };
        }
    }
    best
}
