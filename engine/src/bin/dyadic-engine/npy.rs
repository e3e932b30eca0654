//! NumPy's `.npy` files, versions 1 to 3: little-endian f32, u8 and i32 in C order.

use std::fs;
use std::path::Path;

use crate::failure::Failure;

/// An array from a file.
#[derive(Debug)]
pub(crate) enum Array {
    /// `<f4`.
    Floats(Vec<f32>),
    /// `|u1`.
    Bytes(Vec<u8>),
}

/// Reads an array and its shape.
pub(crate) fn read(path: &Path) -> Result<(Array, Vec<usize>), Failure> {
    let bytes = fs::read(path).map_err(|error| Failure::file(path, error))?;
    parse(&bytes).map_err(|problem| Failure::Input(format!("{}: {problem}", path.display())))
}

/// Writes 32-bit integers.
pub(crate) fn write_i32(path: &Path, shape: &[usize], values: &[i32]) -> Result<(), Failure> {
    write(path, "<i4", shape, values.iter().flat_map(|value| value.to_le_bytes()))
}

/// Writes floats.
pub(crate) fn write_f32(path: &Path, shape: &[usize], values: &[f32]) -> Result<(), Failure> {
    write(path, "<f4", shape, values.iter().flat_map(|value| value.to_le_bytes()))
}

fn write(path: &Path, descr: &str, shape: &[usize], values: impl Iterator<Item = u8>) -> Result<(), Failure> {
    let dims: Vec<String> = shape.iter().map(ToString::to_string).collect();
    // The comma after the last one makes a tuple of a single number, too.
    let dims = dims.join(", ");
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({dims},), }}");
    // Magic, version, length and header fill a multiple of 64 bytes; the header ends in a new line.
    let padding = 63 - (10 + header.len()) % 64;
    header.extend(std::iter::repeat_n(' ', padding));
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(values);
    fs::write(path, bytes).map_err(|error| Failure::file(path, error))
}

fn parse(bytes: &[u8]) -> Result<(Array, Vec<usize>), String> {
    let broken = || "not a .npy file".to_owned();
    let rest = bytes.strip_prefix(b"\x93NUMPY").ok_or_else(broken)?;
    let (length, rest) = match rest {
        [1, _, a, b, rest @ ..] => (usize::from(u16::from_le_bytes([*a, *b])), rest),
        [2 | 3, _, a, b, c, d, rest @ ..] => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, rest),
        _ => return Err(broken()),
    };
    let (header, data) = rest.split_at_checked(length).ok_or_else(broken)?;
    let header = std::str::from_utf8(header).map_err(|_| broken())?;
    if field(header, "fortran_order").ok_or_else(broken)?.starts_with("True") {
        return Err("the array is in Fortran order; save np.ascontiguousarray of it".to_owned());
    }
    let shape = shape(field(header, "shape").ok_or_else(broken)?).ok_or_else(broken)?;
    let count = shape.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim)).ok_or_else(broken)?;
    let descr = field(header, "descr").ok_or_else(broken)?;
    let descr: String = descr.chars().skip(1).take_while(|&c| c != '\'' && c != '"').collect();
    let (array, size) = match descr.as_str() {
        "<f4" => {
            let floats = data.as_chunks::<4>().0.iter().map(|chunk| f32::from_le_bytes(*chunk));
            (Array::Floats(floats.collect()), 4)
        }
        "|u1" => (Array::Bytes(data.to_vec()), 1),
        other => return Err(format!("the array's type is {other}; float32 or uint8 is needed")),
    };
    if count.checked_mul(size) != Some(data.len()) {
        return Err(format!("{} bytes of data do not fill shape {shape:?}", data.len()));
    }
    Ok((array, shape))
}

/// The text after a key of the header's dictionary.
fn field<'a>(header: &'a str, key: &str) -> Option<&'a str> {
    let at = header.find(&format!("'{key}'"))?;
    Some(header[at + key.len() + 2..].trim_start().strip_prefix(':')?.trim_start())
}

fn shape(text: &str) -> Option<Vec<usize>> {
    let (dims, _) = text.strip_prefix('(')?.split_once(')')?;
    dims.split(',').map(str::trim).filter(|dim| !dim.is_empty()).map(|dim| dim.parse().ok()).collect()
}
