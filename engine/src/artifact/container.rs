//! The safetensors file: named lists that are written and read front to back.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::{ArtifactError, METADATA_KEY};
use crate::model::{Codes, Packing};

/// Longest header that is read, in bytes; it bounds what parsing it may allocate.
pub const HEADER_LIMIT: u64 = 16 << 20;

/// A number type of the file's tensors.
pub trait ElementType: Copy {
    /// Its safetensors type.
    const DTYPE: Dtype;
    /// Bytes of one element.
    const SIZE: usize;
    /// Appends the little-endian bytes.
    fn put(self, bytes: &mut Vec<u8>);
    /// From little-endian bytes, exactly `SIZE` of them.
    fn get(bytes: &[u8]) -> Self;
}

macro_rules! element_type {
    ($type:ty, $dtype:ident) => {
        impl ElementType for $type {
            const DTYPE: Dtype = Dtype::$dtype;
            const SIZE: usize = size_of::<$type>();
            fn put(self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_le_bytes());
            }
            fn get(bytes: &[u8]) -> Self {
                let mut array = [0; size_of::<$type>()];
                array.copy_from_slice(bytes);
                <$type>::from_le_bytes(array)
            }
        }
    };
}
element_type!(u8, U8);
element_type!(i8, I8);
element_type!(i16, I16);
element_type!(i32, I32);
element_type!(u32, U32);

/// Gathers lists by name; what is appended under one name follows one another.
#[derive(Default)]
pub(crate) struct Writer {
    lists: HashMap<&'static str, (Dtype, Vec<u8>)>,
}

impl Writer {
    /// Appends to the list of that name. A list has one element type.
    pub(crate) fn put<T: ElementType>(&mut self, name: &'static str, values: impl IntoIterator<Item = T>) {
        let (dtype, bytes) = self.lists.entry(name).or_insert_with(|| (T::DTYPE, Vec::new()));
        debug_assert_eq!(*dtype, T::DTYPE);
        for value in values {
            value.put(bytes);
        }
    }

    /// The file. Empty lists are left out.
    pub(crate) fn finish(self, text: &str) -> Result<Vec<u8>, ArtifactError> {
        let container = |error: safetensors::SafeTensorError| ArtifactError::Container(error.to_string());
        let mut views = Vec::new();
        for (name, (dtype, bytes)) in self.lists.iter().filter(|(_, (_, bytes))| !bytes.is_empty()) {
            let elements = bytes.len() * 8 / dtype.bitsize();
            views.push((*name, TensorView::new(*dtype, vec![elements], bytes).map_err(container)?));
        }
        let metadata = HashMap::from([(METADATA_KEY.to_owned(), text.to_owned())]);
        safetensors::serialize(views, Some(metadata)).map_err(container)
    }
}

/// Hands lists out front to back.
pub(crate) struct Reader<'a> {
    bytes: &'a Arc<Vec<u8>>,
    /// Where in the bytes the rest of each list lies.
    lists: HashMap<String, (Dtype, Range<usize>)>,
}

impl<'a> Reader<'a> {
    /// Opens a file: the text of the metadata key, and the lists.
    pub(crate) fn open(bytes: &'a Arc<Vec<u8>>) -> Result<(String, Self), ArtifactError> {
        let length = bytes.first_chunk().map(|head| u64::from_le_bytes(*head));
        if length.is_some_and(|length| length > HEADER_LIMIT) {
            return Err(ArtifactError::Container(format!("the header is longer than {HEADER_LIMIT} bytes")));
        }
        let container = |error: safetensors::SafeTensorError| ArtifactError::Container(error.to_string());
        // This checks that the offsets follow each other up to the end of the bytes.
        let (header, metadata) = SafeTensors::read_metadata(bytes).map_err(container)?;
        let text = metadata.metadata().as_ref().and_then(|metadata| metadata.get(METADATA_KEY));
        let text = text.ok_or(ArtifactError::NotAnArtifact)?.clone();
        let first = size_of::<u64>() + header;
        let lists = metadata.tensors().into_iter().map(|(name, info)| {
            let (start, end) = info.data_offsets;
            (name, (info.dtype, first + start..first + end))
        });
        Ok((text, Reader { bytes, lists: lists.collect() }))
    }

    /// Where the next `count` elements of a list lie.
    fn take_range<T: ElementType>(
        &mut self,
        tensor: &'static str,
        count: u64,
    ) -> Result<Range<usize>, ArtifactError> {
        if count == 0 {
            return Ok(0..0);
        }
        let problem = |problem: String| ArtifactError::Tensor { tensor, problem };
        let (dtype, rest) = self.lists.get_mut(tensor).ok_or_else(|| problem("is missing".to_owned()))?;
        if *dtype != T::DTYPE {
            return Err(problem(format!("has type {dtype:?} where {:?} is needed", T::DTYPE)));
        }
        let left = rest.len() as u64 / T::SIZE as u64;
        if count > left {
            return Err(problem(format!("the graph needs {count} more elements, {left} are left")));
        }
        let taken = rest.start..rest.start + count as usize * T::SIZE;
        rest.start = taken.end;
        Ok(taken)
    }

    /// The next `count` elements of a list.
    pub(crate) fn take<T: ElementType>(
        &mut self,
        tensor: &'static str,
        count: u64,
    ) -> Result<Vec<T>, ArtifactError> {
        let range = self.take_range::<T>(tensor, count)?;
        Ok(self.bytes[range].chunks_exact(T::SIZE).map(T::get).collect())
    }

    /// The next `count` codes of a list, which stay where they are.
    pub(crate) fn take_codes(
        &mut self,
        tensor: &'static str,
        packing: Packing,
        bits: u8,
        count: u64,
    ) -> Result<Codes, ArtifactError> {
        let range = self.take_range::<u8>(tensor, packing.bytes(bits, count))?;
        Codes::packed_in(self.bytes, range.start, packing, bits, count as usize)
            .map_err(|problem| ArtifactError::Tensor { tensor, problem: problem.to_owned() })
    }

    /// Refuses lists that were not read to their end.
    pub(crate) fn finish(self) -> Result<(), ArtifactError> {
        match self.lists.iter().filter(|(_, (_, rest))| !rest.is_empty()).map(|(name, _)| name).min() {
            None => Ok(()),
            Some(name) => {
                Err(ArtifactError::Container(format!("tensor {name:?} holds more than the graph needs")))
            }
        }
    }
}
