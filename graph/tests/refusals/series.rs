//! Networks of one dimension: each operator gives what it gives over images of height 1.

use dyadic_graph::onnx::{ModelProto, NodeProto, TensorProto};
use dyadic_graph::{ErrorKind, Network, Op, Tensor, evaluate};

use crate::builder::*;

/// A model from `x` [N, 4, 9] to `y`.
fn series(nodes: Vec<NodeProto>, constants: Vec<TensorProto>) -> ModelProto {
    let mut model = model(nodes, constants);
    graph(&mut model).input[0] = info("x", &[ANY, 4, 9]);
    model.opset_import[0].version = Some(22);
    model
}

/// A model from `x` [N, 4, 1, 9] to `y`.
fn images(nodes: Vec<NodeProto>, constants: Vec<TensorProto>) -> ModelProto {
    let mut model = series(nodes, constants);
    graph(&mut model).input[0] = info("x", &[ANY, 4, 1, 9]);
    model
}

fn network(case: &str, model: &ModelProto) -> Network {
    import(model).unwrap_or_else(|error| panic!("{case}: {error}"))
}

fn output(network: &Network) -> Tensor {
    let shape = network.shape(network.input).to_vec();
    let data = (0..shape.iter().product()).map(|index: usize| (index as f32 * 1.7).sin()).collect();
    evaluate(network, &Tensor { shape, data }).unwrap()
}

/// Holds one network to the other: the same numbers, in a series and in an image of height 1.
fn same(case: &str, one: &ModelProto, two: &ModelProto) {
    let (one, two) = (output(&network(case, one)), output(&network(case, two)));
    let mut shape = two.shape.clone();
    if shape.len() == 3 {
        assert_eq!(shape.remove(1), 1, "{case}");
    }
    assert_eq!((one.shape, one.data), (shape, two.data), "{case}");
}

#[test]
fn windows_are_those_of_an_image_of_height_1() {
    let conv = |weight: &[i64], numbers: &[(&str, &[i64])], auto: Option<&str>, groups: i64| {
        let node = node("Conv", "n", &["x", "w", "b"], &["y"]).int("group", groups);
        let node = numbers.iter().fold(node, |node, (name, numbers)| node.ints(name, numbers));
        let node = auto.into_iter().fold(node, |node, auto| node.text("auto_pad", auto));
        (vec![node], vec![ramp("w", weight), ramp("b", &weight[..1])])
    };
    let case =
        |case: &str, one: (Vec<NodeProto>, Vec<TensorProto>), two: (Vec<NodeProto>, Vec<TensorProto>)| {
            same(case, &series(one.0, one.1), &images(two.0, two.1));
        };
    case("plain", conv(&[2, 4, 3], &[], None, 1), conv(&[2, 4, 1, 3], &[], None, 1));
    case(
        "all",
        conv(
            &[6, 2, 3],
            &[("kernel_shape", &[3]), ("strides", &[2]), ("pads", &[1, 2]), ("dilations", &[2])],
            None,
            2,
        ),
        conv(
            &[6, 2, 1, 3],
            &[
                ("kernel_shape", &[1, 3]),
                ("strides", &[1, 2]),
                ("pads", &[0, 1, 0, 2]),
                ("dilations", &[1, 2]),
            ],
            None,
            2,
        ),
    );
    for auto in ["SAME_UPPER", "SAME_LOWER", "VALID"] {
        case(
            auto,
            conv(&[4, 1, 4], &[("strides", &[2])], Some(auto), 4),
            conv(&[4, 1, 1, 4], &[("strides", &[1, 2])], Some(auto), 4),
        );
    }
    let pool = |op: &str, lists: &[(&str, &[i64])], flags: &[&str]| {
        let node =
            lists.iter().fold(node(op, "n", &["x"], &["y"]), |node, (name, list)| node.ints(name, list));
        (vec![flags.iter().fold(node, |node, flag| node.int(flag, 1))], vec![])
    };
    for (op, flags) in [
        ("MaxPool", &[][..]),
        ("MaxPool", &["ceil_mode"]),
        ("AveragePool", &[]),
        ("AveragePool", &["count_include_pad"]),
    ] {
        case(
            op,
            pool(
                op,
                &[("kernel_shape", &[3]), ("strides", &[2]), ("pads", &[1, 0]), ("dilations", &[2])],
                flags,
            ),
            pool(
                op,
                &[
                    ("kernel_shape", &[1, 3]),
                    ("strides", &[1, 2]),
                    ("pads", &[0, 1, 0, 0]),
                    ("dilations", &[1, 2]),
                ],
                flags,
            ),
        );
    }
    for op in ["GlobalAveragePool", "GlobalMaxPool"] {
        case(op, pool(op, &[], &[]), pool(op, &[], &[]));
    }
}

#[test]
fn values_functions_and_channels_are_those_of_an_image() {
    let unary = |op: &str| node(op, "n", &["x"], &["y"]);
    let concat = || node("Concat", "c", &["b", "a"], &["y"]).int("axis", 1);
    for (case, nodes, constants) in [
        ("relu", vec![unary("Relu")], vec![]),
        ("leaky", vec![unary("LeakyRelu")], vec![]),
        ("elu", vec![unary("Elu")], vec![]),
        ("sigmoid", vec![unary("Sigmoid")], vec![]),
        ("hard sigmoid", vec![unary("HardSigmoid")], vec![]),
        ("hard swish", vec![unary("HardSwish")], vec![]),
        ("tanh", vec![unary("Tanh")], vec![]),
        ("gelu", vec![unary("Gelu")], vec![]),
        ("clip", vec![node("Clip", "n", &["x", "lo"], &["y"])], vec![floats("lo", &[], &[-0.5])]),
        (
            "norm",
            vec![node("BatchNormalization", "n", &["x", "a", "b", "c", "d"], &["y"])],
            vec![ramp("a", &[4]), ramp("b", &[4]), ramp("c", &[4]), floats("d", &[4], &[1.0, 2.0, 0.5, 3.0])],
        ),
        ("sum", vec![unary("Relu"), node("Add", "s", &["y", "x"], &["z"])], vec![]),
        ("product", vec![unary("Relu"), node("Mul", "s", &["y", "x"], &["z"])], vec![]),
        ("factor", vec![unary("GlobalAveragePool"), node("Mul", "s", &["y", "x"], &["z"])], vec![]),
        (
            "split",
            vec![node("Split", "n", &["x"], &["a", "b"]).int("axis", 1).int("num_outputs", 2), concat()],
            vec![],
        ),
        (
            "gather",
            vec![node("Gather", "n", &["x", "i"], &["y"]).int("axis", 1)],
            vec![ints("i", &[3], &[3, 0, -3])],
        ),
        (
            "slice",
            vec![node("Slice", "n", &["x", "s", "e", "a"], &["y"])],
            vec![ints("s", &[1], &[1]), ints("e", &[1], &[3]), ints("a", &[1], &[1])],
        ),
        (
            "stride",
            vec![node("Slice", "n", &["x", "s", "e", "a", "t"], &["y"])],
            vec![
                ints("s", &[1], &[0]),
                ints("e", &[1], &[i64::MAX]),
                ints("a", &[1], &[-1]),
                ints("t", &[1], &[2]),
            ],
        ),
        ("flatten", vec![unary("Relu"), node("Flatten", "f", &["y"], &["z"])], vec![]),
        (
            "features",
            vec![node("Flatten", "f", &["x"], &["h"]), node("Gemm", "n", &["h", "w"], &["y"])],
            vec![ramp("w", &[36, 3])],
        ),
    ] {
        let finish = |mut model: ModelProto| {
            let last = graph(&mut model).node.last().unwrap().output[0].clone();
            graph(&mut model).output[0] = info(&last, &[ANY, 3]);
            model
        };
        let model = |make: fn(Vec<NodeProto>, Vec<TensorProto>) -> ModelProto| {
            finish(make(nodes.clone(), constants.clone()))
        };
        same(case, &model(series), &model(images));
    }
}

#[test]
fn constants_means_padding_and_shuffles_have_the_length_as_their_only_position() {
    let pads = |pads: &[i64]| ints("p", &[pads.len() as i64], pads);
    let pool = || node("AveragePool", "n", &["h"], &["y"]);
    let zeros = |pads_: &[i64], kernel: &[i64]| {
        (vec![node("Pad", "p", &["x", "p"], &["h"]), pool().ints("kernel_shape", kernel)], vec![pads(pads_)])
    };
    let shuffle = |target: &[i64], perm: &[i64], back: &[i64]| {
        let nodes = vec![
            node("Reshape", "a", &["x", "s"], &["h"]),
            node("Transpose", "b", &["h"], &["t"]).ints("perm", perm),
            node("Reshape", "c", &["t", "r"], &["y"]),
        ];
        let shape = |name: &str, extents: &[i64]| ints(name, &[extents.len() as i64], extents);
        (nodes, vec![shape("s", target), shape("r", back)])
    };
    let constant = |shape: &[i64]| (vec![node("Sub", "n", &["x", "c"], &["y"])], vec![ramp("c", shape)]);
    let reduced = |op: &str, axes: &[i64], keep: i64| {
        let node = node(op, "n", &["x", "a"], &["y"]).int("keepdims", keep);
        (vec![node], vec![ints("a", &[axes.len() as i64], axes)])
    };
    for (case, one, two) in [
        ("constant", constant(&[4, 1]), constant(&[1, 4, 1, 1])),
        ("padding", zeros(&[0, 0, 2, 0, 0, 1], &[4]), zeros(&[0, 0, 0, 2, 0, 0, 0, 1], &[1, 4])),
        (
            "channels of zeros",
            (vec![node("Pad", "p", &["x", "p"], &["y"])], vec![pads(&[0, 1, 0, 0, 2, 0])]),
            (vec![node("Pad", "p", &["x", "p"], &["y"])], vec![pads(&[0, 1, 0, 0, 0, 2, 0, 0])]),
        ),
        (
            "shuffle",
            shuffle(&[0, 2, 2, 9], &[0, 2, 1, 3], &[0, 4, 9]),
            shuffle(&[0, 2, 2, 1, 9], &[0, 2, 1, 3, 4], &[0, 4, 1, 9]),
        ),
        ("mean", reduced("ReduceMean", &[2], 0), reduced("ReduceMean", &[2, 3], 0)),
        ("mean kept", reduced("ReduceMean", &[-1], 1), reduced("ReduceMean", &[3], 1)),
        ("maximum", reduced("ReduceMax", &[2], 0), reduced("ReduceMax", &[3, 2], 0)),
        ("maximum kept", reduced("ReduceMax", &[2], 1), reduced("ReduceMax", &[2, 3], 1)),
    ] {
        same(case, &series(one.0, one.1), &images(two.0, two.1));
    }
}

#[test]
fn a_height_of_1_that_comes_and_goes_leaves_no_trace() {
    let axes = |axis: i64| ints("axes", &[1], &[axis]);
    let model = series(
        vec![
            node("Unsqueeze", "up", &["x", "axes"], &["a"]),
            node("Conv", "conv", &["a", "w"], &["b"]).ints("pads", &[1; 4]),
            node("Relu", "relu", &["b"], &["c"]),
            node("MaxPool", "pool", &["c"], &["d"]).ints("kernel_shape", &[1, 2]).ints("strides", &[1, 2]),
            node("Squeeze", "down", &["d", "axes"], &["e"]),
            node("Conv", "last", &["e", "v"], &["y"]),
        ],
        vec![axes(2), ramp("w", &[3, 4, 3, 3]), ramp("v", &[2, 3, 1])],
    );
    let network = network("between", &model);
    let shapes: Vec<&[usize]> = network.values.iter().map(|value| value.shape.as_slice()).collect();
    assert_eq!(shapes, [&[4, 9][..], &[3, 9], &[3, 9], &[3, 4], &[2, 4]]);
    // The other way round: what is an image on the outside stays one inside.
    let conv = |input: &str, output: &str| node("Conv", "conv", &[input, "w"], &[output]);
    let model = images(
        vec![
            node("Squeeze", "down", &["x", "axes"], &["a"]),
            conv("a", "b"),
            node("Unsqueeze", "up", &["b", "axes"], &["c"]),
            node("Relu", "relu", &["c"], &["y"]),
        ],
        vec![axes(2), ramp("w", &[2, 4, 3])],
    );
    let network = self::network("outside", &model);
    assert_eq!(network.shape(network.output), [2, 1, 7]);
}

#[test]
fn an_output_has_the_shape_that_the_file_says_or_is_refused() {
    let up = node("Unsqueeze", "up", &["a", "axes"], &["y"]);
    let model = series(vec![node("Relu", "relu", &["x"], &["a"]), up], vec![ints("axes", &[1], &[2])]);
    let error = import(&model).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("a value of shape [4, 9] as [4, 1, 9]"), "{error}");
}

#[test]
fn what_needs_a_height_or_other_ranks_is_refused() {
    let axes = || ints("axes", &[1], &[2]);
    let up = || node("Unsqueeze", "up", &["x", "axes"], &["a"]);
    let softmax = node("Softmax", "n", &["x"], &["y"]).int("axis", 1);
    for (case, model) in [
        (
            "output of height 3",
            series(
                vec![up(), node("Conv", "n", &["a", "w"], &["y"]).ints("pads", &[1, 0, 1, 0])],
                vec![axes(), ramp("w", &[2, 4, 1, 1])],
            ),
        ),
        ("softmax", series(vec![softmax], vec![])),
        (
            "no 1×10 window fits",
            series(vec![node("MaxPool", "n", &["x"], &["y"]).ints("kernel_shape", &[10])], vec![]),
        ),
        (
            "transposition",
            series(vec![node("Transpose", "n", &["x"], &["y"]).ints("perm", &[0, 2, 1])], vec![]),
        ),
        ("within a channel", series(vec![node("Add", "n", &["x", "c"], &["y"])], vec![ramp("c", &[9])])),
        (
            "as [4, 3, 3]",
            series(
                vec![node("Reshape", "r", &["x", "s"], &["a"]), node("Relu", "n", &["a"], &["y"])],
                vec![ints("s", &[4], &[0, 4, 3, 3])],
            ),
        ),
        (
            // Zeros are around what the file reshaped, not around the value underneath.
            "as [2, 18]",
            series(
                vec![
                    node("Reshape", "r", &["x", "s"], &["a"]),
                    node("Pad", "p", &["a", "p"], &["b"]),
                    node("Conv", "n", &["b", "w"], &["y"]),
                ],
                vec![
                    ints("s", &[3], &[0, 2, 18]),
                    ints("p", &[6], &[0, 0, 1, 0, 0, 1]),
                    ramp("w", &[2, 2, 3]),
                ],
            ),
        ),
    ] {
        let error = import(&model).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{case}: {error}");
        assert!(error.to_string().contains(case), "{case}: {error}");
    }
}

#[test]
fn numbers_for_other_axes_are_malformed() {
    let conv = || node("Conv", "n", &["x", "w"], &["y"]);
    let weights = || vec![ramp("w", &[2, 4, 3])];
    let other = || node("Concat", "n", &["x", "a"], &["y"]).int("axis", 1);
    for (case, model) in [
        ("strides", series(vec![conv().ints("strides", &[1, 2])], weights())),
        ("pads", series(vec![conv().ints("pads", &[1; 4])], weights())),
        ("kernel_shape", series(vec![conv().ints("kernel_shape", &[4])], weights())),
        ("rank 4 for an input of rank 3", series(vec![conv()], vec![ramp("w", &[2, 4, 1, 3])])),
        ("rank 3 for an input of rank 4", images(vec![conv()], weights())),
        (
            "`pads` has 2 numbers, not 4",
            images(vec![conv().ints("pads", &[1; 2])], vec![ramp("w", &[2, 4, 1, 3])]),
        ),
        (
            "ranks 3 and 4",
            series(
                vec![node("Unsqueeze", "u", &["x", "axes"], &["a"]), other()],
                vec![ints("axes", &[1], &[2])],
            ),
        ),
    ] {
        let error = import(&model).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{case}: {error}");
        assert!(error.to_string().contains(case), "{case}: {error}");
    }
}

#[test]
fn nodes_of_a_series_behind_an_unsupported_one_are_judged_too() {
    let list = import(&series(
        vec![
            node("Mish", "mish", &["x"], &["a"]),
            node("Conv", "fine", &["a", "w"], &["b"]),
            node("MaxPool", "pool", &["b"], &["c"]).ints("kernel_shape", &[10]),
            node("Softmax", "softmax", &["b"], &["d"]).int("axis", 1),
            node("Add", "sum", &["c", "d"], &["y"]),
        ],
        vec![ramp("w", &[2, 4, 3])],
    ));
    let error = list.unwrap_err().to_string();
    for part in ["mish", "pool", "softmax"] {
        assert!(error.contains(part), "{error}");
    }
    assert!(!error.contains("fine"), "{error}");
}

#[test]
fn normalizations_fold_and_selections_join_in_a_series() {
    let norm = node("BatchNormalization", "n", &["c", "s", "s", "m", "v"], &["d"]);
    let model = series(
        vec![
            node("Conv", "conv", &["x", "w"], &["c"]),
            norm,
            node("Gather", "g", &["d", "i"], &["e"]).int("axis", 1),
            node("Gather", "h", &["e", "j"], &["y"]).int("axis", 1),
        ],
        vec![
            ramp("w", &[2, 4, 3]),
            floats("s", &[2], &[0.5, 2.0]),
            floats("m", &[2], &[0.1, -0.3]),
            floats("v", &[2], &[1.5, 0.25]),
            ints("i", &[3], &[1, 0, 1]),
            ints("j", &[2], &[2, 1]),
        ],
    );
    let mut network = network("folded", &model);
    let before = output(&network);
    assert_eq!(network.layers.last().map(|layer| &layer.op), Some(&Op::Select { channels: vec![1, 0] }));
    assert_eq!(network.fold_batch_norms(), 1);
    network.check().unwrap();
    let after = output(&network);
    assert_eq!(before.shape, after.shape);
    assert!(before.data.iter().zip(&after.data).all(|(a, b)| (a - b).abs() < 1e-6));
}
