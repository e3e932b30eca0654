//! `bench`: how long a batch takes.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use dyadic_engine::certificate::GoldenInput;
use dyadic_engine::engine::Samples;
use dyadic_engine::{Engine, RunError, Scratch, Team};
use serde_json::json;

use crate::Common;
use crate::explain;
use crate::failure::Failure;

/// Arguments of `bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Threads that share a batch: image by image where there are enough of them, else each layer of each image.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    threads: u16,
    /// Samples in a batch.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch: u32,
    /// How long to measure, after a warm-up of a fifth of it.
    #[arg(long, default_value_t = 2.0, value_parser = positive)]
    seconds: f64,
    /// Shows where the time goes, node by node, on that many threads, and one thread's peak, measured now.
    #[arg(long)]
    explain: bool,
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if seconds > 0.0 && seconds <= 3600.0 => Ok(seconds),
        _ => Err("a number of seconds above 0 and up to 3600 is needed".to_owned()),
    }
}

/// What is split over the threads.
enum Runner {
    /// Batches: an image a thread.
    Images(Vec<Scratch>),
    /// Layers: one image after the other.
    Layers(Team, Box<Scratch>),
}

impl Runner {
    fn new(engine: &Engine, threads: usize, batch: usize) -> Self {
        if threads > 1 && batch < threads {
            return Runner::Layers(Team::new(threads), Box::new(engine.scratch_for(threads)));
        }
        Runner::Images((0..threads).map(|_| engine.scratch()).collect())
    }

    /// For programs.
    fn name(&self) -> &'static str {
        match self {
            Runner::Images(_) => "images",
            Runner::Layers(..) => "layers",
        }
    }

    fn run(&mut self, engine: &Engine, input: &[f32], batch: usize, out: &mut [f32]) -> Result<(), RunError> {
        match self {
            Runner::Images(scratches) => engine.run_batch(scratches, Samples::Floats(input), batch, out),
            Runner::Layers(team, scratch) => engine.run_f32_on(team, scratch, input, batch, out),
        }
    }
}

/// Fewest rounds, however long one takes.
const LEAST_ROUNDS: usize = 5;

/// Runs the command.
pub(crate) fn bench(arguments: &Arguments) -> Result<(), Failure> {
    let resident_before = resident_bytes();
    let start = Instant::now();
    let (_, engine) = arguments.common.engine()?;
    let load = start.elapsed();
    let batch = arguments.batch as usize;
    let input = input(&engine, batch);
    let mut out = vec![0.0; batch * engine.output_len()];
    let start = Instant::now();
    let mut runner = Runner::new(&engine, arguments.threads.into(), batch);
    let resident_loaded = resident_bytes();
    runner.run(&engine, &input, batch, &mut out)?;
    let first = start.elapsed();
    let mut round = || -> Result<Duration, Failure> {
        let start = Instant::now();
        runner.run(&engine, &input, batch, &mut out)?;
        Ok(start.elapsed())
    };
    let length = Duration::from_secs_f64(arguments.seconds);
    measure(length / 5, "warm-up", &mut round)?;
    let mut times = measure(length, "measuring", &mut round)?;
    times.sort();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let (least, median) = (ms(times[0]), ms(times[times.len() / 2]));
    let macs: u64 = engine.model().summary().iter().map(|node| node.macs).sum();
    let rate = batch as f64 / median * 1e3;
    let mut stdout = io::stdout().lock();
    if arguments.common.json {
        let report = json!({
            "name": engine.model().name, "kernel": engine.kernel_name(), "threads": arguments.threads,
            "split": runner.name(), "batch": batch, "rounds": times.len(), "min_ms": least, "median_ms": median,
            "samples_per_second": rate, "macs": macs, "load_ms": ms(load), "load_to_first_ms": ms(load + first),
            "rss_before_bytes": resident_before, "rss_after_load_bytes": resident_loaded,
            "rss_after_runs_bytes": resident_bytes(), "peak_gmacs": engine.peak(),
        });
        writeln!(stdout, "{report}")?;
    } else {
        let name = &engine.model().name;
        let (kernel, rounds) = (engine.kernel_name(), times.len());
        writeln!(
            stdout,
            "{name}, kernel {kernel}, batch {batch}, threads {} by {}",
            arguments.threads,
            runner.name()
        )?;
        writeln!(stdout, "min_ms     {least:.4}\nmedian_ms  {median:.4}   ({rounds} rounds)")?;
        writeln!(stdout, "{rate:.1} samples/s, {:.2} GMAC/s", rate * macs as f64 * 1e-9)?;
        writeln!(stdout, "load {:.2} ms, first run {:.2} ms", ms(load), ms(first))?;
        if arguments.explain {
            explain::print(&engine, arguments.threads.into(), &mut stdout)?;
        }
    }
    Ok(())
}

/// Resident memory of this process; 0 where the system does not tell.
fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

/// Repeats `round` for at least `length`, showing progress on a terminal.
fn measure(
    length: Duration,
    what: &str,
    round: &mut impl FnMut() -> Result<Duration, Failure>,
) -> Result<Vec<Duration>, Failure> {
    let start = Instant::now();
    let mut shown = start;
    let terminal = io::stderr().is_terminal();
    let mut times = Vec::new();
    while times.len() < LEAST_ROUNDS || start.elapsed() < length {
        times.push(round()?);
        if terminal && length > Duration::from_secs(1) && shown.elapsed() > Duration::from_millis(200) {
            shown = Instant::now();
            let share = (start.elapsed().as_secs_f64() / length.as_secs_f64()).min(1.0);
            eprint!("\r{what} {:3.0} %, {} rounds", 100.0 * share, times.len());
        }
    }
    if terminal && shown > start {
        eprint!("\r\x1b[K");
    }
    Ok(times)
}

/// Seeded floats that cover the input's codes.
fn input(engine: &Engine, batch: usize) -> Vec<f32> {
    let model = engine.model();
    let step = model.tensor(model.input.tensor).step.value();
    (0..batch as u64)
        .flat_map(|seed| GoldenInput::Seed(seed).codes(model))
        .map(|code| code as f32 * step)
        .collect()
}
