//! Enlarging by two, in every form that is the same, and what is refused.

use dyadic_graph::onnx::{ModelProto, NodeProto, TensorProto};
use dyadic_graph::{ErrorKind, Op};

use crate::builder::*;

fn resize(inputs: &[&str], mode: &str, transformation: &str, rounding: &str) -> NodeProto {
    node("Resize", "n", inputs, &["y"])
        .text("mode", mode)
        .text("coordinate_transformation_mode", transformation)
        .text("nearest_mode", rounding)
}

/// A model of one node that reads `x` [N, 1, 4, 4].
fn at(opset: i64, node: NodeProto, constants: Vec<TensorProto>) -> ModelProto {
    let mut model = single(node, constants);
    model.opset_import[0].version = Some(opset);
    model
}

fn scales(numbers: &[f32]) -> Vec<TensorProto> {
    vec![floats("s", &[numbers.len() as i64], numbers), floats("roi", &[0], &[])]
}

fn sizes(numbers: &[i64]) -> Vec<TensorProto> {
    vec![ints("z", &[numbers.len() as i64], numbers), floats("none", &[0], &[])]
}

const BY_SCALES: [&str; 3] = ["x", "", "s"];
const BY_SIZES: [&str; 4] = ["x", "", "none", "z"];

fn enlarges(case: &str, model: &ModelProto, bilinear: bool) {
    let network = import(model).unwrap_or_else(|error| panic!("{case}: {error}"));
    let ops: Vec<&Op> = network.layers.iter().map(|layer| &layer.op).collect();
    assert_eq!(ops, [&Op::Upsample { factor: 2, bilinear }], "{case}");
}

#[test]
fn forms_that_are_the_same_at_twice_the_size_are_one_layer() {
    let twice = || scales(&[1.0, 1.0, 2.0, 2.0]);
    for (mode, transformation, rounding, bilinear) in [
        ("nearest", "asymmetric", "floor", false),
        ("nearest", "asymmetric", "round_prefer_floor", false),
        ("nearest", "half_pixel", "round_prefer_floor", false),
        ("nearest", "half_pixel", "round_prefer_ceil", false),
        ("nearest", "pytorch_half_pixel", "round_prefer_floor", false),
        ("linear", "half_pixel", "floor", true),
        ("linear", "half_pixel_symmetric", "floor", true),
        ("linear", "pytorch_half_pixel", "floor", true),
    ] {
        let node = resize(&BY_SCALES, mode, transformation, rounding);
        enlarges(transformation, &at(19, node, twice()), bilinear);
    }
    let nearest = |inputs: &[&str]| resize(inputs, "nearest", "asymmetric", "floor");
    enlarges("roi", &at(13, nearest(&["x", "roi", "s"]), twice()), false);
    enlarges("axes", &at(18, nearest(&BY_SCALES).ints("axes", &[-1, 2]), scales(&[2.0, 2.0])), false);
    enlarges("sizes of axes", &at(18, nearest(&BY_SIZES).ints("axes", &[2, 3]), sizes(&[8, 8])), false);
    let mut fixed = at(13, nearest(&BY_SIZES), sizes(&[3, 1, 8, 8]));
    graph(&mut fixed).input[0] = info("x", &[3, 1, 4, 4]);
    enlarges("sizes", &fixed, false);
    let mut series = at(13, nearest(&BY_SCALES), scales(&[1.0, 1.0, 2.0]));
    graph(&mut series).input[0] = info("x", &[ANY, 4, 4]);
    enlarges("series", &series, false);
}

#[test]
fn one_size_for_the_same_is_nothing() {
    let same = node("Resize", "n", &BY_SCALES, &["h"]);
    let model = model(vec![same, node("Relu", "r", &["h"], &["y"])], scales(&[1.0; 4]));
    let network = import(&model).unwrap();
    assert_eq!(network.layers.len(), 1);
}

#[test]
fn other_sizes_and_ways_between_positions_are_refused() {
    let twice = || scales(&[1.0, 1.0, 2.0, 2.0]);
    let nearest = |inputs: &[&str]| resize(inputs, "nearest", "asymmetric", "floor");
    let with = |node: NodeProto| at(18, node, twice());
    for (reason, model) in [
        ("mode `cubic`", with(resize(&BY_SCALES, "cubic", "half_pixel", "floor"))),
        ("mode `linear` with `align_corners`", with(resize(&BY_SCALES, "linear", "align_corners", "floor"))),
        ("mode `linear` with `asymmetric`", with(resize(&BY_SCALES, "linear", "asymmetric", "floor"))),
        ("by `asymmetric` and `ceil`", with(resize(&BY_SCALES, "nearest", "asymmetric", "ceil"))),
        ("by `half_pixel` and `floor`", with(resize(&BY_SCALES, "nearest", "half_pixel", "floor"))),
        ("not_larger", with(nearest(&BY_SCALES).text("keep_aspect_ratio_policy", "not_larger"))),
        ("antialias", with(nearest(&BY_SCALES).int("antialias", 1))),
        ("factors [3.0, 3.0]", at(18, nearest(&BY_SCALES), scales(&[1.0, 1.0, 3.0, 3.0]))),
        ("factors [1.0, 2.0]", at(18, nearest(&BY_SCALES), scales(&[1.0, 1.0, 1.0, 2.0]))),
        ("other axes", at(18, nearest(&BY_SCALES), scales(&[1.0, 2.0, 2.0, 2.0]))),
        ("factors [NaN, 2.0]", at(18, nearest(&BY_SCALES), scales(&[1.0, 1.0, f32::NAN, 2.0]))),
        ("factors [1.5, 2.0]", at(18, nearest(&BY_SIZES).ints("axes", &[2, 3]), sizes(&[6, 8]))),
        ("batch size", at(18, nearest(&BY_SIZES), sizes(&[2, 1, 8, 8]))),
    ] {
        let error = import(&model).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{reason}: {error}");
        assert!(error.to_string().contains(reason), "{reason}: {error}");
    }
    // A height of 1 that only the file's view has is not enlarged.
    let mut seen = model(
        vec![node("Unsqueeze", "u", &["x", "a"], &["h"]), nearest(&["h", "", "s"])],
        [twice(), vec![ints("a", &[1], &[2])]].concat(),
    );
    graph(&mut seen).input[0] = info("x", &[ANY, 4, 4]);
    assert!(import(&seen).unwrap_err().to_string().contains("[4, 4] as [4, 1, 4]"));
    let behind = model(
        vec![node("Mish", "m", &["x"], &["h"]), resize(&["h", "", "s"], "cubic", "half_pixel", "floor")],
        twice(),
    );
    assert!(import(&behind).unwrap_err().to_string().contains("mode `cubic`"));
}

#[test]
fn sizes_that_contradict_themselves_are_malformed() {
    let nearest = |inputs: &[&str]| resize(inputs, "nearest", "asymmetric", "floor");
    for (reason, model) in [
        ("scales or sizes", at(18, nearest(&["x"]), vec![])),
        ("scales or sizes", at(18, nearest(&["x", "", "s", "z"]), [scales(&[2.0]), sizes(&[2])].concat())),
        ("2 scales or sizes for 4 axes", at(18, nearest(&BY_SCALES), scales(&[2.0, 2.0]))),
        ("axis 4", at(18, nearest(&BY_SCALES).ints("axes", &[4]), scales(&[2.0]))),
        ("twice", at(18, nearest(&BY_SCALES).ints("axes", &[2, -2]), scales(&[2.0, 2.0]))),
        ("5 axes", at(18, nearest(&BY_SCALES).ints("axes", &[2; 5]), scales(&[2.0; 5]))),
        ("scales are integers", at(18, nearest(&["x", "", "z"]), sizes(&[1, 1, 2, 2]))),
    ] {
        let error = import(&model).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{reason}: {error}");
        assert!(error.to_string().contains(reason), "{reason}: {error}");
    }
}
