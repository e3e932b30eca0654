//! Every fixture evaluates to what ONNX Runtime made of it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use dyadic_graph::{Bundle, EvaluateError, Network, Op, Tensor, evaluate, evaluate_all, import};

/// max|Δ| may be this part of max|reference|.
const TOLERANCE: f32 = 1e-4;

/// Each fixture, and how many Conv, Linear and BatchNorm layers it has.
const FIXTURES: [(&str, [usize; 3]); 49] = [
    ("bottleneck_dynamo19", [12, 1, 0]),
    ("bottleneck_script17", [12, 1, 0]),
    ("efficientnet_dynamo18_static", [14, 1, 0]),
    ("efficientnet_script17", [14, 1, 0]),
    ("enlarged_dynamo18_static", [6, 0, 0]),
    ("enlarged_dynamo20", [6, 0, 0]),
    ("enlarged_script13", [6, 0, 0]),
    ("enlarged_script18_static", [6, 0, 0]),
    ("front_dynamo20", [2, 1, 1]),
    ("front_script13_static", [2, 1, 1]),
    ("front_script17", [2, 1, 1]),
    ("lenet_relu_dynamo20", [2, 3, 0]),
    ("lenet_relu_script16_one", [2, 3, 0]),
    ("lenet_sigmoid_script20", [2, 3, 0]),
    ("lenet_tanh_dynamo20_static", [2, 3, 0]),
    ("lenet_tanh_script13", [2, 3, 0]),
    ("mobilenetv3_dynamo20", [15, 2, 0]),
    ("mobilenetv3_script13", [15, 2, 0]),
    ("mobilenetv3_script17_static", [15, 2, 0]),
    ("odds_dynamo18_static", [2, 2, 3]),
    ("odds_dynamo20", [2, 2, 3]),
    ("odds_script13", [2, 2, 3]),
    ("odds_script19", [2, 2, 3]),
    ("preact_dynamo20", [3, 1, 2]),
    ("preact_script15_static", [3, 1, 2]),
    ("resnet_a_dynamo20", [9, 1, 0]),
    ("resnet_a_script17", [9, 1, 0]),
    ("resnet_dynamo18", [9, 1, 0]),
    ("resnet_dynamo20_static", [9, 1, 0]),
    ("resnet_script13", [15, 1, 0]),
    ("resnext_dynamo20", [12, 1, 0]),
    ("resnext_script18", [12, 1, 0]),
    ("segments_dynamo20", [3, 0, 0]),
    ("segments_script17", [3, 0, 0]),
    ("series_dynamo18_static", [5, 1, 1]),
    ("series_dynamo20", [5, 1, 1]),
    ("series_script13", [5, 1, 1]),
    ("series_script17_static", [5, 1, 1]),
    ("shufflenet_dynamo20", [20, 1, 0]),
    ("shufflenet_script13_static", [20, 1, 0]),
    ("shufflenet_script17", [20, 1, 0]),
    ("smooth_dynamo18_static", [4, 2, 0]),
    ("smooth_dynamo20", [4, 2, 0]),
    ("smooth_script13", [4, 2, 0]),
    ("smooth_script20", [4, 2, 0]),
    ("vgg_bn_dynamo20", [4, 3, 0]),
    ("vgg_bn_script16", [4, 3, 0]),
    ("vgg_dynamo18", [4, 3, 0]),
    ("vgg_script14", [4, 3, 0]),
];

fn path(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures")).join(name)
}

fn read(name: &str) -> Vec<u8> {
    std::fs::read(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn floats(name: &str) -> Vec<f32> {
    read(name).chunks_exact(4).map(|word| f32::from_le_bytes(word.try_into().unwrap())).collect()
}

fn network(name: &str) -> Network {
    let model = read(&format!("{name}.onnx"));
    let side = format!("{name}.onnx.data");
    let data = path(&side).exists().then(|| read(&side));
    let files: BTreeMap<String, &[u8]> = data.iter().map(|data| (side.clone(), data.as_slice())).collect();
    import(&Bundle { model: &model, files }).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// max|Δ| over max|reference|, over all samples of a fixture.
fn distance(name: &str, network: &Network) -> f32 {
    let (inputs, outputs) = (floats(&format!("{name}.input")), floats(&format!("{name}.output")));
    let shape = network.shape(network.input).to_vec();
    let sample = shape.iter().product();
    let actual: Vec<f32> = inputs
        .chunks_exact(sample)
        .flat_map(|data| {
            let input = Tensor { shape: shape.clone(), data: data.to_vec() };
            evaluate(network, &input).unwrap_or_else(|error| panic!("{name}: {error}")).data
        })
        .collect();
    assert_eq!(actual.len(), outputs.len(), "{name}");
    let largest = |numbers: &mut dyn Iterator<Item = f32>| numbers.fold(0.0f32, |most, x| most.max(x.abs()));
    let delta = largest(&mut actual.iter().zip(&outputs).map(|(a, b)| a - b));
    delta / largest(&mut outputs.iter().copied())
}

fn count(network: &Network, op: &str) -> usize {
    network.layers.iter().filter(|layer| layer.op.name() == op).count()
}

#[test]
fn every_fixture_equals_onnx_runtime() {
    for (name, _) in FIXTURES {
        let distance = distance(name, &network(name));
        println!("{name}: {distance:.2e}");
        assert!(distance <= TOLERANCE, "{name}: {distance:e}");
    }
}

#[test]
fn every_fixture_has_its_layers_and_no_others() {
    for (name, expected) in FIXTURES {
        let network = network(name);
        network.check().unwrap();
        assert_eq!(
            ["Conv", "Linear", "BatchNorm"].map(|op| count(&network, op)),
            expected,
            "{name}\n{network}"
        );
    }
}

#[test]
fn every_onnx_file_of_the_folder_is_a_fixture() {
    let mut files: Vec<String> = std::fs::read_dir(path(""))
        .unwrap()
        .filter_map(|entry| Some(entry.unwrap().file_name().to_str()?.strip_suffix(".onnx")?.to_owned()))
        .collect();
    files.sort();
    assert_eq!(files, FIXTURES.map(|(name, _)| name));
}

#[test]
fn folding_batch_norms_keeps_the_outputs() {
    for (name, _) in FIXTURES {
        let mut network = network(name);
        let before = count(&network, "BatchNorm");
        let folded = network.fold_batch_norms();
        assert_eq!(count(&network, "BatchNorm"), before - folded);
        network.check().unwrap();
        let distance = distance(name, &network);
        assert!(distance <= TOLERANCE, "{name}: {distance:e}");
    }
    let mut odds = network("odds_dynamo20");
    assert_eq!(odds.fold_batch_norms(), 1, "the product after the dilated convolution");
}

#[test]
fn both_exporters_give_one_network() {
    for (a, b) in [
        ("bottleneck_dynamo19", "bottleneck_script17"),
        ("odds_dynamo20", "odds_script13"),
        ("mobilenetv3_dynamo20", "mobilenetv3_script13"),
        ("mobilenetv3_dynamo20", "mobilenetv3_script17_static"),
        ("efficientnet_dynamo18_static", "efficientnet_script17"),
        ("shufflenet_dynamo20", "shufflenet_script17"),
        ("shufflenet_dynamo20", "shufflenet_script13_static"),
        ("smooth_dynamo20", "smooth_script13"),
        ("smooth_dynamo20", "smooth_script20"),
        ("smooth_dynamo20", "smooth_dynamo18_static"),
        ("front_dynamo20", "front_script17"),
        ("front_dynamo20", "front_script13_static"),
        ("enlarged_dynamo20", "enlarged_dynamo18_static"),
        ("enlarged_dynamo20", "enlarged_script13"),
        ("enlarged_dynamo20", "enlarged_script18_static"),
        ("series_dynamo20", "series_script13"),
        ("series_dynamo20", "series_script17_static"),
        ("series_dynamo20", "series_dynamo18_static"),
        ("segments_dynamo20", "segments_script17"),
    ] {
        let shapes = |name: &str| {
            let network = network(name);
            let layer = |layer: &dyadic_graph::Layer| (layer.op.name(), network.shape(layer.output).to_vec());
            network.layers.iter().map(layer).collect::<Vec<_>>()
        };
        assert_eq!(shapes(a), shapes(b), "{a} and {b}");
    }
}

#[test]
fn functions_have_one_layer_and_channels_one_selection() {
    for (name, expected) in [
        ("mobilenetv3_script13", &[("HardSwish", 6), ("HardSigmoid", 3), ("Mul", 3), ("Clip", 0)][..]),
        ("efficientnet_script17", &[("Silu", 9), ("Sigmoid", 2), ("Mul", 2)]),
        ("shufflenet_script17", &[("Select", 5)]),
        (
            "smooth_script13",
            &[("Gelu", 2), ("Elu", 1), ("PRelu", 1), ("LeakyRelu", 1), ("Silu", 1), ("Mul", 1)],
        ),
        ("front_script17", &[("Select", 3), ("Concat", 1), ("BatchNorm", 1)]),
    ] {
        let network = network(name);
        let actual: Vec<_> = expected.iter().map(|(op, _)| (*op, count(&network, op))).collect();
        assert_eq!(actual, expected, "{name}\n{network}");
    }
}

#[test]
fn a_series_keeps_its_shape_from_input_to_output() {
    for (name, input, output) in [
        ("series_script13", &[1, 400][..], &[5][..]),
        ("series_dynamo20", &[1, 400], &[5]),
        ("segments_script17", &[2, 200], &[4, 13]),
        ("segments_dynamo20", &[2, 200], &[4, 13]),
    ] {
        let network = network(name);
        assert_eq!((network.shape(network.input), network.shape(network.output)), (input, output), "{name}");
        assert!(network.values.iter().all(|value| value.shape.len() < 3), "{name}\n{network}");
    }
}

#[test]
fn ceil_mode_becomes_padding() {
    let network = network("odds_dynamo20");
    let pools: Vec<_> = network
        .layers
        .iter()
        .filter_map(|layer| match &layer.op {
            Op::MaxPool(window) => Some(window.padding),
            _ => None,
        })
        .collect();
    assert_eq!(pools, [[0, 0, 1, 1]]);
}

#[test]
fn every_value_of_an_evaluation_can_be_had() {
    let network = network("odds_script13");
    let shape = network.shape(network.input).to_vec();
    let data = floats("odds_script13.input")[..shape.iter().product()].to_vec();
    let input = Tensor { shape, data };
    let values = evaluate_all(&network, &input).unwrap();
    assert_eq!(values.len(), network.values.len());
    for (value, tensor) in network.values.iter().zip(&values) {
        assert_eq!(value.shape, tensor.shape, "{}", value.name);
        assert_eq!(tensor.data.len(), tensor.shape.iter().product::<usize>(), "{}", value.name);
    }
    assert_eq!(values[network.input.0], input);
    assert_eq!(values[network.output.0], evaluate(&network, &input).unwrap());
}

#[test]
fn an_input_of_another_shape_is_refused() {
    let network = network("vgg_script14");
    let error = evaluate(&network, &Tensor { shape: vec![3, 8, 8], data: vec![0.0; 192] }).unwrap_err();
    assert!(matches!(error, EvaluateError::Input { elements: 192, .. }), "{error}");
    let error = evaluate(&network, &Tensor { shape: vec![3, 16, 16], data: vec![0.0; 5] }).unwrap_err();
    assert!(matches!(error, EvaluateError::Input { elements: 5, .. }), "{error}");
}

#[test]
fn a_network_that_was_tampered_with_is_not_evaluated() {
    let whole = network("vgg_script14");
    let input = Tensor { shape: vec![3, 16, 16], data: vec![0.0; 768] };
    type Tamper = fn(&mut Network);
    let cases: [Tamper; 5] = [
        |network| network.output.0 = 10_000,
        |network| network.layers.swap(0, 1),
        |network| drop(network.layers.remove(3)),
        |network| network.values[2].shape[0] += 1,
        |network| {
            if let Op::Conv(conv) = &mut network.layers[0].op {
                conv.weight.data.pop();
            }
        },
    ];
    for tamper in cases {
        let mut network = whole.clone();
        tamper(&mut network);
        assert!(matches!(evaluate(&network, &input), Err(EvaluateError::Network(_))));
    }
}
