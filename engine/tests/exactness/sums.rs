//! The 32-bit sums themselves, as logits, where every level stands at an end of its range: a kernel that saturates or
//! wraps anywhere on the way shows it here.

use dyadic_engine::Model;
use dyadic_engine::model::{Epilogue, Format, Op, Requantize, Shape, Window};
use dyadic_engine::testing::{Builder, ConvCase};

use crate::assert_exact;
use crate::compare::{Kernels, activations};
use crate::graphs::one_by_one;

/// How the levels' signs go.
#[derive(Debug, Clone, Copy)]
enum Signs {
    Positive,
    Negative,
    /// From weight to weight.
    Alternating,
    /// From tap to tap.
    ByTap,
    /// From filter to filter.
    ByFilter,
}

impl Signs {
    const ALL: [Self; 5] =
        [Signs::Positive, Signs::Negative, Signs::Alternating, Signs::ByTap, Signs::ByFilter];

    fn is_negative(self, filter: usize, index: usize, channels: usize) -> bool {
        match self {
            Signs::Positive => false,
            Signs::Negative => true,
            Signs::Alternating => index % 2 == 1,
            Signs::ByTap => index / channels % 2 == 1,
            Signs::ByFilter => filter % 2 == 1,
        }
    }
}

/// A layer of plain sums whose levels are all `magnitude` or its negative.
fn layer(shape: Shape, format: Format, case: &ConvCase, magnitude: i8, signs: Signs) -> Model {
    let (mut builder, x) = Builder::new(5, shape, format);
    let y = builder.logits(x, case);
    let mut model = builder.finish(&format!("{shape} {format:?} {case:?} ±{magnitude} {signs:?}"), y);
    let (lo, hi) = format.range();
    let Some(Op::Conv(conv)) = model.nodes.first_mut().map(|node| &mut node.op) else {
        panic!("the model has one convolution");
    };
    let filters = case.filters as usize;
    let per_filter = conv.weights.codes.len() / filters;
    let channels = (shape.c / case.groups) as usize;
    let bits = conv.weights.bits;
    for table in conv.weights.tables.chunks_exact_mut(1 << bits) {
        table.fill(0);
        table[..2].copy_from_slice(&[magnitude, -magnitude]);
    }
    let code = |position: usize| {
        let negative = signs.is_negative(position / per_filter, position % per_filter, channels);
        let level = if negative { -magnitude } else { magnitude };
        if bits == 8 { level as u8 } else { u8::from(negative) }
    };
    conv.weights.codes = (0..conv.weights.codes.len()).map(code).collect::<Vec<u8>>().into();
    conv.weights.terms = 4;
    let bound = per_filter as u32 * u32::from(magnitude.unsigned_abs()) * lo.unsigned_abs().max(hi as u32);
    conv.bounds.fill(bound);
    conv.epilogue = Epilogue::Logits { shift: vec![0; filters], bias: vec![0; filters] };
    model.check().expect("the bounds are those of the levels");
    model
}

const FORMATS: [Format; 6] = [
    Format::Unsigned { bits: 4 },
    Format::Unsigned { bits: 6 },
    Format::Unsigned { bits: 7 },
    Format::Unsigned { bits: 8 },
    Format::Signed { bits: 6 },
    Format::Signed { bits: 8 },
];

#[test]
fn sums_of_levels_at_their_ends_are_exact_in_three_by_three_layers() {
    for (magnitude, bits) in [(1, 2), (2, 2), (14, 3), (15, 4), (127, 2), (127, 8)] {
        for format in FORMATS {
            for signs in Signs::ALL {
                let case = ConvCase { bits, ..ConvCase::square(17, 3, 1) };
                assert_exact(layer(Shape { h: 4, w: 5, c: 64 }, format, &case, magnitude, signs), 1);
            }
        }
    }
}

#[test]
fn sums_of_levels_at_their_ends_are_exact_in_other_layers() {
    let square = ConvCase::square;
    let layers = [
        (Shape { h: 3, w: 9, c: 130 }, square(9, 1, 1)),
        (Shape { h: 9, w: 9, c: 3 }, square(18, 7, 2)),
        (Shape { h: 6, w: 7, c: 66 }, ConvCase { groups: 66, ..square(66, 3, 1) }),
        (Shape { h: 5, w: 6, c: 64 }, ConvCase { groups: 2, ..square(32, 3, 2) }),
        (Shape { h: 1, w: 1, c: 2_000 }, square(20, 1, 1)),
    ];
    for (shape, case) in layers {
        for (magnitude, bits) in [(1, 2), (127, 2), (127, 4), (127, 8)] {
            for format in
                [Format::Unsigned { bits: 6 }, Format::Unsigned { bits: 8 }, Format::Signed { bits: 8 }]
            {
                for signs in [Signs::Positive, Signs::Negative, Signs::Alternating] {
                    let case = ConvCase { bits, ..case };
                    assert_exact(layer(shape, format, &case, magnitude, signs), 2);
                }
            }
        }
    }
}

#[test]
fn one_level_that_is_off_by_one_is_noticed_wherever_it_stands() {
    let shape = Shape { h: 4, w: 5, c: 20 };
    let case = ConvCase { bits: 8, ..ConvCase::square(3, 3, 1) };
    let model = layer(shape, Format::Unsigned { bits: 6 }, &case, 100, Signs::Alternating);
    let inputs = activations(&model, 4);
    for at in (0..540).step_by(7) {
        let mut other = model.clone();
        if let Op::Conv(conv) = &mut other.nodes[0].op {
            let mut codes = conv.weights.codes.to_vec();
            codes[at] = (codes[at] as i8 + 1) as u8;
            conv.weights.codes = codes.into();
            let grown = 2 * i64::from(at % 180 % 2 == 0) - 1;
            conv.bounds[at / 180] = (i64::from(conv.bounds[at / 180]) + 63 * grown) as u32;
        }
        let difference = Kernels::against(model.clone(), other).compare(&inputs);
        assert!(difference.is_err(), "level {at}");
    }
}

#[test]
fn the_largest_sums_that_the_format_allows_are_exact() {
    // So many products of 127 by 255, and of 127 by −128, that the sums end closely before 2³¹.
    let shapes = [
        (Format::Unsigned { bits: 8 }, Shape { h: 190, w: 349, c: 1 }),
        (Format::Unsigned { bits: 8 }, Shape { h: 10, w: 19, c: 349 }),
        (Format::Signed { bits: 8 }, Shape { h: 330, w: 400, c: 1 }),
        (Format::Signed { bits: 8 }, Shape { h: 20, w: 20, c: 330 }),
    ];
    for (format, shape) in shapes {
        let window = Window { kernel: [shape.h, shape.w], ..one_by_one() };
        let case = ConvCase { window, bits: 8, ..ConvCase::square(2, 1, 1) };
        for signs in [Signs::Positive, Signs::Negative] {
            assert_exact(layer(shape, format, &case, 127, signs), 3);
        }
    }
}

#[test]
fn the_largest_sums_of_signed_codes_of_fewer_bits_are_exact() {
    // What takes back the 128 that kernels add to signed codes exceeds 32 bits here: it is right modulo 2³² alone.
    for bits in 2..=7 {
        let weights = (1u32 << 31) / (127 << (bits - 1));
        let shape = Shape { h: weights / 2048, w: 2, c: 1024 };
        let window = Window { kernel: [shape.h, shape.w], ..one_by_one() };
        let case = ConvCase { window, bits: 8, ..ConvCase::square(1, 1, 1) };
        for signs in [Signs::Positive, Signs::Negative] {
            assert_exact(layer(shape, Format::Signed { bits }, &case, 127, signs), 3);
        }
    }
}

#[test]
fn the_largest_sums_of_three_by_three_layers_are_exact() {
    // So many channels that what takes back the 128 of transformed codes exceeds 32 bits.
    for (bits, signs) in [(1, Signs::Positive), (6, Signs::Positive), (6, Signs::Negative), (6, Signs::ByTap)]
    {
        let (shape, case) =
            (Shape { h: 2, w: 2, c: 60_000 }, ConvCase { bits: 3, ..ConvCase::square(1, 3, 1) });
        let mut model = layer(shape, Format::Unsigned { bits }, &case, 14, signs);
        let wide = Format::Signed { bits: 16 };
        model.tensors[1].format = wide;
        let Op::Conv(conv) = &mut model.nodes[0].op else { panic!("the model has one convolution") };
        let pre = (conv.bounds[0].ilog2() + 1).saturating_sub(15) as u8;
        let (lo, hi) = wide.range();
        conv.epilogue = Epilogue::Requantize(Requantize {
            pre: vec![pre],
            multiplier: vec![1],
            bias: vec![0],
            residual_shift: Vec::new(),
            shift: vec![0],
            lo,
            hi,
        });
        assert_exact(model, 3);
    }
}
