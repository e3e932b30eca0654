//! What a quantization job is asked to do: plain data, shared by queue, server and worker.

mod stored;

pub use stored::{StoredSpec, UnreadableSpec};

use serde::{Deserialize, Serialize};

/// Which algorithm quantizes the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Ternary: two power-of-two subfilters a filter.
    Aptq,
    /// Several subfilters, any width.
    Apq,
}

/// What a codebook optimizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// Euclidean distance.
    L2,
    /// Angle: any scale is absorbed by the normalization that follows.
    Angle,
}

/// What multipliers the requantization may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Requant {
    /// 7-bit integers, at most four signed powers of two.
    Multiplier,
    /// ±2^j only.
    Shift,
}

/// What training minimizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// Cross entropy with the labels.
    Label,
    /// Cross entropy with the float network's own outputs; needs no labels.
    Distill,
    /// The mean of both.
    Both,
}

/// Arithmetic of training. The exported network and its evaluation are integers whatever stands here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// bf16 where the hardware computes in it, else f32.
    Auto,
    /// 32-bit floats.
    F32,
    /// bfloat16 activations and weights, f32 statistics and parameters.
    Bf16,
}

/// Widths of activation codes, 4 to 8 each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActivationBits {
    /// Where a stride-1 3×3 convolution reads.
    pub conv3x3: u8,
    /// Everywhere else.
    pub other: u8,
}

/// Normalization of 8-bit images: `(v/255 − mean) / std`, one pair a channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Normalization {
    /// Means.
    pub mean: Vec<f32>,
    /// Standard deviations, > 0.
    pub std: Vec<f32>,
}

/// A job's settings, all defaults resolved. As JSON they are stored only, and read through [`StoredSpec`], which tells of
/// fields that are not known and reads the names that fields had before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobSpec {
    /// Algorithm.
    pub method: Method,
    /// Reading of the algorithm, by its codebook's name; unset: the default at this width.
    pub codebook: Option<String>,
    /// What the codebook optimizes; unset: the codebook's default.
    pub objective: Option<Objective>,
    /// Bits a weight.
    pub bits: u8,
    /// Quantize the first and last layer like the rest, not to 8 bits.
    pub strict: bool,
    /// Multipliers of the requantization.
    pub requant: Requant,
    /// Passes over the training images; 0 quantizes without training.
    pub epochs: u32,
    /// Images a step.
    pub batch_size: u32,
    /// Peak rate of the cosine schedule.
    pub learning_rate: f64,
    /// SGD's momentum.
    pub momentum: f64,
    /// Decay of the weights (not of normalizations).
    pub weight_decay: f64,
    /// Seed of all randomness.
    pub seed: u64,
    /// What is minimized.
    pub loss: Loss,
    /// Share of the old value in the moving average of all parameters, which is then what is exported.
    pub ema: Option<f64>,
    /// Share of the steps after which codebooks and activation steps no longer change.
    pub freeze_at: f64,
    /// Widths of activations.
    pub activation_bits: ActivationBits,
    /// libtorch's threads; unset: all cores.
    pub threads: Option<u32>,
    /// Arithmetic of training.
    pub precision: Precision,
    /// Use only this many training images.
    pub train_limit: Option<u32>,
    /// Use only this many evaluation images.
    pub eval_limit: Option<u32>,
    /// Random crop, and horizontal flip where the dataset's classes allow it.
    pub augment: bool,
    /// Preprocessing of images, one pair a channel; the default is that of CIFAR-10.
    pub normalization: Normalization,
    /// What is done to pictures before the network reads them, as `dyadic-data` writes it; unset: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preprocess: Option<serde_json::Value>,
    /// Names of the network's outputs where classes are matched with them by name; empty: labels are outputs' numbers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// Share of the training images that makes a validation split; unset: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation: Option<f64>,
    /// Share of a split's pictures that may be broken; unset: 0.01.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skip_broken: Option<f64>,
    /// The text of a plan that says more than the settings above can: its rules, with every default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
}

/// A setting that is out of range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct SpecError {
    /// The field's name.
    pub field: &'static str,
    /// Expected and actual.
    pub reason: String,
}

impl Default for JobSpec {
    fn default() -> Self {
        JobSpec {
            method: Method::Aptq,
            codebook: None,
            objective: None,
            bits: 2,
            strict: false,
            requant: Requant::Multiplier,
            epochs: 20,
            batch_size: 128,
            learning_rate: 0.02,
            momentum: 0.9,
            weight_decay: 1e-4,
            seed: 1,
            loss: Loss::Label,
            ema: None,
            freeze_at: 0.6,
            activation_bits: ActivationBits { conv3x3: 6, other: 8 },
            threads: None,
            precision: Precision::Auto,
            train_limit: None,
            eval_limit: None,
            augment: true,
            normalization: Normalization {
                mean: vec![0.4914, 0.4822, 0.4465],
                std: vec![0.2470, 0.2435, 0.2616],
            },
            preprocess: None,
            labels: Vec::new(),
            validation: None,
            skip_broken: None,
            plan: None,
        }
    }
}

/// Most epochs of one job.
const EPOCHS_MAX: u32 = 10_000;

impl JobSpec {
    /// Checks every range; which widths a codebook has is known where codebooks are.
    ///
    /// # Errors
    /// The first field that is out of range.
    pub fn validate(&self) -> Result<(), SpecError> {
        self.validate_widths()?;
        let fail = |field, reason: String| Err(SpecError { field, reason });
        let share = |x: f64| (0.0..=1.0).contains(&x);
        if self.epochs > EPOCHS_MAX {
            return fail("epochs", format!("{} is more than {EPOCHS_MAX}", self.epochs));
        }
        if !(1..=65_536).contains(&self.batch_size) {
            return fail("batch_size", format!("{} is not in 1 to 65536", self.batch_size));
        }
        if !(self.learning_rate.is_finite() && self.learning_rate > 0.0) {
            return fail("learning_rate", format!("{} is not a positive number", self.learning_rate));
        }
        if !(share(self.momentum) && self.momentum < 1.0) {
            return fail("momentum", format!("{} is not in 0 to 1 (1 excluded)", self.momentum));
        }
        if !share(self.weight_decay) {
            return fail("weight_decay", format!("{} is not in 0 to 1", self.weight_decay));
        }
        if let Some(ema) = self.ema.filter(|&e| !(share(e) && e < 1.0)) {
            return fail("ema", format!("{ema} is not in 0 to 1 (1 excluded)"));
        }
        if !share(self.freeze_at) {
            return fail("freeze_at", format!("{} is not in 0 to 1", self.freeze_at));
        }
        for (field, value) in
            [("threads", self.threads), ("train_limit", self.train_limit), ("eval_limit", self.eval_limit)]
        {
            let most = if field == "threads" { 1024 } else { u32::MAX };
            if let Some(value) = value.filter(|value| !(1..=most).contains(value)) {
                let range =
                    if most == u32::MAX { "at least 1".to_owned() } else { format!("in 1 to {most}") };
                return fail(field, format!("{value} is not {range}; leave it out for the default"));
            }
        }
        if let Some(part) = self.validation.filter(|part| !(*part > 0.0 && *part <= 0.5)) {
            return fail("validation", format!("{part} is not above 0 and at most 0.5"));
        }
        if let Some(part) = self.skip_broken.filter(|part| !share(*part)) {
            return fail("skip_broken", format!("{part} is not in 0 to 1"));
        }
        let Normalization { mean, std } = &self.normalization;
        if mean.len() != std.len() || mean.len() > 16 {
            return fail(
                "normalization",
                format!("{} means and {} standard deviations", mean.len(), std.len()),
            );
        }
        if mean.iter().any(|m| !m.is_finite()) || std.iter().any(|s| !(s.is_finite() && *s > 0.0)) {
            return fail("normalization", "means must be finite and standard deviations positive".into());
        }
        Ok(())
    }

    fn validate_widths(&self) -> Result<(), SpecError> {
        let fail = |field, reason: String| Err(SpecError { field, reason });
        if !(2..=8).contains(&self.bits) {
            return fail("bits", format!("{} is not in 2 to 8", self.bits));
        }
        for (field, bits) in [
            ("activation_bits.conv3x3", self.activation_bits.conv3x3),
            ("activation_bits.other", self.activation_bits.other),
        ] {
            if !(4..=8).contains(&bits) {
                return fail(field, format!("{bits} is not in 4 to 8"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_survive_json() {
        let spec = JobSpec::default();
        assert_eq!(spec.validate(), Ok(()));
        let text = serde_json::to_string(&spec).expect("plain data");
        assert_eq!(serde_json::from_str::<JobSpec>(&text).expect("its own form"), spec);
        assert_eq!(serde_json::from_str::<JobSpec>("{}").expect("all defaults"), spec);
        let misspelt = StoredSpec::from(serde_json::json!({"epoch": 3}));
        assert!(misspelt.runnable().is_err());
    }

    #[test]
    fn every_range_names_its_field() {
        let d = JobSpec::default;
        let cases = [
            (JobSpec { bits: 1, ..d() }, "bits"),
            (JobSpec { method: Method::Apq, bits: 9, ..d() }, "bits"),
            (JobSpec { batch_size: 0, ..d() }, "batch_size"),
            (JobSpec { learning_rate: f64::NAN, ..d() }, "learning_rate"),
            (JobSpec { learning_rate: 0.0, ..d() }, "learning_rate"),
            (JobSpec { momentum: 1.0, ..d() }, "momentum"),
            (JobSpec { weight_decay: -0.1, ..d() }, "weight_decay"),
            (JobSpec { ema: Some(1.0), ..d() }, "ema"),
            (JobSpec { freeze_at: 1.5, ..d() }, "freeze_at"),
            (JobSpec { threads: Some(0), ..d() }, "threads"),
            (JobSpec { eval_limit: Some(0), ..d() }, "eval_limit"),
            (JobSpec { epochs: 10_001, ..d() }, "epochs"),
            (JobSpec { validation: Some(0.6), ..d() }, "validation"),
            (JobSpec { validation: Some(0.0), ..d() }, "validation"),
            (JobSpec { skip_broken: Some(-0.1), ..d() }, "skip_broken"),
            (
                JobSpec { activation_bits: ActivationBits { conv3x3: 3, other: 8 }, ..d() },
                "activation_bits.conv3x3",
            ),
            (
                JobSpec { normalization: Normalization { mean: vec![0.0], std: vec![0.0] }, ..d() },
                "normalization",
            ),
            (
                JobSpec { normalization: Normalization { mean: vec![0.0], std: vec![] }, ..d() },
                "normalization",
            ),
        ];
        for (spec, field) in cases {
            assert_eq!(spec.validate().expect_err(field).field, field);
        }
    }
}
