//! Safetensors: a header of names, types and places, then the arrays.

use std::io::Read;

use safetensors::Dtype;
use safetensors::tensor::Metadata;

use crate::entry::Entry;
use crate::error::{DataError, Result};
use crate::format::arrays::{Array, Arrays, Element, Use};

/// Longest header; a network of many thousand weights has less.
const HEADER_LIMIT: u64 = 8 << 20;

/// The format.
#[derive(Debug)]
pub(super) struct Safetensors;

impl Arrays for Safetensors {
    const WORD: &'static str = "safetensors";
    const TITLE: &'static str = "safetensors arrays";
    const KNOWN_BY: &'static str = "a .safetensors file (x_train, y_train, x_test, y_test)";
    const ENDING: &'static str = ".safetensors";

    fn names(&self, entry: &Entry) -> Result<Vec<String>> {
        Ok(header(entry)?.1.offset_keys())
    }

    fn with(&self, entry: &Entry, name: &str, with: Use<'_>) -> Result<()> {
        let (start, metadata) = header(entry)?;
        let bad = |reason: String| DataError::malformed(entry.shown(), format!("'{name}' {reason}"));
        let info = metadata.info(name).ok_or_else(|| bad("is not there".into()))?;
        let element = match info.dtype {
            Dtype::U8 => Element::Unsigned(1),
            Dtype::U16 => Element::Unsigned(2),
            Dtype::U32 => Element::Unsigned(4),
            Dtype::U64 => Element::Unsigned(8),
            Dtype::I8 => Element::Signed(1),
            Dtype::I16 => Element::Signed(2),
            Dtype::I32 => Element::Signed(4),
            Dtype::I64 => Element::Signed(8),
            other => return Err(bad(format!("holds {other:?}; whole numbers are read"))),
        };
        let at = start.checked_add(info.data_offsets.0 as u64).ok_or_else(|| bad("lies beyond it".into()))?;
        let raw = entry.raw(at).map_err(|source| DataError::Io { path: entry.shown(), source })?;
        let shape = info.shape.iter().map(|&extent| extent as u64).collect();
        with(Array { shape, element, data: &mut raw.take(u64::MAX) })
    }
}

/// Where the arrays begin, and what they are.
fn header(entry: &Entry) -> Result<(u64, Metadata)> {
    let bad =
        |reason: String| DataError::malformed(entry.shown(), format!("is no safetensors file: {reason}"));
    let mut raw = entry.raw(0).map_err(|source| DataError::Io { path: entry.shown(), source })?;
    let mut length = [0; 8];
    raw.read_exact(&mut length).map_err(|e| bad(e.to_string()))?;
    let length = u64::from_le_bytes(length);
    if length > HEADER_LIMIT || length > entry.size_bytes {
        return Err(bad(format!("its header has {length} bytes; up to {HEADER_LIMIT} are read")));
    }
    let mut text = Vec::new();
    raw.take(length).read_to_end(&mut text).map_err(|e| bad(e.to_string()))?;
    let metadata: Metadata = serde_json::from_slice(&text).map_err(|e| bad(e.to_string()))?;
    if (8 + length).checked_add(metadata.data_len() as u64) != Some(entry.size_bytes) {
        return Err(bad("its size is not what its header says".into()));
    }
    Ok((8 + length, metadata))
}
