//! NumPy's .npy files: little-endian f32, f64 and bytes, in C order.

use std::path::Path;

use crate::error::{CliError, Result};

/// Elements as they are in the file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Elements {
    Floats(Vec<f32>),
    Bytes(Vec<u8>),
}

/// An array.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Array {
    pub(crate) shape: Vec<usize>,
    pub(crate) elements: Elements,
}

/// Reads a file.
pub(crate) fn read(path: &Path) -> Result<Array> {
    let bytes = std::fs::read(path).map_err(|e| CliError::file(path, e))?;
    parse(&bytes).map_err(|e| {
        CliError::file(path, e).hint(
            "np.save(path, np.ascontiguousarray(x, dtype=np.float32)) writes what is needed; so does uint8",
        )
    })
}

/// A float32 array of two dimensions as a file's bytes.
pub(crate) fn encode(shape: [usize; 2], values: &[f32]) -> Vec<u8> {
    let mut header =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {}), }}", shape[0], shape[1]);
    // The data begins at a multiple of 64.
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    bytes
}

fn parse(bytes: &[u8]) -> Result<Array, String> {
    let rest = bytes.strip_prefix(b"\x93NUMPY").ok_or("is not an .npy file")?;
    let (header_len, start): (usize, usize) = match rest {
        [1, _, a, b, ..] => (usize::from(u16::from_le_bytes([*a, *b])), 4),
        [2 | 3, _, a, b, c, d, ..] => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, 6),
        _ => return Err("has an unknown .npy version".into()),
    };
    let end = start.checked_add(header_len).ok_or("is cut off")?;
    let header = rest.get(start..end).and_then(|h| std::str::from_utf8(h).ok()).ok_or("is cut off")?;
    let data = rest.get(end..).unwrap_or_default();
    if field(header, "fortran_order")?.starts_with("True") {
        return Err("is in Fortran order".into());
    }
    let shape = shape(field(header, "shape")?)?;
    let count =
        shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).ok_or("has a shape that overflows")?;
    let descr = field(header, "descr")?;
    let descr = descr.split(['\'', '"']).nth(1).unwrap_or("");
    let width = match descr {
        "<f4" => 4,
        "<f8" => 8,
        "|u1" | "<u1" | "u1" => 1,
        other => return Err(format!("holds {other}; <f4, <f8 and |u1 can be read")),
    };
    if count.checked_mul(width) != Some(data.len()) {
        return Err(format!("has {} bytes of data for {count} elements of {width}", data.len()));
    }
    let elements = match width {
        1 => Elements::Bytes(data.to_vec()),
        4 => Elements::Floats(data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()),
        _ => {
            Elements::Floats(data.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect())
        }
    };
    Ok(Array { shape, elements })
}

/// What follows `'name':` in the header's dictionary.
fn field<'a>(header: &'a str, name: &str) -> Result<&'a str, String> {
    let key = format!("'{name}':");
    let at = header.find(&key).ok_or_else(|| format!("has no {name} in its header"))?;
    Ok(header[at + key.len()..].trim_start())
}

/// `(2, 3), …` → `[2, 3]`.
fn shape(text: &str) -> Result<Vec<usize>, String> {
    let inner = text.strip_prefix('(').and_then(|t| t.split_once(')')).ok_or("has no shape")?.0;
    let dims = inner.split(',').map(str::trim).filter(|d| !d.is_empty());
    dims.map(|d| d.parse().map_err(|_| format!("has the dimension {d:?}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn npy(descr: &str, order: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let header = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }

    #[test]
    fn floats_doubles_and_bytes_are_read() {
        let floats = parse(&npy("<f4", "False", "(1, 2)", &[0, 0, 128, 63, 0, 0, 0, 64])).unwrap();
        assert_eq!(floats, Array { shape: vec![1, 2], elements: Elements::Floats(vec![1.0, 2.0]) });
        let doubles = parse(&npy("<f8", "False", "(1,)", &1.5f64.to_le_bytes())).unwrap();
        assert_eq!(doubles.elements, Elements::Floats(vec![1.5]));
        let bytes = parse(&npy("|u1", "False", "()", &[7])).unwrap();
        assert_eq!(bytes, Array { shape: vec![], elements: Elements::Bytes(vec![7]) });
    }

    #[test]
    fn what_is_written_reads_back() {
        let values = vec![1.0, -2.5, 3.0, f32::MAX, 0.0, 1e-30];
        let array = parse(&encode([2, 3], &values)).unwrap();
        assert_eq!(array, Array { shape: vec![2, 3], elements: Elements::Floats(values) });
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let good = npy("<f4", "False", "(2,)", &[0; 8]);
        for cut in 0..good.len() {
            assert!(parse(&good[..cut]).is_err(), "cut at {cut}");
        }
        for bytes in [
            npy("<f4", "True", "(2,)", &[0; 8]),
            npy(">f4", "False", "(2,)", &[0; 8]),
            npy("<f4", "False", "(3,)", &[0; 8]),
            npy("<f4", "False", "(9223372036854775807, 9)", &[0; 8]),
            npy("<f4", "False", "(-1,)", &[0; 8]),
            npy("<f4", "False", "2", &[0; 8]),
        ] {
            assert!(parse(&bytes).is_err());
        }
    }
}
