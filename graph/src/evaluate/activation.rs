//! Functions of one element.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, PI};

use crate::network::{Op, Tensor};

/// The function that an elementwise operation applies; the identity for others.
pub(super) fn of(op: &Op) -> Box<dyn Fn(f32) -> f32> {
    match *op {
        Op::Relu => Box::new(|x| x.max(0.0)),
        Op::Clip { lo, hi } => Box::new(move |x| x.max(lo).min(hi)),
        Op::LeakyRelu { slope } => Box::new(move |x| leaky(slope, x)),
        Op::Elu { alpha } => {
            Box::new(move |x| if x > 0.0 { x } else { precise(x, |x| f64::from(alpha) * x.exp_m1()) })
        }
        Op::Sigmoid => Box::new(|x| precise(x, sigmoid)),
        Op::HardSigmoid { alpha, beta } => {
            Box::new(move |x| precise(x, |x| (f64::from(alpha) * x + f64::from(beta)).clamp(0.0, 1.0)))
        }
        Op::Silu => Box::new(|x| precise(x, |x| x * sigmoid(x))),
        Op::HardSwish => Box::new(|x| precise(x, |x| x * (x + 3.0).clamp(0.0, 6.0) / 6.0)),
        Op::Gelu { tanh: false } => Box::new(|x| precise(x, |x| x / 2.0 * (1.0 + erf(x * FRAC_1_SQRT_2)))),
        Op::Gelu { tanh: true } => Box::new(|x| {
            precise(x, |x| x / 2.0 * (1.0 + ((2.0 / PI).sqrt() * (x + 0.044_715 * x * x * x)).tanh()))
        }),
        Op::Tanh => Box::new(|x| precise(x, f64::tanh)),
        _ => Box::new(|x| x),
    }
}

/// A leaky ReLU with one slope a channel.
pub(super) fn channelwise(slopes: &[f32], x: &Tensor) -> Vec<f32> {
    let plane = (x.data.len() / slopes.len().max(1)).max(1);
    x.data
        .chunks_exact(plane)
        .zip(slopes)
        .flat_map(|(plane, &slope)| plane.iter().map(move |&x| leaky(slope, x)))
        .collect()
}

fn leaky(slope: f32, x: f32) -> f32 {
    if x > 0.0 { x } else { slope * x }
}

fn precise(x: f32, f: impl Fn(f64) -> f64) -> f32 {
    f(f64::from(x)) as f32
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The error function, by `2/√π·e^(−x²)·Σ 2ⁿx²ⁿ⁺¹/(2n+1)!!`, all of whose terms have one sign (NIST's Digital
/// Library of Mathematical Functions, 7.6.2). From 6 on it is 1 in f64.
fn erf(x: f64) -> f64 {
    if x.is_nan() || x.abs() >= 6.0 {
        return x.clamp(-1.0, 1.0);
    }
    let (mut term, mut sum, mut odd) = (x, x, 1.0);
    while term.abs() > sum.abs() * f64::EPSILON / 4.0 {
        odd += 2.0;
        term *= 2.0 * x * x / odd;
        sum += term;
    }
    FRAC_2_SQRT_PI * (-x * x).exp() * sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Python: `[math.erf(x) for x in ...]`.
    #[test]
    fn the_error_function_has_its_known_values() {
        for (x, expected) in [
            (0.0, 0.0),
            (1e-300, 1.128_379_167_095_512_6e-300),
            (0.1, 0.112_462_916_018_284_9),
            (0.5, 0.520_499_877_813_046_5),
            (1.0, 0.842_700_792_949_714_9),
            (2.0, 0.995_322_265_018_952_7),
            (3.5, 0.999_999_256_901_627_7),
            (5.9, 1.0),
            (40.0, 1.0),
        ] {
            assert!((erf(x) - expected).abs() <= 1e-14 * expected.abs(), "{x}: {}", erf(x));
            assert_eq!(erf(-x), -erf(x));
        }
        assert!(erf(f64::NAN).is_nan());
    }

    /// PyTorch 2.13: `torch.nn.functional` in float64 at −4, −2, −0.5, 0, 1 and 3.5.
    #[test]
    fn functions_have_the_values_that_pytorch_gives_them() {
        let at = [-4.0, -2.0, -0.5, 0.0, 1.0, 3.5];
        let cases: [(Op, [f32; 6]); 7] = [
            (Op::HardSwish, [-0.0, -0.333_333, -0.208_333, 0.0, 0.666_667, 3.5]),
            (
                Op::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 },
                [0.0, 0.166_667, 0.416_667, 0.5, 0.666_667, 1.0],
            ),
            (Op::Silu, [-0.071_945, -0.238_406, -0.188_77, 0.0, 0.731_059, 3.397_407]),
            (Op::Gelu { tanh: false }, [-0.000_127, -0.045_5, -0.154_269, 0.0, 0.841_345, 3.499_186]),
            (Op::Gelu { tanh: true }, [-0.000_07, -0.045_402, -0.154_286, 0.0, 0.841_192, 3.499_384]),
            (Op::Elu { alpha: 1.5 }, [-1.472_527, -1.296_997, -0.590_204, 0.0, 1.0, 3.5]),
            (Op::LeakyRelu { slope: 0.1 }, [-0.4, -0.2, -0.05, 0.0, 1.0, 3.5]),
        ];
        for (op, expected) in cases {
            let of = of(&op);
            for (x, expected) in at.into_iter().zip(expected) {
                let actual = of(x);
                assert!(
                    (actual - expected).abs() <= 1e-5 * expected.abs().max(0.1),
                    "{op:?} at {x}: {actual}"
                );
            }
        }
    }

    #[test]
    fn large_numbers_give_limits_and_no_nan() {
        for (op, low) in [
            (Op::Silu, 0.0),
            (Op::HardSwish, 0.0),
            (Op::Gelu { tanh: false }, 0.0),
            (Op::Gelu { tanh: true }, 0.0),
            (Op::Elu { alpha: 2.0 }, -2.0),
        ] {
            let of = of(&op);
            assert_eq!([of(-1e4), of(1e4)], [low, 1e4], "{op:?}");
        }
    }

    #[test]
    fn slopes_belong_to_channels() {
        let x = Tensor { shape: vec![2, 1, 2], data: vec![-1.0, 1.0, -2.0, 2.0] };
        assert_eq!(channelwise(&[0.5, -1.0], &x), [-0.5, 1.0, 2.0, 2.0]);
    }
}
