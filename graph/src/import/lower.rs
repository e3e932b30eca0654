//! From nodes to layers.
//!
//! Every value of the file becomes a [`Slot`]: a constant, or a view of a network value. Reshapes only change the view;
//! shape arithmetic is done on constants in which the batch size is a symbol. What cannot be represented is written down,
//! and lowering goes on behind it, so that one error names all of it. Behind it nothing is called malformed: shapes are
//! inferred there, and a network that is refused already can wait for the rest.

mod activation;
mod arithmetic;
mod beyond;
mod boundary;
mod call;
mod channels;
mod constants;
mod convolution;
mod extents;
mod layers;
mod linear;
mod pool;
mod reshape;
mod resize;
mod unary;

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::attributes::Attributes;
use super::constant::{self, Constant, Fault, MAX_RANK};
use super::error::{ImportError, Unsupported};
use super::operator::Operator;
use super::structure::{Structure, fault, label};
use super::{Bundle, MAX_VALUE_ELEMENTS};
use crate::network::{Network, ValueId};
use crate::onnx::{GraphProto, ModelProto, NodeProto, TensorProto};
use beyond::{Beyond, judged};
use call::{Call, axis_of, known};
use layers::reads_as;

/// Constants and weights may take this many bytes a byte of the bundle, and [`MEMORY_ALLOWANCE`].
const MEMORY_FACTOR: u64 = 12;
const MEMORY_ALLOWANCE: u64 = 16 << 20;

/// What a name of the file stands for.
#[derive(Clone)]
enum Slot<'a> {
    Constant(Rc<Constant>),
    View(View<'a>),
    /// What nothing computes: the result of a node that is not supported, or of one behind it.
    Beyond(Beyond),
}

/// A network value, seen with another shape or with zeros around it.
#[derive(Clone)]
struct View<'a> {
    value: ValueId,
    /// Without the batch axis; padding included.
    shape: Vec<usize>,
    /// Zeros around height and width that a convolution or pool has yet to take up: top, left, bottom, right.
    padding: [usize; 4],
    /// The node and the name that gave the view its shape, for a layer that has to be made of it.
    origin: (&'a str, &'a str),
}

/// Why a node was not lowered.
enum Refusal {
    Unsupported(String),
    /// It reads what nothing computes; there is nothing to say against the node itself.
    Behind,
    Malformed(String),
    Error(ImportError),
}

/// `String` reasons are faults of the file.
impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self::Malformed(reason)
    }
}

fn unsupported<T>(reason: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Unsupported(reason.into()))
}

struct Lowering<'a> {
    graph: &'a GraphProto,
    structure: &'a Structure<'a>,
    bundle: &'a Bundle<'a>,
    /// The version of ONNX's operator set.
    opset: i64,
    /// The batch size where the file fixes it.
    batch: Option<i64>,
    /// The batch axis's name where the file gives it one.
    batch_name: Option<&'a str>,
    /// Whether the input is one of channels and a length, without a height.
    series: bool,
    slots: HashMap<&'a str, Slot<'a>>,
    network: Network,
    /// Which layer, by index, writes a value.
    writers: HashMap<ValueId, usize>,
    /// Flattened values, so that no value is flattened twice.
    flat: HashMap<ValueId, ValueId>,
    /// How often each name is yet to be read; constants that nobody will read again are let go.
    readers: HashMap<&'a str, usize>,
    layer_names: HashSet<String>,
    /// How often a layer name was found taken.
    taken: HashMap<String, u64>,
    unsupported: Vec<Unsupported>,
    /// Names of values that a node wrote which is not supported, or one behind it.
    beyond: HashSet<&'a str>,
    memory: u64,
    memory_limit: u64,
}

pub(super) fn lower<'a>(
    model: &ModelProto,
    graph: &'a GraphProto,
    structure: &'a Structure<'a>,
    bundle: &'a Bundle<'a>,
) -> Result<Network, ImportError> {
    let bundle_bytes =
        bundle.files.values().fold(bundle.model.len() as u64, |sum, file| sum + file.len() as u64);
    let mut lowering = Lowering {
        graph,
        structure,
        bundle,
        opset: 0,
        batch: None,
        batch_name: None,
        series: false,
        slots: HashMap::new(),
        network: Network {
            name: graph.name.clone().unwrap_or_default(),
            values: Vec::new(),
            layers: Vec::new(),
            input: ValueId(0),
            output: ValueId(0),
        },
        writers: HashMap::new(),
        flat: HashMap::new(),
        readers: structure.readers.clone(),
        layer_names: HashSet::new(),
        taken: HashMap::new(),
        unsupported: Vec::new(),
        beyond: HashSet::new(),
        memory: 0,
        memory_limit: bundle_bytes.saturating_mul(MEMORY_FACTOR).saturating_add(MEMORY_ALLOWANCE),
    };
    lowering.opsets(model);
    if lowering.unsupported.is_empty() {
        lowering.boundaries()?;
        for &node in &structure.nodes {
            lowering.node(node)?;
        }
        return lowering.finish();
    }
    // What the nodes' operands and attributes mean is not known; which operators there are is.
    for &node in &structure.nodes {
        if Operator::of(node).is_none() {
            lowering.refuse_node(node, UNKNOWN_OPERATOR.to_owned());
        }
    }
    Err(ImportError::Unsupported(lowering.unsupported))
}

impl<'a> Lowering<'a> {
    fn refuse_model(&mut self, reason: impl Into<String>) {
        let (op, domain) = (String::new(), String::new());
        self.unsupported.push(Unsupported { node: None, op, domain, reason: reason.into() });
    }

    fn refuse_node(&mut self, node: &NodeProto, reason: String) {
        self.unsupported.push(Unsupported {
            node: Some(label(node).to_owned()),
            op: node.op_type.clone().unwrap_or_default(),
            domain: node.domain.clone().unwrap_or_default(),
            reason,
        });
    }

    fn node(&mut self, node: &'a NodeProto) -> Result<(), ImportError> {
        let behind = node.input.iter().any(|name| self.beyond.contains(name.as_str()));
        let attributes = Attributes::of(node).map_err(|reason| fault(node, reason))?;
        let op = node.op_type.as_deref().unwrap_or_default();
        let mut call = Call { node, op, attributes, operands: Vec::with_capacity(node.input.len()) };
        let verdict = match self.operands(&mut call, behind) {
            Ok(()) => self.call(&call),
            Err(refusal) => Err(refusal),
        };
        let mut results = match verdict {
            Ok(slots) => slots,
            // Whatever contradicts a shape that was inferred: the network is refused already.
            Err(Refusal::Malformed(_)) if behind => Vec::new(),
            Err(Refusal::Error(ImportError::TooLarge { .. }))
                if behind && self.memory <= self.memory_limit =>
            {
                Vec::new()
            }
            Err(Refusal::Malformed(reason)) => return Err(fault(node, reason)),
            Err(Refusal::Error(error)) => return Err(error),
            Err(Refusal::Behind) => Vec::new(),
            Err(Refusal::Unsupported(reason)) => {
                self.refuse_node(node, reason);
                Vec::new()
            }
        };
        let computed = results.len();
        let read = |name: &&String| self.structure.readers.contains_key(name.as_str());
        if let Some(name) = node.output.iter().skip(computed).find(read).filter(|_| computed > 0) {
            self.refuse_node(node, format!("its second output `{name}` is read"));
        }
        if computed < node.output.len() {
            results.extend(self.results_beyond(&call).into_iter().skip(computed));
        }
        for (index, (name, slot)) in node.output.iter().zip(results).enumerate() {
            if behind || index >= computed {
                self.beyond.insert(name);
            }
            self.slots.insert(name, slot);
        }
        self.let_go(node);
        Ok(())
    }

    /// Constants that nobody will read again.
    fn let_go(&mut self, node: &'a NodeProto) {
        for name in node.input.iter().map(String::as_str) {
            if let Some(readers) = self.readers.get_mut(name) {
                *readers = readers.saturating_sub(1);
                if *readers == 0 {
                    self.slots.remove(name);
                }
            }
        }
    }

    /// Fills in a call's operands. A constant that is not read has still a shape; the first reason why is the error.
    fn operands(&mut self, call: &mut Call<'a>, behind: bool) -> Result<(), Refusal> {
        let supported = call.operator().is_some();
        let mut reason = None;
        for name in &call.node.input {
            let slot = match if name.is_empty() { Ok(None) } else { self.slot(name).map(Some) } {
                Ok(slot) => slot,
                Err(Refusal::Unsupported(why)) => {
                    reason = reason.or(Some(why));
                    Some(Slot::Beyond(self.unread(name)))
                }
                Err(_) if !supported || behind && self.memory <= self.memory_limit => {
                    Some(Slot::Beyond(self.unread(name)))
                }
                Err(refusal) => return Err(refusal),
            };
            call.operands.push(slot);
        }
        match reason {
            Some(reason) if supported => unsupported(reason),
            _ => Ok(()),
        }
    }

    /// The node's results: all of them, or the first one only.
    fn call(&mut self, call: &Call<'a>) -> Result<Vec<Slot<'a>>, Refusal> {
        if call.attributes.have_graph() {
            return unsupported("control flow");
        }
        let Some(operator) = call.operator() else { return unsupported(UNKNOWN_OPERATOR) };
        if operator.version(self.opset) == 0 && !self.structure.is_spelled(call.node) {
            return unsupported(format!("ONNX has no such operator in opset {}", self.opset));
        }
        call.attributes.only(operator, self.opset)?;
        let beyond = |slot: &Slot<'_>| matches!(slot, Slot::Beyond(_));
        if call.op != "Shape" && call.operands.iter().flatten().any(beyond) {
            return Err(judged(call, self.series));
        }
        if call.op == "Split" { self.split(call) } else { self.dispatch(call).map(|slot| vec![slot]) }
    }

    fn dispatch(&mut self, call: &Call<'a>) -> Result<Slot<'a>, Refusal> {
        match call.op {
            "Conv" => self.convolution(call),
            "Gemm" => self.gemm(call),
            "MatMul" => self.matmul(call),
            "BatchNormalization" => self.batch_normalization(call),
            "Relu" | "Clip" | "LeakyRelu" | "Sigmoid" | "Tanh" | "Softmax" | "LogSoftmax" | "Max" | "Min" => {
                self.unary(call)
            }
            "Elu" | "PRelu" | "HardSigmoid" | "HardSwish" | "Swish" | "Gelu" => self.activation(call),
            "Identity" | "Dropout" | "Cast" => self.identity(call),
            "Add" | "Sub" | "Mul" | "Div" => self.arithmetic(call),
            "Pow" => self.power(call),
            "Erf" => unsupported(ERF),
            "Concat" => self.concat(call),
            "MaxPool" | "AveragePool" => self.pool(call),
            "GlobalMaxPool" => self.global_max_pool(call),
            "GlobalAveragePool" => self.global_average_pool(call),
            "ReduceMean" | "ReduceMax" => self.reduce(call),
            "Pad" => self.pad(call),
            "Resize" => self.resize(call),
            "Flatten" | "Reshape" | "Squeeze" | "Unsqueeze" | "Transpose" => self.reshape(call),
            "Constant" | "ConstantOfShape" | "Shape" | "Gather" | "Slice" | "ReduceProd" => {
                self.constant(call)
            }
            _ => unsupported(UNKNOWN_OPERATOR),
        }
    }

    /// A name's slot; constants are decoded when they are first read.
    fn slot(&mut self, name: &'a str) -> Result<Slot<'a>, Refusal> {
        if let Some(slot) = self.slots.get(name) {
            return Ok(slot.clone());
        }
        let Some(tensor) = self.structure.initializers.get(name) else { return Err(Refusal::Behind) };
        let slot = self.decode(tensor)?;
        self.slots.insert(name, slot.clone());
        Ok(slot)
    }

    fn decode(&mut self, tensor: &TensorProto) -> Result<Slot<'a>, Refusal> {
        match constant::read(tensor, &self.bundle.files) {
            Ok(constant) => self.folded(constant),
            Err(Fault::Error(error)) => Err(Refusal::Error(error)),
            Err(Fault::Type(reason)) => unsupported(reason),
        }
    }

    /// A constant that was computed, accounted for.
    fn folded(&mut self, constant: Constant) -> Result<Slot<'a>, Refusal> {
        let extents =
            constant.shape.iter().try_fold(1usize, |product, &extent| product.checked_mul(extent.max(1)));
        if extents.is_none() || constant.shape.len() > MAX_RANK {
            return Err(Refusal::Malformed(format!("a constant of shape {:?}", constant.shape)));
        }
        self.charge(constant.memory())?;
        Ok(Slot::Constant(Rc::new(constant)))
    }

    /// Accounts for memory that the network or its constants take.
    fn charge(&mut self, bytes: u64) -> Result<(), Refusal> {
        self.memory = self.memory.saturating_add(bytes);
        if self.memory <= self.memory_limit {
            return Ok(());
        }
        Err(Refusal::Error(ImportError::TooLarge {
            what: "the network's constants in bytes".to_owned(),
            actual: self.memory,
            limit: self.memory_limit,
        }))
    }

    fn finish(mut self) -> Result<Network, ImportError> {
        let name = self.graph.output.first().and_then(|output| output.name.as_deref()).unwrap_or_default();
        if self.unsupported.is_empty() {
            match self.output(name) {
                Ok(value) => self.network.output = value,
                Err(Refusal::Error(error)) => return Err(error),
                Err(Refusal::Malformed(reason)) => return Err(ImportError::Graph(reason)),
                Err(Refusal::Unsupported(reason)) => self.refuse_model(reason),
                Err(Refusal::Behind) => self.refuse_model(format!("the output `{name}` is not computed")),
            }
        }
        if !self.unsupported.is_empty() {
            return Err(ImportError::Unsupported(self.unsupported));
        }
        let output = self.network.output;
        if let Some(value) = self.network.values.get_mut(output.0) {
            name.clone_into(&mut value.name);
        }
        Ok(self.network)
    }

    fn output(&mut self, name: &'a str) -> Result<ValueId, Refusal> {
        let Slot::View(view) = self.slot(name)? else {
            return unsupported(format!("the output `{name}` is a constant"));
        };
        match self.settled(&view) {
            // A height of 1 more or less would be another shape than the file's.
            Ok(value) if self.network.shape(value) != view.shape => {
                let (actual, stated) = (self.network.shape(value), &view.shape);
                unsupported(format!("the output `{name}`: {}", reads_as(actual, stated)))
            }
            Ok(value) if value == self.network.input => {
                unsupported(format!("the output `{name}` is the input: there is nothing to run"))
            }
            Err(Refusal::Malformed(reason) | Refusal::Unsupported(reason)) => {
                unsupported(format!("the output `{name}`: {reason}"))
            }
            other => other,
        }
    }
}

fn check_size(name: &str, shape: &[usize]) -> Result<(), ImportError> {
    let elements = shape.iter().fold(1u64, |product, &extent| product.saturating_mul(extent as u64));
    if elements == 0 {
        return Err(ImportError::Graph(format!("value `{name}` has no elements: shape {shape:?}")));
    }
    if elements > MAX_VALUE_ELEMENTS {
        let what = format!("value `{name}` in elements a sample");
        return Err(ImportError::TooLarge { what, actual: elements, limit: MAX_VALUE_ELEMENTS });
    }
    Ok(())
}

const UNKNOWN_OPERATOR: &str = "this operator is not supported";

/// Why an error function is refused.
const ERF: &str = "an error function that is not part of x/2·(1 + erf(x/√2))";

/// Why arithmetic with two values is refused, except for sums and products.
const TWO_VALUES: &str = "two operands that both flow through the network";
