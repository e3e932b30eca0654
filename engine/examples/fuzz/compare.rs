//! Whether every kernel computes what the reference computes, tensor by tensor.

use dyadic_engine::testing::{Rng, extreme_inputs};
use dyadic_engine::{Engine, Model, Scratch, reference};

/// A model on every kernel of this CPU, each with a scratch that is used again and again: what an earlier input left
/// there must not matter.
pub(crate) struct Kernels {
    /// What the reference runs.
    model: Model,
    engines: Vec<(Engine, Scratch)>,
}

impl Kernels {
    /// For a model that passes its checks.
    pub(crate) fn new(model: Model) -> Self {
        Self::against(model.clone(), model)
    }

    /// One model on the kernels, another one of the same tensors on the reference.
    pub(crate) fn against(model: Model, reference: Model) -> Self {
        let engines = Engine::on_every_kernel(model).expect("the model is valid and small");
        let engines = engines.into_iter().map(|engine| {
            let scratch = engine.scratch();
            (engine, scratch)
        });
        Kernels { model: reference, engines: engines.collect() }
    }

    /// The engines, the best first.
    pub(crate) fn engines(&self) -> impl Iterator<Item = &Engine> {
        self.engines.iter().map(|(engine, _)| engine)
    }

    /// Compares every tensor for every input; `Err` says what differs first.
    pub(crate) fn compare(&mut self, inputs: &[Vec<i32>]) -> Result<(), String> {
        for (index, codes) in inputs.iter().enumerate() {
            let expected = reference::run(&self.model, codes).expect("the model and its inputs are valid");
            for (engine, scratch) in &mut self.engines {
                let actual = engine.trace(scratch, codes).expect("the inputs are valid");
                for (id, tensor) in self.model.tensors.iter().enumerate() {
                    let (expected, actual) = (&expected.codes[id], &actual.codes[id]);
                    if expected == actual {
                        continue;
                    }
                    let at = expected.iter().zip(actual).position(|(e, a)| e != a).unwrap_or_default();
                    return Err(format!(
                        "model {}, kernel {}, input {index}, tensor {} ({}): code {at} is {}, not {}",
                        self.model.name,
                        engine.kernel_name(),
                        tensor.name,
                        tensor.shape,
                        actual[at],
                        expected[at],
                    ));
                }
            }
        }
        Ok(())
    }
}

/// Input codes at the ends: all lowest, all highest, zero, a random sample; ends alternating by code, by pixel and like
/// a chessboard; and a lone highest code among lowest ones.
pub(crate) fn activations(model: &Model, seed: u64) -> Vec<Vec<i32>> {
    let (lo, hi) = model.tensor(model.input.tensor).format.range();
    let shape = model.input_shape();
    let (width, channels) = (shape.w as usize, shape.c as usize);
    let ends = |high: &dyn Fn(usize) -> bool| -> Vec<i32> {
        (0..shape.len()).map(|index| if high(index) { hi } else { lo }).collect()
    };
    let lone = Rng::new(seed).below(shape.len() as u64) as usize;
    let mut inputs = extreme_inputs(model, seed);
    inputs.push(ends(&|index| (index / channels).is_multiple_of(2)));
    inputs.push(ends(&|index| (index / channels / width + index / channels % width).is_multiple_of(2)));
    inputs.push(ends(&|index| index == lone));
    inputs
}
