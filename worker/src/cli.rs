//! `dyadic-worker quantize`: the offline form of a job.

mod array;
mod manifest;
mod pictures;
mod plan;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Args, ValueEnum};
use dyadic_graph::network::Network;
use dyadic_plan::codebook;
use dyadic_store::spec::{self, JobSpec, StoredSpec};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::memory;
use crate::observer::{Control, Observer, Phase, Progress};
use crate::quantize::{Report, Request, bundle_sha256, quantize};
use pictures::{Found, Pictures};

pub use manifest::ManifestOf;

/// Quantize one model here and now.
#[derive(Debug, Args)]
pub struct Quantize {
    /// The ONNX file; the side files it names are looked for beside it.
    #[arg(long)]
    model: PathBuf,
    #[command(flatten)]
    pictures: Pictures,
    /// Ternary (aptq) or any width (apq) [default: that of the codebook, or aptq].
    #[arg(long, value_enum)]
    method: Option<Method>,
    /// Bits a weight; aptq has 2, apq 2 to 8.
    #[arg(long)]
    bits: Option<u8>,
    /// Reading of the method [default: the method's at these bits].
    #[arg(long, value_parser = PossibleValuesParser::new(codebooks()))]
    codebook: Option<String>,
    /// What a filter's codebook optimizes [default: the codebook's].
    #[arg(long, value_enum)]
    objective: Option<Objective>,
    /// Passes over the training images; 0 quantizes without training.
    #[arg(long)]
    epochs: Option<u32>,
    /// Where the artifact goes.
    #[arg(long)]
    out: PathBuf,
    /// The report as one JSON object on standard output.
    #[arg(long)]
    json: bool,
    /// A plan: defaults, then rules by layers' names, as `dyadic job plan --toml` prints it. What it leaves out, the other
    /// flags decide.
    #[arg(long, value_name = "FILE.toml")]
    plan: Option<PathBuf>,
    /// Other settings as a JSON file of a job specification; the flags here win.
    #[arg(long)]
    spec: Option<PathBuf>,
    /// Quantize the first and the last layer like the rest, not to 8 bits.
    #[arg(long)]
    strict: bool,
    /// Peak learning rate.
    #[arg(long)]
    learning_rate: Option<f64>,
    /// Images in a step.
    #[arg(long)]
    batch_size: Option<u32>,
    /// Seed of all randomness.
    #[arg(long)]
    seed: Option<u64>,
    /// Threads of libtorch.
    #[arg(long)]
    threads: Option<u32>,
    /// Arithmetic of training: f32, bf16 or auto.
    #[arg(long, value_enum)]
    precision: Option<Precision>,
    /// Use only this many training images.
    #[arg(long)]
    train_limit: Option<u32>,
    /// Use only this many evaluation images.
    #[arg(long)]
    eval_limit: Option<u32>,
    /// Per-channel means of v/255, comma-separated.
    #[arg(long, value_delimiter = ',')]
    mean: Option<Vec<f32>>,
    /// Per-channel standard deviations of v/255, comma-separated.
    #[arg(long, value_delimiter = ',')]
    std: Option<Vec<f32>>,
    /// Memory that the run may take beside the network itself, like 2GiB [default: half of what is free]. It decides over
    /// speed, never over the result.
    #[arg(long, value_parser = memory::parse)]
    memory: Option<u64>,
    /// Resume from this checkpoint file if it exists, and keep writing it.
    #[arg(long)]
    checkpoint: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Method {
    Aptq,
    Apq,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Objective {
    /// Least squares, at a power of two.
    L2,
    /// Smallest angle, at any scale: a normalization takes that up.
    Angle,
}

/// Names of all codebooks, with what each is.
fn codebooks() -> impl Iterator<Item = PossibleValue> {
    codebook::all().iter().map(|codebook| {
        let (family, widths) = (codebook.family().name(), codebook.widths());
        let widths = match (widths.start(), widths.end()) {
            (least, most) if least == most => least.to_string(),
            (least, most) => format!("{least} to {most}"),
        };
        PossibleValue::new(codebook.name()).help(format!("{family}, {widths} bits: {}", codebook.summary()))
    })
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Precision {
    Auto,
    F32,
    Bf16,
}

impl Quantize {
    /// Runs the command.
    ///
    /// # Errors
    /// Anything that [`quantize`] or reading and writing files can say.
    pub fn run(&self) -> anyhow::Result<()> {
        let (network, model_sha256) = self.network()?;
        let Found { train, test, preprocess } = self.pictures.open(&network, self.seed.unwrap_or(0))?;
        let spec = self.job_spec(train.shape()[2])?;
        self.check_plan(&network)?;
        if self.pictures.unlabelled() && spec.epochs > 0 && spec.loss != spec::Loss::Distill {
            bail!(
                "images without labels train with the loss 'distill' alone (--spec), or not at all (--epochs 0)"
            );
        }
        let checkpoint = match &self.checkpoint {
            Some(path) if path.exists() => Some(fs::read(path).with_context(|| path.display().to_string())?),
            _ => None,
        };
        let request = Request {
            network: &network,
            model_sha256,
            train: &train,
            test: test.as_ref().unwrap_or(&train),
            classes: &[],
            labelled: !self.pictures.unlabelled(),
            dataset_sha256: train.sha256(test.as_ref().unwrap_or(&train))?,
            spec: &spec,
            resume: checkpoint.as_deref(),
            preprocess: preprocess.as_ref(),
            memory: self.memory,
        };
        let mut console = Console::new(self.checkpoint.clone());
        let outcome = quantize(&request, &mut console)?;
        console.bar.finish_and_clear();
        write_whole(&self.out, &outcome.artifact)?;
        if self.json {
            println!("{}", serde_json::to_string_pretty(&outcome.report)?);
        } else {
            print_report(&outcome.report, &self.out);
        }
        Ok(())
    }

    /// The network, and the digest of its files; these are not kept.
    fn network(&self) -> anyhow::Result<(Network, String)> {
        let (model, side_files) = read_bundle(&self.model)?;
        let side = || side_files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
        let network = dyadic_graph::import_bytes(
            &model,
            side_files.iter().map(|(name, bytes)| (name, bytes.as_slice())),
        )
        .with_context(|| format!("{} cannot be imported", self.model.display()))?;
        Ok((network, bundle_sha256(&model, side())))
    }

    fn job_spec(&self, channels: usize) -> anyhow::Result<JobSpec> {
        let mut spec: JobSpec = match &self.spec {
            Some(path) => {
                let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
                let stored: StoredSpec =
                    serde_json::from_str(&text).with_context(|| path.display().to_string())?;
                stored.runnable().with_context(|| path.display().to_string())?.clone()
            }
            None => JobSpec::default(),
        };
        self.choose(&mut spec)?;
        spec.precision = match self.precision {
            None => spec.precision,
            Some(Precision::Auto) => spec::Precision::Auto,
            Some(Precision::F32) => spec::Precision::F32,
            Some(Precision::Bf16) => spec::Precision::Bf16,
        };
        let unlabelled = self.pictures.unlabelled();
        let random = self.pictures.random();
        if unlabelled && !random && self.spec.is_none() && (self.mean.is_none() || self.std.is_none()) {
            bail!(
                "--calibration with images needs --mean and --std, the normalization that the network was trained with"
            );
        }
        spec.epochs = self.epochs.unwrap_or(if unlabelled { 0 } else { spec.epochs });
        spec.learning_rate = self.learning_rate.unwrap_or(spec.learning_rate);
        spec.batch_size = self.batch_size.unwrap_or(spec.batch_size);
        spec.seed = self.seed.unwrap_or(spec.seed);
        spec.threads = self.threads.or(spec.threads);
        spec.train_limit = self.train_limit.or(spec.train_limit);
        spec.eval_limit = self.eval_limit.or(spec.eval_limit);
        if let Some(mean) = &self.mean {
            spec.normalization.mean.clone_from(mean);
        }
        if let Some(std) = &self.std {
            spec.normalization.std.clone_from(std);
        }
        if random && self.mean.is_none() {
            spec.normalization.mean = vec![0.5; channels];
            spec.normalization.std = vec![0.25; channels];
        }
        spec.validate()?;
        Ok(spec)
    }
}

/// Files by base name.
type SideFiles = BTreeMap<String, Vec<u8>>;

/// The ONNX file and every file beside it whose name begins with the model's (`m.onnx` → `m.onnx.data`).
fn read_bundle(path: &Path) -> anyhow::Result<(Vec<u8>, SideFiles)> {
    let model = fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let mut files = BTreeMap::new();
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_string();
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let Some(beside) = entry.file_name().to_str().map(str::to_string) else { continue };
        if beside != name && beside.starts_with(&name) && entry.file_type()?.is_file() {
            files.insert(beside, fs::read(entry.path())?);
        }
    }
    Ok((model, files))
}

/// Writes beside the target and renames, so that no half-written file is ever seen under its name.
fn write_whole(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".part");
    let part = path.with_file_name(name);
    fs::write(&part, bytes).with_context(|| format!("{} cannot be written", part.display()))?;
    fs::rename(&part, path).with_context(|| format!("{} cannot be written", path.display()))
}

fn print_report(report: &Report, out: &Path) {
    println!(
        "{:<34}{:>5}{:>10}{:>9}{:>10}{:>11}",
        "layer", "bits", "weights", "error", "zeros", "shift-adds"
    );
    for l in &report.layers {
        println!(
            "{:<34}{:>5}{:>10}{:>9.4}{:>9.1}%{:>11.2}",
            l.name,
            l.bits,
            l.weights,
            l.codebook_error,
            100.0 * l.sparsity,
            l.shift_adds
        );
    }
    println!();
    if let (Some(float), Some(engine)) = (report.float_accuracy, report.accuracy) {
        println!("float accuracy    {:.2} %", 100.0 * float);
        println!("engine accuracy   {:.2} %", 100.0 * engine);
    }
    println!(
        "agreement         {:.2} %  (engine to float network, largest output)",
        100.0 * report.agreement
    );
    if let Some(db) = report.closeness_db {
        println!("closeness         {db:.2} dB  (engine to float network, signal-to-noise)");
    }
    println!("images            {}  (logits identical to the training graph's on each)", report.images);
    println!("artifact          {} ({} bytes)", out.display(), report.artifact_bytes);
    if report.images_per_second > 0.0 {
        println!("training          {:.0} images/s", report.images_per_second);
    }
    let seconds: Vec<String> =
        report.seconds.iter().map(|(phase, seconds)| format!("{phase} {seconds:.1}")).collect();
    println!("seconds           {}", seconds.join(", "));
}

/// Between two checkpoints within a pass over the evaluation images.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(60);

/// Progress on the terminal; plain lines where there is none.
struct Console {
    bar: ProgressBar,
    phase: Option<Phase>,
    plain: bool,
    checkpoint: Option<PathBuf>,
    last: Instant,
    /// When a pass over the evaluation images last kept how far it is.
    kept: Instant,
}

impl Console {
    fn new(checkpoint: Option<PathBuf>) -> Self {
        let target = ProgressDrawTarget::stderr_with_hz(5);
        let plain = target.is_hidden();
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{msg:10} {wide_bar} {pos}/{len} {eta}") {
            bar.set_style(style);
        }
        Console { bar, phase: None, plain, checkpoint, last: Instant::now(), kept: Instant::now() }
    }
}

impl Observer for Console {
    fn progress(&mut self, p: Progress) -> Control {
        if self.phase != Some(p.phase) {
            self.phase = Some(p.phase);
            self.bar.set_message(p.phase.name());
            self.bar.reset();
        }
        self.bar.set_length(p.total);
        self.bar.set_position(p.done);
        if self.plain && self.last.elapsed() > Duration::from_secs(30) {
            eprintln!("{} {}/{}", p.phase.name(), p.done, p.total);
            self.last = Instant::now();
        }
        Control::Continue
    }

    fn metric(&mut self, name: &str, step: i64, value: f64) {
        if name.starts_with("epoch/") {
            self.log(&format!("{name} {step}: {value:.4}"));
        }
    }

    fn log(&mut self, line: &str) {
        if self.plain {
            eprintln!("{line}");
        } else {
            self.bar.println(line);
        }
    }

    fn wants_checkpoint(&mut self, step: u64) -> bool {
        self.checkpoint.is_some() && step.is_multiple_of(200)
    }

    fn wants_checkpoint_within(&mut self, _phase: Phase) -> bool {
        let due = self.checkpoint.is_some() && self.kept.elapsed() > CHECKPOINT_EVERY;
        if due {
            self.kept = Instant::now();
        }
        due
    }

    fn checkpoint(&mut self, bytes: Vec<u8>, _step: u64) -> Control {
        if let Some(Err(error)) = self.checkpoint.as_ref().map(|path| write_whole(path, &bytes)) {
            self.log(&format!("the checkpoint was not written: {error:#}"));
        }
        Control::Continue
    }
}
