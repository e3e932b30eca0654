//! Models made by hand from our protobuf types.

use dyadic_graph::onnx::{
    AttributeProto, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    StringStringEntryProto, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
    attribute_type, data_type,
};
use dyadic_graph::{ImportError, Network, import_bytes};
use prost::Message;

/// Batch of any size.
pub(crate) const ANY: i64 = -7;

/// Imports without side files.
pub(crate) fn import(model: &ModelProto) -> Result<Network, ImportError> {
    import_with(model, &[])
}

pub(crate) fn import_with(model: &ModelProto, files: &[(&str, &[u8])]) -> Result<Network, ImportError> {
    import_bytes(&model.encode_to_vec(), files.iter().copied())
}

pub(crate) fn node(op: &str, name: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    NodeProto {
        input: own(inputs),
        output: own(outputs),
        name: Some(name.to_owned()),
        op_type: Some(op.to_owned()),
        ..NodeProto::default()
    }
}

fn attribute(name: &str, kind: i32) -> AttributeProto {
    AttributeProto { name: Some(name.to_owned()), r#type: Some(kind), ..AttributeProto::default() }
}

/// Adds attributes to a node.
pub(crate) trait With: Sized {
    fn with(self, attribute: AttributeProto) -> Self;

    fn ints(self, name: &str, ints: &[i64]) -> Self {
        self.with(AttributeProto { ints: ints.to_vec(), ..attribute(name, attribute_type::INTS) })
    }

    fn int(self, name: &str, int: i64) -> Self {
        self.with(AttributeProto { i: Some(int), ..attribute(name, attribute_type::INT) })
    }

    fn float(self, name: &str, float: f32) -> Self {
        self.with(AttributeProto { f: Some(float), ..attribute(name, attribute_type::FLOAT) })
    }

    fn text(self, name: &str, text: &str) -> Self {
        self.with(AttributeProto { s: Some(text.into()), ..attribute(name, attribute_type::STRING) })
    }

    fn tensor(self, name: &str, tensor: TensorProto) -> Self {
        self.with(AttributeProto { t: Some(Box::new(tensor)), ..attribute(name, attribute_type::TENSOR) })
    }

    fn graph(self, name: &str) -> Self {
        self.with(AttributeProto { g: Some(Vec::new()), ..attribute(name, 5) })
    }
}

impl With for NodeProto {
    fn with(mut self, attribute: AttributeProto) -> Self {
        self.attribute.push(attribute);
        self
    }
}

pub(crate) fn floats(name: &str, dims: &[i64], data: &[f32]) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        dims: dims.to_vec(),
        data_type: Some(data_type::FLOAT),
        float_data: data.to_vec(),
        ..TensorProto::default()
    }
}

/// Floats that count up, in raw form.
pub(crate) fn ramp(name: &str, dims: &[i64]) -> TensorProto {
    let elements: i64 = dims.iter().product();
    let raw = (0..elements).flat_map(|i| (0.01 * i as f32 - 0.1).to_le_bytes()).collect();
    TensorProto { float_data: Vec::new(), raw_data: Some(raw), ..floats(name, dims, &[]) }
}

pub(crate) fn ints(name: &str, dims: &[i64], data: &[i64]) -> TensorProto {
    TensorProto {
        data_type: Some(data_type::INT64),
        float_data: Vec::new(),
        int64_data: data.to_vec(),
        ..floats(name, dims, &[])
    }
}

/// Floats whose data lies in a side file.
pub(crate) fn external(name: &str, dims: &[i64], entries: &[(&str, &str)]) -> TensorProto {
    let entry = |&(key, value): &(&str, &str)| StringStringEntryProto {
        key: Some(key.to_owned()),
        value: Some(value.to_owned()),
    };
    TensorProto {
        data_location: Some(1),
        external_data: entries.iter().map(entry).collect(),
        ..floats(name, dims, &[])
    }
}

pub(crate) fn info(name: &str, dims: &[i64]) -> ValueInfoProto {
    let dim = |&extent: &i64| match extent {
        ANY => DimensionProto { dim_value: None, dim_param: Some("N".to_owned()) },
        extent => DimensionProto { dim_value: Some(extent), dim_param: None },
    };
    let shape = TensorShapeProto { dim: dims.iter().map(dim).collect() };
    let tensor = TensorTypeProto { elem_type: Some(data_type::FLOAT), shape: Some(shape) };
    ValueInfoProto { name: Some(name.to_owned()), r#type: Some(TypeProto { tensor_type: Some(tensor) }) }
}

/// `x` [N, 1, 4, 4] → conv (2 filters of 3×3) → relu → flatten → gemm → `y` [N, 3].
pub(crate) fn tiny() -> ModelProto {
    model(
        vec![
            node("Conv", "conv", &["x", "conv.w", "conv.b"], &["c"]).ints("pads", &[1, 1, 1, 1]),
            node("Relu", "relu", &["c"], &["r"]),
            node("Flatten", "flatten", &["r"], &["f"]),
            node("Gemm", "gemm", &["f", "gemm.w", "gemm.b"], &["y"]).int("transB", 1),
        ],
        vec![
            ramp("conv.w", &[2, 1, 3, 3]),
            ramp("conv.b", &[2]),
            ramp("gemm.w", &[3, 32]),
            ramp("gemm.b", &[3]),
        ],
    )
}

/// A model from `x` [N, 1, 4, 4] to `y`.
pub(crate) fn model(nodes: Vec<NodeProto>, constants: Vec<TensorProto>) -> ModelProto {
    ModelProto {
        ir_version: Some(8),
        producer_name: Some("by hand".to_owned()),
        graph: Some(GraphProto {
            node: nodes,
            name: Some("main".to_owned()),
            initializer: constants,
            input: vec![info("x", &[ANY, 1, 4, 4])],
            output: vec![info("y", &[ANY, 3])],
            ..GraphProto::default()
        }),
        opset_import: vec![OperatorSetIdProto { domain: None, version: Some(17) }],
    }
}

/// A model whose only node of interest reads `x` and writes `y`.
pub(crate) fn single(node: NodeProto, constants: Vec<TensorProto>) -> ModelProto {
    model(vec![node], constants)
}

/// The graph of a model made here.
pub(crate) fn graph(model: &mut ModelProto) -> &mut GraphProto {
    model.graph.as_mut().expect("models made here have a graph")
}

#[test]
fn the_model_that_the_tables_break_is_whole() {
    let network = import(&tiny()).unwrap();
    assert_eq!(network.layers.len(), 4);
    assert_eq!(network.shape(network.output), [3]);
}
