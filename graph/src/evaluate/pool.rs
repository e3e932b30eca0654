//! Maximum and mean over windows.

use super::convolution::source;
use crate::network::{Tensor, Window};

pub(super) fn max(window: Window, x: &Tensor, output_shape: &[usize]) -> Vec<f32> {
    over_windows(window, x, output_shape, |values, _| values.fold(f32::NEG_INFINITY, f32::max))
}

pub(super) fn average(
    window: Window,
    count_include_pad: bool,
    x: &Tensor,
    output_shape: &[usize],
) -> Vec<f32> {
    over_windows(window, x, output_shape, |values, size| {
        let (sum, count) = values.fold((0.0f64, 0usize), |(sum, count), x| (sum + f64::from(x), count + 1));
        (sum / if count_include_pad { size } else { count.max(1) } as f64) as f32
    })
}

/// Gives `reduce` the elements of each window that lie inside the input, and the window's size with padding.
fn over_windows(
    window: Window,
    x: &Tensor,
    output_shape: &[usize],
    reduce: impl Fn(&mut dyn Iterator<Item = f32>, usize) -> f32,
) -> Vec<f32> {
    let (channels, height, width) = (output_shape[0], output_shape[1], output_shape[2]);
    let (in_height, in_width) = (x.shape[1], x.shape[2]);
    let [kernel_h, kernel_w] = window.kernel;
    let mut output = Vec::with_capacity(channels * height * width);
    for channel in 0..channels {
        let plane = &x.data[channel * in_height * in_width..];
        for row in 0..height {
            for column in 0..width {
                let mut values = (0..kernel_h)
                    .filter_map(|ky| source(window, 0, row, ky, in_height))
                    .flat_map(|y| {
                        (0..kernel_w)
                            .filter_map(move |kx| source(window, 1, column, kx, in_width))
                            .map(move |x| (y, x))
                    })
                    .map(|(y, x)| plane[y * in_width + x]);
                output.push(reduce(&mut values, kernel_h * kernel_w));
            }
        }
    }
    output
}
