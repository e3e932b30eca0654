//! Every kernel equals the reference on every tensor: shapes, strides, paddings, code widths, levels and codes at their
//! ends, odd tails. And a list of what has run, against a list of what must.

#[path = "../../examples/fuzz/compare.rs"]
mod compare;
#[path = "../../examples/fuzz/graphs.rs"]
mod graphs;

mod convolutions;
mod edges;
mod others;
mod sums;

use std::collections::BTreeSet;

use dyadic_engine::Model;
use dyadic_engine::model::{Format, Shape};
use dyadic_engine::testing::{Builder, ConvCase, Rng, resnet20, small_cnn};

use compare::{Kernels, activations};

/// Kernels and methods that must run, separated by commas; CI sets it for the machine it runs on.
const MUST_RUN: &str = "DYADIC_MUST_RUN";

/// Runs a model on every kernel, over activations at their ends.
#[track_caller]
fn assert_exact(model: Model, seed: u64) {
    let inputs = activations(&model, seed);
    if let Err(difference) = Kernels::new(model).compare(&inputs) {
        panic!("seed {seed}: {difference}");
    }
}

#[test]
fn wide_random_graphs_equal_the_reference() {
    for seed in 0..80 {
        assert_exact(graphs::wide_model(seed, 400_000), seed);
    }
}

/// One layer of every kind that may have a method of its own.
fn one_of_each_kind() -> Vec<Model> {
    let square = ConvCase::square;
    let layers = [
        (3, 14, ConvCase { bits: 8, ..square(16, 7, 2) }),
        (16, 9, square(16, 3, 1)),
        (64, 8, square(64, 3, 1)),
        (64, 8, ConvCase { bits: 4, ..square(32, 3, 2) }),
        (64, 6, square(96, 1, 1)),
        (70, 9, ConvCase { groups: 70, ..square(70, 3, 1) }),
        (32, 7, ConvCase { groups: 4, ..square(64, 3, 1) }),
        (512, 1, square(300, 1, 1)),
    ];
    let model = |(channels, side, case): (u32, u32, ConvCase)| {
        let shape = Shape { h: side, w: side, c: channels };
        let (mut builder, x) = Builder::new(7, shape, Format::Unsigned { bits: 6 });
        let y = builder.conv(x, &case, None);
        builder.finish(&format!("{channels} channels, {case:?}"), y)
    };
    let whole = [small_cnn(1, 2), small_cnn(2, 4), resnet20(1, 2)];
    layers.into_iter().map(model).chain(whole).collect()
}

#[test]
fn the_kernels_that_must_run_have_run() {
    let mut ran = BTreeSet::new();
    for model in one_of_each_kind() {
        let name = model.name.clone();
        // The last sample is random; the reference takes long for a whole network.
        let inputs = &activations(&model, 1)[4..5];
        let mut kernels = Kernels::new(model);
        kernels.compare(inputs).unwrap_or_else(|difference| panic!("{name}: {difference}"));
        for engine in kernels.engines() {
            ran.insert(engine.kernel_name().to_owned());
            let steps = engine.profile(&mut engine.scratch(), &inputs[0], 1).expect("the input is valid");
            ran.extend(steps.into_iter().map(|step| step.kernel));
        }
    }
    let list = ran.iter().map(String::as_str).collect::<Vec<_>>().join(",");
    println!("ran, and equal the reference: {list}");
    let required = std::env::var(MUST_RUN).unwrap_or_else(|_| "generic".to_owned());
    let missing: Vec<&str> =
        required.split(',').map(str::trim).filter(|name| !name.is_empty() && !ran.contains(*name)).collect();
    assert!(missing.is_empty(), "{MUST_RUN} names {missing:?}, which did not run here; these did: {list}");
}

/// A model of one convolution, with a residual operand of this format if there is one.
fn convolution(seed: u64, input: (Shape, Format), case: &ConvCase, residual: Option<Format>) -> Model {
    let (mut builder, x) = Builder::new(seed, input.0, input.1);
    let residual = residual.map(|output| builder.conv(x, &ConvCase { output, ..*case }, None));
    let y = builder.conv(x, case, residual);
    let (shape, format) = input;
    builder.finish(&format!("{shape} {format:?} {case:?}"), y)
}

/// Height, and width up to 33, with few pixels in all.
fn small_shape(rng: &mut Rng, channels: u32) -> Shape {
    let w = rng.code(1, 33) as u32;
    Shape { h: rng.code(1, (60 / w as i32).clamp(1, 9)) as u32, w, c: channels }
}
