//! Files that contradict themselves: the error names the node or constant, and the reason.

use dyadic_graph::onnx::{GraphProto, ModelProto, NodeProto, TensorProto};
use dyadic_graph::{ErrorKind, ImportError, import_bytes};
use prost::Message;

use crate::builder::*;

/// Refused as malformed, with both texts in the message.
fn assert_malformed(
    case: &str,
    result: Result<dyadic_graph::Network, ImportError>,
    name: &str,
    reason: &str,
) {
    let Err(error) = result else { panic!("{case}: imported") };
    let message = error.to_string();
    assert_eq!(error.kind(), ErrorKind::Malformed, "{case}: {message}");
    assert!(message.contains(name) && message.contains(reason), "{case}: {message}");
}

#[test]
fn bytes_that_are_no_model_are_refused() {
    let tiny = tiny().encode_to_vec();
    let mut cases: Vec<(&str, Vec<u8>)> = vec![
        ("empty", Vec::new()),
        ("text", b"PK\x03\x04 this is not a model".to_vec()),
        ("zeros", vec![0; 64]),
        ("ones", vec![0xff; 64]),
        ("no graph", ModelProto { ir_version: Some(8), ..ModelProto::default() }.encode_to_vec()),
        // Start-group tags, one inside the other.
        ("nested groups", vec![0x0b; 100_000]),
    ];
    for length in [1, 7, tiny.len() / 2, tiny.len() - 1] {
        cases.push(("cut off", tiny[..length].to_vec()));
    }
    for (case, bytes) in cases {
        let result = import_bytes(&bytes, Vec::<(String, &[u8])>::new());
        assert_malformed(case, result, "", "");
    }
}

#[test]
fn a_graph_that_contradicts_itself_is_refused() {
    type Break = fn(&mut GraphProto);
    let cases: [(&str, Break, &str, &str); 13] = [
        (
            "dangling input",
            |g| g.node[1].input[0] = "nowhere".into(),
            "`relu`",
            "`nowhere`, which nothing writes",
        ),
        ("dangling output", |g| g.output[0] = info("lost", &[ANY, 3]), "`lost`", "written by nothing"),
        ("two writers", |g| g.node[1].output[0] = "f".into(), "`flatten`", "which `relu` writes, too"),
        ("writes a constant", |g| g.node[1].output[0] = "gemm.b".into(), "`relu`", "an input or a constant"),
        ("writes the input", |g| g.node[1].output[0] = "x".into(), "`relu`", "an input or a constant"),
        (
            "one constant twice",
            |g| g.initializer[0].name = g.initializer[1].name.clone(),
            "`conv.b`",
            "two constants",
        ),
        ("a nameless constant", |g| g.initializer[0].name = None, "", "without a name"),
        ("one input twice", |g| g.input.push(g.input[0].clone()), "`x`", "two inputs"),
        ("one output twice", |g| g.output.push(g.output[0].clone()), "`y`", "two outputs"),
        ("a node that reads itself", |g| g.node[1].input[0] = "r".into(), "`relu`", "cycle"),
        ("a cycle of two", |g| g.node[1].input[0] = "f".into(), "`relu`", "cycle"),
        ("a negative extent", |g| g.input[0] = info("x", &[ANY, 1, -4, 4]), "`x`", "-4"),
        ("a negative output", |g| g.output[0] = info("y", &[ANY, -3]), "`y`", "-3"),
    ];
    for (case, damage, name, reason) in cases {
        let mut model = tiny();
        damage(graph(&mut model));
        assert_malformed(case, import(&model), name, reason);
    }
}

#[test]
fn a_constant_that_contradicts_itself_is_refused() {
    let cut = |mut tensor: TensorProto| {
        tensor.raw_data.as_mut().unwrap().pop();
        tensor
    };
    let cases: Vec<(&str, TensorProto, &str)> = vec![
        ("bytes missing", cut(ramp("conv.w", &[2, 1, 3, 3])), "takes 72 bytes, but there are 71"),
        (
            "elements missing",
            floats("conv.w", &[2, 1, 3, 3], &[1.0; 17]),
            "takes 18 elements, but there are 17",
        ),
        ("no elements", floats("conv.w", &[2, 1, 3, 3], &[]), "takes 18 elements, but there are 0"),
        ("negative", floats("conv.w", &[2, -1, 3, 3], &[1.0; 18]), "extent -1"),
        ("overflow", floats("conv.w", &[1 << 40, 1 << 40, 3, 3], &[1.0; 18]), "overflows"),
        ("overflow in bytes", ramp_of("conv.w", &[1 << 62, 1, 1, 1]), "overflows"),
        ("no type", TensorProto { data_type: None, ..ramp("conv.w", &[2, 1, 3, 3]) }, "no element type"),
        (
            "location",
            TensorProto { data_location: Some(9), ..ramp("conv.w", &[2, 1, 3, 3]) },
            "data location 9",
        ),
        ("NaN", floats("conv.w", &[2, 1, 3, 3], &[f32::NAN; 18]), "NaN"),
        ("infinity", floats("conv.w", &[2, 1, 3, 3], &[f32::NEG_INFINITY; 18]), "-inf"),
    ];
    for (case, tensor, reason) in cases {
        let mut model = tiny();
        graph(&mut model).initializer[0] = tensor;
        assert_malformed(case, import(&model), "`conv.w`", reason);
    }
}

fn ramp_of(name: &str, dims: &[i64]) -> TensorProto {
    TensorProto { dims: dims.to_vec(), ..ramp(name, &[4]) }
}

#[test]
fn a_side_file_is_read_only_where_it_may_be() {
    let bytes: Vec<u8> = (0..100u8).flat_map(|i| f32::from(i).to_le_bytes()).collect();
    let files: [(&str, &[u8]); 1] = [("m.onnx.data", &bytes)];
    let with = |entries: &[(&str, &str)]| {
        let mut model = tiny();
        graph(&mut model).initializer[0] = external("conv.w", &[2, 1, 3, 3], entries);
        model
    };
    for good in [
        &[("location", "m.onnx.data"), ("offset", "8"), ("length", "72")][..],
        &[("location", "./m.onnx.data"), ("offset", "328")][..],
        &[("location", "m.onnx.data"), ("length", "72"), ("checksum", "?")][..],
    ] {
        import_with(&with(good), &files).unwrap();
    }
    for (entries, reason) in [
        (&[("location", "other.data")][..], "not in the bundle"),
        (&[("location", "")], "empty name"),
        (&[("location", "/etc/passwd")], "absolute"),
        (&[("location", "C:\\m.onnx.data")], "absolute"),
        (&[("location", "../m.onnx.data")], "`..`"),
        (&[("location", "a/../m.onnx.data")], "`..`"),
        (&[("location", "a\\..\\m.onnx.data")], "`..`"),
        (&[("location", "folder/m.onnx.data")], "folder"),
        (&[("location", "m.onnx.data\0")], "control character"),
        (&[("location", "m.onnx.data"), ("offset", "400"), ("length", "72")], "out of its range"),
        (
            &[("location", "m.onnx.data"), ("offset", "18446744073709551615"), ("length", "72")],
            "out of its range",
        ),
        (&[("location", "m.onnx.data"), ("length", "401")], "out of its range"),
        (&[("location", "m.onnx.data"), ("offset", "1000")], "out of its range"),
        (&[("location", "m.onnx.data"), ("length", "71")], "takes 72 bytes"),
        (&[("location", "m.onnx.data")], "takes 72 bytes"),
        (&[("location", "m.onnx.data"), ("offset", "-4")], "not a number"),
        (&[("location", "m.onnx.data"), ("length", "much")], "not a number"),
        (&[("offset", "0")], "without a location"),
    ] {
        assert_malformed(reason, import_with(&with(entries), &files), "`conv.w`", reason);
    }
}

#[test]
fn a_node_that_contradicts_its_operands_is_refused() {
    let conv = || node("Conv", "n", &["x", "w"], &["y"]);
    let weights = || vec![ramp("w", &[2, 1, 3, 3])];
    let pool = |op: &str| node(op, "n", &["x"], &["y"]).ints("kernel_shape", &[2, 2]);
    let reshape = |shape: &[i64]| {
        single(node("Reshape", "n", &["x", "s"], &["y"]), vec![ints("s", &[shape.len() as i64], shape)])
    };
    let mut norm: Vec<TensorProto> = ["s", "b", "m", "v"].map(|name| floats(name, &[1], &[1.0])).to_vec();
    let normalized = |constants: &[TensorProto]| {
        single(node("BatchNormalization", "n", &["x", "s", "b", "m", "v"], &["y"]), constants.to_vec())
    };
    let mut cases: Vec<(ModelProto, &str)> = vec![
        (single(conv(), vec![ramp("w", &[2, 3, 3, 3])]), "1 input channels"),
        (single(conv().int("group", 0), weights()), "less than 1"),
        (single(conv().int("group", 2), weights()), "1 input channels in 2 groups"),
        (single(conv().ints("kernel_shape", &[5, 5]), weights()), "kernel_shape"),
        (single(conv().ints("strides", &[0, 1]), weights()), "`strides` holds 0"),
        (single(conv().ints("strides", &[1]), weights()), "1 numbers, not 2"),
        (single(conv().ints("dilations", &[1, -1]), weights()), "`dilations` holds -1"),
        (single(conv().ints("pads", &[0, 0, -1, 0]), weights()), "`pads` holds -1"),
        (single(conv().text("auto_pad", "SAME"), weights()), "auto_pad `SAME`"),
        (single(conv().float("strides", 1.0), weights()), "of type 1, not 7"),
        (
            single(conv().ints("pads", &[0; 4]).ints("pads", &[0; 4]), weights()),
            "two attributes named `pads`",
        ),
        (single(conv().int("alpha", 1), weights()), "no attribute `alpha`"),
        (single(conv(), vec![ints("w", &[2, 1, 1, 1], &[1, 2])]), "integers where floats"),
        (single(node("Conv", "n", &["x"], &["y"]), vec![]), "operand 1 is missing"),
        (single(node("Conv", "n", &["", "w"], &["y"]), weights()), "operand 0 is missing"),
        (single(pool("MaxPool").ints("kernel_shape", &[5, 5]), vec![]), "two attributes"),
        (single(node("MaxPool", "n", &["x"], &["y"]), vec![]), "no kernel_shape"),
        (single(pool("AveragePool").int("ceil_mode", 2), vec![]), "not 0 or 1"),
        (reshape(&[0, 5]), "do not fill"),
        (reshape(&[0, -1, -1]), "extent -1"),
        (reshape(&[0, -1, 7]), "do not fill"),
        (reshape(&[0, i64::MAX, i64::MAX]), "without elements"),
        (reshape(&[0, 1, 4, 4, 0]), "copies an axis"),
    ];
    import(&normalized(&norm)).unwrap();
    norm[3] = floats("v", &[1], &[-1.0]);
    cases.push((normalized(&norm), "variance of -1"));
    norm[3] = floats("v", &[2], &[1.0; 2]);
    cases.push((normalized(&norm), "variance of shape [2] for 1 channels"));
    cases.extend([
        (single(node("Concat", "n", &["x", "x"], &["y"]), vec![]), "no axis"),
        (single(node("Concat", "n", &["x", "x"], &["y"]).int("axis", 4), vec![]), "axis 4"),
        (single(node("Add", "n", &["x"], &["y"]), vec![]), "fewer than two"),
        (
            single(node("Clip", "n", &["x", "z"], &["y"]), vec![floats("z", &[2], &[0.0; 2])]),
            "not one number",
        ),
        (
            single(node("Squeeze", "n", &["x", "a"], &["y"]), vec![ints("a", &[1], &[2])]),
            "axis 2 is 4, not 1",
        ),
        (single(node("Unsqueeze", "n", &["x", "a"], &["y"]), vec![ints("a", &[2], &[2, 2])]), "given twice"),
        (
            single(node("Transpose", "n", &["x"], &["y"]).ints("perm", &[0, 1, 1, 3]), vec![]),
            "not a permutation",
        ),
        (single(node("Pad", "n", &["x", "p"], &["y"]), vec![ints("p", &[3], &[0; 3])]), "3 pads for 4 axes"),
        (single(node("LeakyRelu", "n", &["x"], &["y"]).float("alpha", f32::NAN), vec![]), "NaN"),
    ]);
    for (model, reason) in cases {
        assert_malformed(reason, import(&model), "`n`", reason);
    }
}

#[test]
fn a_fully_connected_layer_checks_its_shapes() {
    let flat =
        |last: NodeProto, constants| model(vec![node("Flatten", "f", &["x"], &["h"]), last], constants);
    let gemm = || node("Gemm", "n", &["h", "w", "b"], &["y"]);
    for (model, reason) in [
        (
            flat(gemm(), vec![ramp("w", &[15, 3]), ramp("b", &[3])]),
            "16 features against weights of shape [3, 15]",
        ),
        (flat(gemm(), vec![ramp("w", &[16, 3]), ramp("b", &[4])]), "bias of shape [4] for 3 outputs"),
        (flat(gemm(), vec![ramp("w", &[16, 3, 1]), ramp("b", &[3])]), "not of rank 2"),
        (flat(gemm().float("alpha", 1e38), vec![ramp("w", &[16, 3]), floats("b", &[3], &[1e38; 3])]), ""),
    ] {
        match import(&model) {
            Ok(network) => {
                assert!(reason.is_empty() && network.layers.iter().all(|layer| layer.op.is_finite()));
            }
            result => assert_malformed(reason, result, "`n`", reason),
        }
    }
}
