//! What the float network answers for the evaluation images: computed once, kept where that is bounded.

use tch::{Device, Kind, Tensor};

use crate::net::flat;
use dyadic_plan::Plan;

/// Outputs are kept up to this size, bytes; of more images they are computed again when they are compared.
const BYTES: usize = 256 << 20;

/// The float network's outputs, its softmax included where it ends in one, image after image.
#[derive(Debug, Clone, Default)]
pub struct FloatOutputs {
    /// Values of one image.
    outputs: usize,
    values: Vec<f32>,
    known: Vec<bool>,
}

impl FloatOutputs {
    /// Room for so many images, unless they are too many to be kept.
    pub fn new(plan: &Plan, images: usize) -> Self {
        let outputs = plan.tensors[plan.output].shape.iter().product::<usize>();
        if images.saturating_mul(outputs).saturating_mul(4) > BYTES {
            return FloatOutputs { outputs, ..FloatOutputs::default() };
        }
        FloatOutputs { outputs, values: vec![0.0; images * outputs], known: vec![false; images] }
    }

    /// Keeps the rows of `outputs`, those of the images at `indices`.
    pub fn keep(&mut self, indices: &[usize], outputs: &[f32]) {
        if self.outputs == 0 {
            return;
        }
        for (&index, row) in indices.iter().zip(outputs.chunks_exact(self.outputs)) {
            let (Some(known), Some(values)) = (
                self.known.get_mut(index),
                self.values.get_mut(index * self.outputs..(index + 1) * self.outputs),
            ) else {
                continue;
            };
            values.copy_from_slice(row);
            *known = true;
        }
    }

    /// The rows of these images, if all are known.
    pub fn of(&self, indices: &[usize]) -> Option<Vec<f32>> {
        if !indices.iter().all(|&index| self.known.get(index) == Some(&true)) {
            return None;
        }
        Some(
            indices
                .iter()
                .flat_map(|&i| &self.values[i * self.outputs..(i + 1) * self.outputs])
                .copied()
                .collect(),
        )
    }
}

/// The values of an output (N, C, H, W), image after image, softmax included where the network ends in one.
pub(crate) fn values(plan: &Plan, output: &Tensor) -> Result<Vec<f32>, tch::TchError> {
    let output = flat(output).to_device(Device::Cpu);
    let output = match (plan.softmax, plan.log) {
        (true, true) => output.log_softmax(-1, Kind::Float),
        (true, false) => output.softmax(-1, Kind::Float),
        (false, _) => output,
    };
    Vec::<f32>::try_from(output.contiguous().view([-1]))
}

/// The first position of the largest value.
pub(crate) fn best(values: &[f32]) -> usize {
    (0..values.len()).rev().max_by(|&a, &b| values[a].total_cmp(&values[b])).unwrap_or(0)
}
