//! Everything that is not a convolution: pools, casts, additions, tables, concatenations.

use dyadic_engine::Model;
use dyadic_engine::model::{Format, Op, Shape, TensorId, Window};
use dyadic_engine::testing::{Builder, Rng};

use crate::graphs::{CHANNELS, any_format, any_operand, any_pool, one_by_one};
use crate::{assert_exact, small_shape};

/// Layers over the input, for every channel count and several times; the input itself has been through a table, so that
/// pools and joins take it.
fn over_every_channel_count(seed: u64, layers: impl Fn(&mut Builder, &mut Rng, TensorId) -> TensorId) {
    let mut rng = Rng::new(seed);
    for channels in CHANNELS {
        for _ in 0..3 {
            let shape = small_shape(&mut rng, channels);
            let format = any_format(&mut rng);
            let seed = rng.bits();
            let (mut builder, input) = Builder::new(seed, shape, format);
            let x = builder.affine(input, any_format(&mut rng));
            let y = layers(&mut builder, &mut rng, x);
            assert_exact(builder.finish(&format!("{shape}"), y), seed);
        }
    }
}

#[test]
fn maxima_equal_the_reference() {
    over_every_channel_count(41, |builder, rng, x| {
        let first = any_pool(rng, builder.shape(x));
        let x = builder.max_pool(x, first);
        let second = any_pool(rng, builder.shape(x));
        builder.max_pool(x, second)
    });
}

#[test]
fn maxima_of_the_usual_windows_equal_the_reference() {
    let usual = [
        Window { kernel: [3; 2], stride: [2; 2], padding: [1; 4], dilation: [1; 2] },
        Window { kernel: [2; 2], stride: [2; 2], padding: [0; 4], dilation: [1; 2] },
        Window { kernel: [3; 2], stride: [1; 2], padding: [1; 4], dilation: [1; 2] },
        Window { kernel: [3; 2], stride: [2; 2], padding: [0, 0, 1, 1], dilation: [1; 2] },
        Window { kernel: [2; 2], stride: [1; 2], padding: [0; 4], dilation: [2, 3] },
    ];
    for (seed, window) in (0..).zip(usual) {
        for channels in [3, 16, 64, 65] {
            for format in [Format::Unsigned { bits: 6 }, Format::Signed { bits: 8 }] {
                let (mut builder, x) = Builder::new(seed, Shape { h: 12, w: 33, c: channels }, format);
                let x = builder.lut(x, format);
                let y = builder.max_pool(x, window);
                assert_exact(builder.finish(&format!("{window:?}"), y), seed);
            }
        }
    }
}

#[test]
fn means_equal_the_reference() {
    over_every_channel_count(42, |builder, rng, x| {
        let window = any_pool(rng, builder.shape(x));
        let x = builder.avg_pool(x, window, any_format(rng));
        let shape = builder.shape(x);
        builder.avg_pool(x, Window { kernel: [shape.h, shape.w], ..one_by_one() }, any_operand(rng))
    });
}

#[test]
fn casts_equal_the_reference() {
    over_every_channel_count(43, |builder, rng, x| {
        let x = builder.affine(x, any_format(rng));
        builder.affine(x, any_operand(rng))
    });
}

/// Gives all channels of every cast the first one's numbers.
fn uniform(mut model: Model) -> Model {
    for node in &mut model.nodes {
        if let Op::Affine(rule) = &mut node.op {
            let (pre, multiplier, bias, shift) =
                (rule.pre[0], rule.multiplier[0], rule.bias[0], rule.shift[0]);
            rule.pre.fill(pre);
            rule.multiplier.fill(multiplier);
            rule.bias.fill(bias);
            rule.shift.fill(shift);
        }
    }
    model
}

#[test]
fn casts_with_one_rule_for_all_channels_equal_the_reference() {
    let mut rng = Rng::new(44);
    for channels in CHANNELS {
        for _ in 0..4 {
            let shape = small_shape(&mut rng, channels);
            let seed = rng.bits();
            let (mut builder, input) = Builder::new(seed, shape, any_format(&mut rng));
            let x = builder.affine(input, any_format(&mut rng));
            let y = builder.affine(x, any_operand(&mut rng));
            assert_exact(uniform(builder.finish(&format!("{shape}"), y)), seed);
        }
    }
}

#[test]
fn additions_equal_the_reference() {
    over_every_channel_count(45, |builder, rng, x| {
        let a = builder.lut(x, any_operand(rng));
        let b = if rng.one_in(4) { x } else { builder.affine(x, any_operand(rng)) };
        let sum = builder.add(a, b, any_format(rng));
        builder.add(b, sum, any_operand(rng))
    });
}

#[test]
fn tables_equal_the_reference() {
    over_every_channel_count(46, |builder, rng, x| {
        let x = builder.lut(x, any_format(rng));
        builder.lut(x, any_operand(rng))
    });
}

#[test]
fn concatenations_equal_the_reference() {
    over_every_channel_count(47, |builder, rng, x| {
        let format = any_format(rng);
        let pair = [builder.affine(x, format), builder.lut(x, format)];
        let wider = builder.concat(&pair);
        builder.concat(&[pair[1], wider, pair[0]])
    });
}
