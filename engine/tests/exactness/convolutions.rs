//! Convolutions of every geometry and width.

use dyadic_engine::model::{Format, Shape, Window};
use dyadic_engine::testing::{ConvCase, Rng};

use crate::graphs::{CHANNELS, any_format, any_groups, any_operand, any_window, cost, one_by_one};
use crate::{assert_exact, convolution, small_shape};

/// Most multiply-accumulates of one convolution here.
const BUDGET: u64 = 250_000;

/// Few enough filters for the budget.
fn affordable(rng: &mut Rng, shape: Shape, mut case: ConvCase) -> ConvCase {
    case.filters = rng.pick(&CHANNELS).next_multiple_of(case.groups);
    while cost(shape, &case) > BUDGET && case.filters > case.groups {
        case.filters = (case.filters / 2).next_multiple_of(case.groups);
    }
    case
}

#[test]
fn every_kernel_size_stride_and_code_width_equals_the_reference() {
    let mut rng = Rng::new(31);
    for kernel in [[1, 1], [3, 3], [5, 5], [7, 7], [2, 2], [1, 3], [3, 1], [4, 3], [11, 11]] {
        for stride in 1..=3 {
            for bits in 2..=8 {
                let channels = if kernel == [11, 11] { 3 } else { rng.pick(&CHANNELS) };
                let shape = small_shape(&mut rng, channels);
                let padding = kernel.map(|side| rng.pick(&[side / 2, side / 2, side - 1, 0]));
                let [top, left] = padding;
                let window =
                    Window { kernel, stride: [stride; 2], padding: [top, left, top, left], ..one_by_one() };
                if window.output([shape.h, shape.w]).is_none() {
                    continue;
                }
                let (output, extreme) = (any_operand(&mut rng), rng.one_in(3));
                let case = ConvCase { filters: 1, window, groups: 1, bits, output, extreme };
                let case = affordable(&mut rng, shape, case);
                let residual = rng.one_in(3).then(|| any_operand(&mut rng));
                let seed = rng.bits();
                assert_exact(convolution(seed, (shape, any_format(&mut rng)), &case, residual), seed);
            }
        }
    }
}

#[test]
fn windows_of_any_kind_equal_the_reference() {
    let mut rng = Rng::new(32);
    for _ in 0..150 {
        let channels = rng.pick(&CHANNELS);
        let shape = small_shape(&mut rng, channels);
        let case = ConvCase {
            filters: 1,
            window: any_window(&mut rng, shape),
            groups: any_groups(&mut rng, channels),
            bits: rng.code(2, 8) as u8,
            output: any_operand(&mut rng),
            extreme: rng.one_in(3),
        };
        let case = affordable(&mut rng, shape, case);
        let residual = rng.one_in(2).then(|| any_operand(&mut rng));
        let seed = rng.bits();
        assert_exact(convolution(seed, (shape, any_format(&mut rng)), &case, residual), seed);
    }
}

#[test]
fn ternary_three_by_three_layers_of_every_width_and_padding_equal_the_reference() {
    let mut rng = Rng::new(33);
    for channels in [16, 32, 48, 64, 65, 96, 128, 130] {
        for bits in 4..=8 {
            let mut shape = small_shape(&mut rng, channels);
            shape.h = shape.h.max(3);
            let mut case = ConvCase { output: any_operand(&mut rng), ..ConvCase::square(1, 3, 1) };
            case.window.padding = [0; 4].map(|_| rng.pick(&[0, 1, 1, 2]));
            if case.window.output([shape.h, shape.w]).is_none() {
                continue;
            }
            case = affordable(&mut rng, shape, case);
            let residual = rng.one_in(2).then(|| any_operand(&mut rng));
            let seed = rng.bits();
            assert_exact(convolution(seed, (shape, Format::Unsigned { bits }), &case, residual), seed);
        }
    }
}

#[test]
fn ternary_three_by_three_layers_of_many_channels_equal_the_reference() {
    let mut rng = Rng::new(36);
    for channels in [256, 320, 500, 512] {
        for filters in [15, 16, 18] {
            for extreme in [false, true] {
                let shape = Shape { h: rng.code(2, 5) as u32, w: rng.code(2, 5) as u32, c: channels };
                let case =
                    ConvCase { output: any_operand(&mut rng), extreme, ..ConvCase::square(filters, 3, 1) };
                let residual = rng.one_in(2).then(|| any_operand(&mut rng));
                let seed = rng.bits();
                assert_exact(convolution(seed, (shape, Format::Unsigned { bits: 6 }), &case, residual), seed);
            }
        }
    }
}

#[test]
fn ternary_three_by_three_layers_of_many_patches_equal_the_reference() {
    let mut rng = Rng::new(37);
    for (channels, side) in [(33, 40), (64, 37), (120, 24)] {
        for residual in [
            None,
            Some(Format::Unsigned { bits: 8 }),
            Some(Format::Signed { bits: 8 }),
            Some(Format::Signed { bits: 16 }),
        ] {
            let shape = Shape { h: side, w: side + 3, c: channels };
            let case = ConvCase { output: any_operand(&mut rng), ..ConvCase::square(17, 3, 1) };
            let seed = rng.bits();
            assert_exact(convolution(seed, (shape, Format::Unsigned { bits: 6 }), &case, residual), seed);
        }
    }
}

#[test]
fn depthwise_windows_of_any_kind_equal_the_reference() {
    let mut rng = Rng::new(38);
    for channels in [31, 32, 33, 64, 95] {
        for bits in 2..=8 {
            let shape = small_shape(&mut rng, channels);
            let case = ConvCase {
                filters: channels,
                window: any_window(&mut rng, shape),
                groups: channels,
                bits,
                output: any_operand(&mut rng),
                extreme: rng.one_in(3),
            };
            let seed = rng.bits();
            assert_exact(convolution(seed, (shape, any_format(&mut rng)), &case, None), seed);
        }
    }
}

#[test]
fn depthwise_layers_of_every_side_and_stride_equal_the_reference() {
    let mut rng = Rng::new(34);
    for channels in [1, 3, 15, 16, 17, 32, 63, 64, 65, 128, 130] {
        for side in [1, 3, 5, 7] {
            for stride in [1, 2] {
                let shape = small_shape(&mut rng, channels);
                let case = ConvCase {
                    groups: channels,
                    bits: rng.code(2, 8) as u8,
                    output: any_operand(&mut rng),
                    extreme: rng.one_in(3),
                    ..ConvCase::square(channels, side, stride)
                };
                if cost(shape, &case) > BUDGET {
                    continue;
                }
                let residual = rng.one_in(3).then(|| any_operand(&mut rng));
                let seed = rng.bits();
                assert_exact(convolution(seed, (shape, any_format(&mut rng)), &case, residual), seed);
            }
        }
    }
}

#[test]
fn fully_connected_layers_of_every_width_equal_the_reference() {
    let mut rng = Rng::new(35);
    for bits in [2, 2, 2, 3, 4, 5, 6, 7, 8] {
        for features in [1, 63, 64, 129, 512, 1000] {
            let shape = Shape { h: 1, w: 1, c: features };
            let filters = rng.pick(&[1, 10, 15, 16, 17, 33, 100, 129]);
            let case = ConvCase {
                bits,
                output: any_operand(&mut rng),
                extreme: rng.one_in(3),
                ..ConvCase::square(filters, 1, 1)
            };
            let seed = rng.bits();
            assert_exact(convolution(seed, (shape, any_format(&mut rng)), &case, None), seed);
        }
    }
}
