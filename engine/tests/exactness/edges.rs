//! The input's edge on every kernel: floats and bytes get the codes of the definition, for one sample and for several.

use dyadic_engine::model::{Format, Normalization, Op, Shape, Step};
use dyadic_engine::testing::{Builder, Rng};
use dyadic_engine::{Engine, Model, reference};

/// A model whose output is its input's codes.
fn identity(shape: Shape, format: Format, step: f32) -> Model {
    let (mut builder, x) = Builder::new(1, shape, format);
    let y = builder.affine(x, format);
    let mut model = builder.finish("identity", y);
    model.tensors[0].step = Step::Free(step);
    let channels = shape.c as usize;
    let (lo, hi) = format.range();
    if let Some(Op::Affine(rule)) = model.nodes.first_mut().map(|node| &mut node.op) {
        (rule.pre, rule.multiplier) = (vec![0; channels], vec![1; channels]);
        (rule.bias, rule.shift) = (vec![0; channels], vec![0; channels]);
        (rule.lo, rule.hi) = (lo, hi);
    }
    model
}

/// `clamp(floor(f64(x / step) + ½), lo, hi)`.
fn defined(x: f32, step: f32, format: Format) -> i32 {
    let (lo, hi) = format.range();
    (f64::from(x / step) + 0.5).floor().clamp(f64::from(lo), f64::from(hi)) as i32
}

/// Values at and next to every half, and anywhere.
fn value(rng: &mut Rng, step: f32) -> f32 {
    let half = rng.code(-540, 540) as f32 * 0.5 * step;
    match rng.below(6) {
        0 => rng.pick(&[0.0, -0.0, f32::MAX, f32::MIN, f32::MIN_POSITIVE, 1e-45, -1e-45]),
        1 => rng.code(-300_000, 300_000) as f32 * 0.001 * step,
        _ => f32::from_bits(half.to_bits().wrapping_add(rng.below(5) as u32).wrapping_sub(2)),
    }
}

const FORMATS: [Format; 5] = [
    Format::Unsigned { bits: 8 },
    Format::Signed { bits: 8 },
    Format::Unsigned { bits: 6 },
    Format::Signed { bits: 3 },
    Format::Unsigned { bits: 1 },
];

#[test]
fn floats_take_the_codes_of_the_definition_on_every_kernel() {
    let mut rng = Rng::new(51);
    for channels in [1, 2, 3, 4, 5, 16, 33] {
        for format in FORMATS {
            for step in [0.018_5, 1.0, 0.25, 0.1, 3e-5, 1e20, 1e-38, f32::MIN_POSITIVE] {
                let shape = Shape { h: rng.code(1, 7) as u32, w: rng.code(1, 33) as u32, c: channels };
                let model = identity(shape, format, step);
                let (pixels, samples) = ((shape.h * shape.w) as usize, 3);
                let input: Vec<f32> = (0..samples * shape.len())
                    .map(|_| value(&mut rng, step))
                    .map(|x| if x.is_finite() { x } else { 0.0 })
                    .collect();
                let mut expected = Vec::new();
                for sample in input.chunks_exact(shape.len()) {
                    let channels = channels as usize;
                    let code =
                        |at: usize| defined(sample[at % channels * pixels + at / channels], step, format);
                    let codes: Vec<i32> = (0..shape.len()).map(code).collect();
                    expected.extend(reference::output_values(&model, &codes));
                }
                for engine in Engine::on_every_kernel(model).expect("valid") {
                    let mut out = vec![0.0; expected.len()];
                    engine.run_f32(&mut engine.scratch(), &input, samples, &mut out).expect("finite");
                    let kernel = engine.kernel_name();
                    assert_eq!(out, expected, "{kernel}: {shape}, {format:?}, step {step}");
                }
            }
        }
    }
}

#[test]
fn bytes_take_the_codes_of_the_definition_on_every_kernel() {
    let mut rng = Rng::new(52);
    for channels in [1, 2, 3, 4, 5, 16, 33] {
        for format in FORMATS {
            let shape = Shape { h: rng.code(1, 7) as u32, w: rng.code(1, 33) as u32, c: channels };
            let (step, samples) = (0.018_5, 3);
            let mut model = identity(shape, format, step);
            let numbers = |rng: &mut Rng, lo, hi| -> Vec<f32> {
                (0..channels).map(|_| rng.code(lo, hi) as f32 * 0.001).collect()
            };
            let (mean, std) = (numbers(&mut rng, 0, 600), numbers(&mut rng, 150, 900));
            model.input.normalization = Some(Normalization { mean: mean.clone(), std: std.clone() });
            let input: Vec<u8> = (0..samples * shape.len()).map(|_| rng.bits() as u8).collect();
            let codes: Vec<i32> = input
                .iter()
                .enumerate()
                .map(|(at, &byte)| {
                    let channel = at % channels as usize;
                    defined((f32::from(byte) / 255.0 - mean[channel]) / std[channel], step, format)
                })
                .collect();
            let expected = reference::output_values(&model, &codes);
            for engine in Engine::on_every_kernel(model).expect("valid") {
                let mut out = vec![0.0; expected.len()];
                engine.run_u8(&mut engine.scratch(), &input, samples, &mut out).expect("normalized");
                assert_eq!(out, expected, "{}: {shape}, {format:?}", engine.kernel_name());
            }
        }
    }
}

#[test]
fn numbers_that_are_not_finite_are_refused_wherever_they_stand_and_nothing_is_written() {
    let shape = Shape { h: 9, w: 31, c: 3 };
    let model = identity(shape, Format::Signed { bits: 8 }, 0.1);
    for engine in Engine::on_every_kernel(model).expect("valid") {
        let mut scratch = engine.scratch();
        let mut input = vec![0.25; 2 * shape.len()];
        let mut out = vec![7.0; input.len()];
        for at in (0..input.len()).step_by(17).chain([input.len() - 1]) {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                input[at] = bad;
                let refused = engine.run_f32(&mut scratch, &input, 2, &mut out);
                assert!(refused.is_err(), "{} at {at}", engine.kernel_name());
                input[at] = 0.25;
            }
        }
        assert!(out.iter().all(|&value| value == 7.0), "{}", engine.kernel_name());
    }
}
