//! Operations of two values, of channels and of classes, evaluated one by one.

use dyadic_graph::{Layer, Network, Op, Tensor, Value, ValueId, evaluate};

/// A network of one operation, which reads its input's selections of channels.
fn network(shape: &[usize], operands: &[&[usize]], op: Op) -> Network {
    let mut values = vec![Value { name: "x".to_owned(), shape: shape.to_vec() }];
    let mut layers: Vec<Layer> = Vec::new();
    let mut write = |op: Op, inputs: Vec<ValueId>| {
        let shapes: Vec<&[usize]> = inputs.iter().map(|id| values[id.0].shape.as_slice()).collect();
        let shape = op.output_shape(&shapes).unwrap();
        let output = ValueId(values.len());
        values.push(Value { name: format!("v{}", output.0), shape });
        layers.push(Layer { name: format!("l{}", output.0), op, inputs, output });
        output
    };
    let inputs =
        operands.iter().map(|channels| write(Op::Select { channels: channels.to_vec() }, vec![ValueId(0)]));
    let inputs: Vec<ValueId> = inputs.collect();
    let output = write(op, inputs);
    Network { name: "one".to_owned(), values, layers, input: ValueId(0), output }
}

fn run(network: &Network, data: &[f32]) -> Vec<f32> {
    let shape = network.shape(network.input).to_vec();
    evaluate(network, &Tensor { shape, data: data.to_vec() }).unwrap().data
}

#[test]
fn a_product_multiplies_element_by_element() {
    let one = network(&[3, 1, 2], &[&[0, 1], &[2, 0]], Op::Mul);
    assert_eq!(run(&one, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), [5.0, 12.0, 3.0, 8.0]);
    let flat = network(&[3], &[&[0, 1], &[2, 2]], Op::Mul);
    assert_eq!(run(&flat, &[1.0, 2.0, 3.0]), [3.0, 6.0]);
}

#[test]
fn a_product_with_a_factor_a_channel_scales_whole_channels() {
    let mut scaled = network(&[2, 1, 2], &[&[0, 1], &[0, 1]], Op::Mul);
    // The second operand's mean.
    scaled.layers[1].op = Op::GlobalAvgPool;
    scaled.values[2].shape = vec![2, 1, 1];
    assert_eq!(run(&scaled, &[1.0, 3.0, 5.0, 7.0]), [2.0, 6.0, 30.0, 42.0]);
}

#[test]
fn a_selection_repeats_and_leaves_out() {
    let image = network(&[3, 2, 1], &[&[0, 1, 2]], Op::Select { channels: vec![2, 0, 2, 2] });
    assert_eq!(run(&image, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), [5.0, 6.0, 1.0, 2.0, 5.0, 6.0, 5.0, 6.0]);
    let flat = network(&[4], &[&[3, 2, 1]], Op::Select { channels: vec![2, 0] });
    assert_eq!(run(&flat, &[1.0, 2.0, 3.0, 4.0]), [2.0, 4.0]);
}

#[test]
fn what_is_enlarged_repeats_positions_or_lies_between_them() {
    let enlarged = |shape: &[usize], factor, bilinear, data: &[f32]| {
        let all: Vec<usize> = (0..shape[0]).collect();
        run(&network(shape, &[&all], Op::Upsample { factor, bilinear }), data)
    };
    assert_eq!(enlarged(&[2, 2], 2, false, &[1.0, 2.0, 3.0, 4.0]), [1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0]);
    assert_eq!(enlarged(&[1, 1, 2], 2, false, &[1.0, 2.0]), [1.0, 1.0, 2.0, 2.0, 1.0, 1.0, 2.0, 2.0]);
    assert_eq!(enlarged(&[1, 3], 2, true, &[0.0, 4.0, 0.0]), [0.0, 1.0, 3.0, 3.0, 1.0, 0.0]);
    assert_eq!(enlarged(&[1, 2], 3, true, &[0.0, 3.0]), [0.0, 0.0, 1.0, 2.0, 3.0, 3.0]);
    let image = enlarged(&[1, 2, 2], 2, true, &[0.0, 4.0, 8.0, 12.0]);
    assert_eq!(image[4..8], [2.0, 3.0, 5.0, 6.0]);
}

#[test]
fn a_logarithm_of_a_softmax_is_one() {
    let data = [0.5, -80.0, 3.0, 120.0];
    let logarithms = run(&network(&[4], &[&[0, 1, 2, 3]], Op::LogSoftmax), &data);
    let shares = run(&network(&[4], &[&[0, 1, 2, 3]], Op::Softmax), &data);
    for ((logarithm, share), x) in logarithms.iter().zip(&shares).zip(data) {
        assert_eq!(*logarithm, x - 120.0);
        assert!((logarithm.exp() - share).abs() < 1e-6);
    }
}

#[test]
fn the_table_of_layers_counts_slopes() {
    let network = network(&[2], &[&[0, 1]], Op::PRelu { slope: vec![0.1, 0.2] });
    assert_eq!(network.parameters(), 2);
    assert!(network.to_string().contains("PRelu"));
    assert!(!Op::PRelu { slope: vec![f32::NAN] }.is_finite());
}
