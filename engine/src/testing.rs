//! Seeded models and inputs for tests and benches: every model passes its checks, its sums reach far into the proven
//! ranges, and the same seed gives the same model for ever.

mod layers;
mod networks;
mod rng;

pub use layers::{Builder, ConvCase};
pub use networks::{random_model, resnet20, small_cnn};
pub use rng::Rng;

use crate::model::Model;

/// Input codes that go to the ends: all lowest, all highest, alternating, zero (or the code nearest to it), and one
/// random sample.
pub fn extreme_inputs(model: &Model, seed: u64) -> Vec<Vec<i32>> {
    let (lo, hi) = model.tensor(model.input.tensor).format.range();
    let len = model.input_shape().len();
    let mut rng = Rng::new(seed);
    vec![
        vec![lo; len],
        vec![hi; len],
        (0..len).map(|i| if i % 2 == 0 { lo } else { hi }).collect(),
        vec![0; len],
        (0..len).map(|_| rng.code(lo, hi)).collect(),
    ]
}
