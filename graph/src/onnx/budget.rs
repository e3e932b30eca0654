//! What decoding would allocate, known before it is done.
//!
//! Two bytes of protobuf can stand for an empty message that takes hundreds of bytes in memory. This walk over the
//! undecoded bytes adds up what [`ModelProto`](super::ModelProto) would take, so that a hostile file is refused before
//! anything is allocated. The walk goes only where the decoder goes; its depth is bounded by the schema.

use std::mem::size_of;

use super::{
    AttributeProto, DimensionProto, GraphProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};

/// Bytes of memory that decoding a model takes, without allocator overhead. `None` if the bytes are not well-formed
/// protobuf at the levels that are walked.
pub fn decoded_bytes(model: &[u8]) -> Option<u64> {
    cost(Kind::Model, model)
}

#[derive(Clone, Copy)]
enum Kind {
    Model,
    Opset,
    Graph,
    Node,
    Attribute,
    Tensor,
    Entry,
    ValueInfo,
    Type,
    TensorType,
    Shape,
    Dimension,
}

/// What a field holds, as far as memory goes.
enum Field {
    Message(Kind, usize),
    /// Eight bytes an element, however short it is in the file.
    Numbers,
    /// A string or bytes: a header and the bytes.
    Bytes,
    Skipped,
}

fn field(kind: Kind, number: u64) -> Field {
    let message = |kind, bytes| Field::Message(kind, bytes);
    match (kind, number) {
        (Kind::Model, 7) => message(Kind::Graph, size_of::<GraphProto>()),
        (Kind::Model, 8) => message(Kind::Opset, size_of::<OperatorSetIdProto>()),
        (Kind::Graph, 1) => message(Kind::Node, size_of::<NodeProto>()),
        (Kind::Graph | Kind::Attribute, 5) => message(Kind::Tensor, size_of::<TensorProto>()),
        (Kind::Graph, 11..=13) => message(Kind::ValueInfo, size_of::<ValueInfoProto>()),
        (Kind::Node, 5) => message(Kind::Attribute, size_of::<AttributeProto>()),
        (Kind::Tensor, 13) => message(Kind::Entry, size_of::<StringStringEntryProto>()),
        (Kind::ValueInfo, 2) => message(Kind::Type, size_of::<TypeProto>()),
        (Kind::Type, 1) => message(Kind::TensorType, size_of::<TensorTypeProto>()),
        (Kind::TensorType, 2) => message(Kind::Shape, size_of::<TensorShapeProto>()),
        (Kind::Shape, 1) => message(Kind::Dimension, size_of::<DimensionProto>()),
        _ if numbers(kind).contains(&number) => Field::Numbers,
        _ if bytes(kind).contains(&number) => Field::Bytes,
        _ => Field::Skipped,
    }
}

/// Fields of a message that hold repeated numbers.
fn numbers(kind: Kind) -> &'static [u64] {
    match kind {
        Kind::Attribute => &[7, 8],
        Kind::Tensor => &[1, 4, 5, 7, 10],
        _ => &[],
    }
}

/// Fields of a message that hold strings or bytes.
fn bytes(kind: Kind) -> &'static [u64] {
    match kind {
        Kind::Model | Kind::Dimension => &[2],
        Kind::Opset | Kind::ValueInfo => &[1],
        Kind::Graph => &[2, 15],
        Kind::Node => &[1, 2, 3, 4, 7],
        Kind::Attribute => &[1, 4, 6, 11],
        Kind::Tensor => &[8, 9],
        Kind::Entry => &[1, 2],
        Kind::Type | Kind::TensorType | Kind::Shape => &[],
    }
}

fn cost(kind: Kind, mut bytes: &[u8]) -> Option<u64> {
    let mut total = 0u64;
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let field = field(kind, key >> 3);
        match key & 7 {
            0 => {
                varint(&mut bytes)?;
                total += number_bytes(&field);
            }
            1 => {
                take(&mut bytes, 8)?;
                total += number_bytes(&field);
            }
            5 => {
                take(&mut bytes, 4)?;
                total += number_bytes(&field);
            }
            2 => {
                let length = varint(&mut bytes)?;
                let body = take(&mut bytes, usize::try_from(length).ok()?)?;
                total += match field {
                    Field::Message(child, size) => size as u64 + cost(child, body)?,
                    Field::Numbers => 8 * body.len() as u64,
                    Field::Bytes => size_of::<String>() as u64 + body.len() as u64,
                    Field::Skipped => 0,
                };
            }
            // Groups (3, 4) do not occur in ONNX.
            _ => return None,
        }
    }
    Some(total)
}

fn number_bytes(field: &Field) -> u64 {
    if matches!(field, Field::Numbers) { 8 } else { 0 }
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (head, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(head)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::{GraphProto, ModelProto};
    use prost::Message;

    #[test]
    fn empty_nodes_cost_what_they_take_in_memory() {
        let model = ModelProto {
            graph: Some(GraphProto { node: vec![NodeProto::default(); 1000], ..GraphProto::default() }),
            ..ModelProto::default()
        };
        let bytes = model.encode_to_vec();
        assert!(bytes.len() < 2100);
        assert!(decoded_bytes(&bytes).unwrap() >= 1000 * size_of::<NodeProto>() as u64);
    }

    #[test]
    fn a_length_past_the_end_is_not_protobuf() {
        assert_eq!(decoded_bytes(&[0x3a, 0x7f, 0x00]), None);
        assert_eq!(decoded_bytes(&[0xff; 12]), None);
        assert_eq!(decoded_bytes(&[]), Some(0));
    }
}
