//! Constants: decoded, with every length checked against the shape before anything is copied.

use std::collections::BTreeMap;

use super::error::ImportError;
use crate::onnx::{TensorProto, data_type};

/// Most axes of a value.
pub(super) const MAX_RANK: usize = 8;

/// A constant's elements and shape.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Constant {
    /// Extents, with all axes.
    pub(super) shape: Vec<usize>,
    /// Row-major.
    pub(super) data: Data,
    /// The first float that is NaN or infinite.
    pub(super) not_finite: Option<f32>,
}

/// Elements.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Data {
    Floats(Vec<f32>),
    Integers(Vec<Number>),
}

/// An integer of shape arithmetic: the batch size is not known, but what is done with it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    Batch,
    Known(i64),
    /// An extent of a value that nothing computes.
    Unknown,
}

/// Why a constant was not read.
pub(super) enum Fault {
    Error(ImportError),
    /// A valid element type or rank, but not one of ours.
    Type(String),
}

impl Constant {
    pub(super) fn new(shape: Vec<usize>, data: Data) -> Self {
        let not_finite = match &data {
            Data::Floats(data) => data.iter().copied().find(|x| !x.is_finite()),
            Data::Integers(_) => None,
        };
        Self { shape, data, not_finite }
    }

    /// Bytes of its elements in memory.
    pub(super) fn memory(&self) -> u64 {
        let bytes = match &self.data {
            Data::Floats(data) => size_of_val(data.as_slice()),
            Data::Integers(data) => size_of_val(data.as_slice()),
        };
        bytes as u64
    }

    pub(super) fn floats(&self) -> Option<&[f32]> {
        match &self.data {
            Data::Floats(data) => Some(data),
            Data::Integers(_) => None,
        }
    }

    pub(super) fn integers(&self) -> Option<&[Number]> {
        match &self.data {
            Data::Integers(data) => Some(data),
            Data::Floats(_) => None,
        }
    }

    pub(super) fn elements(&self) -> usize {
        match &self.data {
            Data::Floats(data) => data.len(),
            Data::Integers(data) => data.len(),
        }
    }
}

/// Decodes a tensor. Values are not judged here.
pub(super) fn read(tensor: &TensorProto, files: &BTreeMap<String, &[u8]>) -> Result<Constant, Fault> {
    let name = tensor.name.as_deref().unwrap_or("(unnamed)");
    let fault = |reason: String| Fault::Error(ImportError::Constant { tensor: name.to_owned(), reason });
    if tensor.dims.len() > MAX_RANK {
        let rank = tensor.dims.len();
        return Err(Fault::Type(format!("constant `{name}` has rank {rank}, over the limit of {MAX_RANK}")));
    }
    let shape = shape(&tensor.dims).map_err(fault)?;
    let elements = shape
        .iter()
        .try_fold(1usize, |product, &extent| product.checked_mul(extent))
        .ok_or_else(|| fault(format!("shape {shape:?} overflows")))?;
    let kind = tensor.data_type.unwrap_or_default();
    let width = match kind {
        data_type::FLOAT | data_type::INT32 => 4,
        data_type::INT64 => 8,
        data_type::BOOL => 1,
        0 => return Err(fault("no element type".to_owned())),
        other => {
            return Err(Fault::Type(format!(
                "constant `{name}` has element type {}",
                data_type::name(other)
            )));
        }
    };
    let bytes = match tensor.data_location.unwrap_or_default() {
        0 => tensor.raw_data.as_deref().filter(|raw| !raw.is_empty()),
        1 => Some(side_file(tensor, name, files).map_err(Fault::Error)?),
        other => return Err(fault(format!("unknown data location {other}"))),
    };
    let expect = |actual: usize, wanted: usize, unit: &str| {
        if actual == wanted {
            Ok(())
        } else {
            Err(fault(format!("shape {shape:?} takes {wanted} {unit}, but there are {actual}")))
        }
    };
    let data = if let Some(bytes) = bytes {
        let wanted =
            elements.checked_mul(width).ok_or_else(|| fault(format!("shape {shape:?} overflows")))?;
        expect(bytes.len(), wanted, "bytes")?;
        from_bytes(kind, bytes)
    } else {
        match kind {
            data_type::FLOAT => {
                expect(tensor.float_data.len(), elements, "elements")?;
                Data::Floats(tensor.float_data.clone())
            }
            data_type::INT64 => {
                expect(tensor.int64_data.len(), elements, "elements")?;
                Data::Integers(tensor.int64_data.iter().map(|&number| Number::Known(number)).collect())
            }
            _ => {
                expect(tensor.int32_data.len(), elements, "elements")?;
                Data::Integers(tensor.int32_data.iter().map(|&number| Number::Known(number.into())).collect())
            }
        }
    };
    Ok(Constant::new(shape, data))
}

fn shape(dims: &[i64]) -> Result<Vec<usize>, String> {
    dims.iter()
        .map(|&extent| usize::try_from(extent).map_err(|_| format!("a shape with extent {extent}")))
        .collect()
}

fn from_bytes(kind: i32, bytes: &[u8]) -> Data {
    match kind {
        data_type::FLOAT => Data::Floats(words(bytes).map(f32::from_le_bytes).collect()),
        data_type::INT64 => {
            Data::Integers(words(bytes).map(|word| Number::Known(i64::from_le_bytes(word))).collect())
        }
        data_type::INT32 => {
            Data::Integers(words(bytes).map(|word| Number::Known(i32::from_le_bytes(word).into())).collect())
        }
        _ => Data::Integers(bytes.iter().map(|&byte| Number::Known(i64::from(byte != 0))).collect()),
    }
}

fn words<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> {
    bytes.chunks_exact(N).filter_map(|chunk| chunk.try_into().ok())
}

/// The part of a side file that holds a tensor's data.
fn side_file<'a>(
    tensor: &TensorProto,
    name: &str,
    files: &BTreeMap<String, &'a [u8]>,
) -> Result<&'a [u8], ImportError> {
    let (mut location, mut offset, mut length) = (None, 0u64, None);
    let number = |key: &str, text: &str| {
        text.parse::<u64>().map_err(|_| ImportError::Constant {
            tensor: name.to_owned(),
            reason: format!("external data with the {key} `{text}`, not a number of bytes"),
        })
    };
    for entry in &tensor.external_data {
        let value = entry.value.as_deref().unwrap_or_default();
        match entry.key.as_deref() {
            Some("location") => location = Some(value),
            Some("offset") => offset = number("offset", value)?,
            Some("length") => length = Some(number("length", value)?),
            _ => {}
        }
    }
    let location = location.ok_or_else(|| ImportError::Constant {
        tensor: name.to_owned(),
        reason: "external data without a location".to_owned(),
    })?;
    let fault =
        |reason: String| ImportError::SideFile { tensor: name.to_owned(), file: location.to_owned(), reason };
    let base = location.strip_prefix("./").unwrap_or(location);
    check_name(base).map_err(|reason| fault(reason.to_owned()))?;
    let file = files.get(base).ok_or_else(|| fault("is not in the bundle".to_owned()))?;
    let size = file.len() as u64;
    let length = length.unwrap_or(size.saturating_sub(offset));
    let range =
        offset.checked_add(length).filter(|&end| end <= size).map(|end| offset as usize..end as usize);
    range
        .and_then(|range| file.get(range))
        .ok_or_else(|| fault(format!("has {size} bytes; {length} from {offset} on are out of its range")))
}

/// Side files are matched by plain base names; everything that could mean another place is refused.
fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("has an empty name");
    }
    if name.starts_with(['/', '\\']) || name.as_bytes().get(1) == Some(&b':') {
        return Err("has an absolute path");
    }
    if name.split(['/', '\\']).any(|part| part == "..") {
        return Err("has `..` in its path");
    }
    if name.contains(['/', '\\']) {
        return Err("lies in a folder; side files are matched by base name");
    }
    if name.chars().any(char::is_control) {
        return Err("has a control character in its name");
    }
    Ok(())
}
