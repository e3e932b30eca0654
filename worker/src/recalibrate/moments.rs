//! Mean and variance of each filter's sums, image after image.

use std::thread;

use tch::{Kind, Tensor};

use crate::layout::by_position;

/// Σ and Σ² of each filter's sums, and positions counted.
pub(super) struct Moments {
    filters: usize,
    all: Vec<Pair>,
    count: f64,
}

/// Σ and Σ² of one filter.
#[derive(Debug, Clone, Copy, Default)]
struct Pair {
    sum: f64,
    squares: f64,
}

impl Moments {
    pub(super) fn new(filters: usize) -> Self {
        Moments { filters, all: vec![Pair::default(); filters], count: 0.0 }
    }

    /// Takes in sums (N, filters, H, W), f32 or f64.
    pub(super) fn add(&mut self, sums: &Tensor) {
        let by_position = by_position(sums);
        let images = sums.size()[0].max(1) as usize;
        if sums.kind() == Kind::Double {
            let mut values = vec![0f64; sums.numel()];
            by_position.copy_data(&mut values, sums.numel());
            self.add_images(&values, images, |v| (v, v * v));
        } else {
            let mut values = vec![0f32; sums.numel()];
            by_position.copy_data(&mut values, sums.numel());
            self.add_images(&values, images, |v| (f64::from(v), f64::from(v * v)));
        }
    }

    fn add_images<T: Copy + Sync>(
        &mut self,
        values: &[T],
        images: usize,
        terms: impl Fn(T) -> (f64, f64) + Sync,
    ) {
        let filters = self.filters.max(1);
        let of_image = (values.len() / images).max(1);
        let threads = usize::try_from(tch::get_num_threads()).unwrap_or(1).max(1);
        let share = images.div_ceil(threads).max(1) * of_image;
        let terms = &terms;
        let of_images = |values: &[T]| -> Vec<Vec<Pair>> {
            values.chunks(of_image).map(|image| of_one(image, filters, terms)).collect()
        };
        let (first, rest) = values.split_at(share.min(values.len()));
        let found = thread::scope(|scope| {
            let others: Vec<_> =
                rest.chunks(share).map(|values| scope.spawn(move || of_images(values))).collect();
            let mut found = of_images(first);
            for other in others {
                found.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
            found
        });
        for image in found {
            for (all, one) in self.all.iter_mut().zip(image) {
                all.sum += one.sum;
                all.squares += one.squares;
            }
        }
        self.count += (values.len() / filters) as f64;
    }

    /// Mean and variance of each filter.
    pub(super) fn finish(&self) -> Vec<(f64, f64)> {
        let count = self.count.max(1.0);
        let of = |pair: &Pair| {
            let mean = pair.sum / count;
            (mean, (pair.squares / count - mean * mean).max(0.0))
        };
        self.all.iter().map(of).collect()
    }
}

fn of_one<T: Copy>(image: &[T], filters: usize, terms: &impl Fn(T) -> (f64, f64)) -> Vec<Pair> {
    let mut sums = vec![0f64; filters];
    let mut squares = vec![0f64; filters];
    for position in image.chunks_exact(filters) {
        for ((sum, square), &v) in sums.iter_mut().zip(&mut squares).zip(position) {
            let (v, v2) = terms(v);
            *sum += v;
            *square += v2;
        }
    }
    sums.into_iter().zip(squares).map(|(sum, squares)| Pair { sum, squares }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_do_not_depend_on_how_images_are_put_together_nor_on_threads() {
        tch::manual_seed(2);
        let sums = Tensor::randint_low(-90_000, 100_000, [7, 5, 9, 4], (Kind::Int64, tch::Device::Cpu));
        let at_first = tch::get_num_threads();
        for kind in [Kind::Float, Kind::Double] {
            let sums = sums.to_kind(kind);
            let mut found = Vec::new();
            for (threads, size) in [(1, 7), (1, 1), (2, 3), (5, 7)] {
                tch::set_num_threads(threads);
                let mut moments = Moments::new(5);
                for first in (0..7).step_by(size) {
                    moments.add(&sums.narrow(0, first as i64, size.min(7 - first) as i64));
                }
                found.push(moments.finish());
            }
            tch::set_num_threads(at_first);
            assert!(found.iter().all(|f| *f == found[0]));
            let wide = sums.to_kind(Kind::Double).permute([1, 0, 2, 3]).reshape([5, -1]);
            let mean = Vec::<f64>::try_from(wide.mean_dim(1i64, false, Kind::Double)).unwrap();
            let variance = Vec::<f64>::try_from(wide.var_dim(1i64, false, false)).unwrap();
            for ((m, v), (mean, variance)) in found[0].iter().zip(mean.iter().zip(&variance)) {
                assert!((m - mean).abs() < 1e-6 * variance.sqrt() && (v - variance).abs() < 1e-6 * variance);
            }
        }
    }
}
