//! Every codebook, width and objective against all that could have been chosen.

use super::*;

/// Every list of levels that the definition of a codebook allows, up to a common power of two.
fn allowed(choice: Choice) -> Vec<Vec<f64>> {
    let two = |p: i32| f64::from(p).exp2();
    match (choice.codebook().name(), choice.objective()) {
        ("additive", _) => vec![vec![-1.0, 0.0, 1.0]],
        ("sign-split", Objective::Angle) => [0.5, 1.0, 2.0].map(|r| vec![-1.0, 0.0, r]).into(),
        ("sign-split", Objective::L2) => (-6..=6).map(|p| vec![-1.0, 0.0, two(p)]).collect(),
        ("multi-binary", _) => multisets(choice.bits(), 0).iter().map(|exponents| sums(exponents)).collect(),
        ("single-shift", _) => {
            let powers = (1 << (choice.bits() - 1)) - 1;
            let upper = (0..powers).map(two);
            vec![upper.clone().chain(upper.map(|level| -level)).chain([0.0]).collect()]
        }
        // The lists of the others are fixed.
        _ => vec![fitted(choice, &gaussian(9, 1)).levels.iter().map(|&l| f64::from(l)).collect()],
    }
}

/// All ascending lists of `count` exponents from `least` on whose powers sum up to at most 127.
fn multisets(count: u8, least: u32) -> Vec<Vec<u32>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let all = (least..7)
        .flat_map(|e| multisets(count - 1, e).into_iter().map(move |rest| [vec![e], rest].concat()));
    all.filter(|exponents| exponents.iter().map(|e| 1u32 << e).sum::<u32>() <= 127).collect()
}

/// All Σ ±2^e.
fn sums(exponents: &[u32]) -> Vec<f64> {
    let mut all: Vec<i32> = (0..1u32 << exponents.len())
        .map(|signs| {
            (0..).zip(exponents).map(|(i, e)| if (signs >> i) & 1 == 1 { 1 << e } else { -(1 << e) }).sum()
        })
        .collect();
    all.sort_unstable();
    all.dedup();
    all.into_iter().map(f64::from).collect()
}

/// Calls back with all vectors over the levels.
fn every(levels: &[f64], length: usize, with: &mut impl FnMut(&[f64])) {
    let mut digits = vec![0; length];
    let mut t = vec![levels[0]; length];
    loop {
        with(&t);
        let Some(at) = digits.iter().position(|&d| d + 1 < levels.len()) else { return };
        for (d, t) in digits.iter_mut().zip(&mut t).take(at) {
            (*d, *t) = (0, levels[0]);
        }
        digits[at] += 1;
        t[at] = levels[digits[at]];
    }
}

fn best_angle(w: &[f32], lists: &[Vec<f64>]) -> f64 {
    let mut best = 0.0f64;
    for levels in lists {
        every(levels, w.len(), &mut |t| best = best.max(objective(w, t)));
    }
    best
}

fn least_distance(w: &[f32], lists: &[Vec<f64>]) -> f64 {
    let mut least = f64::INFINITY;
    for levels in lists {
        for exponent in -11..4 {
            let scaled: Vec<f64> = levels.iter().map(|level| level * f64::from(exponent).exp2()).collect();
            every(&scaled, w.len(), &mut |t| {
                let error = w.iter().zip(t).map(|(&x, v)| (f64::from(x) - v).powi(2)).sum();
                least = f64::min(least, error);
            });
        }
    }
    least
}

#[test]
fn every_fit_equals_the_best_of_all_assignments() {
    for choice in choices().filter(|choice| choice.codebook().latents() == 1) {
        let lists = allowed(choice);
        let most = lists.iter().map(Vec::len).max().expect("a list");
        let work = if choice.codebook().name() == "multi-binary" { 300.0 } else { 20_000.0 };
        let length = (f64::ln(work) / (most as f64).ln()).floor().clamp(2.0, 7.0) as usize;
        for seed in 0..3 {
            let w = gaussian(length, 50 + seed);
            let filter = fitted(choice, &w);
            match choice.objective() {
                Objective::Angle => {
                    let (got, best) = (objective(&w, &values(&filter)), best_angle(&w, &lists));
                    assert!((got - best).abs() <= 1e-9 * best, "{choice:?} {w:?}: {got} of {best}");
                }
                Objective::L2 => {
                    let (got, least) = (squared_error(&w, &filter), least_distance(&w, &lists));
                    assert!(got <= least * (1.0 + 1e-9) + 1e-12, "{choice:?} {w:?}: {got}, possible {least}");
                }
            }
        }
    }
}

/// Every breakpoint of every list, one by one.
fn sweep(w: &[f32], lists: &[Vec<f64>]) -> f64 {
    let mut best = 0.0f64;
    for levels in lists {
        let mut upper: Vec<f64> = levels.iter().copied().filter(|&level| level >= 0.0).collect();
        upper.sort_by(f64::total_cmp);
        let mut points = Vec::new();
        for x in w.iter().map(|x| f64::from(x.abs())) {
            points.extend(upper.windows(2).map(|pair| (2.0 * x / (pair[0] + pair[1]), x, pair[0], pair[1])));
        }
        points.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut a = upper[0] * w.iter().map(|x| f64::from(x.abs())).sum::<f64>();
        let mut d = upper[0] * upper[0] * w.len() as f64;
        if d > 0.0 {
            best = best.max(a * a / d);
        }
        for (_, x, from, to) in points {
            a += x * (to - from);
            d += to * to - from * from;
            best = best.max(a * a / d);
        }
    }
    best
}

#[test]
fn the_angle_fit_of_symmetric_levels_finds_what_a_walk_over_every_breakpoint_finds() {
    let symmetric =
        |choice: &Choice| choice.objective() == Objective::Angle && choice.codebook().family() == Family::Apq;
    for choice in choices().filter(symmetric) {
        let lists = allowed(choice);
        let length = if lists.len() > 1 { 60_000 / lists.iter().map(Vec::len).sum::<usize>() } else { 700 };
        for (seed, outlier) in (0..5).zip([1.0, 4.0, 30.0, 1e4, 1e9]) {
            let mut w = heavy_tailed(length.clamp(20, 700), outlier, 300 + seed);
            if seed % 2 == 1 {
                // Ties and zeros.
                for x in &mut w {
                    *x = (*x * 8.0).round() / 8.0;
                }
            }
            let (got, best) = (objective(&w, &values(&fitted(choice, &w))), sweep(&w, &lists));
            assert!((got - best).abs() <= 1e-9 * best, "{choice:?} {outlier}: {got} of {best}");
        }
    }
}

#[test]
fn the_distance_fit_of_multi_binary_levels_finds_the_best_list_and_exponent() {
    for choice in
        choices().filter(|c| c.codebook().name() == "multi-binary" && c.objective() == Objective::L2)
    {
        for (seed, outlier) in [(1, 1.0), (2, 20.0), (3, 1e5)] {
            let w = heavy_tailed(60, outlier, seed);
            let mut least = f64::INFINITY;
            for levels in allowed(choice) {
                for exponent in -20..20 {
                    let unit = f64::from(exponent).exp2();
                    let nearest =
                        |x: f64| levels.iter().map(|l| (x - l * unit).powi(2)).fold(f64::MAX, f64::min);
                    least = least.min(w.iter().map(|&x| nearest(f64::from(x))).sum());
                }
            }
            let got = squared_error(&w, &fitted(choice, &w));
            assert!(got <= least * (1.0 + 1e-9), "{choice:?} {outlier}: {got}, possible {least}");
        }
    }
}

#[test]
fn a_refit_is_a_fit_where_nothing_moved_and_never_much_worse_where_little_did() {
    for choice in choices() {
        let (name, w) = (choice.codebook().name(), gaussian(400, 21));
        let latent = choice.codebook().start(choice.objective(), &w);
        let mut fitter = Fitter::default();
        let full = fitted(choice, &latent);
        let mut near = full.clone();
        fitter.refit(choice, &latent, &mut near).expect("finite weights");
        assert_eq!((&near.levels, near.exponent), (&full.levels, full.exponent), "{choice:?}");
        assert_eq!(near.codes, full.codes, "{choice:?}");
        let moved: Vec<f32> =
            latent.iter().zip(gaussian(latent.len(), 5)).map(|(x, n)| x * 1.002 + 0.001 * n).collect();
        fitter.refit(choice, &moved, &mut near).expect("finite weights");
        let best = fitted(choice, &moved);
        let w = choice.codebook().sum(&moved);
        match choice.objective() {
            Objective::Angle => {
                let miss = |f: &Filter| 1.0 - objective(&w, &values(f)) / objective(&w, &values_of(&w));
                assert!(miss(&near) <= 1.1 * miss(&best) + 1e-12, "{name} {choice:?}");
            }
            Objective::L2 => {
                assert!(squared_error(&w, &near) <= 1.1 * squared_error(&w, &best), "{name} {choice:?}");
            }
        }
    }
}

fn values_of(w: &[f32]) -> Vec<f64> {
    w.iter().map(|&x| f64::from(x)).collect()
}
