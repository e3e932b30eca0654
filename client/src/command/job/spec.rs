//! The flags of a job spec. What is not given is left to the server, whose answer shows every default.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use dyadic_data::normalization as published;
use dyadic_proto::v1::{self, ActivationBits, JobSpec, Normalization, Splits, Tag};

use super::gate;
use super::pictures::{Pictures, names};
use crate::command::tag;

/// What to quantize, with what, how.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct SpecArgs {
    /// Name or id of a model
    #[arg(long)]
    model: String,
    /// Name or id of a dataset
    #[arg(long)]
    dataset: String,
    /// Name to serve the result under [default: the model's]
    #[arg(long, value_name = "SERVED")]
    name: Option<String>,
    /// Experiment that the run belongs to [default: default]
    #[arg(long)]
    experiment: Option<String>,
    /// KEY=VALUE, any number of times
    #[arg(long, value_parser = tag::parse, value_name = "KEY=VALUE")]
    tag: Vec<Tag>,
    /// From −100 to 100; higher runs first
    #[arg(long, allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(-100..=100), value_name = "N")]
    priority: Option<i32>,

    /// Whether the result goes live by itself: always, never, or within:POINTS of the float network's accuracy; it is kept
    /// either way [default: within:5]
    #[arg(long, value_parser = gate::parse, value_name = "always|never|within:POINTS")]
    promote: Option<String>,

    #[command(flatten)]
    quantization: Quantization,
    #[command(flatten)]
    training: Training,
    #[command(flatten)]
    images: Images,
}

#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Quantization")]
struct Quantization {
    /// aptq: ternary; apq: --bits bits [default: that of the codebook, or aptq]
    #[arg(long, value_enum)]
    method: Option<Method>,
    /// Bits a weight, 2 to 8 (apq)
    #[arg(long, value_parser = clap::value_parser!(u32).range(2..=8), value_name = "N")]
    bits: Option<u32>,
    /// Reading of the method; a name that the server does not know is answered with all [default: the method's]
    #[arg(long, alias = "levels", value_name = "NAME")]
    codebook: Option<String>,
    /// What a filter's codebook optimizes [default: the codebook's]
    #[arg(long, alias = "boundary", value_enum)]
    objective: Option<Objective>,
    /// Quantize the first and the last layer like the rest, instead of 8 bits
    #[arg(long)]
    strict: bool,
    /// How sums are scaled back to activations
    #[arg(long, value_enum)]
    requant: Option<Requant>,
    /// A plan as `dyadic job plan --toml` prints it: defaults, then rules by layers' names. What it leaves out, the flags
    /// decide
    #[arg(long, value_name = "FILE.toml")]
    plan: Option<PathBuf>,
    /// Bits of activations that a stride-1 3×3 convolution reads, 4 to 8
    #[arg(long, value_parser = clap::value_parser!(u32).range(4..=8), value_name = "N")]
    activation_bits_3x3: Option<u32>,
    /// Bits of the other activations, 4 to 8
    #[arg(long, value_parser = clap::value_parser!(u32).range(4..=8), value_name = "N")]
    activation_bits: Option<u32>,
}

#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Training")]
struct Training {
    /// Passes over the training images
    #[arg(long, value_name = "N")]
    epochs: Option<u32>,
    /// Images a step
    #[arg(long, value_name = "N")]
    batch_size: Option<u32>,
    /// Highest learning rate of the schedule
    #[arg(long, visible_alias = "lr", value_name = "X")]
    learning_rate: Option<f64>,
    /// Momentum of SGD
    #[arg(long, value_name = "X")]
    momentum: Option<f64>,
    /// Weight decay
    #[arg(long, value_name = "X")]
    weight_decay: Option<f64>,
    /// Seed of everything random
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// What the training minimizes
    #[arg(long, value_enum)]
    loss: Option<Loss>,
    /// Decay of the weights' moving average; 0 for none
    #[arg(long, value_name = "X")]
    ema: Option<f64>,
    /// Part of the training after which exponents are frozen, 0 to 1
    #[arg(long, value_name = "X")]
    freeze_at: Option<f64>,
    /// Threads of the worker
    #[arg(long, value_name = "N")]
    threads: Option<u32>,
    /// Arithmetic of the training; the evaluation is exact either way
    #[arg(long, value_enum)]
    precision: Option<Precision>,
}

#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Images")]
struct Images {
    /// Normalization that the float model was trained with [default: mnist for one channel, cifar10 for three]
    #[arg(long, value_enum, conflicts_with_all = ["mean", "std"])]
    preprocess: Option<Preset>,
    /// Mean of each channel, in units of v/255, as in 0.4914,0.4822,0.4465
    #[arg(long, value_delimiter = ',', requires = "std", value_name = "X,…", allow_negative_numbers = true)]
    mean: Vec<f32>,
    /// Standard deviation of each channel
    #[arg(long, value_delimiter = ',', requires = "mean", value_name = "X,…")]
    std: Vec<f32>,
    /// Split to train with [default: train]
    #[arg(long, value_name = "SPLIT")]
    train_split: Option<String>,
    /// Split to evaluate with [default: test where the dataset has one, else validation]
    #[arg(long, value_name = "SPLIT")]
    eval_split: Option<String>,
    /// Use only N training images, spread evenly over the split
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u64).range(1..))]
    train_limit: Option<u64>,
    /// Use only N evaluation images, spread evenly over the split
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u64).range(1..))]
    eval_limit: Option<u64>,
    /// Shift and mirror training images, or not
    #[arg(long, value_name = "BOOL")]
    augment: Option<bool>,
    /// Set this share of the training images apart as the split "validation", where the dataset has none
    #[arg(long, value_name = "SHARE")]
    validation: Option<f64>,
    /// Leave out broken pictures up to this share of a split [default: 0.01]
    #[arg(long, value_name = "SHARE")]
    skip_broken: Option<f64>,
    /// Names of the model's outputs in their order, a text with one a line or JSON: classes are matched with them by name
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    #[command(flatten)]
    pictures: Pictures,
}

macro_rules! choices {
    ($($(#[$doc:meta])* $name:ident => $proto:ident { $($(#[$variant_doc:meta])* $variant:ident = $to:ident,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
            enum $name { $($(#[$variant_doc])* $variant,)* }

            impl From<$name> for v1::$proto {
                fn from(choice: $name) -> Self {
                    match choice { $($name::$variant => v1::$proto::$to,)* }
                }
            }
        )*
    };
}

choices! {
    Method => Method { Aptq = Aptq, Apq = Apq, }
    Objective => Objective {
        /// Least squares, at a power of two
        L2 = L2,
        /// Smallest angle, at any scale: a normalization takes that up
        Angle = Angle,
    }
    Requant => Requant {
        /// An integer multiplier of at most four signed digits
        Multiplier = Multiplier,
        /// A single shift
        Shift = Shift,
    }
    Loss => Loss {
        Labels = Labels,
        /// The float model's outputs; needs no labels
        Distill = Distill,
        Both = LabelsAndDistill,
    }
    Precision => Precision { F32 = F32, Bf16 = Bf16, }
}

/// Published means and standard deviations, in units of v/255.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Preset {
    Cifar10,
    Cifar100,
    Mnist,
    FashionMnist,
    Imagenet,
}

impl Preset {
    /// The preset's numbers.
    pub(crate) fn normalization(self) -> Normalization {
        let published = match self {
            Preset::Cifar10 => published::CIFAR10,
            Preset::Cifar100 => published::CIFAR100,
            Preset::Mnist => published::MNIST,
            Preset::FashionMnist => published::FASHION_MNIST,
            Preset::Imagenet => published::IMAGENET,
        };
        Normalization { mean: published.mean.to_vec(), std: published.std.to_vec() }
    }
}

/// The normalization that flags give; none if they give none.
pub(crate) fn normalization(
    preset: Option<Preset>,
    mean: &[f32],
    std: &[f32],
) -> Result<Option<Normalization>, String> {
    if let Some(preset) = preset {
        return Ok(Some(preset.normalization()));
    }
    if mean.is_empty() && std.is_empty() {
        return Ok(None);
    }
    if mean.len() != std.len() {
        return Err(format!("--mean has {} channels, --std has {}", mean.len(), std.len()));
    }
    if !mean.iter().all(|m| m.is_finite()) || !std.iter().all(|s| s.is_finite() && *s > 0.0) {
        return Err("--mean must be finite and --std positive".into());
    }
    Ok(Some(Normalization { mean: mean.to_vec(), std: std.to_vec() }))
}

/// Longest text of a plan that the server reads, in bytes.
const MAX_PLAN: u64 = 1 << 21;

/// A plan's text; what is wrong with it the server says.
fn plan(path: &Path) -> Result<String, String> {
    let wrong = |error: std::io::Error| format!("--plan: {}: {error}", path.display());
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_PLAN + 1).read_to_string(&mut text))
        .map_err(wrong)?;
    match text.trim() {
        "" => Err(format!("--plan: {} is empty", path.display())),
        _ if text.len() as u64 > MAX_PLAN => {
            Err(format!("--plan: {} has more than {MAX_PLAN} bytes, which no plan has", path.display()))
        }
        _ => Ok(text),
    }
}

fn number<C, P: From<C> + Into<i32>>(choice: Option<C>) -> i32 {
    choice.map_or(0, |c| P::from(c).into())
}

impl SpecArgs {
    /// The spec, or what is wrong with the flags.
    pub(crate) fn build(&self) -> Result<JobSpec, String> {
        let (q, t, i) = (&self.quantization, &self.training, &self.images);
        if q.method == Some(Method::Aptq) && q.bits.is_some_and(|bits| bits != 2) {
            return Err("--bits belongs to --method apq; aptq is ternary, 2 bits".into());
        }
        let text = |s: &Option<String>| s.clone().unwrap_or_default();
        let activation_bits = ActivationBits { conv3x3: q.activation_bits_3x3, other: q.activation_bits };
        let splits = Splits { train: text(&i.train_split), eval: text(&i.eval_split) };
        Ok(JobSpec {
            model: self.model.clone(),
            dataset: self.dataset.clone(),
            served_name: text(&self.name),
            experiment: text(&self.experiment),
            method: number::<_, v1::Method>(q.method),
            objective: number::<_, v1::Objective>(q.objective),
            codebook: text(&q.codebook),
            bits: q.bits,
            strict: q.strict.then_some(true),
            requant: number::<_, v1::Requant>(q.requant),
            activation_bits: (activation_bits != ActivationBits::default()).then_some(activation_bits),
            epochs: t.epochs,
            batch_size: t.batch_size,
            learning_rate: t.learning_rate,
            momentum: t.momentum,
            weight_decay: t.weight_decay,
            seed: t.seed,
            loss: number::<_, v1::Loss>(t.loss),
            ema: t.ema,
            freeze_at: t.freeze_at,
            threads: t.threads,
            precision: number::<_, v1::Precision>(t.precision),
            train_limit: i.train_limit,
            eval_limit: i.eval_limit,
            augment: i.augment,
            normalization: normalization(i.preprocess, &i.mean, &i.std)?,
            splits: (splits != Splits::default()).then_some(splits),
            priority: self.priority,
            tags: self.tag.clone(),
            preprocess: i.pictures.build()?,
            labels: i.labels.as_deref().map(names).transpose()?.unwrap_or_default(),
            validation: i.validation,
            skip_broken: i.skip_broken,
            plan: q.plan.as_deref().map(plan).transpose()?.unwrap_or_default(),
            promote: text(&self.promote),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        spec: SpecArgs,
    }

    fn build(flags: &str) -> Result<JobSpec, String> {
        let words = ["x", "--model", "m", "--dataset", "d"].into_iter().chain(flags.split_whitespace());
        Line::try_parse_from(words).map_err(|e| e.to_string())?.spec.build()
    }

    #[test]
    fn what_is_not_given_is_left_to_the_server() {
        let spec = build("").unwrap();
        assert_eq!(spec, JobSpec { model: "m".into(), dataset: "d".into(), ..Default::default() });
    }

    #[test]
    fn every_flag_reaches_its_field() {
        let spec = build(
            "--name s --experiment e --tag a=b --priority -3 --method apq --bits 4 --codebook two-term --objective angle --strict --requant shift \
             --activation-bits-3x3 6 --activation-bits 8 --epochs 2 --batch-size 32 --lr 0.1 --momentum 0.8 --weight-decay 0.01 \
             --seed 7 --loss both --ema 0.9 --freeze-at 0.5 --threads 1 --precision bf16 --mean 0.5,0.25 --std 1,2 \
             --train-split t --eval-split v --train-limit 10 --eval-limit 5 --augment false --resize 72 --crop 64 --validation 0.1 --skip-broken 0.05 --promote within:2.5",
        )
        .unwrap();
        let wanted = JobSpec {
            model: "m".into(),
            dataset: "d".into(),
            served_name: "s".into(),
            experiment: "e".into(),
            method: v1::Method::Apq.into(),
            objective: v1::Objective::Angle.into(),
            codebook: "two-term".into(),
            bits: Some(4),
            strict: Some(true),
            requant: v1::Requant::Shift.into(),
            activation_bits: Some(ActivationBits { conv3x3: Some(6), other: Some(8) }),
            epochs: Some(2),
            batch_size: Some(32),
            learning_rate: Some(0.1),
            momentum: Some(0.8),
            weight_decay: Some(0.01),
            seed: Some(7),
            loss: v1::Loss::LabelsAndDistill.into(),
            ema: Some(0.9),
            freeze_at: Some(0.5),
            threads: Some(1),
            precision: v1::Precision::Bf16.into(),
            train_limit: Some(10),
            eval_limit: Some(5),
            augment: Some(false),
            normalization: Some(Normalization { mean: vec![0.5, 0.25], std: vec![1.0, 2.0] }),
            splits: Some(Splits { train: "t".into(), eval: "v".into() }),
            priority: Some(-3),
            tags: vec![Tag { key: "a".into(), value: "b".into() }],
            preprocess: Some(v1::Preprocess {
                shorter_side: 72,
                crop: Some(v1::Size { height: 64, width: 64 }),
                ..Default::default()
            }),
            labels: vec![],
            validation: Some(0.1),
            skip_broken: Some(0.05),
            plan: String::new(),
            promote: "within:2.5".into(),
        };
        assert_eq!(spec, wanted);
    }

    #[test]
    fn limits_that_are_no_numbers_of_images_are_called_so() {
        let said = build("--train-limit -5").unwrap_err();
        assert!(said.contains("invalid value '-5' for '--train-limit <N>'"), "{said}");
        let said = build("--eval-limit 0").unwrap_err();
        assert!(said.contains("invalid value '0' for '--eval-limit <N>'") && said.contains("1.."), "{said}");
    }

    #[test]
    fn levels_and_boundary_are_other_names_of_codebook_and_objective() {
        let old = build("--method apq --levels single-shift --boundary l2").unwrap();
        assert_eq!(old, build("--method apq --codebook single-shift --objective l2").unwrap());
    }

    #[test]
    fn flags_that_contradict_each_other_are_refused() {
        for flags in [
            "--method aptq --bits 3",
            "--objective cosine",
            "--mean 0.5",
            "--mean 0.5 --std 1,2",
            "--mean 0.5 --std 0",
            "--preprocess cifar10 --mean 0 --std 1",
            "--bits 9",
            "--plan /nonexistent/plan.toml",
            "--train-limit 0",
            "--eval-limit -5",
            "--activation-bits 9",
            "--promote sometimes",
            "--promote within:-1",
            "--promote within:200",
        ] {
            assert!(build(flags).is_err(), "{flags}");
        }
    }
}
