//! What a job asks for: its settings, and a plan's text beside them. The one place where both become rules.
//!
//! What the text says holds; what it leaves out, the settings decide; a setting that says otherwise than the text is a
//! mistake, so that neither is passed over in silence. What no one says has its default. Settings that were filled in from
//! the rules of a text therefore give the same rules with the same text again.

use super::mistake::{Mistake, Mistakes};
use super::read::{self, At, Draft, Entry};
use super::{Defaults, Rule, Rules};
use crate::codebook::{self, Choice, Family, NoSuchCodebook, Objective};

/// Bits of the codes that a stride-1 3×3 convolution reads, where nothing is said.
const CONV3X3_BITS: u8 = 6;
/// Bits of all other codes, where nothing is said.
const OTHER_BITS: u8 = 8;

/// Settings of a job that shape its plan; what is `None` was not asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked<'a> {
    /// Algorithm.
    pub method: Option<Family>,
    /// A codebook's name.
    pub codebook: Option<&'a str>,
    /// Bits of a weight's code.
    pub bits: Option<u32>,
    /// What the codebook optimizes.
    pub objective: Option<Objective>,
    /// Whether the first and the last layer are quantized like the rest, not to 8 bits.
    pub strict: bool,
    /// See [`Defaults::conv3x3_bits`]; 4 to 8.
    pub conv3x3_bits: Option<u32>,
    /// See [`Defaults::other_bits`]; 4 to 8.
    pub other_bits: Option<u32>,
    /// A plan's text.
    pub plan: Option<&'a str>,
}

/// What could be read of what is asked for. With mistakes, the rules have what is right of it, so that more can be found.
#[derive(Debug, Clone)]
pub struct Read {
    /// The rules.
    pub rules: Rules,
    /// All that is wrong.
    pub mistakes: Vec<Mistake>,
}

impl Asked<'_> {
    /// The rules.
    ///
    /// # Errors
    /// All [`Mistakes`].
    pub fn rules(&self) -> Result<Rules, Mistakes> {
        let Read { rules, mistakes } = self.read();
        if mistakes.is_empty() { Ok(rules) } else { Err(Mistakes(mistakes)) }
    }

    /// The rules as far as they can be read, and all mistakes.
    pub fn read(&self) -> Read {
        let (draft, mut mistakes) = self.plan.map_or_else(Default::default, read::read);
        let defaults = self.defaults(&draft, &mut mistakes);
        let rule = |named: read::Named| {
            let Entry { place, skip, input_bits, .. } = named.entry;
            let (weights, input_bits) = if skip {
                (Some(Choice::linear8()), Some(8))
            } else {
                (choice(&named.entry, defaults.weights, &mut mistakes), input_bits)
            };
            Rule { layers: named.layers, weights, input_bits, place: Some(place) }
        };
        let rules = draft.layers.into_iter().map(rule).collect();
        mistakes.sort_by_key(|mistake| mistake.place);
        Read { rules: Rules { defaults, rules }, mistakes }
    }

    fn defaults(&self, draft: &Draft, mistakes: &mut Vec<Mistake>) -> Defaults {
        let weights = match &draft.weights {
            Some(entry) => {
                let choice = choice(entry, standard(), mistakes).unwrap_or_else(standard);
                if !entry.broken {
                    self.against_weights(choice, entry, mistakes);
                }
                choice
            }
            None => self.of_settings(mistakes),
        };
        // Nothing after the last layer absorbs a scale, so there the distance counts, not the angle.
        let [first, last] =
            if self.strict { [weights, weights.by_distance()] } else { [Choice::linear8(); 2] };
        let end = |entry: &Option<Entry>, unset: Choice, mistakes: &mut Vec<Mistake>| {
            let Some(entry) = entry else { return unset };
            let said = choice(entry, weights, mistakes).unwrap_or(unset);
            if self.strict && said != unset && !entry.broken {
                let what = format!("the plan says {said} here; strict says {unset}");
                mistakes.push(Mistake { field: "strict", place: Some(entry.place), what });
            }
            said
        };
        let first = end(&draft.first, first, mistakes);
        let last = end(&draft.last, last, mistakes);
        let conv3x3 = ("activation_bits.conv3x3", self.conv3x3_bits, CONV3X3_BITS);
        let other = ("activation_bits.other", self.other_bits, OTHER_BITS);
        Defaults {
            weights,
            first,
            last,
            conv3x3_bits: width(conv3x3, draft.conv3x3_bits, mistakes),
            other_bits: width(other, draft.other_bits, mistakes),
        }
    }

    /// The codebook of the settings alone.
    fn of_settings(&self, mistakes: &mut Vec<Mistake>) -> Choice {
        let of_name = self.codebook.and_then(codebook::find).map(codebook::Codebook::family);
        let family = self.method.or(of_name).unwrap_or(Family::Aptq);
        let bits = match self.bits {
            // No codebook has more than 8.
            Some(bits) => Ok(u8::try_from(bits).unwrap_or(u8::MAX)),
            None => Choice::default_bits(family, self.codebook),
        };
        let chosen = bits.and_then(|bits| Choice::new(family, self.codebook, bits, self.objective));
        chosen.unwrap_or_else(|error| {
            mistakes.push(Mistake { field: field(&error), place: None, what: error.to_string() });
            standard()
        })
    }

    /// Settings that say otherwise than the text.
    fn against_weights(&self, said: Choice, entry: &Entry, mistakes: &mut Vec<Mistake>) {
        let codebook = said.codebook();
        let method = self.method.filter(|&method| method != codebook.family()).map(Family::name);
        let name = self.codebook.filter(|&name| name != codebook.name());
        let bits = self.bits.filter(|&bits| bits != u32::from(said.bits())).map(|bits| bits.to_string());
        let objective = self.objective.filter(|&o| o != said.objective()).map(Objective::name);
        for (field, asked) in [
            ("method", method.map(str::to_owned)),
            ("codebook", name.map(str::to_owned)),
            ("bits", bits),
            ("objective", objective.map(str::to_owned)),
        ] {
            if let Some(asked) = asked {
                let what = format!("the plan says {said} here; {field} {asked} is asked for beside it");
                mistakes.push(Mistake { field, place: Some(entry.place), what });
            }
        }
    }
}

/// What is taken where nothing is said.
fn standard() -> Choice {
    Choice::standard()
}

/// The setting that an error concerns.
fn field(error: &NoSuchCodebook) -> &'static str {
    match error {
        NoSuchCodebook::Name { .. } => "codebook",
        NoSuchCodebook::Bits { .. } => "bits",
        NoSuchCodebook::Objective { .. } => "objective",
    }
}

/// A width of the text, of the settings, or its default.
fn width(
    (field, asked, unset): (&'static str, Option<u32>, u8),
    said: Option<At<u8>>,
    mistakes: &mut Vec<Mistake>,
) -> u8 {
    let asked = asked.and_then(|asked| {
        let width = u8::try_from(asked).ok().filter(|width| (4..=8).contains(width));
        if width.is_none() {
            mistakes.push(Mistake { field, place: None, what: format!("{asked} is not in 4 to 8") });
        }
        width
    });
    if let (Some(said), Some(asked)) = (said, asked.filter(|&asked| said.is_some_and(|s| s.value != asked))) {
        let what = format!("the plan says {} bits here; {asked} are asked for beside it", said.value);
        mistakes.push(Mistake { field, place: Some(said.place), what });
    }
    said.map(|said| said.value).or(asked).unwrap_or(unset)
}

/// The codebook that an entry says; `None` where it says none, or a wrong one.
///
/// Bits alone keep the codebook of `base`, the defaults, where it has them; else they are those of the first codebook that
/// does, of the same method if there is one. An objective alone keeps codebook and bits.
fn choice(entry: &Entry, base: Choice, mistakes: &mut Vec<Mistake>) -> Option<Choice> {
    let Entry { method, codebook, bits, objective, .. } = *entry;
    if entry.broken || method.is_none() && codebook.is_none() && bits.is_none() && objective.is_none() {
        return None;
    }
    let wanted = objective.map(|at| at.value);
    let family = method.map(|at| at.value).or(codebook.map(|at| at.value.family()));
    let chosen = match (family, bits) {
        (Some(family), bits) => {
            let name = codebook.map(|at| at.value.name());
            let bits = bits.map_or_else(|| Choice::default_bits(family, name), |at| Ok(at.value));
            bits.and_then(|bits| Choice::new(family, name, bits, wanted))
        }
        (None, Some(bits)) => base.at_bits(bits.value, wanted),
        (None, None) => {
            let codebook = base.codebook();
            Choice::new(codebook.family(), Some(codebook.name()), base.bits(), wanted)
        }
    };
    let refuse = |error: NoSuchCodebook| {
        let place = match error {
            NoSuchCodebook::Name { .. } => codebook.map(|at| at.place),
            NoSuchCodebook::Bits { .. } => bits.map(|at| at.place),
            NoSuchCodebook::Objective { .. } => objective.map(|at| at.place),
        };
        let place = place.unwrap_or(entry.place);
        mistakes.push(Mistake { field: "plan", place: Some(place), what: error.to_string() });
    };
    chosen.map_err(refuse).ok()
}
