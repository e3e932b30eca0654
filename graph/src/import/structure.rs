//! Names and order: every name has one meaning, every reader a writer, and no node waits for itself.

use std::collections::{HashMap, HashSet};

use prost::Message;

use super::error::ImportError;
use super::spelled::Spelled;
use crate::onnx::{GraphProto, NodeProto, SparseTensorProto, TensorProto, ValueInfoProto};

/// What is known of a graph once its names are resolved.
pub(super) struct Structure<'a> {
    /// Nodes that the outputs depend on, writers before readers, otherwise in the file's order.
    pub(super) nodes: Vec<&'a NodeProto>,
    /// Constants by name.
    pub(super) initializers: HashMap<&'a str, &'a TensorProto>,
    /// Inputs that are not constants.
    pub(super) inputs: Vec<&'a ValueInfoProto>,
    /// Shapes and types that the file declares for values in between.
    pub(super) declared: HashMap<&'a str, &'a ValueInfoProto>,
    /// How often each name is read by a node or returned by the graph.
    pub(super) readers: HashMap<&'a str, usize>,
    /// First outputs of nodes that stand for several of the file's.
    spelled: HashSet<&'a str>,
}

/// A node's name, or its first output's where it has none.
pub(super) fn label(node: &NodeProto) -> &str {
    let name = node.name.as_deref().unwrap_or_default();
    if name.is_empty() { node.output.first().map_or("", String::as_str) } else { name }
}

/// A node's error.
pub(super) fn fault(node: &NodeProto, reason: impl Into<String>) -> ImportError {
    ImportError::Node {
        node: label(node).to_owned(),
        op: node.op_type.clone().unwrap_or_default(),
        reason: reason.into(),
    }
}

impl<'a> Structure<'a> {
    pub(super) fn read(graph: &'a GraphProto) -> Result<Self, ImportError> {
        let mut initializers = HashMap::new();
        for tensor in &graph.initializer {
            let name = tensor.name.as_deref().unwrap_or_default();
            if name.is_empty() {
                return Err(ImportError::Graph("a constant without a name".to_owned()));
            }
            if initializers.insert(name, tensor).is_some() {
                return Err(ImportError::Graph(format!("two constants named `{name}`")));
            }
        }
        let inputs = inputs(graph, &initializers)?;
        let writers = writers(graph, &initializers, &inputs)?;
        let given: HashSet<&str> = inputs.iter().filter_map(|input| input.name.as_deref()).collect();
        let sparse: HashSet<String> =
            graph.sparse_initializer.iter().filter_map(|bytes| sparse(bytes)).collect();
        let known = |name: &str| {
            writers.contains_key(name)
                || initializers.contains_key(name)
                || given.contains(name)
                || sparse.contains(name)
        };
        for node in &graph.node {
            if let Some(name) = node.input.iter().find(|name| !name.is_empty() && !known(name)) {
                return Err(fault(node, format!("reads `{name}`, which nothing writes")));
            }
        }
        let mut outputs = HashSet::new();
        for output in &graph.output {
            let name = output.name.as_deref().unwrap_or_default();
            if !known(name) {
                return Err(ImportError::Graph(format!("the output `{name}` is written by nothing")));
            }
            if !outputs.insert(name) {
                return Err(ImportError::Graph(format!("two outputs named `{name}`")));
            }
        }
        let nodes = live(graph, &writers, sorted(graph, &writers)?);
        let declared =
            graph.value_info.iter().filter_map(|info| Some((info.name.as_deref()?, info))).collect();
        let mut readers = HashMap::new();
        for name in nodes.iter().flat_map(|node| &node.input).map(String::as_str).chain(outputs) {
            *readers.entry(name).or_insert(0) += 1;
        }
        Ok(Self { nodes, initializers, inputs, declared, readers, spelled: HashSet::new() })
    }

    /// The same with one node for each function that is spelled out.
    pub(super) fn with<'b>(self, spelled: &'b [Spelled]) -> Structure<'b>
    where
        'a: 'b,
    {
        let Self { nodes, initializers, inputs, declared, readers, spelled: names } = self;
        let (mut readers, mut names): (HashMap<&'b str, usize>, HashSet<&'b str>) = (readers, names);
        let mut kept: Vec<Option<&'b NodeProto>> = nodes.into_iter().map(Some).collect();
        for Spelled { last, inner, node } in spelled {
            for name in
                inner.iter().chain([last]).filter_map(|&index| kept[index]).flat_map(|node| &node.input)
            {
                if let Some(count) = readers.get_mut(name.as_str()) {
                    *count -= 1;
                }
            }
            for name in &node.input {
                *readers.entry(name).or_insert(0) += 1;
            }
            for &index in inner {
                kept[index] = None;
            }
            kept[*last] = Some(node);
            names.extend(node.output.iter().map(String::as_str));
        }
        readers.retain(|_, count| *count > 0);
        let nodes = kept.into_iter().flatten().collect();
        Structure { nodes, initializers, inputs, declared, readers, spelled: names }
    }

    /// Whether a node stands for several of the file's, and so need not be one that the file's opset has.
    pub(super) fn is_spelled(&self, node: &NodeProto) -> bool {
        node.output.first().is_some_and(|name| self.spelled.contains(name.as_str()))
    }
}

/// The name of a sparse constant.
fn sparse(bytes: &[u8]) -> Option<String> {
    SparseTensorProto::decode(bytes).ok()?.values?.name
}

fn inputs<'a>(
    graph: &'a GraphProto,
    initializers: &HashMap<&str, &TensorProto>,
) -> Result<Vec<&'a ValueInfoProto>, ImportError> {
    let mut names = HashSet::new();
    for input in &graph.input {
        let name = input.name.as_deref().unwrap_or_default();
        if name.is_empty() {
            return Err(ImportError::Graph("an input without a name".to_owned()));
        }
        if !names.insert(name) {
            return Err(ImportError::Graph(format!("two inputs named `{name}`")));
        }
    }
    let is_constant =
        |input: &ValueInfoProto| initializers.contains_key(input.name.as_deref().unwrap_or_default());
    Ok(graph.input.iter().filter(|input| !is_constant(input)).collect())
}

/// Which node writes a value, by index.
fn writers<'a>(
    graph: &'a GraphProto,
    initializers: &HashMap<&str, &TensorProto>,
    inputs: &[&ValueInfoProto],
) -> Result<HashMap<&'a str, usize>, ImportError> {
    let inputs: HashSet<&str> = inputs.iter().filter_map(|input| input.name.as_deref()).collect();
    let mut writers = HashMap::new();
    for (index, node) in graph.node.iter().enumerate() {
        for name in node.output.iter().map(String::as_str).filter(|name| !name.is_empty()) {
            if inputs.contains(name) || initializers.contains_key(name) {
                return Err(fault(node, format!("writes `{name}`, which is an input or a constant")));
            }
            if let Some(other) = writers.insert(name, index) {
                let other = graph.node.get(other).map_or("", label);
                return Err(fault(node, format!("writes `{name}`, which `{other}` writes, too")));
            }
        }
    }
    Ok(writers)
}

/// Indexes of the nodes, writers before readers; among those that are ready, the file's order.
fn sorted(graph: &GraphProto, writers: &HashMap<&str, usize>) -> Result<Vec<usize>, ImportError> {
    let mut waits = vec![0usize; graph.node.len()];
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); graph.node.len()];
    for (index, node) in graph.node.iter().enumerate() {
        for &writer in node.input.iter().filter_map(|name| writers.get(name.as_str())) {
            waits[index] += 1;
            readers[writer].push(index);
        }
    }
    let mut ready: std::collections::BinaryHeap<_> =
        (0..waits.len()).filter(|&index| waits[index] == 0).map(std::cmp::Reverse).collect();
    let mut order = Vec::with_capacity(waits.len());
    while let Some(std::cmp::Reverse(index)) = ready.pop() {
        order.push(index);
        for &reader in &readers[index] {
            waits[reader] -= 1;
            if waits[reader] == 0 {
                ready.push(std::cmp::Reverse(reader));
            }
        }
    }
    match graph.node.iter().zip(&waits).find(|(_, waits)| **waits > 0) {
        Some((node, _)) => Err(fault(node, "is part of a cycle or reads from one")),
        None => Ok(order),
    }
}

/// The nodes that the graph's outputs depend on.
fn live<'a>(graph: &'a GraphProto, writers: &HashMap<&str, usize>, order: Vec<usize>) -> Vec<&'a NodeProto> {
    let mut live = vec![false; graph.node.len()];
    for writer in graph.output.iter().filter_map(|output| writers.get(output.name.as_deref()?)) {
        live[*writer] = true;
    }
    for &index in order.iter().rev() {
        if live[index] {
            for writer in graph.node[index].input.iter().filter_map(|name| writers.get(name.as_str())) {
                live[*writer] = true;
            }
        }
    }
    order.into_iter().filter(|&index| live[index]).map(|index| &graph.node[index]).collect()
}
