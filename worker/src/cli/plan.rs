//! What the flags, a plan's file and a file of settings come to.
//!
//! The plan and the flags are weighed as a job's are; the file of settings counts where there is no plan beside it.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context, anyhow};
use dyadic_graph::network::Network;
use dyadic_plan::codebook::{self, Family};
use dyadic_plan::{Asked, MAX_TEXT, Mistakes, without_effect};
use dyadic_store::spec::{self, JobSpec};

use super::{Method, Objective, Quantize};

impl Quantize {
    /// Sets the codebook, the plan and all that goes with them.
    ///
    /// # Errors
    /// All mistakes, one a line.
    pub(super) fn choose(&self, spec: &mut JobSpec) -> anyhow::Result<()> {
        let text = self.plan.as_deref().map(text).transpose()?;
        let file = (self.spec.is_some() && text.is_none()).then(|| spec.clone());
        let asked = self.asked(text.as_deref(), file.as_ref());
        let rules = asked.rules().map_err(|Mistakes(all)| {
            let lines: Vec<String> = all.iter().map(ToString::to_string).collect();
            anyhow!("what is asked for cannot be:\n  {}", lines.join("\n  "))
        })?;
        let weights = rules.defaults.weights;
        spec.method = match weights.codebook().family() {
            Family::Aptq => spec::Method::Aptq,
            Family::Apq => spec::Method::Apq,
        };
        spec.codebook = Some(weights.codebook().name().to_string());
        spec.objective = Some(match weights.objective() {
            codebook::Objective::L2 => spec::Objective::L2,
            codebook::Objective::Angle => spec::Objective::Angle,
        });
        spec.bits = weights.bits();
        spec.strict = asked.strict || rules.is_strict();
        spec.activation_bits.conv3x3 = rules.defaults.conv3x3_bits;
        spec.activation_bits.other = rules.defaults.other_bits;
        spec.plan = (!rules.is_plain()).then(|| rules.to_toml());
        Ok(())
    }

    /// Looks whether every line of the plan's file says something of a layer, while its lines are still known: a
    /// specification keeps the rules in its own words.
    ///
    /// # Errors
    /// All lines that do not.
    pub(super) fn check_plan(&self, network: &Network) -> anyhow::Result<()> {
        let Some(text) = self.plan.as_deref().map(text).transpose()? else { return Ok(()) };
        let rules = self.asked(Some(&text), None).read().rules;
        let lines: Vec<String> = without_effect(network, &rules).iter().map(ToString::to_string).collect();
        if lines.is_empty() { Ok(()) } else { Err(anyhow!("{}", lines.join("\n"))) }
    }

    fn asked<'a>(&'a self, text: Option<&'a str>, file: Option<&'a JobSpec>) -> Asked<'a> {
        // Another method or codebook has other widths.
        let same = file.filter(|_| self.method.is_none() && self.codebook.is_none());
        let method = self.method.map(|method| match method {
            Method::Aptq => Family::Aptq,
            Method::Apq => Family::Apq,
        });
        let objective = self.objective.map(|objective| match objective {
            Objective::L2 => codebook::Objective::L2,
            Objective::Angle => codebook::Objective::Angle,
        });
        let of_file = same.and_then(|file| file.objective).map(|objective| match objective {
            spec::Objective::L2 => codebook::Objective::L2,
            spec::Objective::Angle => codebook::Objective::Angle,
        });
        Asked {
            method: method.or(same.map(|file| match file.method {
                spec::Method::Aptq => Family::Aptq,
                spec::Method::Apq => Family::Apq,
            })),
            codebook: self.codebook.as_deref().or(same.and_then(|file| file.codebook.as_deref())),
            bits: self.bits.or(same.map(|file| file.bits)).map(u32::from),
            objective: objective.or(of_file),
            strict: self.strict || file.is_some_and(|file| file.strict),
            conv3x3_bits: file.map(|file| file.activation_bits.conv3x3.into()),
            other_bits: file.map(|file| file.activation_bits.other.into()),
            plan: text.or(file.and_then(|file| file.plan.as_deref())),
        }
    }
}

/// A plan's text, not more of it than a plan may have.
fn text(path: &Path) -> anyhow::Result<String> {
    let name = || path.display().to_string();
    let mut text = String::new();
    let file = fs::File::open(path).with_context(name)?;
    file.take(MAX_TEXT as u64 + 1).read_to_string(&mut text).with_context(name)?;
    Ok(text)
}
