//! Small files that ask for much.

use dyadic_graph::import::MAX_NODES;
use dyadic_graph::onnx::{ModelProto, NodeProto};
use dyadic_graph::{ErrorKind, ImportError};

use crate::builder::*;

fn assert_too_large(case: &str, model: &ModelProto) {
    match import(model) {
        Ok(_) => panic!("{case}: imported"),
        Err(error @ ImportError::TooLarge { .. }) => assert_eq!(error.kind(), ErrorKind::TooLarge),
        Err(error) => panic!("{case}: {error}"),
    }
}

#[test]
fn many_empty_messages_are_refused_before_they_are_decoded() {
    assert_too_large("nodes", &model(vec![NodeProto::default(); 200_000], vec![]));
    let mut attributes = tiny();
    graph(&mut attributes).node[0].attribute = vec![dyadic_graph::onnx::AttributeProto::default(); 100_000];
    assert_too_large("attributes", &attributes);
}

#[test]
fn more_nodes_than_the_limit_are_refused() {
    let name = |index: u64| if index == 0 { "x".to_owned() } else { format!("value number {index}") };
    let nodes = (0..=MAX_NODES)
        .map(|index| node("Relu", &format!("relu number {index}"), &[&name(index)], &[&name(index + 1)]))
        .collect();
    let mut model = model(nodes, vec![]);
    graph(&mut model).output[0] = info(&name(MAX_NODES + 1), &[ANY, 1, 4, 4]);
    assert_too_large("nodes", &model);
    graph(&mut model).node.pop();
    graph(&mut model).output[0] = info(&name(MAX_NODES), &[ANY, 1, 4, 4]);
    assert_eq!(import(&model).unwrap().layers.len() as u64, MAX_NODES);
}

#[test]
fn one_constant_shared_by_many_nodes_is_bounded() {
    let name = |index: usize| match index {
        0 => "f".to_owned(),
        1000 => "y".to_owned(),
        _ => format!("v{index}"),
    };
    let mut nodes = vec![node("Flatten", "flatten", &["x"], &["f"])];
    nodes.extend((0..1000).map(|i| node("MatMul", "m", &[&name(i), "w"], &[&name(i + 1)])));
    let mut model = model(nodes, vec![ramp("w", &[256, 256])]);
    graph(&mut model).input[0] = info("x", &[ANY, 1, 16, 16]);
    assert_too_large("shared", &model);
}

#[test]
fn one_number_spread_over_many_channels_is_bounded() {
    let mut model = single(node("Mul", "n", &["x", "c"], &["y"]), vec![floats("c", &[], &[2.0])]);
    graph(&mut model).input[0] = info("x", &[ANY, 1 << 27, 1, 1]);
    assert_too_large("channels", &model);
}

#[test]
fn values_and_paddings_beyond_any_image_are_bounded() {
    let mut huge = tiny();
    graph(&mut huge).input[0] = info("x", &[ANY, 1, 1 << 20, 1 << 20]);
    assert_too_large("input", &huge);
    graph(&mut huge).input[0] = info("x", &[ANY, i64::MAX, i64::MAX, i64::MAX]);
    assert_too_large("overflow", &huge);

    let conv = node("Conv", "n", &["x", "w"], &["y"]).ints("pads", &[4000; 4]);
    assert_too_large("padding", &single(conv, vec![ramp("w", &[8, 1, 3, 3])]));

    let doubled = |i: usize| {
        node("Concat", "n", &[format!("v{i}").as_str(); 2], &[&format!("v{}", i + 1)]).int("axis", 1)
    };
    let mut nodes = vec![node("Relu", "relu", &["x"], &["v0"])];
    nodes.extend((0..60).map(doubled));
    nodes.push(node("Relu", "last", &["v60"], &["y"]));
    assert_too_large("doubling", &model(nodes, vec![]));
}

#[test]
fn shape_arithmetic_that_doubles_is_bounded() {
    let doubled = |i: usize| {
        node("Concat", "n", &[format!("s{i}").as_str(); 2], &[&format!("s{}", i + 1)]).int("axis", 0)
    };
    let mut nodes = vec![node("Shape", "shape", &["x"], &["s0"])];
    nodes.extend((0..60).map(doubled));
    nodes.push(node("Reshape", "last", &["x", "s60"], &["y"]));
    assert_too_large("doubling", &model(nodes, vec![]));
}

#[test]
fn selections_of_many_channels_are_bounded() {
    let slice = node("Slice", "n", &["x", "one", "far", "one"], &["y"]);
    let split = node("Split", "n", &["x", "sizes"], &["y", "z"]).int("axis", 1);
    let slopes = node("PRelu", "n", &["x", "slopes"], &["y"]);
    let constants = || {
        vec![
            ints("one", &[1], &[1]),
            ints("far", &[1], &[i64::MAX]),
            ints("sizes", &[2], &[(1 << 27) - 1, 1]),
            ints("apart", &[5], &[-1, 2, 1 << 26, 1, 1]),
        ]
    };
    let shuffle = vec![
        node("Reshape", "apart", &["x", "apart"], &["h"]),
        node("Transpose", "n", &["h"], &["y"]).ints("perm", &[0, 2, 1, 3, 4]),
    ];
    for nodes in [vec![slice], vec![split], shuffle] {
        let mut model = model(nodes, constants());
        graph(&mut model).input[0] = info("x", &[ANY, 1 << 27, 1, 1]);
        assert_too_large("channels", &model);
    }
    let mut model = single(slopes, vec![floats("slopes", &[1, 1], &[0.5])]);
    graph(&mut model).input[0] = info("x", &[ANY, 1 << 27, 1, 1]);
    assert_eq!(import(&model).unwrap().layers.len(), 1);
}

#[test]
fn many_selections_of_one_value_are_bounded() {
    let name = |index: usize| if index == 0 { "x".to_owned() } else { format!("v{index}") };
    let reversed = |index: usize| {
        node("Slice", "n", &[&name(index), "last", "first", "one", "back"], &[&name(index + 1)])
    };
    let mut nodes: Vec<NodeProto> = (0..1000).map(reversed).collect();
    nodes.push(node("Relu", "relu", &["v1000"], &["y"]));
    let number = |name: &str, number: i64| ints(name, &[1], &[number]);
    let constants = vec![number("last", -1), number("first", i64::MIN), number("one", 1), number("back", -1)];
    let mut model = model(nodes, constants);
    graph(&mut model).input[0] = info("x", &[ANY, 1 << 10, 1, 1]);
    // Turned around a thousand times, nothing is left to do.
    assert_eq!(import(&model).unwrap().layers.len(), 1);
    graph(&mut model).input[0] = info("x", &[ANY, 1 << 16, 1, 1]);
    assert_too_large("channels", &model);
}
