//! The example ResNet-20, as its README describes it.

use dyadic_graph::{Op, Tensor, evaluate, import_bytes};

fn example() -> dyadic_graph::Network {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/models/resnet20-cifar10.onnx");
    let bytes = std::fs::read(path).expect("the example model is in the repository");
    import_bytes(&bytes, Vec::<(String, &[u8])>::new()).expect("the example model imports")
}

fn count(network: &dyadic_graph::Network, op: &str) -> usize {
    network.layers.iter().filter(|layer| layer.op.name() == op).count()
}

#[test]
fn the_example_resnet20_has_the_layers_of_a_resnet20() {
    let network = example();
    let counts = ["Conv", "Relu", "Add", "GlobalAvgPool", "Flatten", "Linear"].map(|op| count(&network, op));
    assert_eq!(counts, [21, 19, 9, 1, 1, 1]);
    assert_eq!(network.layers.len(), 52);
    assert_eq!(network.shape(network.input), [3, 32, 32]);
    assert_eq!(network.shape(network.output), [10]);
    assert_eq!(network.values[network.input.0].name, "input");
    assert_eq!(network.values[network.output.0].name, "logits");
    assert_eq!(network.macs(), 40_813_184);
    let summary = network.to_string();
    assert!(summary.contains("/layer2/layer2.0/conv1/Conv") && summary.contains("40813184"), "{summary}");
}

#[test]
fn the_example_resnet20_evaluates_to_finite_logits() {
    let network = example();
    let input = Tensor {
        shape: vec![3, 32, 32],
        data: (0..3 * 32 * 32).map(|i| ((i % 17) as f32 - 8.0) / 8.0).collect(),
    };
    let logits = evaluate(&network, &input).expect("it evaluates");
    assert_eq!(logits.shape, [10]);
    assert!(logits.data.iter().all(|x| x.is_finite()));
    assert!(matches!(network.layers.last().map(|layer| &layer.op), Some(Op::Linear(_))));
}
