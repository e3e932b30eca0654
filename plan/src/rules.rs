//! What is to become of the layers: defaults, then rules by name, of which the last that matches wins.
//!
//! A rule names layers as the source file does, with `*`, `?`, `[…]` and `{…,…}`; `*` also spans `/` and `.`. Each rule may
//! say one thing or several; of what it leaves out, an earlier rule or the defaults decide.

mod asked;
mod mistake;
pub(crate) mod read;
pub(crate) mod text;

pub use asked::{Asked, Read};
pub use mistake::{Mistake, Mistakes, Place};
pub use text::MAX_TEXT;

use std::collections::HashSet;

use globset::{Glob, GlobMatcher};

use crate::codebook::{Choice, Objective};

/// Most rules.
pub const MAX_RULES: usize = 1000;
/// Longest pattern, in bytes.
pub const MAX_PATTERN: usize = 256;

/// What a plan is made by.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// What holds where no rule says otherwise.
    pub defaults: Defaults,
    rules: Vec<Rule>,
}

/// What holds where no rule says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Defaults {
    /// Codebook of all weighted layers but the first and the last.
    pub weights: Choice,
    /// Codebook of layers that read the network's input.
    pub first: Choice,
    /// Codebook of layers behind which there is no other weighted layer. Where their sums are the output, nothing absorbs
    /// a scale.
    pub last: Choice,
    /// Bits of the codes that a stride-1 3×3 convolution reads, 2 to 8.
    pub conv3x3_bits: u8,
    /// Bits of all other codes, 2 to 8.
    pub other_bits: u8,
}

/// A rule for the layers of some names. Rules are equal that say the same, wherever they stand.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Which layers.
    pub layers: Pattern,
    /// Their codebook.
    pub weights: Option<Choice>,
    /// Bits of the codes that they read, 2 to 8.
    pub input_bits: Option<u8>,
    /// Where it stands in the text that it was read from.
    pub place: Option<Place>,
}

/// A pattern of layers' names.
#[derive(Debug, Clone)]
pub struct Pattern(GlobMatcher);

/// A job's settings, as far as they shape the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Codebook of the weights.
    pub weights: Choice,
    /// Whether the first and the last layer are quantized like the rest, not to 8 bits.
    pub strict: bool,
    /// See [`Defaults::conv3x3_bits`].
    pub conv3x3_bits: u8,
    /// See [`Defaults::other_bits`].
    pub other_bits: u8,
}

/// Where a weighted layer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It reads the network's input.
    First,
    /// Neither first nor last.
    Middle,
    /// No other weighted layer lies between it and the output.
    Last,
}

/// Rules that say what cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// A width of codes.
    #[error("{what}: {bits} bits are not in 2 to 8")]
    Bits {
        /// What is so wide.
        what: &'static str,
        /// How wide.
        bits: u8,
    },
    /// A pattern.
    #[error("pattern {pattern:?}: {reason}")]
    Pattern {
        /// The pattern, or its beginning.
        pattern: String,
        /// What is wrong.
        reason: String,
    },
    /// Too many rules.
    #[error("{0} rules are given; {MAX_RULES} are allowed")]
    Count(usize),
    /// A pattern that stands twice.
    #[error("the pattern {0:?} stands twice; the later rule may say all")]
    Twice(String),
}

impl Rules {
    /// Defaults and rules, the weakest first.
    ///
    /// # Errors
    /// [`RuleError::Bits`], [`RuleError::Count`], and [`RuleError::Twice`]: a text can hold each pattern once.
    pub fn new(defaults: Defaults, rules: Vec<Rule>) -> Result<Self, RuleError> {
        if rules.len() > MAX_RULES {
            return Err(RuleError::Count(rules.len()));
        }
        width("conv3x3_bits", defaults.conv3x3_bits)?;
        width("other_bits", defaults.other_bits)?;
        for bits in rules.iter().filter_map(|rule| rule.input_bits) {
            width("input_bits", bits)?;
        }
        let mut patterns = HashSet::new();
        if let Some(twice) = rules.iter().map(|rule| rule.layers.as_str()).find(|p| !patterns.insert(*p)) {
            return Err(RuleError::Twice(twice.to_owned()));
        }
        Ok(Rules { defaults, rules })
    }

    /// What a job's settings come to: defaults without rules.
    ///
    /// # Errors
    /// [`RuleError::Bits`].
    pub fn of(settings: &Settings) -> Result<Self, RuleError> {
        let Settings { weights, strict, conv3x3_bits, other_bits } = *settings;
        let defaults = Defaults {
            weights,
            first: if strict { weights } else { Choice::linear8() },
            // Nothing after the last layer absorbs a scale, so there the distance counts, not the angle.
            last: if strict { weights.by_distance() } else { Choice::linear8() },
            conv3x3_bits,
            other_bits,
        };
        Rules::new(defaults, Vec::new())
    }

    /// Whether the first and the last layer are quantized like the rest, and not to 8 bits as they would be anyway.
    pub fn is_strict(&self) -> bool {
        let Defaults { weights, first, last, .. } = self.defaults;
        let ends = [weights, weights.by_distance()];
        [first, last] == ends && ends != [Choice::linear8(); 2]
    }

    /// Whether job settings without a plan's text can say the same.
    pub fn is_plain(&self) -> bool {
        let Defaults { weights, conv3x3_bits, other_bits, .. } = self.defaults;
        let settings = Settings { weights, strict: self.is_strict(), conv3x3_bits, other_bits };
        self.rules.is_empty() && Rules::of(&settings).is_ok_and(|plain| plain == *self)
    }

    /// The rules, the weakest first.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The codebook of a weighted layer. The last one is always fitted by distance, since nothing behind it need absorb a
    /// scale.
    pub fn weights(&self, layer: &str, role: Role) -> Choice {
        let default = match role {
            Role::First => self.defaults.first,
            Role::Middle => self.defaults.weights,
            Role::Last => self.defaults.last,
        };
        let chosen = self.last_match(layer, |rule| rule.weights).unwrap_or(default);
        if role == Role::Last { chosen.by_distance() } else { chosen }
    }

    /// Bits that a layer wants of the codes that it reads, where a rule says so.
    pub fn input_bits(&self, layer: &str) -> Option<u8> {
        self.last_match(layer, |rule| rule.input_bits)
    }

    fn last_match<T>(&self, layer: &str, says: impl Fn(&Rule) -> Option<T>) -> Option<T> {
        self.rules.iter().rev().find_map(|rule| says(rule).filter(|_| rule.layers.matches(layer)))
    }
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`RuleError::Pattern`].
    pub fn new(pattern: &str) -> Result<Self, RuleError> {
        let refuse =
            |reason: String| RuleError::Pattern { pattern: pattern.chars().take(80).collect(), reason };
        if pattern.is_empty() || pattern.len() > MAX_PATTERN {
            return Err(refuse(format!("it is not 1 to {MAX_PATTERN} bytes long")));
        }
        Glob::new(pattern)
            .map(|glob| Pattern(glob.compile_matcher()))
            .map_err(|e| refuse(e.kind().to_string()))
    }

    /// Whether a layer's name matches.
    pub fn matches(&self, layer: &str) -> bool {
        self.0.is_match(layer)
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        self.0.glob().glob()
    }
}

impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        let Rule { layers, weights, input_bits, place: _ } = self;
        *layers == other.layers && *weights == other.weights && *input_bits == other.input_bits
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

fn width(what: &'static str, bits: u8) -> Result<(), RuleError> {
    if (2..=8).contains(&bits) { Ok(()) } else { Err(RuleError::Bits { what, bits }) }
}

fn objective(name: &str) -> Option<Objective> {
    [Objective::L2, Objective::Angle].into_iter().find(|objective| objective.name() == name)
}

#[cfg(test)]
mod tests;
