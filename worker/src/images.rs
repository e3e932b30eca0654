//! Byte images to batches of input codes: the engine's own rounding, as a table of 256 codes a channel.

use dyadic_engine::model::{Format, Normalization, Step};
use dyadic_engine::quantize::Quantizer;
use tch::Tensor;

use crate::data::{Augment, Batch, Batches, Loader};
use crate::error::WorkerError;
use crate::net::Place;

/// Threads beyond which reading images gets no faster than any network takes them.
const MOST_THREADS: usize = 8;

/// Turns byte images into codes.
#[derive(Debug, Clone)]
pub struct Coder {
    /// The normalization that the codes have in them.
    pub normalization: Normalization,
    /// The input's step: the largest normalized value over 127.
    pub step: f32,
    /// `channels × 256` codes.
    table: Vec<f32>,
    /// Height, width, channels.
    shape: [usize; 3],
}

impl Coder {
    /// For images of this height, width and channels.
    ///
    /// # Errors
    /// [`WorkerError::Invalid`] if the normalization is not one positive, finite pair a channel.
    pub fn new(normalization: Normalization, shape: [usize; 3]) -> Result<Self, WorkerError> {
        let channels = shape[2];
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
        Ok(Coder { normalization, step, table, shape })
    }

    /// The codes (N, C, H, W) of a batch, channels last in memory.
    pub fn codes(&self, batch: &Batch, place: Place) -> Tensor {
        let channels = self.shape[2];
        let mut codes = Vec::with_capacity(batch.pixels.len());
        for pixel in batch.pixels.chunks_exact(channels) {
            for (c, &v) in pixel.iter().enumerate() {
                codes.push(self.table[c * 256 + usize::from(v)]);
            }
        }
        self.upload(&codes, place)
    }

    /// The images of a batch as the float network reads them (N, C, H, W): normalized but not rounded.
    pub fn real(&self, batch: &Batch, place: Place) -> Tensor {
        let channels = self.shape[2];
        let table: Vec<f32> = (0..channels)
            .flat_map(|c| (0..=255u8).map(move |v| (c, v)))
            .map(|(c, v)| self.normalization.value(v, c))
            .collect();
        let mut values = Vec::with_capacity(batch.pixels.len());
        for pixel in batch.pixels.chunks_exact(channels) {
            for (c, &v) in pixel.iter().enumerate() {
                values.push(table[c * 256 + usize::from(v)]);
            }
        }
        self.upload(&values, place)
    }

    /// One image's NHWC codes.
    ///
    /// # Errors
    /// If the image cannot be read.
    pub fn codes_of(&self, data: &Loader, index: usize) -> Result<Vec<i32>, WorkerError> {
        let batch = data.batch(&[index], None)?;
        let code = |(i, &v): (usize, &u8)| self.table[(i % self.shape[2]) * 256 + usize::from(v)] as i32;
        Ok(batch.pixels.iter().enumerate().map(code).collect())
    }

    /// NHWC values to an (N, C, H, W) tensor.
    fn upload(&self, values: &[f32], place: Place) -> Tensor {
        let [height, width, channels] = self.shape.map(|d| d as i64);
        let values = Tensor::from_slice(values).view([-1, height, width, channels]).permute([0, 3, 1, 2]);
        values.to_device(place.device).to_kind(place.kind)
    }
}

/// The labels (N) of a batch; −1, which no output is, where there is none.
pub fn labels(batch: &Batch, place: Place) -> Tensor {
    let labels: Vec<i64> = batch.labels.iter().map(|l| l.map_or(-1, i64::from)).collect();
    Tensor::from_slice(&labels).to_device(place.device)
}

/// Batches of these images, made ahead.
pub fn ahead(
    data: &Loader,
    indices: &[usize],
    size: usize,
    augment: Option<Augment>,
) -> Batches<std::vec::IntoIter<Vec<usize>>> {
    let order: Vec<Vec<usize>> = indices.chunks(size.max(1)).map(<[usize]>::to_vec).collect();
    data.batches(order, augment, threads())
}

/// Threads that read images.
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS)
}
