//! Images and arrays as the model's input, batch by batch.

use std::cell::Cell;

use dyadic_data::{Images, Picture};
use dyadic_proto::v1::Normalization;

use super::model::ServedModel;
use crate::error::{CliError, Result};
use crate::npy::{Array, Elements};

/// How pixels travel.
#[derive(Debug, Clone)]
pub(super) enum Encoding {
    /// As they are, (height, width, channels); the model normalizes.
    Bytes,
    /// `(v/255 − mean) / std` in f32, (channels, height, width).
    Floats(Normalization),
}

impl Encoding {
    pub(super) fn datatype(&self) -> &'static str {
        match self {
            Encoding::Bytes => "UINT8",
            Encoding::Floats(_) => "FP32",
        }
    }
}

/// What one request carries.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Batch {
    pub(super) count: usize,
    /// Of one sample.
    pub(super) dims: Vec<usize>,
    pub(super) datatype: &'static str,
    pub(super) bytes: Vec<u8>,
}

/// The images in batches of `size`, decoded as they are asked for. `gray` counts the gray ones that went as RGB.
pub(super) fn images<'a>(
    images: &'a Images,
    model: &'a ServedModel,
    encoding: &'a Encoding,
    size: usize,
    gray: &'a Cell<usize>,
) -> impl Iterator<Item = Result<Batch>> + 'a {
    let starts = (0..images.len()).step_by(size.max(1));
    starts.map(move |start| {
        let dims = match encoding {
            Encoding::Bytes => model.bytes_dims.clone().unwrap_or_default(),
            Encoding::Floats(_) => model.dims.clone(),
        };
        let mut batch = Batch { count: 0, dims, datatype: encoding.datatype(), bytes: Vec::new() };
        for i in start..images.len().min(start + size) {
            let picture = images.picture(i)?;
            let channels = picture.channels;
            let picture =
                fit(picture, model).map_err(|e| CliError::usage(format!("{}: {e}", images.name(i))))?;
            gray.set(gray.get() + usize::from(channels != picture.channels));
            match encoding {
                Encoding::Bytes => batch.bytes.extend_from_slice(&picture.pixels),
                Encoding::Floats(n) => floats(&picture, n, &mut batch.bytes),
            }
            batch.count += 1;
        }
        Ok(batch)
    })
}

/// The picture in the model's size and channels, or why it does not fit. Gray becomes RGB by repetition, which loses
/// and invents nothing.
fn fit(picture: Picture, model: &ServedModel) -> Result<Picture, String> {
    let picture = match &model.preprocess {
        Some(preprocess) => preprocess.apply(picture).map_err(|e| e.to_string())?,
        None => picture,
    };
    let [channels, height, width] = match model.dims[..] {
        [channels, height, width] => [channels, height, width],
        // A series is an image of one row.
        [channels, width] => [channels, 1, width],
        _ => return Err(format!("the model takes {:?}, which is no image", model.dims)),
    };
    if (picture.height, picture.width) != (height, width) {
        return Err(format!(
            "is {}×{} pixels; the model takes {width}×{height}, and its artifact says of no resizing",
            picture.width, picture.height
        ));
    }
    match (picture.channels, channels) {
        (a, b) if a == b => Ok(picture),
        (1, 3) => {
            let pixels = picture.pixels.iter().flat_map(|&v| [v; 3]).collect();
            Ok(Picture { channels: 3, pixels, ..picture })
        }
        (a, b) => Err(format!("has {a} channels; the model takes {b}")),
    }
}

/// Appends the picture as little-endian f32 planes.
fn floats(picture: &Picture, n: &Normalization, bytes: &mut Vec<u8>) {
    for (c, (mean, std)) in n.mean.iter().zip(&n.std).enumerate() {
        for v in picture.pixels.iter().skip(c).step_by(picture.channels) {
            bytes.extend(((f32::from(*v) / 255.0 - mean) / std).to_le_bytes());
        }
    }
}

/// An array in batches of `size`: one sample, or several along a first axis.
pub(super) fn array(array: &Array, model: &ServedModel, size: usize) -> Result<Vec<Batch>, String> {
    let (dims, datatype, bytes) = match &array.elements {
        Elements::Floats(values) => {
            (model.dims.clone(), "FP32", values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>())
        }
        Elements::Bytes(bytes) => {
            let dims = model
                .bytes_dims
                .clone()
                .ok_or("holds uint8, but the model has no normalization of its own and takes float32 only")?;
            (dims, "UINT8", bytes.clone())
        }
    };
    if array.shape != dims && array.shape.get(1..) != Some(&dims) {
        return Err(format!(
            "has shape {:?}; {dims:?}, or several along a first axis, is what the model takes as {datatype}",
            array.shape
        ));
    }
    let one = dims.iter().product::<usize>() * if datatype == "FP32" { 4 } else { 1 };
    let batches = bytes.chunks(one * size.max(1));
    Ok(batches
        .map(|b| Batch { count: b.len() / one, dims: dims.clone(), datatype, bytes: b.to_vec() })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> ServedModel {
        ServedModel {
            name: "m".into(),
            version_asked: String::new(),
            input: "x".into(),
            dims: vec![3, 1, 2],
            bytes_dims: Some(vec![1, 2, 3]),
            normalization: None,
            preprocess: None,
            labels: vec![],
            max_batch: 8,
        }
    }

    fn picture(channels: usize, pixels: &[u8]) -> Picture {
        Picture { height: 1, width: 2, channels, pixels: pixels.into() }
    }

    #[test]
    fn pixels_become_normalized_planes() {
        let n = Normalization { mean: vec![0.0, 0.5, 1.0], std: vec![1.0, 0.5, 2.0] };
        let mut bytes = Vec::new();
        floats(&picture(3, &[0, 255, 255, 255, 0, 0]), &n, &mut bytes);
        let values: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        assert_eq!(values, [0.0, 1.0, 1.0, -1.0, 0.0, -0.5]);
    }

    #[test]
    fn pictures_fit_or_are_refused() {
        assert_eq!(*fit(picture(1, &[7, 8]), &model()).unwrap().pixels, [7, 7, 7, 8, 8, 8]);
        let wrong = Picture { width: 3, pixels: [0; 9].into(), ..picture(3, &[]) };
        assert!(fit(wrong, &model()).unwrap_err().contains("takes 2×1"));
        let gray = ServedModel { dims: vec![1, 1, 2], ..model() };
        assert!(fit(picture(3, &[0; 6]), &gray).unwrap_err().contains("3 channels"));
    }

    #[test]
    fn arrays_are_cut_into_batches() {
        let bytes = Array { shape: vec![3, 1, 2, 3], elements: Elements::Bytes((0..18).collect()) };
        let batches = array(&bytes, &model(), 2).unwrap();
        assert_eq!(batches.iter().map(|b| b.count).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(batches[1].bytes, (12..18).collect::<Vec<u8>>());
        let single = Array { shape: vec![3, 1, 2], elements: Elements::Floats(vec![0.0; 6]) };
        assert_eq!(array(&single, &model(), 2).unwrap()[0].dims, [3, 1, 2]);
        let wrong = Array { shape: vec![2, 3], elements: Elements::Floats(vec![0.0; 6]) };
        assert!(array(&wrong, &model(), 2).is_err());
    }
}
