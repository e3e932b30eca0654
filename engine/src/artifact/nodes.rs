//! Nodes to lists and JSON, and back. The lists are read in node order, so the JSON needs no offsets.

use serde::{Deserialize, Serialize};

use super::ArtifactError;
use super::container::{Reader, Writer};
use crate::model::{
    Add, Conv, Epilogue, Model, Node, Op, Packing, Requantize, Tensor, TensorId, Weights, Window,
};

/// A node's JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NodeDocument {
    name: String,
    inputs: Vec<TensorId>,
    output: TensorId,
    op: OpDocument,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OpDocument {
    Conv(ConvDocument),
    Add(Add),
    Affine(Clamp),
    MaxPool(Window),
    AvgPool(PoolDocument),
    Lut,
    Concat,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConvDocument {
    window: Window,
    groups: u32,
    bits: u8,
    terms: u8,
    packing: Packing,
    /// Present unless the layer writes logits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    clamp: Option<Clamp>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PoolDocument {
    window: Window,
    clamp: Clamp,
}

/// Lowest and highest output code.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Clamp(i32, i32);

/// Writes a checked model's nodes.
pub(super) fn encode(model: &Model, lists: &mut Writer) -> Result<Vec<NodeDocument>, ArtifactError> {
    model
        .nodes
        .iter()
        .map(|node| {
            let op = encode_op(&node.op, lists)?;
            Ok(NodeDocument { name: node.name.clone(), inputs: node.inputs.clone(), output: node.output, op })
        })
        .collect()
}

fn encode_op(op: &Op, lists: &mut Writer) -> Result<OpDocument, ArtifactError> {
    Ok(match op {
        Op::Conv(conv) => OpDocument::Conv(encode_conv(conv, lists)?),
        Op::Add(add) => OpDocument::Add(*add),
        Op::Affine(rule) => OpDocument::Affine(encode_requantize(rule, lists)),
        Op::MaxPool(window) => OpDocument::MaxPool(*window),
        Op::AvgPool(window, rule) => {
            OpDocument::AvgPool(PoolDocument { window: *window, clamp: encode_requantize(rule, lists) })
        }
        Op::Lut(table) => {
            lists.put("lut", table.iter().copied());
            OpDocument::Lut
        }
        Op::Concat => OpDocument::Concat,
    })
}

fn encode_conv(conv: &Conv, lists: &mut Writer) -> Result<ConvDocument, ArtifactError> {
    let weights = &conv.weights;
    let packing = weights.packing();
    let levels = packing.levels(weights.bits);
    lists.put("weights.codes", weights.codes.pack(packing, weights.bits));
    if levels > 0 {
        for table in weights.tables.chunks_exact(1 << weights.bits) {
            lists.put("weights.levels", table[..levels].iter().copied());
        }
    }
    let narrow = |&exponent: &i32| {
        i16::try_from(exponent)
            .map_err(|_| ArtifactError::Metadata(format!("filter exponent {exponent} exceeds 16 bits")))
    };
    let exponents: Result<Vec<i16>, _> = weights.exponents.iter().map(narrow).collect();
    lists.put("weights.exponents", exponents?);
    lists.put("weights.bounds", conv.bounds.iter().copied());
    let clamp = match &conv.epilogue {
        Epilogue::Requantize(rule) => Some(encode_requantize(rule, lists)),
        Epilogue::Logits { shift, bias } => {
            lists.put("logits.shift", shift.iter().copied());
            lists.put("logits.bias", bias.iter().copied());
            None
        }
    };
    let (window, groups, bits, terms) = (conv.window, conv.groups, weights.bits, weights.terms);
    Ok(ConvDocument { window, groups, bits, terms, packing, clamp })
}

fn encode_requantize(rule: &Requantize, lists: &mut Writer) -> Clamp {
    lists.put("requantize.pre", rule.pre.iter().copied());
    lists.put("requantize.multiplier", rule.multiplier.iter().copied());
    lists.put("requantize.bias", rule.bias.iter().copied());
    lists.put("requantize.residual_shift", rule.residual_shift.iter().copied());
    lists.put("requantize.shift", rule.shift.iter().copied());
    Clamp(rule.lo, rule.hi)
}

/// Reads the nodes of a file whose tensors are known but not yet checked.
pub(super) fn decode(
    documents: &[NodeDocument],
    tensors: &[Tensor],
    lists: &mut Reader,
) -> Result<Vec<Node>, ArtifactError> {
    documents
        .iter()
        .map(|document| {
            let op = decode_op(document, tensors, lists)?;
            let NodeDocument { name, inputs, output, .. } = document;
            Ok(Node { name: name.clone(), inputs: inputs.clone(), output: *output, op })
        })
        .collect()
}

fn decode_op(document: &NodeDocument, tensors: &[Tensor], lists: &mut Reader) -> Result<Op, ArtifactError> {
    let find = |id: Option<&TensorId>| {
        id.and_then(|id| tensors.get(id.0 as usize)).ok_or_else(|| {
            ArtifactError::Metadata(format!("node {:?} names a tensor that does not exist", document.name))
        })
    };
    let (x, output) = (find(document.inputs.first())?, find(Some(&document.output))?);
    let channels = u64::from(output.shape.c);
    Ok(match &document.op {
        OpDocument::Conv(conv) => {
            let residual = document.inputs.len() > 1;
            Op::Conv(decode_conv(conv, x, channels, residual, lists)?)
        }
        OpDocument::Add(add) => Op::Add(*add),
        OpDocument::Affine(clamp) => Op::Affine(decode_requantize(*clamp, channels, false, lists)?),
        OpDocument::MaxPool(window) => Op::MaxPool(*window),
        OpDocument::AvgPool(pool) => {
            Op::AvgPool(pool.window, decode_requantize(pool.clamp, channels, false, lists)?)
        }
        OpDocument::Lut => {
            let (lo, hi) = x.format.range();
            Op::Lut(lists.take("lut", (i64::from(hi) - i64::from(lo) + 1) as u64)?)
        }
        OpDocument::Concat => Op::Concat,
    })
}

fn decode_conv(
    document: &ConvDocument,
    x: &Tensor,
    filters: u64,
    residual: bool,
    lists: &mut Reader,
) -> Result<Conv, ArtifactError> {
    let ConvDocument { window, groups, bits, terms, packing, clamp } = *document;
    let refuse = |problem: &str| ArtifactError::Metadata(problem.to_owned());
    if !(2..=8).contains(&bits) || (packing == Packing::Base3 && bits != 2) {
        return Err(refuse("a convolution's code width is out of range"));
    }
    let per_group = x.shape.c.checked_div(groups).ok_or_else(|| refuse("a convolution has no groups"))?;
    let count = [window.kernel[0], window.kernel[1], per_group]
        .into_iter()
        .try_fold(filters, |product, factor| product.checked_mul(factor.into()))
        .ok_or_else(|| refuse("a convolution's weight count overflows"))?;
    let codes = lists.take_codes("weights.codes", packing, bits, count)?;
    let levels = packing.levels(bits);
    let stored: Vec<i8> = lists.take("weights.levels", filters * levels as u64)?;
    let tables = widen_tables(&stored, levels, bits);
    let exponents: Vec<i16> = lists.take("weights.exponents", filters)?;
    let exponents = exponents.into_iter().map(i32::from).collect();
    let bounds = lists.take("weights.bounds", filters)?;
    let epilogue = match clamp {
        Some(clamp) => Epilogue::Requantize(decode_requantize(clamp, filters, residual, lists)?),
        None => Epilogue::Logits {
            shift: lists.take("logits.shift", filters)?,
            bias: lists.take("logits.bias", filters)?,
        },
    };
    let weights = Weights { bits, terms, codes, tables, exponents };
    Ok(Conv { window, groups, weights, bounds, epilogue })
}

/// Stored level tables to `2^bits` entries a filter.
fn widen_tables(stored: &[i8], levels: usize, bits: u8) -> Vec<i8> {
    if levels == 0 {
        return Vec::new();
    }
    let filler = (1usize << bits) - levels;
    let mut tables = Vec::with_capacity((stored.len() / levels) << bits);
    for table in stored.chunks_exact(levels) {
        tables.extend_from_slice(table);
        tables.extend(std::iter::repeat_n(0, filler));
    }
    tables
}

fn decode_requantize(
    clamp: Clamp,
    channels: u64,
    residual: bool,
    lists: &mut Reader,
) -> Result<Requantize, ArtifactError> {
    Ok(Requantize {
        pre: lists.take("requantize.pre", channels)?,
        multiplier: lists.take("requantize.multiplier", channels)?,
        bias: lists.take("requantize.bias", channels)?,
        residual_shift: lists.take("requantize.residual_shift", if residual { channels } else { 0 })?,
        shift: lists.take("requantize.shift", channels)?,
        lo: clamp.0,
        hi: clamp.1,
    })
}
