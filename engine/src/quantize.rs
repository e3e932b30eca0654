//! From the caller's floats or bytes to the input tensor's codes: the one place where a float is rounded.
//!
//! `code = clamp(floor(f64(x / step) + ½), lo, hi)`, the division in f32, the rest in f64. NaN and infinity are
//! refused. Bytes go through the same function, by a table of 256 codes a channel.

use crate::kernels;
use crate::kernels::level::Level;
use crate::model::{Format, Model, Normalization, Shape, Step};

/// Rounds real values to the codes of one tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantizer {
    step: f32,
    lo: i32,
    hi: i32,
}

/// A value that has no code.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("value {index} is {value}; only finite numbers have a code")]
pub struct NotFinite {
    /// Position in the slice that was given.
    pub index: usize,
    /// NaN or an infinity.
    pub value: f32,
}

impl Quantizer {
    /// For a tensor of this format and step. A power-of-two step outside f32's normal range is clamped to it.
    pub fn new(format: Format, step: Step) -> Self {
        let (lo, hi) = format.range();
        Quantizer { step: step.value(), lo, hi }
    }

    /// The code of one value; `None` for NaN and infinities.
    #[inline]
    pub fn code(&self, x: f32) -> Option<i32> {
        x.is_finite().then(|| self.round(x))
    }

    /// The code of a finite value.
    #[inline]
    fn round(&self, x: f32) -> i32 {
        let shifted = f64::from(x / self.step) + 0.5;
        // Clamped before the floor: the same integers, and the cast below is in range.
        let bounded = shifted.clamp(f64::from(self.lo), f64::from(self.hi));
        let truncated = bounded as i32;
        if f64::from(truncated) > bounded { truncated - 1 } else { truncated }
    }
}

/// Turns whole inputs into codes for a model.
#[derive(Debug, Clone, PartialEq)]
pub struct InputQuantizer {
    quantizer: Quantizer,
    shape: Shape,
    /// 256 codes a channel, where the model has a normalization.
    bytes: Option<Vec<[i16; 256]>>,
}

impl InputQuantizer {
    /// For a model that passed [`Model::check`].
    pub fn new(model: &Model) -> Self {
        let tensor = model.tensor(model.input.tensor);
        let quantizer = Quantizer::new(tensor.format, tensor.step);
        let bytes = model.input.normalization.as_ref().map(|normalization| {
            (0..tensor.shape.c as usize)
                .map(|channel| byte_table(&quantizer, normalization, channel))
                .collect()
        });
        InputQuantizer { quantizer, shape: tensor.shape, bytes }
    }

    /// Whether 8-bit images are accepted.
    pub fn accepts_bytes(&self) -> bool {
        self.bytes.is_some()
    }

    /// The pixels of one sample of finite NCHW floats from `first` on to NHWC bytes, signed codes in two's complement.
    pub(crate) fn floats_to_bytes(&self, level: Level, nchw: &[f32], first: usize, out: &mut [u8]) {
        let Quantizer { step, lo, hi } = self.quantizer;
        kernels::input::floats(level, nchw, self.shape.c as usize, first, step, (lo, hi), out);
    }

    /// One sample of NCHW floats to NHWC codes; `emit(position, code)` is called once for every code.
    pub fn floats(&self, nchw: &[f32], mut emit: impl FnMut(usize, i32)) -> Result<(), NotFinite> {
        check_finite(nchw)?;
        let pixels = self.shape.h as usize * self.shape.w as usize;
        let channels = self.shape.c as usize;
        for (channel, plane) in nchw.chunks_exact(pixels).take(channels).enumerate() {
            for (pixel, &x) in plane.iter().enumerate() {
                emit(pixel * channels + channel, self.quantizer.round(x));
            }
        }
        Ok(())
    }

    /// One sample of HWC bytes to NHWC codes; does nothing without a normalization.
    pub fn bytes(&self, hwc: &[u8], mut emit: impl FnMut(usize, i32)) {
        let Some(tables) = &self.bytes else { return };
        for (pixel, values) in hwc.chunks_exact(tables.len()).enumerate() {
            for (channel, (&value, table)) in values.iter().zip(tables).enumerate() {
                emit(pixel * tables.len() + channel, i32::from(table[usize::from(value)]));
            }
        }
    }
}

/// Refuses NaN and infinities.
pub(crate) fn check_finite(values: &[f32]) -> Result<(), NotFinite> {
    const BLOCK: usize = 256;
    for (block, chunk) in values.chunks(BLOCK).enumerate() {
        // No early exit, so that it is done in vectors.
        if chunk.iter().fold(false, |found, x| found | !x.is_finite()) {
            let within = chunk.iter().position(|x| !x.is_finite()).unwrap_or_default();
            return Err(NotFinite { index: block * BLOCK + within, value: chunk[within] });
        }
    }
    Ok(())
}

impl Normalization {
    /// The real value of byte `v` in `channel`: `(v/255 − mean) / std`, in f32, in that order of operations.
    pub fn value(&self, v: u8, channel: usize) -> f32 {
        (f32::from(v) / 255.0 - self.mean[channel]) / self.std[channel]
    }
}

fn byte_table(quantizer: &Quantizer, normalization: &Normalization, channel: usize) -> [i16; 256] {
    let mut table = [0; 256];
    for (v, code) in (0..=255u8).zip(&mut table) {
        *code = quantizer.round(normalization.value(v, channel)) as i16;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantizer(step: f32) -> Quantizer {
        Quantizer::new(Format::Signed { bits: 8 }, Step::Free(step))
    }

    #[test]
    fn halves_round_up_on_both_sides_of_zero() {
        let q = quantizer(1.0);
        let cases = [(0.5, 1), (-0.5, 0), (1.49, 1), (1.5, 2), (-1.5, -1), (-1.51, -2), (-0.51, -1)];
        for (x, code) in cases {
            assert_eq!(q.code(x), Some(code), "{x}");
        }
    }

    #[test]
    fn values_beyond_the_range_take_its_ends() {
        let q = quantizer(0.01);
        assert_eq!(q.code(f32::MAX), Some(127));
        assert_eq!(q.code(f32::MIN), Some(-128));
        assert_eq!(q.code(1.275), Some(127));
        assert_eq!(q.code(-1.29), Some(-128));
    }

    #[test]
    fn nan_and_infinity_have_no_code() {
        for x in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(quantizer(1.0).code(x), None);
        }
    }

    #[test]
    fn the_code_is_the_floor_of_the_definition() {
        let q = quantizer(0.037);
        for i in -200_000..200_000 {
            let x = i as f32 * 0.000_1;
            let defined = (f64::from(x / 0.037f32) + 0.5).floor().clamp(-128.0, 127.0) as i32;
            assert_eq!(q.code(x), Some(defined), "{x}");
        }
    }
}
