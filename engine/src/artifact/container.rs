//! The safetensors file: named lists that are written and read front to back.

use std::collections::HashMap;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::{ArtifactError, METADATA_KEY};

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
pub(super) struct Writer {
    lists: HashMap<&'static str, (Dtype, Vec<u8>)>,
}

impl Writer {
    /// Appends to the list of that name. A list has one element type.
    pub(super) fn put<T: ElementType>(&mut self, name: &'static str, values: impl IntoIterator<Item = T>) {
        let (dtype, bytes) = self.lists.entry(name).or_insert_with(|| (T::DTYPE, Vec::new()));
        debug_assert_eq!(*dtype, T::DTYPE);
        for value in values {
            value.put(bytes);
        }
    }

    /// The file. Empty lists are left out.
    pub(super) fn finish(self, text: &str) -> Result<Vec<u8>, ArtifactError> {
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
pub(super) struct Reader<'a> {
    lists: HashMap<String, (Dtype, &'a [u8])>,
}

impl<'a> Reader<'a> {
    /// Opens a file: the text of the metadata key, and the lists.
    pub(super) fn open(bytes: &'a [u8]) -> Result<(String, Self), ArtifactError> {
        let length = bytes.first_chunk().map(|head| u64::from_le_bytes(*head));
        if length.is_some_and(|length| length > HEADER_LIMIT) {
            return Err(ArtifactError::Container(format!("the header is longer than {HEADER_LIMIT} bytes")));
        }
        let container = |error: safetensors::SafeTensorError| ArtifactError::Container(error.to_string());
        let (header, mut metadata) = SafeTensors::read_metadata(bytes)
            .map(|(header, metadata)| (header, metadata.metadata().clone().unwrap_or_default()))
            .map_err(container)?;
        debug_assert!(header < bytes.len());
        let text = metadata.remove(METADATA_KEY).ok_or(ArtifactError::NotAnArtifact)?;
        let file = SafeTensors::deserialize(bytes).map_err(container)?;
        let mut lists = HashMap::with_capacity(file.len());
        for (name, view) in file.tensors() {
            lists.insert(name, (view.dtype(), view.data()));
        }
        Ok((text, Reader { lists }))
    }

    /// The next `count` elements of a list, as bytes.
    fn take_bytes<T: ElementType>(
        &mut self,
        tensor: &'static str,
        count: u64,
    ) -> Result<&'a [u8], ArtifactError> {
        if count == 0 {
            return Ok(&[]);
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
        let (taken, after) = rest.split_at(count as usize * T::SIZE);
        *rest = after;
        Ok(taken)
    }

    /// The next `count` elements of a list.
    pub(super) fn take<T: ElementType>(
        &mut self,
        tensor: &'static str,
        count: u64,
    ) -> Result<Vec<T>, ArtifactError> {
        Ok(self.take_bytes::<T>(tensor, count)?.chunks_exact(T::SIZE).map(T::get).collect())
    }

    /// Refuses lists that were not read to their end.
    pub(super) fn finish(self) -> Result<(), ArtifactError> {
        match self.lists.iter().filter(|(_, (_, rest))| !rest.is_empty()).map(|(name, _)| name).min() {
            None => Ok(()),
            Some(name) => {
                Err(ArtifactError::Container(format!("tensor {name:?} holds more than the graph needs")))
            }
        }
    }
}
