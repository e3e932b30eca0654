//! Byte images to batches of input codes: the engine's own rounding, as a table of 256 codes a channel.

use dyadic_engine::model::{Format, Normalization, Step};
use dyadic_engine::quantize::Quantizer;
use tch::Tensor;

use crate::data::{Augment, Dataset};
use crate::error::WorkerError;
use crate::net::Place;

/// Turns byte images into codes.
#[derive(Debug, Clone)]
pub struct Coder {
    /// The normalization that the codes have in them.
    pub normalization: Normalization,
    /// The input's step: the largest normalized value over 127.
    pub step: f32,
    /// `channels × 256` codes.
    table: Vec<f32>,
    channels: usize,
}

impl Coder {
    /// For images of `channels` channels.
    ///
    /// # Errors
    /// [`WorkerError::Invalid`] if the normalization is not one positive, finite pair a channel.
    pub fn new(normalization: Normalization, channels: usize) -> Result<Self, WorkerError> {
        let sound = |v: &[f32]| v.len() == channels && v.iter().all(|x| x.is_finite());
        if !sound(&normalization.mean)
            || !sound(&normalization.std)
            || normalization.std.iter().any(|&s| s <= 0.0)
        {
            return Err(WorkerError::Invalid(format!(
                "the normalization needs {channels} finite means and {channels} positive standard deviations"
            )));
        }
        let extremes = (0..channels).flat_map(|c| [normalization.value(0, c), normalization.value(255, c)]);
        let step = extremes.fold(0f32, |m, x| m.max(x.abs())) / 127.0;
        if !(step.is_finite() && step > 0.0) {
            return Err(WorkerError::Invalid("the normalization maps every byte to 0".into()));
        }
        let quantizer = Quantizer::new(Format::Signed { bits: 8 }, Step::Free(step));
        let code = |c: usize, v: u8| quantizer.code(normalization.value(v, c)).unwrap_or(0) as f32;
        let table =
            (0..channels).flat_map(|c| (0..=255u8).map(move |v| (c, v))).map(|(c, v)| code(c, v)).collect();
        Ok(Coder { normalization, step, table, channels })
    }

    /// The codes (N, C, H, W), channels last in memory, and labels (N) of the images at `indices`.
    pub fn batch(
        &self,
        data: &Dataset,
        indices: &[usize],
        augment: Option<Augment>,
        place: Place,
    ) -> (Tensor, Tensor) {
        let mut bytes = vec![0u8; indices.len() * data.image_len()];
        data.fill(indices, augment, &mut bytes);
        let mut codes = Vec::with_capacity(bytes.len());
        for pixel in bytes.chunks_exact(self.channels) {
            for (c, &v) in pixel.iter().enumerate() {
                codes.push(self.table[c * 256 + usize::from(v)]);
            }
        }
        Self::upload(&codes, data, indices, place)
    }

    /// Real-valued images (N, C, H, W), normalized but not rounded, and labels (N): what the float network reads.
    pub fn real_batch(&self, data: &Dataset, indices: &[usize], place: Place) -> (Tensor, Tensor) {
        let mut bytes = vec![0u8; indices.len() * data.image_len()];
        data.fill(indices, None, &mut bytes);
        let value = |(i, &v): (usize, &u8)| self.normalization.value(v, i % self.channels);
        let values: Vec<f32> = bytes.iter().enumerate().map(value).collect();
        Self::upload(&values, data, indices, place)
    }

    /// One image's NHWC codes.
    pub fn codes(&self, data: &Dataset, index: usize) -> Vec<i32> {
        let mut bytes = vec![0u8; data.image_len()];
        data.fill(&[index], None, &mut bytes);
        let code = |(i, &v): (usize, &u8)| self.table[(i % self.channels) * 256 + usize::from(v)] as i32;
        bytes.iter().enumerate().map(code).collect()
    }

    /// NHWC values to an (N, C, H, W) tensor, and the labels.
    fn upload(values: &[f32], data: &Dataset, indices: &[usize], place: Place) -> (Tensor, Tensor) {
        let shape = [indices.len(), data.height, data.width, data.channels].map(|d| d as i64);
        let values = Tensor::from_slice(values).view(shape).permute([0, 3, 1, 2]);
        let labels: Vec<i64> = indices.iter().map(|&i| i64::from(data.labels[i])).collect();
        (
            values.to_device(place.device).to_kind(place.kind),
            Tensor::from_slice(&labels).to_device(place.device),
        )
    }
}
