//! NumPy's .npz: a zip of .npy files, as `numpy.savez` and `savez_compressed` write it.

use std::io::{self, BufReader, Cursor, Read};

use npyz::{NpyHeader, Order};
use zip::ZipArchive;

use crate::entry::{Entry, Window};
use crate::error::{DataError, Result};
use crate::format::arrays::{Array, Arrays, Element, Use};

/// Longest header of an array; the words of a plain one take about a hundred bytes.
const HEADER_LIMIT: usize = 4096;
/// Digits in a header: with so many no product of its numbers passes 64 bits.
const DIGITS_LIMIT: usize = 18;
/// Arrays in a file.
const ARRAYS_LIMIT: usize = 1024;

/// The format.
#[derive(Debug)]
pub(super) struct Npz;

impl Arrays for Npz {
    const WORD: &'static str = "npz";
    const TITLE: &'static str = "NumPy arrays";
    const KNOWN_BY: &'static str = "a .npz of NumPy arrays (x_train, y_train, x_test, y_test)";
    const ENDING: &'static str = ".npz";

    fn names(&self, entry: &Entry) -> Result<Vec<String>> {
        let archive = open(entry)?;
        let names = archive.file_names_raw().filter_map(|name| std::str::from_utf8(name).ok());
        Ok(names.filter_map(|name| name.strip_suffix(".npy")).map(str::to_owned).collect())
    }

    fn with(&self, entry: &Entry, name: &str, with: Use<'_>) -> Result<()> {
        let bad = |e: &dyn std::fmt::Display| DataError::malformed(entry.shown(), format!("'{name}': {e}"));
        let mut archive = open(entry)?;
        let index = archive.index_for_name_raw(format!("{name}.npy").as_bytes());
        let mut file =
            archive.by_index(index.ok_or_else(|| bad(&"it is not there"))?).map_err(|e| bad(&e))?;
        let header = header(&mut file).map_err(|e| bad(&e))?;
        let descr = header.dtype().descr();
        let element = element(descr.trim_matches('\'')).ok_or_else(|| {
            bad(&format!("it holds {descr}; whole numbers of up to 64 bits, the lowest byte first, are read"))
        })?;
        if header.order() != Order::C {
            return Err(bad(&"it is in Fortran's order; numpy.ascontiguousarray mends that"));
        }
        with(Array { shape: header.shape().to_vec(), element, data: &mut file })
    }
}

fn open(entry: &Entry) -> Result<ZipArchive<BufReader<Window>>> {
    let window = entry.raw(0).map_err(|source| DataError::Io { path: entry.shown(), source })?;
    let archive = ZipArchive::new(BufReader::new(window))
        .map_err(|e| DataError::malformed(entry.shown(), format!("is no .npz file: {e}")))?;
    if archive.len() > ARRAYS_LIMIT {
        let reason = format!("has {} arrays; up to {ARRAYS_LIMIT} are read", archive.len());
        return Err(DataError::malformed(entry.shown(), reason));
    }
    Ok(archive)
}

/// The header of an array, bounded before it is parsed.
fn header(file: &mut impl Read) -> io::Result<NpyHeader> {
    let bad = |reason: &str| io::Error::new(io::ErrorKind::InvalidData, reason.to_owned());
    let mut head = vec![0; 10];
    file.read_exact(&mut head)?;
    if !head.starts_with(b"\x93NUMPY") {
        return Err(bad("it is no .npy file"));
    }
    // Version 1 counts the header in two bytes, later ones in four.
    let mut length = usize::from(head[8]) | usize::from(head[9]) << 8;
    if head[6] > 1 {
        let mut more = [0; 2];
        file.read_exact(&mut more)?;
        length |= usize::from(more[0]) << 16 | usize::from(more[1]) << 24;
        head.extend(more);
    }
    if length > HEADER_LIMIT {
        return Err(bad("its header is too long"));
    }
    let start = head.len();
    head.resize(start + length, 0);
    file.read_exact(&mut head[start..])?;
    if head[start..].iter().filter(|byte| byte.is_ascii_digit()).count() > DIGITS_LIMIT {
        return Err(bad("its sizes are too large"));
    }
    NpyHeader::from_reader(Cursor::new(head))
}

fn element(descr: &str) -> Option<Element> {
    Some(match descr {
        "|u1" | "<u1" => Element::Unsigned(1),
        "<u2" => Element::Unsigned(2),
        "<u4" => Element::Unsigned(4),
        "<u8" => Element::Unsigned(8),
        "|i1" | "<i1" => Element::Signed(1),
        "<i2" => Element::Signed(2),
        "<i4" => Element::Signed(4),
        "<i8" => Element::Signed(8),
        _ => return None,
    })
}
