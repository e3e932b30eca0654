//! Maximum and mean over windows.

use super::extents;
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
    let [channels, height, width] = extents(output_shape);
    let [_, in_height, in_width] = extents(&x.shape);
    let [kernel_h, kernel_w] = window.kernel;
    let mut output = Vec::with_capacity(channels * height * width);
    for channel in 0..channels {
        let plane = &x.data[channel * in_height * in_width..];
        for row in 0..height {
            for column in 0..width {
                let mut values = inside(window, 0, row, in_height)
                    .flat_map(|y| inside(window, 1, column, in_width).map(move |x| (y, x)))
                    .map(|(y, x)| plane[y * in_width + x]);
                output.push(reduce(&mut values, kernel_h * kernel_w));
            }
        }
    }
    output
}

/// The input positions along `axis` that the window at output position `at` covers, without the padding.
fn inside(window: Window, axis: usize, at: usize, extent: usize) -> impl Iterator<Item = usize> {
    let (start, step, padding) = (at * window.stride[axis], window.dilation[axis], window.padding[axis]);
    let first = padding.saturating_sub(start).div_ceil(step);
    let end = (start + window.kernel[axis].saturating_sub(1) * step + 1).saturating_sub(padding).min(extent);
    ((start + first * step).saturating_sub(padding)..end).step_by(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_covers_what_its_definition_says() {
        for padding in 0..4 {
            for (kernel, stride, dilation, extent) in
                [(1, 1, 1, 1), (3, 2, 1, 8), (3, 1, 2, 7), (2, 3, 3, 5), (5, 2, 1, 4)]
            {
                let window = Window {
                    kernel: [kernel; 2],
                    stride: [stride; 2],
                    padding: [padding; 4],
                    dilation: [dilation; 2],
                };
                let Some([outputs, _]) = window.output_extents(extent, extent) else { continue };
                for at in 0..outputs {
                    let expected: Vec<usize> = (0..kernel)
                        .filter_map(|k| (at * stride + k * dilation).checked_sub(padding))
                        .filter(|&position| position < extent)
                        .collect();
                    assert_eq!(
                        inside(window, 0, at, extent).collect::<Vec<_>>(),
                        expected,
                        "{window:?} at {at}"
                    );
                }
            }
        }
    }
}
