//! Rules as TOML: the part of a plan's text that is read back.
//!
//! Codebooks are words: name, bits, and the objective where the codebook has several, as in `two-term 4` or
//! `sign-split 2 angle`.

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::{Defaults, Pattern, Rule, RuleError, Rules, objective};
use crate::codebook::{self, Choice, Objective};

/// Longest text, in bytes.
pub(crate) const MAX_TEXT: usize = 1 << 20;
/// What this version writes and reads.
pub(crate) const VERSION: u32 = 1;

/// The tables that rules are written as.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RulesText {
    defaults: DefaultsText,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rule: Vec<RuleText>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DefaultsText {
    weights: String,
    first: String,
    last: String,
    conv3x3_bits: u8,
    other_bits: u8,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleText {
    layers: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    weights: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    input_bits: Option<u8>,
}

/// A plan's text: what is read of it, and what is left aside because it only says what came of the rules.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanText {
    version: u32,
    #[serde(rename = "network")]
    _network: Option<IgnoredAny>,
    defaults: DefaultsText,
    #[serde(default)]
    rule: Vec<RuleText>,
    #[serde(rename = "total")]
    _total: Option<IgnoredAny>,
    #[serde(rename = "layer")]
    _layers: Option<IgnoredAny>,
}

impl Rules {
    /// Reads the rules of a plan's text; what came of them is not looked at.
    ///
    /// # Errors
    /// [`RuleError`], for a text of another version and whatever is not there or not known.
    pub fn from_toml(text: &str) -> Result<Self, RuleError> {
        if text.len() > MAX_TEXT {
            return Err(RuleError::Text(format!("it has {} bytes; {MAX_TEXT} are allowed", text.len())));
        }
        let read: PlanText = toml::from_str(text).map_err(|e| RuleError::Text(e.to_string()))?;
        if read.version != VERSION {
            let reason = format!("it is of version {}; this program reads {VERSION}", read.version);
            return Err(RuleError::Text(reason));
        }
        let defaults = Defaults {
            weights: choice(&read.defaults.weights)?,
            first: choice(&read.defaults.first)?,
            last: choice(&read.defaults.last)?,
            conv3x3_bits: read.defaults.conv3x3_bits,
            other_bits: read.defaults.other_bits,
        };
        let rule = |rule: RuleText| {
            Ok(Rule {
                layers: Pattern::new(&rule.layers)?,
                weights: rule.weights.as_deref().map(choice).transpose()?,
                input_bits: rule.input_bits,
            })
        };
        Rules::new(defaults, read.rule.into_iter().map(rule).collect::<Result<_, RuleError>>()?)
    }

    /// The tables of these rules.
    pub(crate) fn to_text(&self) -> RulesText {
        let Defaults { weights, first, last, conv3x3_bits, other_bits } = self.defaults;
        let [weights, first, last] = [weights, first, last].map(words);
        let rule = |rule: &Rule| RuleText {
            layers: rule.layers.as_str().to_owned(),
            weights: rule.weights.map(words),
            input_bits: rule.input_bits,
        };
        RulesText {
            defaults: DefaultsText { weights, first, last, conv3x3_bits, other_bits },
            rule: self.rules.iter().map(rule).collect(),
        }
    }
}

/// A codebook in words.
pub(crate) fn words(choice: Choice) -> String {
    let codebook = choice.codebook();
    let objective = match choice.objective() {
        _ if codebook.objectives().len() < 2 => "",
        Objective::L2 => " l2",
        Objective::Angle => " angle",
    };
    format!("{} {}{objective}", codebook.name(), choice.bits())
}

/// A codebook from its words.
fn choice(words: &str) -> Result<Choice, RuleError> {
    let wrong = || RuleError::Text(format!("{words:?} is not a codebook's name, its bits and its objective"));
    let mut parts = words.split_whitespace();
    let codebook = parts.next().and_then(codebook::find).ok_or_else(wrong)?;
    let bits = parts.next().and_then(|bits| bits.parse().ok()).ok_or_else(wrong)?;
    let objective = parts.next().map(objective).transpose()?;
    if parts.next().is_some() {
        return Err(wrong());
    }
    Ok(Choice::new(codebook.family(), Some(codebook.name()), bits, objective)?)
}
