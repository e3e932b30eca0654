//! Damaged fixtures and arbitrary bytes: whatever comes in, the importer answers, and what it accepts can be evaluated.

use std::collections::BTreeMap;

use dyadic_graph::onnx::{ModelProto, NodeProto};
use dyadic_graph::{Bundle, Tensor, evaluate, import};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use prost::Message;

/// Networks with more multiply-accumulates than this are accepted, but not evaluated here.
const MAX_MACS: u64 = 2_000_000;
const MAX_ELEMENTS: usize = 1 << 16;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}

/// Numbers that tend to be at the edge of something.
const EDGES: [i64; 16] =
    [0, 1, -1, 2, 3, 4, 5, 7, 16, 4096, 1 << 16, 1 << 31, 1 << 32, 1 << 62, i64::MAX, i64::MIN];

struct Fixture {
    model: Vec<u8>,
    side: Vec<u8>,
    side_name: String,
}

fn fixtures() -> Vec<Fixture> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "onnx"))
        .collect();
    paths.sort();
    paths
        .iter()
        .map(|path| {
            let side_name = format!("{}.data", path.file_name().unwrap().to_str().unwrap());
            let side = std::fs::read(path.with_file_name(&side_name)).unwrap_or_default();
            Fixture { model: std::fs::read(path).unwrap(), side, side_name }
        })
        .collect()
}

/// Imports, and evaluates what comes out of it. Whether it was accepted.
fn survives(model: &[u8], side_name: &str, side: &[u8]) -> bool {
    let files = BTreeMap::from([(side_name.to_owned(), side)]);
    let Ok(network) = import(&Bundle { model, files }) else { return false };
    network.check().unwrap();
    let largest = network.values.iter().map(|value| value.shape.iter().product()).max().unwrap_or(0usize);
    if network.macs() <= MAX_MACS && largest <= MAX_ELEMENTS {
        let shape = network.shape(network.input).to_vec();
        let data = vec![0.5; shape.iter().product()];
        let output = evaluate(&network, &Tensor { shape, data }).unwrap();
        assert_eq!(output.shape, network.shape(network.output));
        assert_eq!(output.data.len(), output.shape.iter().product::<usize>());
    }
    let mut folded = network.clone();
    folded.fold_batch_norms();
    folded.check().unwrap();
    assert!(!network.to_string().is_empty());
    true
}

/// Bytes changed, moved, removed and repeated.
fn damage_bytes(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        let length = random.below(32).min(bytes.len() - at);
        match random.below(5) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.next() as u8,
            2 => drop(bytes.drain(at..at + length)),
            3 => {
                let part = bytes[at..at + length].to_vec();
                bytes.splice(at..at, part);
            }
            _ => bytes.truncate(at.max(1)),
        }
        if bytes.is_empty() {
            bytes.push(0);
        }
    }
}

#[test]
fn damaged_bytes_never_panic() {
    let fixtures = fixtures();
    let mut random = Random(1);
    for _ in 0..4000 {
        let fixture = &fixtures[random.below(fixtures.len())];
        let (mut model, mut side) = (fixture.model.clone(), fixture.side.clone());
        if side.is_empty() || random.below(8) > 0 {
            damage_bytes(&mut model, &mut random);
        } else {
            damage_bytes(&mut side, &mut random);
        }
        survives(&model, &fixture.side_name, &side);
    }
}

fn names(model: &ModelProto) -> Vec<String> {
    let Some(graph) = &model.graph else { return Vec::new() };
    let constants = graph.initializer.iter().filter_map(|tensor| tensor.name.clone());
    graph.node.iter().flat_map(|node| node.output.clone()).chain(constants).collect()
}

/// One well-formed change of meaning.
fn damage_model(model: &mut ModelProto, random: &mut Random) {
    const OPS: [&str; 26] = [
        "Add",
        "Relu",
        "Conv",
        "MaxPool",
        "AveragePool",
        "Flatten",
        "Reshape",
        "Concat",
        "Mul",
        "Div",
        "Slice",
        "Gather",
        "Squeeze",
        "Transpose",
        "Softmax",
        "Pad",
        "Split",
        "Erf",
        "Pow",
        "PRelu",
        "Sigmoid",
        "HardSigmoid",
        "HardSwish",
        "Gelu",
        "Elu",
        "LogSoftmax",
    ];
    let names = names(model);
    let Some(graph) = &mut model.graph else { return };
    let at = random.below(graph.node.len());
    match random.below(9) {
        0 => {
            let initializers = graph.initializer.len();
            if let Some(tensor) = graph.initializer.get_mut(random.below(initializers)) {
                let axis = random.below(tensor.dims.len());
                if let Some(extent) = tensor.dims.get_mut(axis) {
                    *extent = *random.pick(&EDGES);
                }
            }
        }
        1 => {
            let initializers = graph.initializer.len();
            if let Some(tensor) = graph.initializer.get_mut(random.below(initializers)) {
                tensor.dims.reverse();
            }
        }
        2 => {
            let tensor = graph.input[0].r#type.as_mut().and_then(|kind| kind.tensor_type.as_mut()).unwrap();
            let dims = &mut tensor.shape.as_mut().unwrap().dim;
            let axis = random.below(dims.len());
            dims[axis].dim_value = Some(*random.pick(&EDGES));
        }
        3 => drop(graph.node.remove(at)),
        choice => damage_node(&mut graph.node[at], choice, &names, random, &OPS),
    }
}

fn damage_node(node: &mut NodeProto, choice: usize, names: &[String], random: &mut Random, ops: &[&str]) {
    let inputs = node.input.len();
    match choice {
        4 => node.op_type = Some((*random.pick(ops)).to_owned()),
        5 => {
            if let Some(input) = node.input.get_mut(random.below(inputs)) {
                random.pick(names).clone_into(input);
            }
        }
        6 => node.input.push(random.pick(names).clone()),
        _ => {
            let attributes = node.attribute.len();
            let Some(attribute) = node.attribute.get_mut(random.below(attributes)) else { return };
            if let Some(number) = &mut attribute.i {
                *number = *random.pick(&EDGES);
            }
            let count = attribute.ints.len();
            if let Some(number) = attribute.ints.get_mut(random.below(count)) {
                *number = *random.pick(&EDGES);
            }
            if let Some(tensor) = &mut attribute.t {
                let edge = *random.pick(&EDGES);
                tensor.raw_data = tensor.raw_data.as_ref().map(|raw| {
                    let mut raw = raw.clone();
                    let length = raw.len().min(8);
                    raw[..length].copy_from_slice(&edge.to_le_bytes()[..length]);
                    raw
                });
            }
        }
    }
}

#[test]
fn damaged_graphs_never_panic_and_some_survive() {
    let fixtures = fixtures();
    let mut random = Random(2);
    let mut accepted = 0;
    for _ in 0..6000 {
        let fixture = &fixtures[random.below(fixtures.len())];
        let mut model = ModelProto::decode(fixture.model.as_slice()).unwrap();
        for _ in 0..=random.below(2) {
            damage_model(&mut model, &mut random);
        }
        accepted += usize::from(survives(&model.encode_to_vec(), &fixture.side_name, &fixture.side));
    }
    assert!(accepted > 100, "only {accepted} of 6000 got past the importer");
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(3),
        ..ProptestConfig::with_cases(500)
    })]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        survives(&bytes, "side", &[]);
    }

    #[test]
    fn arbitrary_attributes_never_panic(
        op in prop::sample::select(vec!["Conv", "MaxPool", "AveragePool"]),
        kernel in prop::collection::vec(prop::sample::select(EDGES.to_vec()), 0..3),
        strides in prop::collection::vec(prop::sample::select(EDGES.to_vec()), 2),
        pads in prop::collection::vec(prop::sample::select(EDGES.to_vec()), 4),
        ceil in 0i64..2,
        auto in prop::sample::select(vec!["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]),
    ) {
        use crate::builder::{With, node, ramp, single};
        let mut made = node(op, "n", &["x"], &["y"]).ints("strides", &strides).ints("pads", &pads).text("auto_pad", auto);
        if op == "Conv" {
            made.input.push("w".to_owned());
            made = made.ints("dilations", &strides);
        } else {
            made = made.ints("kernel_shape", &kernel).int("ceil_mode", ceil);
        }
        survives(&single(made, vec![ramp("w", &[2, 1, 3, 3])]).encode_to_vec(), "side", &[]);
    }
}
