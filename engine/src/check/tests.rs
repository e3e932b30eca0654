//! Every rule, broken one at a time.

use crate::model::{Conv, Epilogue, Format, Model, Op, Requantize, Scale, Shape, Step, TensorId, Window};
use crate::testing::{Builder, random_model, resnet20, small_cnn};

/// A model with a residual, logits, a table, pools, a concat and an addition.
fn conv(model: &mut Model, index: usize) -> &mut Conv {
    match &mut model.nodes[index].op {
        Op::Conv(conv) => conv,
        other => panic!("node {index} is {other:?}"),
    }
}

fn codes(model: &mut Model, index: usize, change: impl FnOnce(&mut Vec<u8>)) {
    let weights = &mut conv(model, index).weights;
    let mut codes = weights.codes.to_vec();
    change(&mut codes);
    weights.codes = codes.into();
}

fn rule(model: &mut Model, index: usize) -> &mut Requantize {
    match &mut conv(model, index).epilogue {
        Epilogue::Requantize(rule) => rule,
        Epilogue::Logits { .. } => panic!("node {index} writes logits"),
    }
}

/// How a rule is broken, and what the error must say. In the model, node 0 is an 8-bit convolution, 1 and 2 are
/// ternary with a residual at 2, 3 is depthwise, 5 an average pool, 6 the logits.
type Case = (fn(&mut Model), &'static str);

#[test]
fn each_broken_rule_is_refused_by_name() {
    let cases: &[Case] = &[
        (|m| m.tensors.clear(), "tensors is 0"),
        (|m| m.nodes.clear(), "nodes is 0"),
        (|m| m.tensors[2].name = m.tensors[1].name.clone(), "the name stands twice"),
        (|m| m.nodes[2].name = m.nodes[1].name.clone(), "the name stands twice"),
        (|m| m.nodes[1].inputs[0] = TensorId(99), "tensor id 99"),
        (|m| m.nodes[1].output = TensorId(u32::MAX), "tensor id 4294967295"),
        (|m| m.input.tensor = TensorId(77), "tensor id 77"),
        (|m| m.output.tensor = TensorId(77), "tensor id 77"),
        (|m| m.output.tensor = m.input.tensor, "the output cannot be the input"),
        (|m| m.nodes.swap(0, 1), "has not been written"),
        (|m| m.nodes[1].output = TensorId(1), "is written twice"),
        (|m| m.nodes.truncate(6), "has not been written"),
        (|m| m.tensors[1].shape.h = 0, "height is 0"),
        (|m| m.tensors[1].shape.c = u32::MAX, "channels is 4294967295"),
        (|m| m.tensors[1].format = Format::Unsigned { bits: 9 }, "unsigned bits is 9"),
        (|m| m.tensors[1].format = Format::Signed { bits: 1 }, "signed bits is 1"),
        (|m| m.tensors[1].format = Format::Signed { bits: 16 }, "operands of an addition only"),
        (|m| m.tensors[1].format = Format::Accumulator, "written as an accumulator"),
        (|m| m.tensors[7].format = Format::Signed { bits: 8 }, "written as an accumulator"),
        (|m| m.tensors[0].format = Format::Accumulator, "the input cannot be an accumulator"),
        (|m| m.tensors[0].format = Format::Signed { bits: 16 }, "signed bits is 16"),
        (|m| m.tensors[1].step = Step::Free(0.5), "only the input's step may be free"),
        (|m| m.tensors[1].step = Step::PowerOfTwo(200), "step exponent is 200"),
        (|m| m.tensors[0].step = Step::Free(0.0), "positive and finite"),
        (|m| m.tensors[0].step = Step::Free(f32::NAN), "positive and finite"),
        (|m| m.output.labels.truncate(3), "labels: 3 entries where 5"),
        (|m| m.output.log = true, "a logarithm is that of a softmax"),
        (|m| m.input.normalization.as_mut().unwrap().mean.truncate(1), "means: 1 entries where 3"),
        (|m| m.input.normalization.as_mut().unwrap().std[1] = 0.0, "every deviation positive"),
        (|m| m.input.normalization.as_mut().unwrap().std[1] = f32::from_bits(1), "every value finite"),
        (|m| m.nodes[1].inputs.clear(), "wrong number of inputs"),
        (|m| m.nodes[5].inputs.push(TensorId(1)), "wrong number of inputs"),
        (|m| m.nodes[6].inputs.push(TensorId(1)), "residual operand: shape"),
        (|m| m.nodes[1].inputs.push(TensorId(1)), "residual shifts: 0 entries where 8"),
        (|m| conv(m, 0).window.stride[0] = 0, "stride is 0"),
        (|m| conv(m, 0).window.kernel[1] = 0, "kernel is 0"),
        (|m| conv(m, 0).window.dilation[1] = 0, "dilation is 0"),
        (|m| conv(m, 0).window.kernel[1] = 60_000, "larger than the padded input"),
        (|m| conv(m, 0).window.padding[1] = u32::MAX, "padding is 4294967295"),
        (|m| conv(m, 0).window.padding[0] = 0, "output: shape 12 × 12 × 8 where 11 × 12 × 8"),
        (|m| conv(m, 0).groups = 0, "groups must divide"),
        (|m| conv(m, 1).groups = 3, "groups must divide"),
        (
            |m| {
                codes(m, 1, |codes| codes.truncate(575));
            },
            "weight codes: 575 entries where 576",
        ),
        (|m| codes(m, 1, |codes| codes[5] = 4), "weight code is 4"),
        (|m| conv(m, 1).weights.bits = 9, "weight bits is 9"),
        (|m| conv(m, 1).weights.terms = 0, "more signed powers of two"),
        (|m| codes(m, 0, |codes| codes[3] = 0x80), "level is -128"),
        (
            |m| {
                conv(m, 1).weights.tables.pop();
            },
            "level tables: 31 entries where 32",
        ),
        (
            |m| {
                conv(m, 1).weights.exponents.pop();
            },
            "exponents: 7 entries where 8",
        ),
        (|m| conv(m, 1).weights.exponents[0] = 1 << 20, "filter exponent is 1048576"),
        (
            |m| {
                conv(m, 1).bounds.pop();
            },
            "bounds: 7 entries where 8",
        ),
        (|m| conv(m, 1).bounds[3] += 1, "recorded bound"),
        (
            |m| {
                rule(m, 1).pre.pop();
            },
            "pre-shifts: 7 entries where 8",
        ),
        (
            |m| {
                rule(m, 1).multiplier.pop();
            },
            "multipliers: 7",
        ),
        (
            |m| {
                rule(m, 1).bias.pop();
            },
            "biases: 7",
        ),
        (
            |m| {
                rule(m, 1).shift.pop();
            },
            "shifts: 7",
        ),
        (
            |m| {
                rule(m, 2).residual_shift.pop();
            },
            "residual shifts: 7",
        ),
        (|m| rule(m, 1).pre[2] = 32, "pre-shift is 32"),
        (|m| rule(m, 1).multiplier[2] = -128, "multiplier is -128"),
        (|m| rule(m, 1).shift[2] = 32, "shift is 32"),
        (|m| rule(m, 1).bias[2] = 1 << 23, "bias is 8388608"),
        (|m| rule(m, 1).bias[2] = i32::MIN, "bias is -2147483648"),
        (|m| rule(m, 2).residual_shift[2] = 24, "the requantize sum can reach"),
        (|m| rule(m, 2).residual_shift[2] = 255, "residual shift is 255"),
        (|m| rule(m, 0).pre.fill(0), "after the pre-shift can reach"),
        (|m| rule(m, 1).lo = -1, "lowest output code is -1"),
        (|m| rule(m, 1).hi = 64, "highest output code is 64"),
        (|m| rule(m, 1).hi = rule(m, 1).lo - 1, "highest output code"),
        (
            |m| match &mut conv(m, 6).epilogue {
                Epilogue::Logits { shift, .. } => shift[0] = 31,
                Epilogue::Requantize(_) => panic!("logits"),
            },
            "the logit can reach",
        ),
        (
            |m| match &mut conv(m, 6).epilogue {
                Epilogue::Logits { bias, .. } => bias[1] = i32::MIN,
                Epilogue::Requantize(_) => panic!("logits"),
            },
            "the logit can reach",
        ),
        (
            |m| match &mut m.nodes[5].op {
                Op::AvgPool(window, _) => window.padding = [6; 4],
                other => panic!("{other:?}"),
            },
            "output: shape",
        ),
        (
            |m| match &mut m.nodes[5].op {
                Op::AvgPool(window, _) => (window.padding, window.stride) = ([6, 0, 6, 0], [12, 1]),
                other => panic!("{other:?}"),
            },
            "where 2 × 1 × 12",
        ),
    ];
    let mut problems = Vec::new();
    for (index, (damage, expected)) in cases.iter().enumerate() {
        let mut model = small_cnn(1, 2);
        damage(&mut model);
        let said = model.check().map_or_else(|error| error.to_string(), |()| "nothing".to_owned());
        if !said.contains(expected) {
            problems.push(format!("case {index}: {said:?} does not say {expected:?}"));
        }
    }
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
fn the_generators_models_are_valid() {
    for seed in 0..300 {
        random_model(seed).check().expect("valid");
    }
    for bits in 2..=8 {
        resnet20(1, bits).check().expect("valid");
    }
}

#[test]
fn what_a_product_or_a_choice_of_channels_may_not_be_is_refused() {
    let with = |change: &dyn Fn(&mut Model)| {
        let shape = Shape { h: 3, w: 2, c: 6 };
        let (mut builder, x) = Builder::new(7, shape, Format::Unsigned { bits: 8 });
        let x = builder.affine(x, Format::Unsigned { bits: 8 });
        let window = Window { kernel: [3, 2], stride: [1; 2], padding: [0; 4], dilation: [1; 2] };
        let gate = builder.avg_pool(x, window, Format::Unsigned { bits: 8 });
        let y = builder.scale(x, gate, Format::Unsigned { bits: 8 });
        let y = builder.select(y, vec![5, 0, 0, 1]);
        let mut model = builder.finish("scaled", y);
        change(&mut model);
        model.check().map_err(|error| error.to_string())
    };
    fn scale(model: &mut Model) -> &mut Scale {
        match &mut model.nodes[2].op {
            Op::Scale(scale) => scale,
            other => panic!("{other:?}"),
        }
    }
    fn channels(model: &mut Model) -> &mut Vec<u32> {
        match &mut model.nodes[3].op {
            Op::Select(channels) => channels,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(with(&|_| ()), Ok(()));
    let cases: &[Case] = &[
        (|m| scale(m).digits = 0, "digits is 0"),
        (|m| scale(m).digits = 6, "digits is 6"),
        (|m| scale(m).shift = 32, "shift is 32"),
        (|m| scale(m).bias = 1 << 23, "bias is 8388608"),
        (|m| scale(m).hi = 256, "highest output code is 256"),
        (|m| m.nodes[2].inputs[1] = m.nodes[0].inputs[0], "scaled"),
        (|m| m.tensors[2].shape.c = 5, "shape"),
        (|m| channels(m)[1] = 6, "channel is 6"),
        (|m| channels(m).truncate(3), "channels: 3 entries where 4"),
        (|m| m.tensors[4].format = Format::Unsigned { bits: 7 }, "must share format and step"),
        (|m| m.tensors[4].shape.h = 2, "output: shape"),
    ];
    for (change, reason) in cases {
        let told = with(change);
        // A gate that is as large as the operand is a product of one shape.
        if *reason == "scaled" {
            assert_eq!(told, Ok(()));
        } else {
            assert!(told.as_ref().is_err_and(|told| told.contains(reason)), "{reason}: {told:?}");
        }
    }
}
