//! The additive reading: what it begins with, what it fits, and what its window lets through.

use super::*;

fn additive(objective: Objective) -> Choice {
    choice("additive", 2, objective)
}

#[test]
fn subfilters_begin_with_the_best_even_threshold_and_sum_up_to_the_filter() {
    for seed in 0..30 {
        let w = gaussian(7, 400 + seed);
        for objective_of in [Objective::Angle, Objective::L2] {
            let choice = additive(objective_of);
            let latent = choice.codebook().start(objective_of, &w);
            assert_eq!(latent.len(), 2 * w.len());
            let sum = choice.codebook().sum(&latent);
            assert!(w.iter().zip(&sum).all(|(x, s)| (x - s).abs() <= 1e-6), "{w:?} {sum:?}");
            let t = values(&fitted(choice, &latent));
            let scale = t.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
            let ternary: Vec<f64> = t.iter().map(|v| v / scale).collect();
            match objective_of {
                Objective::Angle => {
                    let best =
                        assignments(7, [-1.0, 0.0, 1.0]).map(|t| objective(&w, &t)).fold(0.0, f64::max);
                    assert!((objective(&w, &ternary) - best).abs() <= 1e-9 * best, "seed {seed}");
                }
                Objective::L2 => {
                    let mut least = (f64::INFINITY, Vec::new());
                    for exponent in -6..3 {
                        let level = f64::from(exponent).exp2();
                        for t in assignments(7, [-level, 0.0, level]) {
                            let error = w.iter().zip(&t).map(|(&x, v)| (f64::from(x) - v).powi(2)).sum();
                            if error < least.0 {
                                least = (error, t.iter().map(|v| v / level).collect());
                            }
                        }
                    }
                    assert_eq!(ternary, least.1, "seed {seed}");
                }
            }
        }
    }
}

#[test]
fn signs_and_exponent_are_the_nearest_binary_subfilters() {
    for seed in 0..30 {
        let latent = gaussian(8, 500 + seed);
        let filter = fitted(additive(Objective::Angle), &latent);
        let error = |p: i32, signs: u32| -> f64 {
            let value =
                |i: usize| if (signs >> i) & 1 == 1 { f64::from(p).exp2() } else { -f64::from(p).exp2() };
            latent.iter().enumerate().map(|(i, &u)| (f64::from(u) - value(i)).powi(2)).sum()
        };
        let all = (-6..4).flat_map(|p| (0..256).map(move |signs| (p, signs)));
        let (p, signs) = all.min_by(|x, y| error(x.0, x.1).total_cmp(&error(y.0, y.1))).expect("some");
        let sign = |i: usize| if (signs >> i) & 1 == 1 { 1.0 } else { -1.0 };
        let best: Vec<f64> = (0..4).map(|i| f64::from(p).exp2() * (sign(i) + sign(i + 4))).collect();
        assert_eq!(values(&filter), best, "seed {seed}");
    }
}

#[test]
fn the_window_lets_each_subfilter_s_own_gradient_through() {
    let codebook = additive(Objective::Angle).codebook();
    let filter = fitted(additive(Objective::Angle), &[1.0, -1.0, 0.5, -3.0]);
    // α = 1.375, p = 0: the window's half width is 2.
    assert_eq!(filter.exponent, 1);
    let passed = codebook.pass_back(&[1.0, -1.0, 0.5, -3.0], &filter, &[8.0, -8.0]);
    assert_eq!(passed, [4.0, -4.0, 6.0, 0.0]);
    let zeros = fitted(additive(Objective::Angle), &[0.0; 4]);
    assert_eq!(values(&zeros), [0.0; 2]);
    assert_eq!(codebook.pass_back(&[0.0; 4], &zeros, &[1.0, 2.0]), [1.0, 2.0, 1.0, 2.0]);
}
