use super::*;

mod additive;
mod brute_force;

/// Box–Muller on a linear congruential generator: reproducible, good enough for figures of three digits.
fn gaussian(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut uniform = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    };
    (0..count)
        .map(|_| ((-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos()) as f32)
        .collect()
}

fn choice(name: &str, bits: u8, objective: Objective) -> Choice {
    let codebook = find(name).expect("a codebook of this name");
    Choice::new(codebook.family(), Some(name), bits, Some(objective))
        .expect("a width and an objective that it has")
}

fn fitted(method: Choice, w: &[f32]) -> Filter {
    let mut filter = Filter::default();
    Fitter::default().fit(method, w, &mut filter).expect("finite weights");
    filter
}

/// The fit of float weights: their latent weights at the beginning of a training.
fn begun(choice: Choice, w: &[f32]) -> Filter {
    fitted(choice, &choice.codebook().start(choice.objective(), w))
}

fn values(filter: &Filter) -> Vec<f64> {
    let mut out = vec![0.0; filter.codes.len()];
    filter.dequantize(&mut out);
    out.into_iter().map(f64::from).collect()
}

fn squared_error(w: &[f32], filter: &Filter) -> f64 {
    w.iter().zip(values(filter)).map(|(&x, v)| (f64::from(x) - v).powi(2)).sum()
}

/// ⟨w,T⟩²/‖T‖².
fn objective(w: &[f32], t: &[f64]) -> f64 {
    let dot: f64 = w.iter().zip(t).map(|(&x, v)| f64::from(x) * v).sum();
    let norm: f64 = t.iter().map(|v| v * v).sum();
    if norm > 0.0 { dot * dot / norm } else { 0.0 }
}

/// All ternary vectors of a length over the given levels.
fn assignments(length: usize, levels: [f64; 3]) -> impl Iterator<Item = Vec<f64>> {
    (0..3usize.pow(length as u32)).map(move |mut n| {
        (0..length)
            .map(|_| {
                let level = levels[n % 3];
                n /= 3;
                level
            })
            .collect()
    })
}

#[test]
fn the_angle_fit_is_globally_optimal() {
    for seed in 0..40 {
        let w = gaussian(7, seed);
        let got = objective(&w, &values(&fitted(choice("sign-split", 2, Objective::Angle), &w)));
        let best = [0.5, 1.0, 2.0]
            .into_iter()
            .flat_map(|r| assignments(7, [-1.0, 0.0, r]))
            .map(|t| objective(&w, &t))
            .fold(0.0, f64::max);
        assert!((got - best).abs() <= 1e-9 * best, "seed {seed}: {got} of {best}");
    }
}

#[test]
fn the_l2_fit_is_globally_optimal() {
    for seed in 100..130 {
        let w = gaussian(6, seed);
        let got = squared_error(&w, &fitted(choice("sign-split", 2, Objective::L2), &w));
        let mut best = f64::INFINITY;
        for q in -6..3 {
            for p in -6..3 {
                for t in assignments(6, [-f64::from(q).exp2(), 0.0, f64::from(p).exp2()]) {
                    best = best.min(w.iter().zip(&t).map(|(&x, v)| (f64::from(x) - v).powi(2)).sum());
                }
            }
        }
        assert!(got <= best * (1.0 + 1e-9), "seed {seed}: {got} of {best}");
    }
}

#[test]
fn every_weight_of_a_ladder_has_its_nearest_level_at_the_best_exponent() {
    let methods = [
        choice("single-shift", 2, Objective::L2),
        choice("single-shift", 3, Objective::L2),
        choice("single-shift", 4, Objective::L2),
        choice("two-term", 4, Objective::L2),
        choice("two-term", 5, Objective::L2),
        Choice::linear8(),
    ];
    for (seed, method) in methods.into_iter().enumerate() {
        let w = gaussian(50, 7 + seed as u64);
        let filter = fitted(method, &w);
        let error = |exponent: i32| -> f64 {
            let unit = f64::from(exponent).exp2();
            let nearest = |x: f64| {
                filter.levels.iter().map(|&l| (x - f64::from(l) * unit).powi(2)).fold(f64::MAX, f64::min)
            };
            w.iter().map(|&x| nearest(f64::from(x))).sum()
        };
        let best = (-16..8).map(error).fold(f64::MAX, f64::min);
        assert!((squared_error(&w, &filter) - best).abs() <= 1e-9 * best + 1e-12, "{method:?}");
    }
}

/// Gaussian weights of one filter with a few that are `outlier` times as large.
fn heavy_tailed(count: usize, outlier: f32, seed: u64) -> Vec<f32> {
    let mut w = gaussian(count, seed);
    for x in w.iter_mut().step_by(count / 2) {
        *x *= outlier;
    }
    w
}

#[test]
fn the_best_exponent_is_found_far_below_the_largest_weight() {
    for method in [
        choice("single-shift", 2, Objective::L2),
        choice("single-shift", 4, Objective::L2),
        choice("two-term", 5, Objective::L2),
        Choice::linear8(),
    ] {
        for outlier in [1.0, 30.0, 1e3, 1e6] {
            let w = heavy_tailed(4000, outlier, 11);
            let filter = fitted(method, &w);
            let mut at = filter.clone();
            let least = (-40..25).map(|exponent| {
                at.exponent = exponent;
                Fitter::default().assign(method, &w, &mut at).expect("finite weights");
                squared_error(&w, &at)
            });
            let least = least.fold(f64::MAX, f64::min);
            let got = squared_error(&w, &filter);
            assert!(got <= least * (1.0 + 1e-9), "{method:?} {outlier}: {got}, possible {least}");
        }
    }
}

#[test]
fn the_angle_fit_finds_what_a_sort_of_all_weights_finds() {
    for seed in 0..60 {
        let outlier = [1.0, 4.0, 1e2, 1e4, 1e9][seed as usize % 5];
        let mut w = heavy_tailed([16, 150, 600, 5000][seed as usize % 4], outlier, 900 + seed);
        // Ties, zeros, and one side far weaker than the other.
        for (i, x) in w.iter_mut().enumerate() {
            *x = match seed % 3 {
                0 => (*x * 8.0).round() / 8.0,
                1 if *x < 0.0 => *x * 1e-3,
                _ if i % 7 == 0 => 0.0,
                _ => *x,
            };
        }
        let got = objective(&w, &values(&fitted(choice("sign-split", 2, Objective::Angle), &w)));
        let mut best = 0f64;
        for r in [0.5, 1.0, 2.0] {
            let entry = |&x: &f32| {
                let level = if x > 0.0 { r } else { 1.0 };
                (f64::from(x.abs()) / level, level)
            };
            let mut sorted: Vec<_> = w.iter().map(entry).collect();
            sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
            let (mut dot, mut norm) = (0.0, 0.0);
            for (value, level) in sorted {
                dot += value * level * level;
                norm += level * level;
                best = best.max(dot * dot / norm);
            }
        }
        assert!((got - best).abs() <= 1e-9 * best, "seed {seed}: {got} of {best}");
    }
}

#[test]
fn the_l2_fit_finds_its_exponents_over_any_range() {
    for (seed, outlier) in [(1, 1.0), (2, 50.0), (3, 1e4), (4, 1e7)] {
        let w = heavy_tailed(3000, outlier, seed);
        let filter = fitted(choice("sign-split", 2, Objective::L2), &w);
        let side = |sign: f32| -> f64 {
            let error = |p: i32| -> f64 {
                let level = f64::from(p).exp2();
                let side = w.iter().map(|&x| f64::from(sign * x)).filter(|&v| v > 0.0);
                side.map(|v| v.powi(2).min((v - level).powi(2))).sum()
            };
            (-30..30).map(error).fold(f64::MAX, f64::min)
        };
        let (got, best) = (squared_error(&w, &filter), side(1.0) + side(-1.0));
        // Levels further apart than 2^6 are drawn together, as documented.
        let narrow = filter.levels.iter().all(|l| l.unsigned_abs() < 64);
        assert!(!narrow || got <= best * (1.0 + 1e-9), "{outlier}: {got}, possible {best}");
    }
}

/// Every width and objective of every codebook.
fn choices() -> impl Iterator<Item = Choice> {
    all().iter().flat_map(|codebook| {
        let objectives = codebook.objectives().iter();
        objectives.flat_map(move |&o| codebook.widths().map(move |bits| choice(codebook.name(), bits, o)))
    })
}

#[test]
fn levels_keep_their_codebook_s_promises() {
    for (seed, choice) in choices().enumerate() {
        let (codebook, bits, objective) = (choice.codebook(), choice.bits(), choice.objective());
        for outlier in [1.0, 1e4] {
            let levels = begun(choice, &heavy_tailed(700, outlier, seed as u64)).levels;
            assert!(levels.len() <= 1 << bits, "{choice:?}");
            assert!(levels.windows(2).all(|p| p[0] < p[1]), "{choice:?} {levels:?}");
            let fits = |level: &i8| {
                level.unsigned_abs() <= codebook.largest(bits, objective)
                    && digits(*level) <= codebook.terms(bits, objective)
            };
            assert!(levels.iter().all(fits), "{choice:?} {levels:?}");
        }
    }
    assert_eq!(find("two-term").map(|codebook| codebook.largest(4, Objective::L2)), Some(12));
}

#[test]
fn a_codebook_is_found_by_name_and_by_width() {
    let default = |family, bits| Choice::new(family, None, bits, None).map(|c| c.codebook().name());
    assert_eq!(default(Family::Aptq, 2), Ok("sign-split"));
    for (bits, name) in [(2, "single-shift"), (3, "single-shift"), (4, "two-term"), (5, "two-term")] {
        assert_eq!(default(Family::Apq, bits), Ok(name));
    }
    let text = |made: Result<Choice, NoSuchCodebook>| made.expect_err("refused").to_string();
    let unknown = text(Choice::new(Family::Apq, Some("three-term"), 3, None));
    for codebook in Family::Apq.codebooks() {
        assert!(unknown.contains(codebook.name()), "{unknown}");
    }
    let foreign = text(Choice::new(Family::Aptq, Some("two-term"), 2, None));
    assert!(foreign.contains("sign-split") && foreign.contains("two-term"), "{foreign}");
    let narrow = text(Choice::new(Family::Apq, Some("two-term"), 3, None));
    assert_eq!(narrow, "3 is not a width of two-term, which has 4, 5");
    assert!(text(Choice::new(Family::Apq, None, 9, None)).starts_with("9 is not a width of apq"));
    assert_eq!(Choice::default_bits(Family::Aptq, None), Ok(2));
    assert_eq!(Choice::default_bits(Family::Apq, None), Ok(3));
    assert_eq!(Choice::default_bits(Family::Apq, Some("two-term")), Ok(4));
    for (index, codebook) in all().iter().enumerate() {
        assert!(all()[..index].iter().all(|other| other.name() != codebook.name()), "{}", codebook.name());
    }
}

/// Relative squared errors on Gaussian weights; with the angle boundary at its optimal scale.
#[test]
fn gaussian_weights_give_the_known_errors() {
    let w = gaussian(200_000, 3);
    let norm: f64 = w.iter().map(|&x| f64::from(x).powi(2)).sum();
    let angle = 1.0 - objective(&w, &values(&fitted(choice("sign-split", 2, Objective::Angle), &w))) / norm;
    let cases = [
        ("angle", angle, 0.190, 0.002),
        (
            "3 bits",
            squared_error(&w, &fitted(choice("single-shift", 3, Objective::L2), &w)) / norm,
            0.047,
            0.003,
        ),
        (
            "4 bits single",
            squared_error(&w, &fitted(choice("single-shift", 4, Objective::L2), &w)) / norm,
            0.036,
            0.003,
        ),
        (
            "5 bits two-term",
            squared_error(&w, &fitted(choice("two-term", 5, Objective::L2), &w)) / norm,
            0.0035,
            0.0012,
        ),
    ];
    for (name, got, known, tolerance) in cases {
        assert!((got - known).abs() < tolerance, "{name}: {got}, known {known}");
    }
}

#[test]
fn zeros_single_weights_and_denormals_are_fitted() {
    for choice in choices() {
        assert_eq!(values(&begun(choice, &[0.0; 5])), [0.0; 5]);
        for w in [[0.3f32].as_slice(), &[-7.0], &[1e-40, -1e-40], &[0.0, 5.0], &[3e30, 1e-30, -3e30]] {
            let filter = begun(choice, w);
            let got = values(&filter);
            assert_eq!(got.len(), w.len(), "{choice:?}");
            assert!(
                w.iter().zip(&got).all(|(&x, &v)| v == 0.0 || x == 0.0 || (x > 0.0) == (v > 0.0)),
                "{choice:?} {w:?} {got:?}"
            );
            let largest = w.iter().zip(&got).max_by(|a, b| a.0.abs().total_cmp(&b.0.abs()));
            assert!(largest.is_some_and(|(_, &v)| v != 0.0), "{choice:?} {w:?} {got:?}");
        }
        for bad in [f32::NAN, f32::INFINITY] {
            let refused = Fitter::default().fit(choice, &[1.0, bad], &mut Filter::default());
            assert!(refused.is_err_and(|e| e.index == 1), "{choice:?}");
        }
    }
}

#[test]
fn frozen_codebooks_keep_levels_and_exponent() {
    for choice in choices() {
        let start = |w: &[f32]| choice.codebook().start(choice.objective(), w);
        let (before, after) = (start(&gaussian(144, 1)), start(&gaussian(144, 2)));
        let mut fitter = Fitter::default();
        let mut filter = fitted(choice, &before);
        let kept = (filter.levels.clone(), filter.exponent);
        fitter.refit(choice, &before, &mut filter).expect("finite weights");
        assert_eq!(
            (&filter.levels, filter.exponent),
            (&kept.0, kept.1),
            "{choice:?}: a refit finds it again"
        );
        fitter.assign(choice, &before, &mut filter).expect("finite weights");
        assert_eq!(filter.codes, fitted(choice, &before).codes, "{choice:?}: nothing moved, nothing changes");
        fitter.assign(choice, &after, &mut filter).expect("finite weights");
        assert_eq!((filter.levels.clone(), filter.exponent), kept, "{choice:?}");
        fitter.assign(choice, &vec![0.0; after.len()], &mut filter).expect("finite weights");
        assert_eq!((filter.levels.clone(), filter.exponent), kept, "{choice:?}");
    }
}

#[test]
fn statistics_count_what_they_say() {
    let filter = Filter {
        levels: vec![-3, 0, 4],
        exponent: -1,
        scale: 1.0,
        codes: vec![0, 1, 2, 1],
        clip: (0.0, 0.0),
    };
    let mut statistics = Statistics::default();
    statistics.add(&[-1.5, 0.0, 2.0, 1.0], &filter);
    assert_eq!(statistics.sparsity(), 0.5);
    assert_eq!(statistics.shift_adds(), 0.75);
    assert!((statistics.relative_error() - 1.0 / 7.25).abs() < 1e-12);
    // ⟨w,ŵ⟩ = 6.25, ‖ŵ‖² = 6.25: the scale is the best one already.
    assert!((statistics.scaled_error() - 1.0 / 7.25).abs() < 1e-12);
    let mut doubled = Statistics::default();
    doubled.add(&[-3.0, 0.0, 4.0, 2.0], &filter);
    assert!((doubled.relative_error() - 10.25 / 29.0).abs() < 1e-12);
    assert!((doubled.scaled_error() - 4.0 / 29.0).abs() < 1e-12);
}
