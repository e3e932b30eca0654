//! A job's settings between the API and the domain: unset means the default on the way in, everything is set on the way out.

mod preprocess;

pub(crate) use preprocess::with_color;

use dyadic_plan::codebook::{self, Family};
use dyadic_plan::{Asked, Mistake, Read, Rules};
use dyadic_proto::v1 as pb;
use dyadic_store::spec::{
    ActivationBits, JobSpec, Loss, Method, Normalization, Objective, Precision, Requant,
};

use crate::error::{ApiError, Reason};

/// A submitted spec, read.
pub(crate) struct Settled {
    /// Its training settings, defaults filled in and ranges checked. With mistakes, those that shape the plan may have
    /// their defaults.
    pub(crate) settings: JobSpec,
    /// What shapes the plan, as far as it could be read.
    pub(crate) rules: Rules,
    /// What stands against its settings and its plan.
    pub(crate) mistakes: Vec<Reason>,
}

/// The settings of a submitted spec.
pub(crate) fn settle(spec: &pb::JobSpec) -> Result<Settled, ApiError> {
    let unset = JobSpec::default();
    let Read { rules, mistakes } = read(spec)?;
    let weights = rules.defaults.weights;
    let settings = JobSpec {
        method: match weights.codebook().family() {
            Family::Aptq => Method::Aptq,
            Family::Apq => Method::Apq,
        },
        codebook: Some(weights.codebook().name().to_string()),
        objective: Some(match weights.objective() {
            codebook::Objective::L2 => Objective::L2,
            codebook::Objective::Angle => Objective::Angle,
        }),
        bits: weights.bits(),
        strict: spec.strict.unwrap_or(false) || rules.is_strict(),
        requant: requant(spec.requant)?.unwrap_or(unset.requant),
        epochs: spec.epochs.unwrap_or(unset.epochs),
        batch_size: spec.batch_size.unwrap_or(unset.batch_size),
        learning_rate: spec.learning_rate.unwrap_or(unset.learning_rate),
        momentum: spec.momentum.unwrap_or(unset.momentum),
        weight_decay: spec.weight_decay.unwrap_or(unset.weight_decay),
        seed: spec.seed.unwrap_or(unset.seed),
        loss: loss(spec.loss)?.unwrap_or(unset.loss),
        ema: spec.ema.map_or(unset.ema, |decay| (decay != 0.0).then_some(decay)),
        freeze_at: spec.freeze_at.unwrap_or(unset.freeze_at),
        activation_bits: ActivationBits {
            conv3x3: rules.defaults.conv3x3_bits,
            other: rules.defaults.other_bits,
        },
        threads: spec.threads,
        precision: precision(spec.precision)?.unwrap_or(unset.precision),
        train_limit: limit("train_limit", spec.train_limit)?,
        eval_limit: limit("eval_limit", spec.eval_limit)?,
        augment: spec.augment.unwrap_or(unset.augment),
        normalization: normalization(spec.normalization.as_ref()),
        preprocess: spec.preprocess.as_ref().map(preprocess::settings).transpose()?,
        labels: spec.labels.clone(),
        validation: spec.validation,
        skip_broken: spec.skip_broken,
        plan: (!rules.is_plain()).then(|| rules.to_toml()),
    };
    let reason = |mistake: Mistake| Reason::new(mistake.field, mistake.to_string());
    let mut mistakes: Vec<_> = mistakes.into_iter().map(reason).collect();
    mistakes.extend(settings.validate().err().map(|error| Reason::new(error.field, error.reason)));
    Ok(Settled { settings, rules, mistakes })
}

/// What a spec asks for of the plan.
fn read(spec: &pb::JobSpec) -> Result<Read, ApiError> {
    let bits = spec.activation_bits.unwrap_or_default();
    let asked = Asked {
        method: method(spec.method)?,
        codebook: set(&spec.codebook),
        bits: spec.bits,
        objective: objective(spec.objective)?,
        strict: spec.strict.unwrap_or(false),
        conv3x3_bits: bits.conv3x3,
        other_bits: bits.other,
        plan: set(&spec.plan),
    };
    Ok(asked.read())
}

fn set(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// The rules of settings that were settled before.
pub(crate) fn rules(settings: &JobSpec) -> Result<Rules, ApiError> {
    let settled = settle(&to_proto(settings))?;
    if settled.mistakes.is_empty() { Ok(settled.rules) } else { Err(ApiError::Refused(settled.mistakes)) }
}

/// The same settings for the API.
pub(crate) fn to_proto(settings: &JobSpec) -> pb::JobSpec {
    let ActivationBits { conv3x3, other } = settings.activation_bits;
    let Normalization { mean, std } = settings.normalization.clone();
    pb::JobSpec {
        method: match settings.method {
            Method::Aptq => pb::Method::Aptq,
            Method::Apq => pb::Method::Apq,
        }
        .into(),
        codebook: settings.codebook.clone().unwrap_or_default(),
        objective: match settings.objective {
            None => pb::Objective::Unspecified,
            Some(Objective::L2) => pb::Objective::L2,
            Some(Objective::Angle) => pb::Objective::Angle,
        }
        .into(),
        bits: Some(settings.bits.into()),
        strict: Some(settings.strict),
        requant: match settings.requant {
            Requant::Multiplier => pb::Requant::Multiplier,
            Requant::Shift => pb::Requant::Shift,
        }
        .into(),
        activation_bits: Some(pb::ActivationBits {
            conv3x3: Some(conv3x3.into()),
            other: Some(other.into()),
        }),
        epochs: Some(settings.epochs),
        batch_size: Some(settings.batch_size),
        learning_rate: Some(settings.learning_rate),
        momentum: Some(settings.momentum),
        weight_decay: Some(settings.weight_decay),
        seed: Some(settings.seed),
        loss: match settings.loss {
            Loss::Label => pb::Loss::Labels,
            Loss::Distill => pb::Loss::Distill,
            Loss::Both => pb::Loss::LabelsAndDistill,
        }
        .into(),
        ema: settings.ema,
        freeze_at: Some(settings.freeze_at),
        threads: settings.threads,
        precision: match settings.precision {
            Precision::Auto => pb::Precision::Auto,
            Precision::F32 => pb::Precision::F32,
            Precision::Bf16 => pb::Precision::Bf16,
        }
        .into(),
        train_limit: settings.train_limit.map(u64::from),
        eval_limit: settings.eval_limit.map(u64::from),
        augment: Some(settings.augment),
        normalization: (!mean.is_empty()).then_some(pb::Normalization { mean, std }),
        preprocess: settings.preprocess.as_ref().and_then(preprocess::to_proto),
        labels: settings.labels.clone(),
        validation: settings.validation,
        skip_broken: settings.skip_broken,
        plan: settings.plan.clone().unwrap_or_default(),
        ..pb::JobSpec::default()
    }
}

/// An enum's value; `None` for its UNSPECIFIED.
fn choice<P: TryFrom<i32>, D>(
    field: &str,
    value: i32,
    domain: impl Fn(P) -> Option<D>,
) -> Result<Option<D>, ApiError> {
    let value =
        P::try_from(value).map_err(|_| ApiError::field(field, format!("{value} is not a value of it")))?;
    Ok(domain(value))
}

fn method(value: i32) -> Result<Option<Family>, ApiError> {
    choice("method", value, |value| match value {
        pb::Method::Unspecified => None,
        pb::Method::Aptq => Some(Family::Aptq),
        pb::Method::Apq => Some(Family::Apq),
    })
}

fn objective(value: i32) -> Result<Option<codebook::Objective>, ApiError> {
    choice("objective", value, |value| match value {
        pb::Objective::Unspecified => None,
        pb::Objective::L2 => Some(codebook::Objective::L2),
        pb::Objective::Angle => Some(codebook::Objective::Angle),
    })
}

fn requant(value: i32) -> Result<Option<Requant>, ApiError> {
    choice("requant", value, |value| match value {
        pb::Requant::Unspecified => None,
        pb::Requant::Multiplier => Some(Requant::Multiplier),
        pb::Requant::Shift => Some(Requant::Shift),
    })
}

fn loss(value: i32) -> Result<Option<Loss>, ApiError> {
    choice("loss", value, |value| match value {
        pb::Loss::Unspecified => None,
        pb::Loss::Labels => Some(Loss::Label),
        pb::Loss::Distill => Some(Loss::Distill),
        pb::Loss::LabelsAndDistill => Some(Loss::Both),
    })
}

fn precision(value: i32) -> Result<Option<Precision>, ApiError> {
    choice("precision", value, |value| match value {
        pb::Precision::Unspecified => None,
        pb::Precision::Auto => Some(Precision::Auto),
        pb::Precision::F32 => Some(Precision::F32),
        pb::Precision::Bf16 => Some(Precision::Bf16),
    })
}

fn limit(field: &str, value: Option<u64>) -> Result<Option<u32>, ApiError> {
    let narrow =
        |value| u32::try_from(value).map_err(|_| ApiError::field(field, format!("{value} is too large")));
    value.map(narrow).transpose()
}

/// Unset becomes empty, which stands for what suits the dataset.
fn normalization(given: Option<&pb::Normalization>) -> Normalization {
    given.map_or(Normalization { mean: Vec::new(), std: Vec::new() }, |given| Normalization {
        mean: given.mean.clone(),
        std: given.std.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The settings, or all that stands against them.
    fn settings(spec: &pb::JobSpec) -> Result<JobSpec, ApiError> {
        let settled = settle(spec)?;
        if settled.mistakes.is_empty() {
            Ok(settled.settings)
        } else {
            Err(ApiError::Refused(settled.mistakes))
        }
    }

    #[test]
    fn nothing_set_means_the_defaults() {
        let settings = settings(&pb::JobSpec::default()).unwrap();
        let unset = Normalization { mean: vec![], std: vec![] };
        let (codebook, objective) = (Some("sign-split".to_string()), Some(Objective::Angle));
        let wanted = JobSpec { normalization: unset, codebook, objective, ..JobSpec::default() };
        assert_eq!(settings, wanted);
    }

    #[test]
    fn what_is_resolved_resolves_to_itself() {
        let cases = [
            pb::JobSpec::default(),
            pb::JobSpec { method: pb::Method::Apq.into(), ..Default::default() },
            pb::JobSpec {
                method: pb::Method::Apq.into(),
                bits: Some(5),
                ema: Some(0.999),
                ..Default::default()
            },
            pb::JobSpec {
                codebook: "two-term".into(),
                objective: pb::Objective::Angle.into(),
                loss: pb::Loss::Distill.into(),
                requant: pb::Requant::Shift.into(),
                train_limit: Some(10),
                normalization: Some(pb::Normalization { mean: vec![0.5], std: vec![0.25] }),
                preprocess: Some(pb::Preprocess {
                    shorter_side: 72,
                    crop: Some(pb::Size { height: 64, width: 64 }),
                    color: pb::Color::Bgr.into(),
                    ..Default::default()
                }),
                validation: Some(0.1),
                skip_broken: Some(0.0),
                ..Default::default()
            },
            pb::JobSpec { codebook: "linear8".into(), strict: Some(true), ..Default::default() },
            pb::JobSpec {
                plan: "version = 1\n[defaults]\nfirst = { bits = 4 }\n[layers]\n\"a*\" = \"skip\"\n".into(),
                method: pb::Method::Apq.into(),
                ..Default::default()
            },
        ];
        for case in cases {
            let resolved = to_proto(&settings(&case).unwrap());
            assert_eq!(to_proto(&settings(&resolved).unwrap()), resolved, "{case:?}");
        }
    }

    #[test]
    fn a_text_that_settings_can_say_as_well_is_not_kept() {
        let plain = pb::JobSpec {
            method: pb::Method::Apq.into(),
            bits: Some(4),
            strict: Some(true),
            ..Default::default()
        };
        let settled = settle(&plain).unwrap();
        let again = pb::JobSpec { plan: settled.rules.to_toml(), ..Default::default() };
        assert_eq!(settle(&again).unwrap().settings, settled.settings);
        assert_eq!(settled.settings.plan, None);
    }

    #[test]
    fn a_codebook_is_enough_and_a_wrong_one_is_answered_with_all() {
        let named = |codebook: &str| pb::JobSpec { codebook: codebook.into(), ..Default::default() };
        for codebook in codebook::all() {
            let settings = settings(&named(codebook.name())).unwrap();
            assert_eq!(settings.codebook.as_deref(), Some(codebook.name()));
            assert!(codebook.widths().contains(&settings.bits), "{}", codebook.name());
        }
        let apq = pb::JobSpec { method: pb::Method::Apq.into(), ..named("unary") };
        let message = settings(&apq).unwrap_err().to_string();
        for codebook in Family::Apq.codebooks() {
            assert!(message.contains(codebook.name()), "{message}");
        }
        let narrow = pb::JobSpec { bits: Some(3), ..named("two-term") };
        let message = settings(&narrow).unwrap_err().to_string();
        assert!(message.contains("3 is not a width of two-term, which has 4, 5"), "{message}");
    }

    #[test]
    fn what_is_out_of_range_names_its_field() {
        let d = pb::JobSpec::default;
        let apq = || pb::JobSpec { method: pb::Method::Apq.into(), ..d() };
        let narrow = pb::ActivationBits { conv3x3: Some(300), other: None };
        let cases = [
            (pb::JobSpec { method: 99, ..d() }, "method"),
            (pb::JobSpec { objective: 7, ..d() }, "objective"),
            (pb::JobSpec { codebook: "three-term".into(), ..d() }, "codebook"),
            (pb::JobSpec { codebook: "additive".into(), ..apq() }, "codebook"),
            (pb::JobSpec { codebook: "two-term".into(), bits: Some(3), ..apq() }, "bits"),
            (pb::JobSpec { loss: -1, ..d() }, "loss"),
            (pb::JobSpec { bits: Some(300), ..d() }, "bits"),
            (pb::JobSpec { bits: Some(3), ..d() }, "bits"),
            (pb::JobSpec { bits: Some(9), ..apq() }, "bits"),
            (pb::JobSpec { batch_size: Some(0), ..d() }, "batch_size"),
            (pb::JobSpec { learning_rate: Some(f64::NAN), ..d() }, "learning_rate"),
            (pb::JobSpec { train_limit: Some(1 << 40), ..d() }, "train_limit"),
            (pb::JobSpec { activation_bits: Some(narrow), ..d() }, "activation_bits.conv3x3"),
        ];
        for (spec, field) in cases {
            match settings(&spec) {
                Err(ApiError::Field { field: named, .. }) => assert_eq!(named, field),
                Err(ApiError::Refused(reasons)) => assert_eq!(reasons[0].field, field, "{reasons:?}"),
                other => panic!("{field}: {other:?}"),
            }
        }
    }
}
