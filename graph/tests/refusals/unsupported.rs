//! Valid ONNX beyond what a network can hold: all of it is listed at once.

use dyadic_graph::onnx::{ModelProto, OperatorSetIdProto, TensorProto, data_type};
use dyadic_graph::{ErrorKind, ImportError, Op, Unsupported};

use crate::builder::*;

fn refused(case: &str, model: &ModelProto) -> Vec<Unsupported> {
    match import(model) {
        Ok(network) => panic!("{case}: imported as\n{network}"),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{case}: {error}");
            match error {
                ImportError::Unsupported(list) => list,
                other => panic!("{case}: {other}"),
            }
        }
    }
}

#[test]
fn every_unsupported_node_is_named_at_once() {
    let mut foreign = node("FancyPool", "fancy", &["e"], &["f"]);
    foreign.domain = Some("com.example".to_owned());
    let list = refused(
        "several",
        &model(
            vec![
                node("Conv", "conv", &["x", "w"], &["c"]),
                node("Mish", "mish", &["c"], &["d"]),
                node("Relu", "fine", &["d"], &["d2"]),
                node("If", "branch", &["d2"], &["e"]).graph("then_branch").graph("else_branch"),
                foreign,
                node("MaxPool", "pool", &["x"], &["p"])
                    .ints("kernel_shape", &[2, 2])
                    .ints("pads", &[2, 2, 2, 2]),
                node("QLinearConv", "", &["f", "p"], &["y"]),
                node("Mish", "dead", &["x"], &["nobody"]),
            ],
            vec![ramp("w", &[2, 1, 3, 3])],
        ),
    );
    let named: Vec<(&str, &str, &str)> = list
        .iter()
        .map(|item| (item.node.as_deref().unwrap(), item.op.as_str(), item.domain.as_str()))
        .collect();
    assert_eq!(
        named,
        [
            ("mish", "Mish", ""),
            ("branch", "If", ""),
            ("fancy", "FancyPool", "com.example"),
            ("pool", "MaxPool", ""),
            ("y", "QLinearConv", ""),
        ]
    );
    let message = ImportError::Unsupported(list).to_string();
    for part in ["mish", "control flow", "com.example.FancyPool", "wholly in it", "QLinearConv"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn nodes_behind_an_unsupported_one_are_judged_by_the_declared_shape() {
    let mut model = model(
        vec![
            node("Mish", "mish", &["x"], &["g"]),
            node("MaxPool", "pool", &["g"], &["p"]).ints("kernel_shape", &[2, 2]).ints("pads", &[2, 2, 2, 2]),
            node("Relu", "fine", &["p"], &["y"]),
        ],
        vec![],
    );
    graph(&mut model).value_info = vec![info("g", &[ANY, 4, 1, 2, 2])];
    graph(&mut model).node.insert(1, node("Reshape", "view", &["g", "s"], &["v"]));
    graph(&mut model).node[2].input[0] = "v".to_owned();
    graph(&mut model).initializer.push(ints("s", &[4], &[0, 4, 2, 2]));
    let names: Vec<String> = refused("behind", &model).into_iter().filter_map(|item| item.node).collect();
    assert_eq!(names, ["mish", "pool"]);
}

#[test]
fn an_opset_out_of_range_is_refused_with_the_operators_that_are_unknown() {
    for version in [12, 29, 0, -1, i64::MAX] {
        let mut model = tiny();
        model.opset_import[0].version = Some(version);
        graph(&mut model).node[1].op_type = Some("Celu".to_owned());
        let list = refused("opset", &model);
        assert!(list[0].node.is_none() && list[0].reason.contains(&format!("opset {version}")), "{list:?}");
        assert_eq!(list[1].node.as_deref(), Some("relu"));
        assert_eq!(list.len(), 2);
    }
    let mut model = tiny();
    model.opset_import =
        vec![OperatorSetIdProto { domain: Some("ai.onnx.ml".to_owned()), version: Some(17) }];
    assert!(refused("no opset", &model)[0].reason.contains("no ONNX operator set"));
}

#[test]
fn inputs_and_outputs_other_than_one_float_tensor_are_refused() {
    type Break = fn(&mut ModelProto);
    let cases: [(&str, Break); 12] = [
        ("2 inputs (`x`, `z`)", |m| graph(m).input.push(info("z", &[ANY, 1, 4, 4]))),
        ("2 outputs (`y`, `r`)", |m| graph(m).output.push(info("r", &[ANY, 2, 4, 4]))),
        ("0 outputs", |m| graph(m).output.clear()),
        ("UINT8", |m| element_type(m, 2)),
        ("FLOAT16", |m| element_type(m, 10)),
        ("rank 5", |m| graph(m).input[0] = info("x", &[ANY, 1, 1, 4, 4])),
        ("not fixed", |m| graph(m).input[0] = info("x", &[ANY, 1, ANY, 4])),
        ("no shape", |m| graph(m).input[0] = info("x", &[])),
        ("extent of 0", |m| graph(m).input[0] = info("x", &[ANY, 0, 4, 4])),
        ("not a tensor", |m| graph(m).input[0].r#type = None),
        ("sparse", |m| graph(m).sparse_initializer.push(Vec::new())),
        ("sparse constants", |m| {
            // A SparseTensorProto whose values, its field 1, have the name, their field 8, that the dense constant had.
            graph(m).initializer.remove(0);
            graph(m).sparse_initializer.push([&[0x0a, 8, 0x42, 6], &b"conv.w"[..]].concat());
        }),
    ];
    for (reason, damage) in cases {
        let mut model = tiny();
        damage(&mut model);
        let list = refused(reason, &model);
        assert!(list.iter().any(|item| item.reason.contains(reason)), "{reason}: {list:?}");
    }
}

fn element_type(model: &mut ModelProto, kind: i32) {
    let tensor = graph(model).input[0].r#type.as_mut().unwrap().tensor_type.as_mut().unwrap();
    tensor.elem_type = Some(kind);
}

#[test]
fn an_output_that_nothing_computes_is_refused() {
    assert!(
        refused("identity", &single(node("Identity", "n", &["x"], &["y"]), vec![]))[0]
            .reason
            .contains("nothing to run")
    );
    let constant = single(node("Constant", "n", &[], &["y"]).tensor("value", ramp("t", &[3])), vec![]);
    assert!(refused("constant", &constant)[0].reason.contains("is a constant"));
}

#[test]
fn a_node_beyond_a_network_is_refused() {
    let half =
        TensorProto { data_type: Some(10), raw_data: Some(vec![0; 36]), ..floats("w", &[2, 1, 3, 3], &[]) };
    let pads = |pads: &[i64]| vec![ints("p", &[8], pads)];
    let pad = || node("Pad", "n", &["x", "p"], &["y"]);
    let pool = |op: &str| node(op, "n", &["x"], &["y"]).ints("kernel_shape", &[2, 2]);
    let unary = |op: &str| node(op, "n", &["x"], &["y"]);
    let cases: Vec<(&str, ModelProto)> = vec![
        ("FLOAT16", single(node("Conv", "n", &["x", "w"], &["y"]), vec![half])),
        ("3-D", single(node("Conv", "n", &["x", "w"], &["y"]), vec![ramp("w", &[2, 1, 3, 3, 3])])),
        ("weights that flow", single(node("MatMul", "n", &["x", "x"], &["y"]), vec![])),
        ("transA", single(node("Gemm", "n", &["x", "w"], &["y"]).int("transA", 1), vec![ramp("w", &[4, 4])])),
        ("product of images", single(node("MatMul", "n", &["x", "w"], &["y"]), vec![ramp("w", &[4, 4])])),
        ("softmax of images", single(unary("Softmax").int("axis", 1), vec![])),
        ("cast to half", single(unary("Cast").int("to", 10), vec![])),
        ("difference of values", single(node("Sub", "n", &["x", "x"], &["y"]), vec![])),
        ("constant by position", single(node("Add", "n", &["x", "w"], &["y"]), vec![ramp("w", &[1, 4, 4])])),
        ("constant by sample", single(node("Add", "n", &["x", "w"], &["y"]), vec![ramp("w", &[2, 1, 1, 1])])),
        ("division by a value", single(node("Div", "n", &["w", "x"], &["y"]), vec![ramp("w", &[1])])),
        ("concat of rows", single(node("Concat", "n", &["x", "x"], &["y"]).int("axis", 2), vec![])),
        ("concat of batches", single(node("Concat", "n", &["x", "x"], &["y"]).int("axis", 0), vec![])),
        ("flatten the batch", single(unary("Flatten").int("axis", 0), vec![])),
        ("transpose", single(unary("Transpose").ints("perm", &[0, 1, 3, 2]), vec![])),
        ("batch moved", single(unary("Transpose"), vec![])),
        (
            "reshape the batch",
            single(node("Reshape", "n", &["x", "s"], &["y"]), vec![ints("s", &[2], &[8, 8])]),
        ),
        ("mean of channels", single(unary("ReduceMean").ints("axes", &[1]), vec![])),
        ("mean of all", single(unary("ReduceMean"), vec![])),
        ("reflect", single(pad().text("mode", "reflect"), pads(&[0, 0, 1, 1, 0, 0, 1, 1]))),
        ("crop", single(pad(), pads(&[0, 0, -1, 0, 0, 0, 0, 0]))),
        ("padded batch", single(pad(), pads(&[1, 0, 0, 0, 0, 0, 0, 0]))),
        ("part of rows", single(slice(), slice_bounds())),
        ("far stride", single(pool("MaxPool").ints("strides", &[1, 5000]), vec![])),
        ("far padding", single(pad(), pads(&[0, 0, 5000, 0, 0, 0, 0, 0]))),
        ("big padding", single(pool("AveragePool").ints("pads", &[2, 2, 2, 2]), vec![])),
    ];
    for (case, model) in cases {
        let list = refused(case, &model);
        assert!(
            list.iter().all(|item| item.node.as_deref() == Some("n") && !item.reason.is_empty()),
            "{case}: {list:?}"
        );
    }
}

#[test]
fn valid_nodes_that_no_network_can_hold_are_not_called_malformed() {
    let conv = || node("Conv", "n", &["x", "w"], &["y"]);
    let weights = || vec![ramp("w", &[2, 1, 3, 3])];
    let with = |op: &str, constant: TensorProto| single(node(op, "n", &["x", "c"], &["y"]), vec![constant]);
    let flat = |constants| {
        let gemm = node("Gemm", "n", &["h", "w", "b"], &["y"]).float("beta", 1e38);
        model(vec![node("Flatten", "f", &["x"], &["h"]), gemm], constants)
    };
    let squeezed = model(
        vec![
            node("ReduceMean", "m", &["x"], &["h"]).ints("axes", &[1, 2, 3]).int("keepdims", 0),
            node("Add", "n", &["h", "c"], &["y"]),
        ],
        vec![floats("c", &[1], &[1.0])],
    );
    for (reason, model) in [
        ("no 3×3 window fits", single(conv().ints("dilations", &[2, 2]), weights())),
        ("over 4096", single(conv().ints("pads", &[i64::MAX; 4]), weights())),
        ("no elements", single(conv(), vec![floats("w", &[2, 1, 0, 3], &[])])),
        ("rank 9", single(conv(), vec![floats("w", &[1; 9], &[1.0])])),
        (
            "no 5×5 window fits",
            single(node("MaxPool", "n", &["x"], &["y"]).ints("kernel_shape", &[5, 5]), vec![]),
        ),
        ("a scalar", single(node("Reshape", "n", &["x", "s"], &["y"]), vec![ints("s", &[0], &[])])),
        (
            "rank 9",
            single(
                node("Reshape", "n", &["x", "s"], &["y"]),
                vec![ints("s", &[9], &[0, 1, 1, 1, 1, 1, 1, 4, 4])],
            ),
        ),
        (
            "out of samples",
            single(node("Reshape", "n", &["x", "s"], &["y"]), vec![ints("s", &[2], &[-1, 8])]),
        ),
        ("division by zero", with("Div", floats("c", &[], &[0.0]))),
        ("inf", with("Add", floats("c", &[], &[f32::NEG_INFINITY]))),
        ("inf", with("Mul", floats("c", &[], &[f32::INFINITY]))),
        ("NaN", with("Clip", floats("c", &[], &[f32::NAN]))),
        (
            "above the upper",
            single(
                node("Clip", "n", &["x", "a", "b"], &["y"]),
                vec![floats("a", &[], &[2.0]), floats("b", &[], &[1.0])],
            ),
        ),
        (
            "padding with -inf",
            single(
                node("Pad", "n", &["x", "p", "v"], &["y"]),
                vec![ints("p", &[8], &[0, 0, 1, 1, 0, 0, 1, 1]), floats("v", &[], &[f32::NEG_INFINITY])],
            ),
        ),
        ("no elements", flat(vec![floats("w", &[16, 0], &[]), ramp("b", &[3])])),
        ("weights overflow", flat(vec![ramp("w", &[16, 3]), floats("b", &[3], &[1e38; 3])])),
        (
            "weights of shape [2, 16, 3]",
            model(
                vec![node("Flatten", "f", &["x"], &["h"]), node("MatMul", "n", &["h", "w"], &["y"])],
                vec![ramp("w", &[2, 16, 3])],
            ),
        ),
        ("all positions", squeezed),
    ] {
        let list = refused(reason, &model);
        assert!(list.iter().any(|item| item.reason.contains(reason)), "{reason}: {list:?}");
    }
}

#[test]
fn nodes_behind_values_of_unknown_shape_are_named_too() {
    let mut foreign = node("FancyPool", "fancy", &["x"], &["u"]);
    foreign.domain = Some("com.example".to_owned());
    let constants = vec![ramp("w", &[2, 1, 3, 1, 1]), ramp("w2", &[2, 2, 3, 3]), ramp("w3", &[5, 3])];
    let list = refused(
        "unknown",
        &model(
            vec![
                foreign,
                node("Sigmoid", "gate", &["u"], &["s"]),
                node("Sub", "gated", &["u", "s"], &["v"]),
                node("Conv", "one", &["v", "w"], &["c"]),
                node("Conv", "two", &["v", "w2"], &["d"]),
                node("Sub", "gated again", &["d", "d"], &["e"]),
                node("Shape", "shape", &["d"], &["z"]),
                node("Gather", "extent", &["z", "i"], &["n"]),
                node("Concat", "target", &["n", "m"], &["t"]).int("axis", 0),
                node("Reshape", "flat", &["e", "t"], &["f"]),
                node("MatMul", "product", &["f", "f"], &["g"]),
                node("Relu", "fine", &["g"], &["h"]),
                node("Concat", "mixed", &["h", "c", "w3"], &["y"]).int("axis", 1),
            ],
            [constants, vec![ints("i", &[1], &[0]), ints("m", &[1], &[-1])]].concat(),
        ),
    );
    let names: Vec<&str> = list.iter().filter_map(|item| item.node.as_deref()).collect();
    assert_eq!(names, ["fancy", "gated", "one", "gated again", "product", "mixed"]);
}

#[test]
fn nodes_behind_an_unsupported_one_are_judged_by_the_shape_that_it_would_have_written() {
    let gated = |index: usize| {
        let name = |kind: &str, index: usize| format!("{kind}{index}");
        [
            node("Conv", &name("conv", index), &[&name("v", index), "w"], &[&name("c", index)])
                .ints("pads", &[1; 4]),
            node("Sigmoid", &name("gate", index), &[&name("c", index)], &[&name("s", index)]),
            node(
                "Sub",
                &name("gated", index),
                &[&name("c", index), &name("s", index)],
                &[&name("v", index + 1)],
            ),
        ]
    };
    let mut nodes = vec![node("Relu", "relu", &["x"], &["v0"])];
    nodes.extend((0..40).flat_map(gated));
    nodes.push(node("MaxPool", "pool", &["v40"], &["y"]).ints("kernel_shape", &[5, 5]));
    let list = refused("gated", &model(nodes, vec![ramp("w", &[1, 1, 3, 3])]));
    assert_eq!(list.len(), 41);
    assert!(list[40].reason.contains("no 5×5 window fits an input of 4×4"), "{}", list[40]);
    let groups = Unsupported::grouped(&list);
    let counted: Vec<(&str, usize)> =
        groups.iter().map(|group| (group.op.as_str(), group.nodes.len())).collect();
    assert_eq!(counted, [("Sub", 40), ("MaxPool", 1)]);
    let message = ImportError::Unsupported(list).to_string();
    assert!(message.contains("40 nodes (Sub)") && message.contains("`gated2` and 37 more"), "{message}");
}

#[test]
fn what_follows_an_unsupported_node_is_never_called_malformed() {
    let mut model = model(
        vec![
            node("Mish", "mish", &["x"], &["g"]),
            node("Reshape", "view", &["g", "s"], &["v"]),
            node("Conv", "conv", &["v", "w"], &["y"]),
        ],
        vec![ints("s", &[4], &[0, 3, 2, 2]), ramp("w", &[2, 1, 1, 1])],
    );
    // What the exporter says of the shape need not be so.
    graph(&mut model).value_info = vec![info("g", &[ANY, 12])];
    let names: Vec<String> = refused("behind", &model).into_iter().filter_map(|item| item.node).collect();
    assert_eq!(names, ["mish"]);
}

#[test]
fn an_attribute_counts_only_in_the_versions_that_have_it() {
    let pool =
        node("AveragePool", "n", &["x"], &["y"]).ints("kernel_shape", &[2, 2]).ints("dilations", &[2, 2]);
    let mut model = single(pool, vec![]);
    assert_eq!(import(&model).unwrap_err().kind(), ErrorKind::Malformed);
    for version in [19, 22, 28] {
        model.opset_import[0].version = Some(version);
        let network = import(&model).unwrap();
        let Op::AvgPool { window, .. } = &network.layers[0].op else { panic!("{network}") };
        assert_eq!(window.dilation, [2, 2]);
    }
}

fn slice() -> dyadic_graph::onnx::NodeProto {
    node("Slice", "n", &["x", "starts", "ends", "axes"], &["y"])
}

fn slice_bounds() -> Vec<TensorProto> {
    vec![ints("starts", &[1], &[0]), ints("ends", &[1], &[2]), ints("axes", &[1], &[2])]
}

#[test]
fn second_outputs_and_training_are_refused() {
    let pool = node("MaxPool", "pool", &["x"], &["p", "indices"]).ints("kernel_shape", &[2, 2]);
    let add = node("Add", "add", &["p", "indices"], &["y"]);
    assert!(refused("indices", &model(vec![pool, add], vec![]))[0].reason.contains("`indices` is read"));

    let flag = TensorProto { data_type: Some(data_type::BOOL), int32_data: vec![1], ..floats("t", &[], &[]) };
    let dropout = node("Dropout", "n", &["x", "", "t"], &["y"]);
    assert!(refused("dropout", &single(dropout, vec![flag]))[0].reason.contains("training"));

    let norm = node("BatchNormalization", "n", &["x", "s", "s", "s", "s"], &["y"]).int("training_mode", 1);
    assert!(refused("norm", &single(norm, vec![floats("s", &[1], &[1.0])]))[0].reason.contains("training"));
}
