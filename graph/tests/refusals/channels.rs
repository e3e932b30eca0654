//! Channels that are split off, picked and moved.

use dyadic_graph::onnx::{ModelProto, NodeProto, TensorProto};
use dyadic_graph::{ErrorKind, Network, Op, Tensor, evaluate};

use crate::builder::*;

/// A model from `x` [N, 6, 2, 1] to `y`.
fn six(nodes: Vec<NodeProto>, constants: Vec<TensorProto>) -> ModelProto {
    let mut model = model(nodes, constants);
    graph(&mut model).input[0] = info("x", &[ANY, 6, 2, 1]);
    model
}

fn network(case: &str, model: &ModelProto) -> Network {
    import(model).unwrap_or_else(|error| panic!("{case}: {error}"))
}

/// Which channel of `x` each channel of the output is.
fn sources(network: &Network) -> Vec<usize> {
    let shape = network.shape(network.input).to_vec();
    let plane: usize = shape[1..].iter().product();
    let data = (0..shape.iter().product()).map(|index: usize| (index / plane) as f32).collect();
    let output = evaluate(network, &Tensor { shape, data }).unwrap();
    output.data.chunks_exact(output.data.len() / output.shape[0]).map(|plane| plane[0] as usize).collect()
}

fn selected(case: &str, model: &ModelProto, expected: &[usize]) {
    let network = network(case, model);
    let ops: Vec<&Op> = network.layers.iter().map(|layer| &layer.op).collect();
    assert_eq!(ops, [&Op::Select { channels: expected.to_vec() }], "{case}");
    assert_eq!(sources(&network), expected, "{case}");
}

#[test]
fn parts_of_a_split_have_the_channels_that_the_split_says() {
    let split = || node("Split", "n", &["x"], &["a", "b"]).int("axis", 1);
    let sized = |mut node: NodeProto, sizes: &[i64]| {
        node.input.push("s".to_owned());
        (node, vec![ints("s", &[sizes.len() as i64], sizes)])
    };
    let at = |mut model: ModelProto, opset: i64| {
        model.opset_import[0].version = Some(opset);
        model
    };
    let with = |(split, constants): (NodeProto, Vec<TensorProto>)| {
        six(vec![split, node("Concat", "c", &["b", "a"], &["y"]).int("axis", 1)], constants)
    };
    selected("halves", &with((split(), vec![])), &[3, 4, 5, 0, 1, 2]);
    selected("sizes", &with(sized(split(), &[1, 5])), &[1, 2, 3, 4, 5, 0]);
    selected("count", &at(with((split().int("num_outputs", 2), vec![])), 18), &[3, 4, 5, 0, 1, 2]);
    let four = node("Split", "n", &["x"], &["a", "b", "c", "d"]).int("axis", -3);
    let sizes = vec![ints("s", &[4], &[2, 1, 2, 1])];
    let mut one = four.clone();
    one.input.push("s".to_owned());
    one.output[2] = "y".to_owned();
    selected("third", &six(vec![one], sizes), &[3, 4]);
    let mut empty = four.int("num_outputs", 4);
    empty.output[3] = "y".to_owned();
    let error = import(&at(six(vec![empty], vec![]), 18)).unwrap_err();
    assert!(error.to_string().contains("without elements"), "{error}");
    let three = node("Split", "n", &["x"], &["a", "b", "y"]).int("axis", 1).int("num_outputs", 3);
    let mut smaller = at(six(vec![three], vec![]), 18);
    graph(&mut smaller).input[0] = info("x", &[ANY, 5, 2, 1]);
    selected("the last is smaller", &smaller, &[4]);
    for (model, kind, reason) in [
        (with(sized(split(), &[3, 4])), ErrorKind::Malformed, "sizes [3, 4] for 2 outputs of 6 channels"),
        (with(sized(split(), &[-1, 7])), ErrorKind::Malformed, "holds -1"),
        (with(sized(split(), &[2, 2, 2])), ErrorKind::Malformed, "2 outputs"),
        (with(sized(split(), &[0, 6])), ErrorKind::Unsupported, "without elements"),
        (with((split().int("num_outputs", 2), vec![])), ErrorKind::Malformed, "no attribute `num_outputs`"),
        (at(with((split().int("num_outputs", 3), vec![])), 18), ErrorKind::Malformed, "3 for 2 outputs"),
        (six(vec![node("Split", "n", &["x"], &["y", "z"])], vec![]), ErrorKind::Unsupported, "along axis 0"),
        (
            six(vec![node("Split", "n", &["x"], &["y", "z"]).int("axis", 2)], vec![]),
            ErrorKind::Unsupported,
            "along axis 2",
        ),
    ] {
        let error = import(&model).unwrap_err();
        assert_eq!(error.kind(), kind, "{reason}: {error}");
        assert!(error.to_string().contains(reason), "{reason}: {error}");
    }
}

#[test]
fn a_slice_takes_channels_with_any_start_end_and_step() {
    for (start, end, step, expected) in [
        (0, 3, 1, &[0, 1, 2][..]),
        (3, i64::MAX, 1, &[3, 4, 5]),
        (-2, i64::MAX, 1, &[4, 5]),
        (0, -1, 2, &[0, 2, 4]),
        (1, 6, 2, &[1, 3, 5]),
        (-1, i64::MIN, -1, &[5, 4, 3, 2, 1, 0]),
        (4, 0, -3, &[4, 1]),
    ] {
        let slice = node("Slice", "n", &["x", "a", "b", "c", "d"], &["y"]);
        let bounds = [("a", start), ("b", end), ("c", 1), ("d", step)];
        let constants = bounds.map(|(name, number)| ints(name, &[1], &[number])).to_vec();
        selected("slice", &six(vec![slice], constants), expected);
    }
    let both = node("Slice", "n", &["x", "a", "b", "c", "d"], &["y"]);
    let bounds = [("a", [0, 1, 0]), ("b", [i64::MAX, 3, i64::MAX]), ("c", [0, 1, 2]), ("d", [1, 1, 2])];
    let constants = bounds.map(|(name, numbers)| ints(name, &[3], &numbers)).to_vec();
    let network = network("channels and rows", &six(vec![both], constants));
    assert_eq!((network.shape(network.output), sources(&network)), (&[2, 1, 1][..], vec![1, 2]));
    let empty = node("Slice", "n", &["x", "a", "a", "a"], &["y"]);
    let error = import(&six(vec![empty], vec![ints("a", &[1], &[1])])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}

#[test]
fn a_gather_takes_channels_in_any_order() {
    let gather = |indices: TensorProto, axis: i64| {
        six(vec![node("Gather", "n", &["x", "i"], &["y"]).int("axis", axis)], vec![indices])
    };
    selected("repeated", &gather(ints("i", &[4], &[5, 0, -1, 0]), 1), &[5, 0, 5, 0]);
    selected("negative axis", &gather(ints("i", &[1], &[2]), -3), &[2]);
    let single = six(
        vec![
            node("Gather", "g", &["x", "i"], &["h"]).int("axis", 1),
            node("Unsqueeze", "u", &["h", "a"], &["y"]),
        ],
        vec![ints("i", &[], &[-2]), ints("a", &[1], &[1])],
    );
    selected("single", &single, &[4]);
    for (model, kind, reason) in [
        (gather(ints("i", &[1], &[6]), 1), ErrorKind::Malformed, "index 6 of 6 channels"),
        (gather(ints("i", &[1], &[-7]), 1), ErrorKind::Malformed, "index -7"),
        (gather(ints("i", &[], &[0]), 1), ErrorKind::Unsupported, "as [2, 1]"),
        (gather(ints("i", &[1, 1], &[0]), 1), ErrorKind::Unsupported, "rank 2"),
        (gather(ints("i", &[0], &[]), 1), ErrorKind::Unsupported, "without elements"),
        (gather(ints("i", &[1], &[0]), 0), ErrorKind::Unsupported, "along axis 0"),
        (gather(ints("i", &[1], &[0]), 2), ErrorKind::Unsupported, "along axis 2"),
    ] {
        let error = import(&model).unwrap_err();
        assert_eq!(error.kind(), kind, "{reason}: {error}");
        assert!(error.to_string().contains(reason), "{reason}: {error}");
    }
}

/// Reshape to `apart`, transpose, reshape to `joined`.
fn shuffle(apart: &[i64], perm: &[i64], joined: &[i64]) -> ModelProto {
    six(
        vec![
            node("Reshape", "apart", &["x", "a"], &["h"]),
            node("Transpose", "turn", &["h"], &["t"]).ints("perm", perm),
            node("Reshape", "joined", &["t", "j"], &["y"]),
        ],
        vec![ints("a", &[apart.len() as i64], apart), ints("j", &[joined.len() as i64], joined)],
    )
}

#[test]
fn a_channel_shuffle_is_a_selection() {
    let back = &[-1, 6, 2, 1];
    selected("two groups", &shuffle(&[-1, 2, 3, 2, 1], &[0, 2, 1, 3, 4], back), &[0, 3, 1, 4, 2, 5]);
    selected("three groups", &shuffle(&[0, 3, 2, 2, 1], &[0, 2, 1, 3, 4], back), &[0, 2, 4, 1, 3, 5]);
    selected("flat planes", &shuffle(&[-1, 2, 3, 2], &[0, 2, 1, 3], back), &[0, 3, 1, 4, 2, 5]);
    selected(
        "an axis of one",
        &shuffle(&[-1, 2, 1, 3, 2, 1], &[0, 3, 2, 1, 4, 5], back),
        &[0, 3, 1, 4, 2, 5],
    );
    let fixed = |mut model: ModelProto| {
        graph(&mut model).input[0] = info("x", &[7, 6, 2, 1]);
        model
    };
    let static_batch = fixed(shuffle(&[7, 2, 3, 2, 1], &[0, 2, 1, 3, 4], &[7, 6, 2, 1]));
    selected("a fixed batch", &static_batch, &[0, 3, 1, 4, 2, 5]);
    let flat = |mut model: ModelProto| {
        graph(&mut model).input[0] = info("x", &[ANY, 6]);
        model
    };
    selected("features", &flat(shuffle(&[-1, 3, 2], &[0, 2, 1], &[-1, 6])), &[0, 2, 4, 1, 3, 5]);
}

#[test]
fn two_shuffles_are_one_and_may_come_to_nothing() {
    let turn = |from: &str, to: &str, name: &str, apart: &str| {
        [
            node("Reshape", &format!("{name} apart"), &[from, apart], &[&format!("{name}a")]),
            node("Transpose", name, &[&format!("{name}a")], &[&format!("{name}b")])
                .ints("perm", &[0, 2, 1, 3, 4]),
            node("Reshape", &format!("{name} joined"), &[&format!("{name}b"), "j"], &[to]),
        ]
    };
    let constants = || {
        vec![
            ints("two", &[5], &[-1, 2, 3, 2, 1]),
            ints("three", &[5], &[-1, 3, 2, 2, 1]),
            ints("j", &[4], &[-1, 6, 2, 1]),
        ]
    };
    let twice = [turn("x", "h", "one", "two"), turn("h", "y", "other", "two")].concat();
    selected("twice", &six(twice, constants()), &[0, 4, 3, 2, 1, 5]);
    let there_and_back = [turn("x", "h", "one", "two"), turn("h", "k", "other", "three")].concat();
    let model = six([there_and_back, vec![node("Relu", "relu", &["k"], &["y"])]].concat(), constants());
    let network = network("there and back", &model);
    assert_eq!(network.layers.iter().map(|layer| layer.op.name()).collect::<Vec<_>>(), ["Relu"]);
}

#[test]
fn a_transposition_that_moves_more_than_channels_is_refused() {
    for (model, node) in [
        (shuffle(&[-1, 2, 3, 2, 1], &[0, 3, 1, 2, 4], &[-1, 6, 2, 1]), "turn"),
        (shuffle(&[-1, 4, 3, 1], &[0, 2, 1, 3], &[-1, 6, 2, 1]), "turn"),
        (shuffle(&[-1, 2, 3, 2, 1], &[0, 2, 1, 3, 4], &[-1, 3, 4, 1]), "joined"),
        (shuffle(&[-1, 2, 3, 2, 1], &[1, 0, 2, 3, 4], &[2, -1, 6, 1]), "turn"),
    ] {
        let error = import(&model).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains(node) || node == "joined", "{node}: {error}");
    }
}

#[test]
fn a_shuffle_behind_what_is_not_supported_is_not_named() {
    let behind = |op: &str, name: &str| {
        let mut model = shuffle(&[-1, 2, 3, 2, 1], &[0, 2, 1, 3, 4], &[-1, 6, 2, 1]);
        let mut first = node(op, name, &["x"], &["u"]);
        if op == "Fancy" {
            first.domain = Some("com.example".to_owned());
        }
        let nodes = &mut graph(&mut model).node;
        nodes[0].input[0] = "u".to_owned();
        nodes[2].output[0] = "k".to_owned();
        nodes.insert(0, first);
        nodes.push(node("Split", "split", &["k"], &["l", "r"]).int("axis", 1));
        nodes.push(node("Sub", "sub", &["l", "r"], &["y"]));
        model
    };
    for op in ["Mish", "Fancy"] {
        let error = import(&behind(op, "first")).unwrap_err();
        let text = error.to_string();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{text}");
        assert!(text.contains("first") && text.contains("sub"), "{text}");
        assert!(!text.contains("turn") && !text.contains("split"), "{text}");
    }
}

#[test]
fn a_concatenation_of_normalized_channels_is_one_normalization() {
    let front = |order: [i64; 3]| {
        let mut nodes = Vec::new();
        let mut constants = vec![ints("one", &[1], &[1])];
        for (place, index) in order.into_iter().enumerate() {
            let name = |kind: &str| format!("{kind}{place}");
            nodes.extend([
                node("Gather", &name("g"), &["x", &name("i")], &[&name("a")]).int("axis", 1),
                node("Unsqueeze", &name("u"), &[&name("a"), "one"], &[&name("b")]),
                node("Mul", &name("m"), &[&name("b"), &name("f")], &[&name("c")]),
                node("Add", &name("s"), &[&name("c"), &name("o")], &[&name("d")]),
            ]);
            constants.extend([
                ints(&name("i"), &[], &[index]),
                floats(&name("f"), &[], &[index as f32 + 2.0]),
                floats(&name("o"), &[], &[0.5 - place as f32]),
            ]);
        }
        nodes.push(node("Concat", "c", &["d0", "d1", "d2"], &["y"]).int("axis", 1));
        let mut model = model(nodes, constants);
        graph(&mut model).input[0] = info("x", &[ANY, 3, 1, 1]);
        model
    };
    for (order, names, expected) in [
        ([0, 1, 2], &["BatchNorm"][..], [2.5, 5.5, 10.5]),
        ([2, 0, 0], &["Select", "BatchNorm"], [12.5, 1.5, 0.5]),
    ] {
        let network = network("front", &front(order));
        assert_eq!(network.layers.iter().map(|layer| layer.op.name()).collect::<Vec<_>>(), names);
        let input = Tensor { shape: vec![3, 1, 1], data: vec![1.0, 2.0, 3.0] };
        assert_eq!(evaluate(&network, &input).unwrap().data, expected);
    }
    // What is read elsewhere, too, stays.
    let mut model = front([0, 1, 2]);
    let nodes = &mut graph(&mut model).node;
    nodes[12].output[0] = "k".to_owned();
    nodes.push(node("Concat", "e", &["k", "d1"], &["y"]).int("axis", 1));
    let network = network("read twice", &model);
    let concats = network.layers.iter().filter(|layer| layer.op == Op::Concat).count();
    assert_eq!(concats, 2, "{network}");
    let input = Tensor { shape: vec![3, 1, 1], data: vec![1.0, 2.0, 3.0] };
    assert_eq!(evaluate(&network, &input).unwrap().data, [2.5, 5.5, 10.5, 5.5]);
}
