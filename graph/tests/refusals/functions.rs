//! Activations as single nodes and spelled out, and products of two values.

use dyadic_graph::onnx::{ModelProto, NodeProto, TensorProto};
use dyadic_graph::{ErrorKind, ImportError, Network, Op, Tensor, evaluate};

use crate::builder::*;

/// Operations of a model that is accepted, in order.
fn ops(case: &str, model: &ModelProto) -> Vec<Op> {
    let network = import(model).unwrap_or_else(|error| panic!("{case}: {error}"));
    network.layers.into_iter().map(|layer| layer.op).collect()
}

fn names(model: &ModelProto) -> Vec<&'static str> {
    ops("names", model).iter().map(Op::name).collect()
}

fn at(mut model: ModelProto, opset: i64) -> ModelProto {
    model.opset_import[0].version = Some(opset);
    model
}

/// Constants that the forms below have.
fn constants() -> Vec<TensorProto> {
    let scalar = |name: &str, number: f32| floats(name, &[], &[number]);
    vec![
        scalar("one", 1.0),
        scalar("half", 0.5),
        scalar("three", 3.0),
        scalar("six", 6.0),
        scalar("zero", 0.0),
        scalar("root", std::f32::consts::SQRT_2),
        scalar("inverse", std::f32::consts::FRAC_1_SQRT_2),
        scalar("tanh", 0.797_884_6),
        scalar("cube", 0.044_715),
        scalar("third", 3.0),
    ]
}

/// A chain of nodes, each written `Op a b > c`.
fn chain(lines: &[&str]) -> ModelProto {
    let made = |(index, line): (usize, &&str)| {
        let (head, output) = line.split_once(" > ").unwrap();
        let mut words = head.split(' ');
        let op = words.next().unwrap();
        node(op, &format!("n{index}"), &words.collect::<Vec<_>>(), &[output])
    };
    let nodes: Vec<NodeProto> = lines.iter().enumerate().map(made).collect();
    model(nodes, constants())
}

#[test]
fn every_activation_is_one_layer() {
    let unary = |op: &str| node(op, "n", &["x"], &["y"]);
    let slopes = |shape: &[i64], data: &[f32]| {
        let two = single(node("PRelu", "n", &["x", "s"], &["y"]), vec![floats("s", shape, data)]);
        let mut two = two;
        graph(&mut two).input[0] = info("x", &[ANY, 2, 4, 4]);
        two
    };
    for (model, expected) in [
        (at(single(unary("HardSwish"), vec![]), 14), Op::HardSwish),
        (single(unary("HardSigmoid"), vec![]), Op::HardSigmoid { alpha: 0.2, beta: 0.5 }),
        (
            single(unary("HardSigmoid").float("alpha", 0.5).float("beta", -1.0), vec![]),
            Op::HardSigmoid { alpha: 0.5, beta: -1.0 },
        ),
        (single(unary("Elu"), vec![]), Op::Elu { alpha: 1.0 }),
        (single(unary("Elu").float("alpha", 0.25), vec![]), Op::Elu { alpha: 0.25 }),
        (at(single(unary("Gelu"), vec![]), 20), Op::Gelu { tanh: false }),
        (at(single(unary("Gelu").text("approximate", "none"), vec![]), 20), Op::Gelu { tanh: false }),
        (at(single(unary("Gelu").text("approximate", "tanh"), vec![]), 28), Op::Gelu { tanh: true }),
        (at(single(unary("Swish"), vec![]), 24), Op::Silu),
        (at(single(unary("Swish").float("alpha", 1.0), vec![]), 28), Op::Silu),
        (slopes(&[2, 1, 1], &[0.5, 0.25]), Op::PRelu { slope: vec![0.5, 0.25] }),
        (slopes(&[1, 2, 1, 1], &[0.5, 0.25]), Op::PRelu { slope: vec![0.5, 0.25] }),
        (slopes(&[1], &[0.125]), Op::LeakyRelu { slope: 0.125 }),
        (slopes(&[1, 1, 1], &[0.125]), Op::LeakyRelu { slope: 0.125 }),
    ] {
        assert_eq!(ops("one", &model), [expected]);
    }
    let flat = model(
        vec![node("Flatten", "f", &["x"], &["h"]), node("LogSoftmax", "n", &["h"], &["y"]).int("axis", 1)],
        vec![],
    );
    assert_eq!(ops("logarithm", &flat), [Op::Flatten, Op::LogSoftmax]);
}

#[test]
fn an_activation_that_the_opset_or_the_network_lacks_is_refused() {
    let unary = |op: &str| node(op, "n", &["x"], &["y"]);
    let slopes = |tensor: TensorProto| single(node("PRelu", "n", &["x", "s"], &["y"]), vec![tensor]);
    for (model, reason) in [
        (at(single(unary("HardSwish"), vec![]), 13), "no such operator in opset 13"),
        (at(single(unary("Gelu"), vec![]), 19), "no such operator in opset 19"),
        (at(single(unary("Swish"), vec![]), 23), "no such operator in opset 23"),
        (at(single(unary("Swish").float("alpha", 1.702), vec![]), 24), "an alpha of 1.702"),
        (at(single(unary("Mish"), vec![]), 18), "this operator is not supported"),
        (slopes(ramp("s", &[4, 4])), "differs within a channel"),
        (slopes(floats("s", &[], &[f32::NAN])), "NaN"),
        (single(node("PRelu", "n", &["x", "x"], &["y"]), vec![]), "operand 1 is not a constant"),
        (single(unary("LogSoftmax").int("axis", 1), vec![]), "classes"),
        (single(unary("Erf"), vec![]), "an error function"),
        (chain(&["Pow x half > y"]), "an exponent of 0.5"),
        (chain(&["Pow half x > y"]), "operand 0 is a constant"),
    ] {
        let error = import(&model).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains(reason), "{reason}: {error}");
    }
    let other = at(single(unary("Gelu").text("approximate", "erf"), vec![]), 20);
    assert_eq!(import(&other).unwrap_err().kind(), ErrorKind::Malformed);
}

#[test]
fn functions_that_are_spelled_out_become_one_layer() {
    let sixth = "HardSigmoid";
    let exact = Op::Gelu { tanh: false };
    let tanh = Op::Gelu { tanh: true };
    let bracket = [
        "Mul x x > q",
        "Mul q x > c",
        "Mul cube c > d",
        "Add x d > e",
        "Mul e tanh > f",
        "Tanh f > g",
        "Add one g > h",
    ];
    let power =
        ["Pow x third > c", "Mul c cube > d", "Add d x > e", "Mul tanh e > f", "Tanh f > g", "Add g one > h"];
    let ends = [
        &["Mul x h > i", "Mul half i > y"][..],
        &["Mul half h > i", "Mul x i > y"],
        &["Mul x half > i", "Mul i h > y"],
    ];
    let erfs = [
        &["Div x root > e", "Erf e > f", "Add f one > h"][..],
        &["Mul x inverse > e", "Erf e > f", "Add one f > h"],
        &["Mul inverse x > e", "Erf e > f", "Add f one > h"],
    ];
    let mut cases: Vec<(Vec<&str>, Op)> = vec![
        (vec!["Sigmoid x > s", "Mul x s > y"], Op::Silu),
        (vec!["Sigmoid x > s", "Mul s x > y"], Op::Silu),
        (vec!["Add x three > a", "Clip a zero six > b", "Div b six > c", "Mul x c > y"], Op::HardSwish),
        (vec!["Add three x > a", "Clip a zero six > b", "Mul b x > c", "Div c six > y"], Op::HardSwish),
        (
            vec!["Add x three > a", "Clip a zero six > b", "Div b six > y"],
            Op::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 },
        ),
    ];
    for end in ends {
        cases.extend(erfs.map(|erf| ([erf, end].concat(), exact.clone())));
        cases.push(([&bracket[..], end].concat(), tanh.clone()));
        cases.push(([&power[..], end].concat(), tanh.clone()));
    }
    for (lines, expected) in cases {
        assert_eq!(ops(&lines.join("; "), &chain(&lines)), [expected], "{lines:?}");
    }
    let gate = node(sixth, "gate", &["x"], &["s"]).float("alpha", 0.166_666_67);
    let product = model(vec![gate, node("Mul", "n", &["s", "x"], &["y"])], vec![]);
    assert_eq!(ops("gate", &product), [Op::HardSwish]);
}

#[test]
fn a_name_that_is_read_elsewhere_keeps_the_layers_apart() {
    assert_eq!(names(&chain(&["Sigmoid x > s", "Mul x s > m", "Add m s > y"])), ["Sigmoid", "Mul", "Add"]);
    let clip = ["Add x three > a", "Clip a zero six > b", "Div b six > c", "Mul x c > m", "Add m b > y"];
    assert_eq!(names(&chain(&clip)), ["BatchNorm", "Clip", "BatchNorm", "Mul", "Add"]);
    let hard = ["Add x three > a", "Clip a zero six > b", "Div b six > c", "Mul x c > m", "Add m c > y"];
    assert_eq!(names(&chain(&hard)), ["HardSigmoid", "Mul", "Add"]);
    // An error function has no name in a network.
    let erf =
        ["Div x root > e", "Erf e > f", "Add f one > h", "Mul x h > i", "Mul i half > j", "Add j h > y"];
    let error = import(&chain(&erf)).unwrap_err().to_string();
    assert!(error.contains("`n1` (Erf)"), "{error}");
}

#[test]
fn other_coefficients_are_other_functions() {
    for (lines, expected) in [
        (
            &["Add x one > a", "Clip a zero six > b", "Div b six > y"][..],
            &["BatchNorm", "Clip", "BatchNorm"][..],
        ),
        (&["Add x three > a", "Clip a zero three > b", "Div b six > y"], &["BatchNorm", "Clip", "BatchNorm"]),
        (&["Sigmoid x > s", "Tanh x > t", "Mul t s > y"], &["Sigmoid", "Tanh", "Mul"]),
        (&["Pow x third > y"], &["Mul", "Mul"]),
        (&["Mul x x > y"], &["Mul"]),
        (
            &["Pow x third > c", "Mul c half > d", "Add d x > e", "Mul tanh e > f", "Tanh f > y"],
            &["Mul", "Mul", "BatchNorm", "Add", "BatchNorm", "Tanh"],
        ),
    ] {
        assert_eq!(names(&chain(lines)), expected, "{lines:?}");
    }
    let erf = ["Div x three > e", "Erf e > f", "Add f one > h", "Mul x h > i", "Mul i half > y"];
    let error = import(&chain(&erf)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}

fn value(network: &Network, data: Vec<f32>) -> Vec<f32> {
    let shape = network.shape(network.input).to_vec();
    evaluate(network, &Tensor { shape, data }).unwrap().data
}

#[test]
fn a_factor_a_channel_is_the_second_operand() {
    for inputs in [["x", "p"], ["p", "x"]] {
        let mut model = model(
            vec![node("GlobalAveragePool", "pool", &["x"], &["p"]), node("Mul", "n", &inputs, &["y"])],
            vec![],
        );
        graph(&mut model).input[0] = info("x", &[ANY, 2, 1, 2]);
        let network = import(&model).unwrap();
        assert_eq!(network.layers[1].inputs[0], network.input);
        assert_eq!(value(&network, vec![1.0, 3.0, 5.0, 7.0]), [2.0, 6.0, 30.0, 42.0]);
    }
}

#[test]
fn products_of_other_shapes_are_refused() {
    let mean = node("ReduceMean", "m", &["x"], &["p"]).ints("axes", &[2, 3]).int("keepdims", 0);
    for (model, reason) in [
        (
            model(vec![mean, node("Mul", "n", &["x", "p"], &["y"])], vec![]),
            "a product of shapes [1, 4, 4] and [1]",
        ),
        (
            model(
                vec![
                    node("MaxPool", "m", &["x"], &["p"]).ints("kernel_shape", &[4, 1]),
                    node("Mul", "n", &["x", "p"], &["y"]),
                ],
                vec![],
            ),
            "a product of shapes",
        ),
        (single(node("Sub", "n", &["x", "x"], &["y"]), vec![]), "both flow"),
    ] {
        let error = import(&model).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    }
}

#[test]
fn functions_behind_what_is_not_supported_are_not_named() {
    let lines = |first: &'static str, last: &[&'static str]| {
        let gelu = ["Div u root > e", "Erf e > f", "Add f one > h", "Mul u h > i", "Mul i half > k"];
        [&[first][..], &gelu, last].concat()
    };
    for first in ["Mish x > u", "LRN x > u"] {
        let named = |last: &[&'static str]| {
            let error = import(&chain(&lines(first, last))).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            let ImportError::Unsupported(list) = error else { panic!("{error}") };
            list.into_iter().filter_map(|item| item.node).collect::<Vec<_>>()
        };
        assert_eq!(named(&["PRelu k half > y"]), ["n0"]);
        assert_eq!(named(&["Erf k > y"]), ["n0", "n6"]);
        assert_eq!(named(&["Erf k > l", "Sub l k > y"]), ["n0", "n6", "n7"]);
        assert_eq!(named(&["Pow k h > y"]), ["n0", "n2", "n6"]);
    }
}
