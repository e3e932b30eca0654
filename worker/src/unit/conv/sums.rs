//! The exact integer sums of a weighted layer, on integers held in floats.
//!
//! Sums below 2^24 are exact in f32, the kind that libtorch convolves fastest. Where a layer's sums may pass that, its input
//! channels are taken in parts whose sums cannot, and the parts are added in f64.

use dyadic_graph::network::Window;
use tch::{Device, Kind, Tensor};

use super::{BLOCK, convolve};

/// Sums below this are exact in f32.
const F32_EXACT: f64 = (1u32 << 24) as f64;

/// A layer's levels, ready to be convolved with.
pub(crate) struct Sums {
    window: Window,
    groups: usize,
    parts: Vec<Part>,
}

/// The levels for some of the input's channels.
struct Part {
    first: i64,
    channels: i64,
    weight: Tensor,
}

impl Sums {
    /// Of levels (filters, channels of a group, rows, columns) held in f32, over inputs of at most `reach` in size.
    pub(crate) fn new(levels: &Tensor, window: Window, groups: usize, reach: u32, device: Device) -> Self {
        let channels = levels.size()[1];
        let (ranges, kind) = parts(levels, groups, reach);
        let part = |(first, end): (i64, i64)| {
            let weight = if end - first == channels {
                levels.shallow_clone()
            } else {
                levels.narrow(1, first, end - first)
            };
            Part { first, channels: end - first, weight: weight.contiguous().to_device(device).to_kind(kind) }
        };
        Sums { window, groups, parts: ranges.into_iter().map(part).collect() }
    }

    /// The sums for input codes (N, C, H, W): f32, or f64 where they may pass 2^24.
    pub(crate) fn run(&self, codes: &Tensor) -> Tensor {
        let mut all: Option<Tensor> = None;
        for Part { first, channels, weight } in &self.parts {
            let x = if self.parts.len() == 1 {
                codes.shallow_clone()
            } else {
                codes.narrow(1, *first, *channels)
            };
            let sums = convolve(&x.to_kind(weight.kind()), weight, &self.window, self.groups);
            all = Some(match all {
                None if self.parts.len() == 1 => sums,
                None => sums.to_kind(Kind::Double),
                Some(mut before) => before.g_add_(&sums),
            });
        }
        all.expect("a layer has an input channel")
    }
}

/// Ranges of channels, and the kind in which sums over each are exact.
fn parts(levels: &Tensor, groups: usize, reach: u32) -> (Vec<(i64, i64)>, Kind) {
    let channels = levels.size()[1];
    let whole = vec![(0, channels)];
    let sizes = levels.abs().sum_dim_intlist([2i64, 3].as_slice(), false, Kind::Double) * f64::from(reach);
    let bound = |first: i64, end: i64| {
        let of_filters =
            sizes.narrow(1, first, end - first).sum_dim_intlist([1i64].as_slice(), false, Kind::Double);
        f64::try_from(of_filters.max()).unwrap_or(f64::INFINITY)
    };
    if bound(0, channels) < F32_EXACT {
        return (whole, Kind::Float);
    }
    if groups != 1 {
        return (whole, Kind::Double);
    }
    for step in [BLOCK, 1] {
        let mut ranges = Vec::new();
        let mut first = 0;
        while first < channels {
            let mut end = first;
            while end < channels && bound(first, (end + step).min(channels)) < F32_EXACT {
                end = (end + step).min(channels);
            }
            if end == first {
                break;
            }
            ranges.push((first, end));
            first = end;
        }
        if first == channels {
            return (ranges, Kind::Float);
        }
    }
    (whole, Kind::Double)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_past_24_bits_are_exact_in_parts_and_equal_to_those_of_f64() {
        tch::manual_seed(4);
        let options = (Kind::Int64, Device::Cpu);
        let levels = Tensor::randint_low(100, 128, [5, 70, 3, 3], options).to_kind(Kind::Float);
        let codes = Tensor::randint_low(200, 256, [2, 70, 6, 6], options).to_kind(Kind::Float);
        let window = Window { kernel: [3, 3], stride: [1, 1], padding: [1; 4], dilation: [1, 1] };
        assert!(parts(&levels, 1, 4000).0.len() > 1);
        for reach in [255, 4000, 60_000, u32::MAX] {
            let sums = Sums::new(&levels, window, 1, reach, Device::Cpu).run(&codes);
            let wanted = convolve(&codes.to_kind(Kind::Double), &levels.to_kind(Kind::Double), &window, 1);
            assert!(sums.to_kind(Kind::Double).equal(&wanted), "{reach}");
        }
        let (ranges, kind) = parts(&levels, 1, u32::MAX);
        assert_eq!((ranges.len(), kind), (1, Kind::Double));
    }
}
