//! Convolution, row by row.

use super::extents;
use crate::network::{Conv, Tensor, Window};

pub(super) fn convolve(conv: &Conv, x: &Tensor, output_shape: &[usize]) -> Vec<f32> {
    let [filters, height, width] = extents(output_shape);
    let [_, in_height, in_width] = extents(&x.shape);
    let per_group = conv.weight.shape[1];
    let [kernel_h, kernel_w] = conv.window.kernel;
    let filters_per_group = filters / conv.groups;
    let mut output = Vec::with_capacity(filters * height * width);
    let mut sums = vec![0.0f64; width];
    for filter in 0..filters {
        let weights = &conv.weight.data[filter * per_group * kernel_h * kernel_w..];
        let first_channel = filter / filters_per_group * per_group;
        let bias = conv.bias.as_ref().map_or(0.0, |bias| f64::from(bias[filter]));
        for row in 0..height {
            sums.fill(bias);
            for channel in 0..per_group {
                for ky in 0..kernel_h {
                    let Some(y) = source(conv.window, 0, row, ky, in_height) else { continue };
                    let line = &x.data[((first_channel + channel) * in_height + y) * in_width..][..in_width];
                    for kx in 0..kernel_w {
                        let weight = f64::from(weights[(channel * kernel_h + ky) * kernel_w + kx]);
                        add_scaled(&mut sums, weight, line, conv.window, kx);
                    }
                }
            }
            output.extend(sums.iter().map(|&sum| sum as f32));
        }
    }
    output
}

/// The input position along `axis` that output position `at` reads with kernel element `k`; `None` in the padding.
fn source(window: Window, axis: usize, at: usize, k: usize, extent: usize) -> Option<usize> {
    let position = at * window.stride[axis] + k * window.dilation[axis];
    position.checked_sub(window.padding[axis]).filter(|&position| position < extent)
}

/// Adds `weight · line`, shifted by kernel column `kx`, to a row of sums.
fn add_scaled(sums: &mut [f64], weight: f64, line: &[f32], window: Window, kx: usize) {
    let (stride, shift, left) = (window.stride[1], kx * window.dilation[1], window.padding[1]);
    let first = left.saturating_sub(shift).div_ceil(stride);
    if first >= sums.len() {
        return;
    }
    let Some(line) = line.get(first * stride + shift - left..) else { return };
    for (sum, x) in sums[first..].iter_mut().zip(line.iter().step_by(stride)) {
        *sum += weight * f64::from(*x);
    }
}
