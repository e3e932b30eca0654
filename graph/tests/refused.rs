//! Exports of networks that are not supported: every node that stands in the way is named, also behind the first, from both of PyTorch's
//! exporters, of which the older one declares no shapes.

use std::collections::{BTreeMap, BTreeSet};

use dyadic_graph::import::Operator;
use dyadic_graph::onnx::ModelProto;
use dyadic_graph::{ImportError, Unsupported, import_bytes};
use prost::Message;

/// Refused nodes of an operator.
type Counts = &'static [(&'static str, usize)];

/// What is refused of each file.
const FILES: [(&str, Counts); 4] = [
    (
        "convnext_dynamo",
        &[
            ("Add", 4),
            ("Gather", 1),
            ("LayerNormalization", 5),
            ("MatMul", 4),
            ("Range", 1),
            ("Reshape", 1),
            ("Transpose", 8),
        ],
    ),
    ("convnext_script", &[("Add", 4), ("LayerNormalization", 5), ("MatMul", 4), ("Transpose", 8)]),
    (
        "vit_dynamo",
        &[
            ("Add", 7),
            ("Concat", 1),
            ("Expand", 1),
            ("Gather", 6),
            ("LayerNormalization", 5),
            ("MatMul", 10),
            ("Softmax", 2),
            ("Transpose", 5),
        ],
    ),
    (
        "vit_script",
        &[
            ("Add", 7),
            ("Concat", 1),
            ("Equal", 1),
            ("Expand", 1),
            ("Gather", 6),
            ("LayerNormalization", 5),
            ("MatMul", 10),
            ("Mod", 2),
            ("Mul", 4),
            ("Softmax", 2),
            ("Sqrt", 6),
            ("Transpose", 9),
            ("Where", 1),
        ],
    ),
];

fn read(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/refused");
    std::fs::read(format!("{folder}/{name}.onnx")).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn refused(name: &str) -> Vec<Unsupported> {
    match import_bytes(&read(name), Vec::<(String, &[u8])>::new()) {
        Err(ImportError::Unsupported(list)) => list,
        Err(error) => panic!("{name}: {error}"),
        Ok(_) => panic!("{name}: imported"),
    }
}

#[test]
fn every_node_that_stands_in_the_way_is_named_once() {
    let mut faults = Vec::new();
    for (name, expected) in FILES {
        let list = refused(name);
        let mut counts = BTreeMap::new();
        let mut names = BTreeSet::new();
        for item in &list {
            println!("{name}: {item}");
            *counts.entry(item.op.as_str()).or_insert(0) += 1;
            assert!(names.insert(item.node.clone()), "{name}: {item} is named twice");
        }
        if counts != expected.iter().copied().collect() {
            faults.push(format!("{name}: {counts:?}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_node_of_an_operator_that_is_not_read_is_named() {
    for (name, _) in FILES {
        let listed: BTreeSet<String> = refused(name).into_iter().filter_map(|item| item.node).collect();
        let graph = ModelProto::decode(read(name).as_slice()).unwrap().graph.unwrap();
        for node in &graph.node {
            let op = node.op_type.as_deref().unwrap();
            let node = node.name.as_deref().filter(|name| !name.is_empty()).unwrap_or(&node.output[0]);
            assert!(
                Operator::find(op).is_some() || listed.contains(node),
                "{name}: `{node}` ({op}) is not named"
            );
        }
    }
}
