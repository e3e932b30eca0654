//! The exact GELU as older opsets spell it, `x/2·(1 + erf(x/√2))`: nodes of the graph that become one node,
//! because no network holds an error function.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::constant::{self, Data};
use super::structure::Structure;
use crate::forms::near;
use crate::onnx::NodeProto;

/// A function that several nodes spell out.
pub(super) struct Spelled {
    /// Its last node, by index in [`Structure::nodes`].
    pub(super) last: usize,
    /// The others, whose results only these nodes read.
    pub(super) inner: Vec<usize>,
    /// What stands for all of them: the last one's name and output.
    pub(super) node: NodeProto,
}

/// All GELUs that are spelled out.
pub(super) fn gelus(structure: &Structure<'_>, files: &BTreeMap<String, &[u8]>) -> Vec<Spelled> {
    if !structure.nodes.iter().any(|node| is(node, "Erf")) {
        return Vec::new();
    }
    let graph = Graph::of(structure, files);
    let mut taken = HashSet::new();
    let mut found = Vec::new();
    for erf in (0..structure.nodes.len()).filter(|&index| is(structure.nodes[index], "Erf")) {
        if let Some(gelu) = graph.gelu(erf)
            && gelu.inner.iter().chain([&gelu.last]).all(|&index| taken.insert(index))
        {
            found.push(gelu);
        }
    }
    found
}

fn is(node: &NodeProto, op: &str) -> bool {
    let own = matches!(node.domain.as_deref().unwrap_or_default(), "" | "ai.onnx");
    own && node.op_type.as_deref() == Some(op) && node.attribute.is_empty()
}

/// Who writes and reads which name.
struct Graph<'s, 'a> {
    structure: &'s Structure<'a>,
    files: &'s BTreeMap<String, &'s [u8]>,
    writers: HashMap<&'a str, usize>,
    /// One reader of each name; the only one where [`Structure::readers`] counts one.
    readers: HashMap<&'a str, usize>,
}

impl<'s, 'a> Graph<'s, 'a> {
    fn of(structure: &'s Structure<'a>, files: &'s BTreeMap<String, &'s [u8]>) -> Self {
        let (mut writers, mut readers) = (HashMap::new(), HashMap::new());
        for (index, node) in structure.nodes.iter().enumerate() {
            writers.extend(node.output.iter().map(|name| (name.as_str(), index)));
            readers.extend(node.input.iter().map(|name| (name.as_str(), index)));
        }
        Self { structure, files, writers, readers }
    }

    /// `Erf` between `x/√2` and `1 + …`, and the product of that with x and a half, in any order.
    fn gelu(&self, erf: usize) -> Option<Spelled> {
        let scaled = self.only_writer(self.node(erf)?.input.first()?)?;
        let x = self
            .by(scaled, "Div", std::f32::consts::SQRT_2, false)
            .or_else(|| self.by(scaled, "Mul", std::f32::consts::FRAC_1_SQRT_2, true))?;
        let sum = self.only_reader(erf)?;
        self.by(sum, "Add", 1.0, true)?;
        let first = self.only_reader(sum)?;
        let mut inner = vec![scaled, erf, sum];
        let last = if self.by(first, "Mul", 0.5, true).is_some() {
            // x·(½·(1 + …))
            inner.push(first);
            let last = self.only_reader(first)?;
            (self.factor(last, first)? == x).then_some(last)?
        } else if self.factor(first, sum)? == x {
            // ½·(x·(1 + …))
            inner.push(first);
            let last = self.only_reader(first)?;
            self.by(last, "Mul", 0.5, true)?;
            last
        } else {
            // (½·x)·(1 + …)
            let half = self.only_writer(self.factor(first, sum)?)?;
            inner.push(half);
            (self.by(half, "Mul", 0.5, true)? == x).then_some(first)?
        };
        let node = NodeProto {
            input: vec![x.to_owned()],
            op_type: Some("Gelu".to_owned()),
            attribute: Vec::new(),
            ..(*self.node(last)?).clone()
        };
        Some(Spelled { last, inner, node })
    }

    fn node(&self, index: usize) -> Option<&'a NodeProto> {
        self.structure.nodes.get(index).copied()
    }

    /// The node that writes a name which is read once.
    fn only_writer(&self, name: &str) -> Option<usize> {
        let once = self.structure.readers.get(name) == Some(&1);
        self.writers.get(name).copied().filter(|_| once)
    }

    /// The node that reads a node's only output, if nothing else does.
    fn only_reader(&self, index: usize) -> Option<usize> {
        let [output] = self.node(index)?.output.as_slice() else { return None };
        let once = self.structure.readers.get(output.as_str()) == Some(&1);
        self.readers.get(output.as_str()).copied().filter(|_| once)
    }

    /// What a node combines with a constant of about this value, which may stand in front if `both`.
    fn by(&self, index: usize, op: &str, constant: f32, both: bool) -> Option<&'a str> {
        let node = self.node(index).filter(|node| is(node, op))?;
        let [a, b] = node.input.as_slice() else { return None };
        let same = |name: &str| self.scalar(name).is_some_and(|number| near(number, constant));
        if same(b) { Some(a) } else { (both && same(a)).then_some(b.as_str()) }
    }

    /// What a product multiplies another node's output with.
    fn factor(&self, index: usize, other: usize) -> Option<&'a str> {
        let node = self.node(index).filter(|node| is(node, "Mul"))?;
        let (other, [a, b]) = (self.node(other)?.output.first()?, node.input.as_slice()) else { return None };
        if b == other { Some(a) } else { (a == other).then_some(b.as_str()) }
    }

    /// The number under a name, if it is a constant of rank 0 or 1 with one element.
    fn scalar(&self, name: &str) -> Option<f32> {
        let tensor = if let Some(tensor) = self.structure.initializers.get(name) {
            tensor
        } else {
            let node = self.node(*self.writers.get(name)?)?;
            let [attribute] = node.attribute.as_slice() else { return None };
            match (node.op_type.as_deref(), attribute.name.as_deref()) {
                (Some("Constant"), Some("value_float")) => return attribute.f,
                (Some("Constant"), Some("value")) => attribute.t.as_deref()?,
                _ => return None,
            }
        };
        if !matches!(tensor.dims.as_slice(), [] | [1]) {
            return None;
        }
        match constant::read(tensor, self.files).ok()?.data {
            Data::Floats(data) => data.first().copied(),
            Data::Integers(_) => None,
        }
    }
}
