//! Whether every kernel computes what the reference computes, tensor by tensor.

use dyadic_engine::reference::{self, Trace};
use dyadic_engine::testing::{Rng, extreme_inputs};
use dyadic_engine::{Engine, Model, Pool, Scratch, Team};

/// A model on every kernel of this CPU, on one thread and on several, each with a scratch that is used again and again:
/// what an earlier input left there must not matter.
pub(crate) struct Kernels {
    /// What the reference runs.
    model: Model,
    engines: Vec<(Engine, Scratch)>,
    /// Of two threads, three and four; inputs take turns.
    teams: [Team; 3],
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
            (engine.with_finest_parts(), scratch)
        });
        let teams = [2, 3, 4].map(Team::new);
        Kernels { model: reference, engines: engines.collect(), teams }
    }

    /// The engines, the best first.
    pub(crate) fn engines(&self) -> impl Iterator<Item = &Engine> {
        self.engines.iter().map(|(engine, _)| engine)
    }

    /// Compares every tensor for every input; `Err` says what differs first.
    pub(crate) fn compare(&mut self, inputs: &[Vec<i32>]) -> Result<(), String> {
        for (index, codes) in inputs.iter().enumerate() {
            let expected = reference::run(&self.model, codes).expect("the model and its inputs are valid");
            let team = &self.teams[index % self.teams.len()];
            for (engine, scratch) in &mut self.engines {
                let actual = engine.trace(scratch, codes).expect("the inputs are valid");
                let name = engine.kernel_name();
                let which = format!("model {}, kernel {name}, input {index}", self.model.name);
                equal(&self.model, &expected, &actual)
                    .map_err(|difference| format!("{which}{difference}"))?;
                let actual = engine.trace_on(team, scratch, codes).expect("the inputs are valid");
                let which = format!("{which}, {} threads", team.threads());
                equal(&self.model, &expected, &actual)
                    .map_err(|difference| format!("{which}{difference}"))?;
            }
        }
        Ok(())
    }
}

/// Whether two traces are the same; `Err` says what differs first.
fn equal(model: &Model, expected: &Trace, actual: &Trace) -> Result<(), String> {
    for (id, tensor) in model.tensors.iter().enumerate() {
        let (expected, actual) = (&expected.codes[id], &actual.codes[id]);
        if expected != actual {
            let at = expected.iter().zip(actual).position(|(e, a)| e != a).unwrap_or_default();
            let (name, shape) = (&tensor.name, tensor.shape);
            return Err(format!(
                ", tensor {name} ({shape}): code {at} is {}, not {}",
                actual[at], expected[at]
            ));
        }
    }
    Ok(())
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
