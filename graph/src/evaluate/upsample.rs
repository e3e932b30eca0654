//! Enlarging by a whole factor.

use super::extents;
use crate::network::Tensor;

/// Each position repeated, or interpolated between the two nearest ones of each axis.
pub(super) fn enlarge(factor: usize, bilinear: bool, x: &Tensor, output_shape: &[usize]) -> Vec<f32> {
    let [_, in_height, in_width] = extents(&x.shape);
    let [channels, height, width] = extents(output_shape);
    // A series keeps its height of 1.
    let rows = sources(if height == in_height { 1 } else { factor }, bilinear, in_height, height);
    let columns = sources(factor, bilinear, in_width, width);
    let mut output = Vec::with_capacity(channels * height * width);
    for plane in x.data.chunks_exact((in_height * in_width).max(1)) {
        for &(top, bottom, down) in &rows {
            for &(left, right, across) in &columns {
                let between = |row: usize| {
                    let (a, b) =
                        (f64::from(plane[row * in_width + left]), f64::from(plane[row * in_width + right]));
                    a + (b - a) * across
                };
                let (a, b) = (between(top), between(bottom));
                output.push((a + (b - a) * down) as f32);
            }
        }
    }
    output
}

/// For each position of an axis the two that it lies between, and its share of the way from the first to the second.
fn sources(factor: usize, bilinear: bool, input: usize, output: usize) -> Vec<(usize, usize, f64)> {
    let last = input.saturating_sub(1);
    let source = |position: usize| {
        if !bilinear {
            let nearest = (position / factor).min(last);
            return (nearest, nearest, 0.0);
        }
        let at = ((position as f64 + 0.5) / factor as f64 - 0.5).clamp(0.0, last as f64);
        let before = at as usize;
        (before, (before + 1).min(last), at - before as f64)
    };
    (0..output).map(source).collect()
}
