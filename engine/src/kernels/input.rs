//! The input edge on bytes: `code = clamp(floor(x / step + ½), lo, hi)`, as [`crate::quantize`] defines it.
//!
//! With `q = x / step` in f32 and `n` the nearest integer (ties to even), `q − n` is exact in f32 for |q| < 2²²: it is a
//! multiple of q's last place of at most ½. So `floor(q + ½)` is `n + 1` if `q − n = ½`, and `n` otherwise. The product
//! with the reciprocal of the step is off by less than 2⁻²² of q; unless it comes close to a half, it gives the same code,
//! and spares the division.

use super::level::by_level;

/// |q| beyond which every code is the first or the last.
const LIMIT: f32 = 512.0;
/// How far from a half the product decides; more than 2⁻²² · [`LIMIT`].
const NEAR: f32 = 1.0 / 1024.0;
/// 1.5 · 2²³: a sum with it is rounded to an integer, whose low bits are the sum's.
const INTEGERS: f32 = 12_582_912.0;
/// Values a step.
const LANES: usize = 16;
/// Pixels a step, where channels are interleaved.
const PIXELS: usize = 64;

by_level! {
    /// The pixels of one sample of finite NCHW floats from `first` on to NHWC bytes, as many as `out` has.
    floats = floats_body(
        nchw: &[f32], channels: usize, first: usize, step: f32, range: (i32, i32), out: &mut [u8],
    )
}

#[inline(always)]
fn floats_body(nchw: &[f32], channels: usize, first: usize, step: f32, range: (i32, i32), out: &mut [u8]) {
    let (pixels, count) = (nchw.len() / channels, out.len() / channels);
    if channels == 1 {
        return plane(&nchw[first..first + count], step, range, out);
    }
    if channels == 3 {
        let mut rows = [[0u8; PIXELS]; 3];
        let planes = [0, 1, 2].map(|channel| &nchw[channel * pixels + first..][..count]);
        for (index, out) in out.chunks_mut(3 * PIXELS).enumerate() {
            let count = out.len() / 3;
            for (row, values) in rows.iter_mut().zip(planes) {
                plane(&values[index * PIXELS..][..count], step, range, &mut row[..count]);
            }
            for (pixel, out) in out.as_chunks_mut::<3>().0.iter_mut().enumerate() {
                *out = [rows[0][pixel], rows[1][pixel], rows[2][pixel]];
            }
        }
        return;
    }
    let mut row = [0u8; PIXELS];
    for (channel, values) in nchw.chunks_exact(pixels).enumerate() {
        for (index, values) in values[first..first + count].chunks(PIXELS).enumerate() {
            let row = &mut row[..values.len()];
            plane(values, step, range, row);
            let at = index * PIXELS * channels + channel;
            for (&code, out) in row.iter().zip(out[at..].iter_mut().step_by(channels)) {
                *out = code;
            }
        }
    }
}

/// Values of one channel to bytes, as many as `out` has.
#[inline(always)]
fn plane(values: &[f32], step: f32, range: (i32, i32), out: &mut [u8]) {
    let reciprocal = 1.0 / step;
    let quick = reciprocal.is_normal();
    let (chunks, rest) = values.as_chunks::<LANES>();
    let (targets, last) = out.as_chunks_mut::<LANES>();
    for (x, out) in chunks.iter().zip(targets) {
        let (codes, near) = round(x.map(|x| x * reciprocal), range);
        *out = if near || !quick { round(x.map(|x| x / step), range).0 } else { codes };
    }
    for (&x, out) in rest.iter().zip(last) {
        *out = round([x / step], range).0[0];
    }
}

/// Codes of quotients, and whether one of them is close to a half.
#[inline(always)]
fn round<const N: usize>(quotients: [f32; N], (lo, hi): (i32, i32)) -> ([u8; N], bool) {
    let mut codes = [0u8; N];
    let mut near = false;
    for (code, q) in codes.iter_mut().zip(quotients) {
        // Written so that it becomes one instruction each; there is no NaN here.
        let q = if q > -LIMIT { q } else { -LIMIT };
        let q = if q < LIMIT { q } else { LIMIT };
        let shifted = q + INTEGERS;
        let fraction = q - (shifted - INTEGERS);
        near |= fraction.abs() > 0.5 - NEAR;
        let nearest = shifted.to_bits() as i32 - INTEGERS.to_bits() as i32;
        let rounded = nearest + i32::from(fraction >= 0.5);
        *code = rounded.max(lo).min(hi) as u8;
    }
    (codes, near)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels;
    use crate::model::{Format, Step};
    use crate::quantize::Quantizer;

    #[test]
    fn bytes_are_the_codes_of_the_definition_around_every_half_and_on_every_level() {
        for kernel in kernels::available() {
            for step in [0.018_5f32, 1.0, 0.037, 3.3e-39, 1e30, 0.25] {
                for format in
                    [Format::Signed { bits: 8 }, Format::Unsigned { bits: 8 }, Format::Signed { bits: 4 }]
                {
                    let mut values =
                        vec![0.0, -0.0, f32::MAX, f32::MIN, f32::MIN_POSITIVE, -f32::MIN_POSITIVE];
                    for half in -600..=600 {
                        let x = half as f32 * 0.5 * step;
                        let bits = x.to_bits();
                        values
                            .extend((0..5).map(|ulp| f32::from_bits(bits.wrapping_add(ulp).wrapping_sub(2))));
                        values.extend([x * 0.999_9, x * 1.000_1, x + 0.3 * step]);
                    }
                    values.retain(|x| x.is_finite());
                    let quantizer = Quantizer::new(format, Step::Free(step));
                    for channels in [1, 2, 3] {
                        values.truncate(values.len() / channels * channels);
                        let pixels = values.len() / channels;
                        let mut out = vec![0; values.len()];
                        floats(kernel.level(), &values, channels, 0, step, format.range(), &mut out);
                        for (index, &x) in values.iter().enumerate() {
                            let (channel, pixel) = (index / pixels, index % pixels);
                            let code = quantizer.code(x).expect("finite") as u8;
                            assert_eq!(
                                out[pixel * channels + channel],
                                code,
                                "{x} by {step} on {}",
                                kernel.name()
                            );
                        }
                    }
                }
            }
        }
    }
}
