//! The engine's edges: floats, bytes, refusals, threads.

use dyadic_engine::engine::RunError;
use dyadic_engine::model::{Normalization, Step};
use dyadic_engine::quantize::Quantizer;
use dyadic_engine::testing::{random_model, resnet20};
use dyadic_engine::{Engine, Model, reference};

fn with_normalization(mut model: Model) -> Model {
    let channels = model.input_shape().c as usize;
    model.input.normalization = Some(Normalization {
        mean: (0..channels).map(|c| 0.4 + 0.03 * c as f32).collect(),
        std: (0..channels).map(|c| 0.25 - 0.01 * c as f32).collect(),
    });
    model
}

#[test]
fn all_256_byte_values_take_the_float_path() {
    let model = with_normalization(resnet20(1, 2));
    let normalization = model.input.normalization.clone().expect("set above");
    let tensor = model.tensor(model.input.tensor);
    let quantizer = Quantizer::new(tensor.format, tensor.step);
    let engine = Engine::new(model.clone()).expect("valid");
    let mut scratch = engine.scratch();
    let pixels = (tensor.shape.h * tensor.shape.w) as usize;
    let channels = tensor.shape.c as usize;
    // Every value in every channel, as bytes in HWC order and as floats in CHW order.
    let bytes: Vec<u8> = (0..pixels * channels).map(|i| (i / channels + 85 * (i % channels)) as u8).collect();
    let mut floats = vec![0.0; bytes.len()];
    for (i, &byte) in bytes.iter().enumerate() {
        let (pixel, channel) = (i / channels, i % channels);
        let value = (f32::from(byte) / 255.0 - normalization.mean[channel]) / normalization.std[channel];
        floats[channel * pixels + pixel] = value;
        assert_eq!(normalization.value(byte, channel), value);
        assert!(quantizer.code(value).is_some());
    }
    let (mut from_bytes, mut from_floats) = (vec![0.0; 10], vec![0.0; 10]);
    engine.run_u8(&mut scratch, &bytes, 1, &mut from_bytes).expect("valid");
    engine.run_f32(&mut scratch, &floats, 1, &mut from_floats).expect("valid");
    assert_eq!(from_bytes, from_floats);
    // And code by code, through a model that hands its input on.
    let input = dyadic_engine::quantize::InputQuantizer::new(&model);
    let (mut by_bytes, mut by_floats) = (vec![i32::MAX; bytes.len()], vec![i32::MAX; bytes.len()]);
    input.bytes(&bytes, |position, code| by_bytes[position] = code);
    input.floats(&floats, |position, code| by_floats[position] = code).expect("finite");
    assert_eq!(by_bytes, by_floats);
    let distinct: std::collections::HashSet<_> = bytes.iter().collect();
    assert_eq!(distinct.len(), 256);
}

#[test]
fn float_runs_equal_the_reference_and_its_scaled_outputs() {
    for seed in 0..40 {
        let mut model = random_model(seed);
        model.output.softmax = seed % 3 == 0;
        let engine = Engine::new(model.clone()).expect("valid");
        let shape = engine.input_shape();
        let (pixels, channels) = ((shape.h * shape.w) as usize, shape.c as usize);
        let floats: Vec<f32> = (0..shape.len()).map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.07).collect();
        let tensor = model.tensor(model.input.tensor);
        let Step::Free(step) = tensor.step else { panic!("the generator's input step is free") };
        let (lo, hi) = tensor.format.range();
        let mut codes = vec![0; floats.len()];
        for (i, &x) in floats.iter().enumerate() {
            let code = (f64::from(x / step) + 0.5).floor().clamp(f64::from(lo), f64::from(hi)) as i32;
            codes[i % pixels * channels + i / pixels] = code;
        }
        let trace = reference::run(&model, &codes).expect("valid");
        let expected = reference::output_values(&model, &trace.codes[model.output.tensor.0 as usize]);
        let mut out = vec![0.0; engine.output_len()];
        engine.run_f32(&mut engine.scratch(), &floats, 1, &mut out).expect("valid");
        assert_eq!(out, expected, "seed {seed}");
    }
}

#[test]
fn wrong_lengths_codes_and_numbers_are_refused_and_named() {
    let engine = Engine::new(random_model(7)).expect("valid");
    let mut scratch = engine.scratch();
    let (len, values) = (engine.input_shape().len(), engine.output_len());
    let mut out = vec![0.0; values];
    let short = vec![0.0; len - 1];
    assert!(matches!(
        engine.run_f32(&mut scratch, &short, 1, &mut out),
        Err(RunError::InputLength { expected, actual }) if expected == len && actual == len - 1
    ));
    let mut input = vec![0.0; len];
    assert!(matches!(engine.run_f32(&mut scratch, &input, 2, &mut out), Err(RunError::InputLength { .. })));
    assert!(matches!(engine.run_f32(&mut scratch, &input, 1, &mut []), Err(RunError::OutputLength { .. })));
    assert!(matches!(
        engine.run_f32(&mut scratch, &input, usize::MAX, &mut out),
        Err(RunError::InputLength { .. })
    ));
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        input[len / 2] = bad;
        match engine.run_f32(&mut scratch, &input, 1, &mut out) {
            Err(RunError::NotFinite(error)) => assert_eq!(error.index, len / 2),
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(
        engine.run_u8(&mut scratch, &vec![0; len], 1, &mut out),
        Err(RunError::NoNormalization)
    ));
    let mut codes = vec![0; len];
    codes[0] = 1 << 20;
    assert!(matches!(
        engine.run_codes(&mut scratch, &codes, 1, &mut vec![0; values]),
        Err(RunError::InputCode { index: 0, .. })
    ));
}

#[test]
fn a_scratch_of_another_engine_grows_to_fit() {
    let (small, large) =
        (Engine::new(random_model(1)).expect("valid"), Engine::new(resnet20(2, 3)).expect("valid"));
    let mut scratch = small.scratch();
    let input = vec![0.5; large.input_shape().len()];
    let (mut with_grown, mut with_own) = (vec![0.0; 10], vec![0.0; 10]);
    large.run_f32(&mut scratch, &input, 1, &mut with_grown).expect("valid");
    large.run_f32(&mut large.scratch(), &input, 1, &mut with_own).expect("valid");
    assert_eq!(with_grown, with_own);
}

#[test]
fn one_engine_serves_many_threads() {
    let engine = Engine::new(resnet20(3, 4)).expect("valid");
    let input = vec![0.1; engine.input_shape().len()];
    let run = || {
        let mut out = vec![0.0; 10];
        engine.run_f32(&mut engine.scratch(), &input, 1, &mut out).expect("valid");
        out
    };
    let expected = run();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(run)).collect();
        for thread in threads {
            assert_eq!(thread.join().expect("no panic"), expected);
        }
    });
}
