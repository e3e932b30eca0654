//! Feeds random graphs to the reference and to every kernel of this CPU, and damaged artifacts to the reader, for as
//! long as it is told. Ends with code 1 at the first difference or panic, and says how to see it again:
//!
//! `cargo run -p dyadic-engine --example fuzz -- --seconds 60 --seed 1`
//!
//! The development profile is the better one here: it checks for overflow. Every case is a function of its seed alone;
//! `--cases 1` runs one. `--verbose` prints each seed before its case, for cases that end the process.

mod compare;
mod damage;
mod graphs;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use dyadic_engine::testing::{Rng, random_model};
use dyadic_engine::{Artifact, Engine};

use compare::{Kernels, activations};
use graphs::wide_model;

/// Most multiply-accumulates of a graph: the reference takes some 10⁻⁸ s each.
const BUDGET: u64 = 1_500_000;
/// Damaged copies of each artifact.
const COPIES: usize = 40;

const USAGE: &str = "usage: fuzz [--seconds N] [--seed S] [--cases N] [--verbose]";

/// What to do.
struct Settings {
    time: Duration,
    seed: u64,
    cases: u64,
    verbose: bool,
}

/// What has been done.
#[derive(Default)]
struct Tally {
    graphs: u64,
    inputs: u64,
    damaged: u64,
    readable: u64,
    kernels: Vec<&'static str>,
}

fn main() -> ExitCode {
    let settings = match settings(std::env::args().skip(1)) {
        Ok(settings) => settings,
        Err(problem) => {
            eprintln!("{problem}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let start = Instant::now();
    let mut tally = Tally::default();
    let end = settings.seed.saturating_add(settings.cases);
    for seed in settings.seed..end {
        if start.elapsed() >= settings.time {
            break;
        }
        if settings.verbose {
            eprintln!("seed {seed}");
        }
        let failure = match catch_unwind(AssertUnwindSafe(|| case(seed, &mut tally))) {
            Ok(Ok(())) => continue,
            Ok(Err(difference)) => difference,
            Err(_) => "a panic (above)".to_owned(),
        };
        eprintln!("seed {seed}: {failure}\nagain: --seed {seed} --cases 1");
        return ExitCode::FAILURE;
    }
    let Tally { graphs, inputs, damaged, readable, kernels } = tally;
    println!(
        "from seed {}: {graphs} graphs and {inputs} inputs on {}, {damaged} damaged artifacts, {readable} of them \
         readable; no difference, no panic",
        settings.seed,
        kernels.join(", "),
    );
    ExitCode::SUCCESS
}

fn settings(mut arguments: impl Iterator<Item = String>) -> Result<Settings, String> {
    let mut settings = Settings { time: Duration::MAX, seed: 1, cases: u64::MAX, verbose: false };
    let mut limited = false;
    while let Some(argument) = arguments.next() {
        let mut number = || -> Result<u64, String> {
            let value = arguments.next().ok_or(format!("{argument} needs a number"))?;
            value.parse().map_err(|error| format!("{argument} {value}: {error}"))
        };
        match argument.as_str() {
            "--seconds" => (settings.time, limited) = (Duration::from_secs(number()?), true),
            "--cases" => (settings.cases, limited) = (number()?, true),
            "--seed" => settings.seed = number()?,
            "--verbose" => settings.verbose = true,
            _ => return Err(format!("unknown argument {argument}")),
        }
    }
    if !limited {
        settings.time = Duration::from_secs(60);
    }
    Ok(settings)
}

/// One graph, and the damaged copies of one artifact.
fn case(seed: u64, tally: &mut Tally) -> Result<(), String> {
    let small = random_model(seed);
    let model = if seed.is_multiple_of(3) { small.clone() } else { wide_model(seed, BUDGET) };
    let inputs = activations(&model, seed);
    tally.graphs += 1;
    tally.inputs += inputs.len() as u64;
    let mut kernels = Kernels::new(model);
    kernels.compare(&inputs)?;
    tally.kernels = kernels.engines().map(Engine::kernel_name).collect();
    let bytes = damage::sound(small, seed);
    let mut rng = Rng::new(seed ^ 0xDA_4A6E);
    for _ in 0..COPIES {
        tally.damaged += 1;
        if let Ok(artifact) = Artifact::from_bytes(&damage::damaged(&bytes, &mut rng)) {
            tally.readable += 1;
            still_sound(artifact, seed)?;
        }
    }
    Ok(())
}

/// What still reads has passed every check, so it must run, and exactly.
fn still_sound(artifact: Artifact, seed: u64) -> Result<(), String> {
    let model = artifact.model;
    if model.summary().iter().map(|node| node.macs).sum::<u64>() > BUDGET {
        return Ok(());
    }
    let Ok(engine) = Engine::new(model.clone()) else { return Ok(()) };
    // The certificate may be damaged too: any answer will do.
    let _ = engine.verify(&artifact.certificate);
    let inputs = activations(&model, seed);
    Kernels::new(model.into_model()).compare(&inputs[..2])
}
