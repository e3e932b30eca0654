//! Every executor equals the reference on every tensor, exactly.

use dyadic_engine::engine::Samples;
use dyadic_engine::model::{Format, Model, Shape, Window};
use dyadic_engine::testing::{Builder, ConvCase, Rng, extreme_inputs, random_model};
use dyadic_engine::{Engine, reference};

fn assert_parity(model: &Model, seed: u64) {
    let engines = Engine::on_every_kernel(model.clone()).expect("generated models are valid");
    assert_eq!(engines.last().map(Engine::kernel_name), Some("generic"));
    for codes in extreme_inputs(model, seed) {
        let expected = reference::run(model, &codes).expect("generated inputs are valid");
        for engine in &engines {
            let actual = engine.trace(&mut engine.scratch(), &codes).expect("generated inputs are valid");
            for (index, tensor) in model.tensors.iter().enumerate() {
                let same = expected.codes[index] == actual.codes[index];
                assert!(same, "seed {seed}, {}: tensor {} differs", engine.kernel_name(), tensor.name);
            }
        }
    }
}

#[test]
fn random_graphs_equal_the_reference() {
    for seed in 0..600 {
        assert_parity(&random_model(seed), seed);
    }
}

fn conv_model(seed: u64, shape: Shape, format: Format, case: &ConvCase, residual: bool) -> Model {
    let (mut builder, x) = Builder::new(seed, shape, format);
    let add =
        residual.then(|| builder.conv(x, &ConvCase { output: Format::Signed { bits: 16 }, ..*case }, None));
    let y = builder.conv(x, case, add);
    builder.finish("conv", y)
}

#[test]
fn channel_and_filter_counts_around_every_block_size_equal_the_reference() {
    let mut rng = Rng::new(1);
    for cin in [1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33] {
        for filters in [1, 2, 3, 4, 5, 7, 8, 9, 13, 16, 17] {
            let side = rng.pick(&[1, 2, 3]);
            let case = ConvCase { bits: rng.code(2, 8) as u8, ..ConvCase::square(filters, side, 1) };
            let shape = Shape { h: 4, w: rng.code(3, 6) as u32, c: cin };
            let format = rng.pick(&[Format::Unsigned { bits: 8 }, Format::Signed { bits: 8 }]);
            let seed = rng.bits();
            assert_parity(&conv_model(seed, shape, format, &case, rng.one_in(2)), seed);
        }
    }
}

#[test]
fn extreme_levels_and_codes_equal_the_reference() {
    for (seed, bits) in (0..).zip([2, 3, 4, 5, 6, 7, 8, 8, 2, 5]) {
        let case = ConvCase { bits, extreme: true, ..ConvCase::square(6, 3, 1) };
        let shape = Shape { h: 5, w: 5, c: 64 };
        for format in [Format::Unsigned { bits: 8 }, Format::Signed { bits: 8 }, Format::Unsigned { bits: 1 }]
        {
            assert_parity(&conv_model(seed, shape, format, &case, seed % 2 == 0), seed);
        }
    }
}

#[test]
fn depthwise_and_grouped_convolutions_equal_the_reference() {
    let mut rng = Rng::new(3);
    for (channels, groups, filters) in [
        (1, 1, 1),
        (4, 4, 4),
        (8, 8, 8),
        (13, 13, 13),
        (70, 70, 70),
        (6, 6, 12),
        (16, 4, 8),
        (16, 2, 16),
        (9, 3, 6),
    ] {
        for stride in [1, 2] {
            let square = ConvCase::square(filters, 3, stride);
            let case = ConvCase { groups, bits: rng.code(2, 8) as u8, ..square };
            let seed = rng.bits();
            let shape = Shape { h: 7, w: 6, c: channels };
            assert_parity(&conv_model(seed, shape, Format::Unsigned { bits: 6 }, &case, stride == 1), seed);
        }
    }
}

#[test]
fn one_dimensional_and_lopsided_windows_equal_the_reference() {
    let windows = [
        Window { kernel: [1, 7], stride: [1, 2], padding: [0, 3, 0, 3], dilation: [1, 1] },
        Window { kernel: [5, 1], stride: [2, 1], padding: [1, 0, 4, 0], dilation: [1, 1] },
        Window { kernel: [3, 2], stride: [3, 1], padding: [2, 0, 0, 1], dilation: [2, 3] },
        Window { kernel: [2, 2], stride: [4, 4], padding: [5, 5, 5, 5], dilation: [1, 1] },
        Window { kernel: [6, 5], stride: [1, 1], padding: [0, 0, 0, 0], dilation: [1, 1] },
    ];
    for (seed, window) in (10..).zip(windows) {
        for channels in [3, 8] {
            let case = ConvCase { window, bits: 3, ..ConvCase::square(5, 3, 1) };
            let shape = Shape { h: 6, w: 8, c: channels };
            assert_parity(&conv_model(seed, shape, Format::Signed { bits: 7 }, &case, true), seed);
        }
    }
}

#[test]
fn outputs_come_in_the_callers_units() {
    for seed in 0..40 {
        let model = random_model(seed);
        let engine = Engine::new(model.clone()).expect("generated models are valid");
        let mut scratch = engine.scratch();
        let inputs = extreme_inputs(&model, seed);
        let batch: Vec<i32> = inputs.concat();
        let mut codes = vec![0; inputs.len() * engine.output_len()];
        engine.run_codes(&mut scratch, &batch, inputs.len(), &mut codes).expect("valid");
        for (input, output) in inputs.iter().zip(codes.chunks_exact(engine.output_len())) {
            let trace = reference::run(&model, input).expect("valid");
            assert_eq!(trace.codes[model.output.tensor.0 as usize], output, "seed {seed}");
        }
    }
}

#[test]
fn a_batch_over_threads_equals_one_sample_after_the_other() {
    let model = random_model(21);
    let engine = Engine::new(model).expect("generated models are valid");
    let mut rng = Rng::new(4);
    for batch in [0, 1, 2, 5, 9] {
        let input: Vec<f32> =
            (0..batch * engine.input_shape().len()).map(|_| rng.code(-300, 300) as f32 * 0.01).collect();
        let mut expected = vec![0.0; batch * engine.output_len()];
        engine.run_f32(&mut engine.scratch(), &input, batch, &mut expected).expect("valid");
        for threads in [1, 2, 4] {
            let mut scratches: Vec<_> = (0..threads).map(|_| engine.scratch()).collect();
            let mut out = vec![0.0; expected.len()];
            engine.run_batch(&mut scratches, Samples::Floats(&input), batch, &mut out).expect("valid");
            assert_eq!(out, expected, "batch {batch}, {threads} threads");
        }
    }
}

#[test]
fn layers_whose_weights_stay_packed_equal_the_reference() {
    let mut rng = Rng::new(5);
    for (side, channels, filters, kernel, stride) in
        [(4, 512, 232, 3, 1), (5, 256, 460, 3, 2), (2, 1024, 1032, 1, 1)]
    {
        let case = ConvCase { bits: 2, ..ConvCase::square(filters, kernel, stride) };
        let shape = Shape { h: side, w: side, c: channels };
        let seed = rng.bits();
        for (format, extreme) in [
            (Format::Unsigned { bits: 6 }, false),
            (Format::Signed { bits: 8 }, false),
            (Format::Signed { bits: 8 }, true),
        ] {
            let case = ConvCase { extreme, ..case };
            assert_parity(&conv_model(seed, shape, format, &case, stride == 1), seed);
        }
    }
}

#[test]
fn large_fully_connected_layers_equal_the_reference() {
    let mut rng = Rng::new(8);
    for (side, channels, filters, bits) in
        [(1, 1024, 150, 2), (1, 1030, 150, 3), (3, 130, 117, 4), (1, 2048, 64, 4), (2, 260, 130, 3)]
    {
        let window = Window { kernel: [side; 2], stride: [1; 2], padding: [0; 4], dilation: [1; 2] };
        let case = ConvCase { bits, window, extreme: bits == 4, ..ConvCase::square(filters, 1, 1) };
        let shape = Shape { h: side, w: side, c: channels };
        for format in [Format::Unsigned { bits: 8 }, Format::Signed { bits: 8 }] {
            let seed = rng.bits();
            assert_parity(&conv_model(seed, shape, format, &case, rng.one_in(2)), seed);
            let (mut builder, x) = Builder::new(seed, shape, format);
            let y = builder.logits(x, &case);
            assert_parity(&builder.finish("logits", y), seed);
        }
    }
}

#[test]
fn winograd_layers_of_every_side_and_operand_equal_the_reference() {
    let mut rng = Rng::new(9);
    // Several chunks of patches; odd and even sides; channels and filters that fill no vector; an output of one row.
    for (h, w, channels, filters) in
        [(19, 31, 68, 24), (3, 70, 64, 33), (5, 7, 130, 40), (1, 9, 32, 16), (6, 1, 36, 17), (2, 2, 256, 48)]
    {
        for output in [Format::Unsigned { bits: 6 }, Format::Signed { bits: 8 }, Format::Signed { bits: 16 }]
        {
            let shape = Shape { h, w, c: channels };
            let mut case = ConvCase { output, ..ConvCase::square(filters, 3, 1) };
            for padding in [[1; 4], [0, 2, 2, 1]] {
                case.window.padding = padding;
                if case.window.output([h, w]).is_none() {
                    continue;
                }
                let seed = rng.bits();
                assert_parity(
                    &conv_model(seed, shape, Format::Unsigned { bits: 6 }, &case, rng.one_in(2)),
                    seed,
                );
            }
        }
    }
}
