//! The handle that plans and jobs pass along: a codebook at one width, for one objective.

use std::fmt;

use super::{Codebook, Family, Objective, all, find, linear8, sign_split};

/// A codebook, a width that it has, and an objective that it has.
#[derive(Clone, Copy)]
pub struct Choice {
    codebook: &'static dyn Codebook,
    bits: u8,
    objective: Objective,
}

/// A combination that does not exist; says what there is instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoSuchCodebook {
    /// The name is unknown, or belongs to the other family.
    #[error("{name:?} is not a codebook of {family}, which has {known}")]
    Name {
        /// What was asked for.
        name: String,
        /// The family's name.
        family: &'static str,
        /// The names that it has.
        known: String,
    },
    /// The width is not among the codebook's, or, where none was named, among the family's.
    #[error("{bits} is not a width of {of}, which has {known}")]
    Bits {
        /// What was asked for.
        bits: u8,
        /// Codebook or family.
        of: &'static str,
        /// The widths that it has.
        known: String,
    },
    /// The codebook does not have the objective.
    #[error("{name} cannot be fitted by {}", .objective.name())]
    Objective {
        /// The codebook.
        name: &'static str,
        /// What was asked for.
        objective: Objective,
    },
}

impl Family {
    /// What users call it.
    pub fn name(self) -> &'static str {
        match self {
            Family::Aptq => "aptq",
            Family::Apq => "apq",
        }
    }

    /// Its codebooks.
    pub fn codebooks(self) -> impl Iterator<Item = &'static dyn Codebook> {
        all().iter().copied().filter(move |codebook| codebook.family() == self)
    }
}

impl Objective {
    /// What users call it.
    pub fn name(self) -> &'static str {
        match self {
            Objective::L2 => "l2",
            Objective::Angle => "angle",
        }
    }
}

impl Choice {
    /// The codebook of this name, or the family's default at this width; by this objective, or the codebook's default.
    ///
    /// # Errors
    /// [`NoSuchCodebook`], saying what there is.
    pub fn new(
        family: Family,
        name: Option<&str>,
        bits: u8,
        objective: Option<Objective>,
    ) -> Result<Self, NoSuchCodebook> {
        let codebook = if let Some(name) = name {
            named(family, name)?
        } else {
            let known = || widths(family.codebooks());
            let found = family.codebooks().find(|codebook| codebook.widths().contains(&bits));
            found.ok_or_else(|| NoSuchCodebook::Bits { bits, of: family.name(), known: known() })?
        };
        if !codebook.widths().contains(&bits) {
            let known = widths(std::iter::once(codebook));
            return Err(NoSuchCodebook::Bits { bits, of: codebook.name(), known });
        }
        let objective = objective.unwrap_or(default_objective(codebook));
        if !codebook.objectives().contains(&objective) {
            return Err(NoSuchCodebook::Objective { name: codebook.name(), objective });
        }
        Ok(Choice { codebook, bits, objective })
    }

    /// All integers up to ±127, by distance: the first and the last layer.
    pub fn linear8() -> Self {
        Choice { codebook: &linear8::Linear8, bits: 8, objective: Objective::L2 }
    }

    /// What is taken where nothing is said: ternary.
    pub fn standard() -> Self {
        Choice {
            codebook: &sign_split::SignSplit,
            bits: 2,
            objective: default_objective(&sign_split::SignSplit),
        }
    }

    /// The same codebook at this width, or, where it does not have it, the first that does, of the same family if there is
    /// one; by this objective, or by its own where the codebook is kept.
    ///
    /// # Errors
    /// [`NoSuchCodebook`], saying what there is.
    pub fn at_bits(self, bits: u8, objective: Option<Objective>) -> Result<Self, NoSuchCodebook> {
        if self.codebook.widths().contains(&bits) {
            let objective = objective.or(Some(self.objective));
            return Choice::new(self.codebook.family(), Some(self.codebook.name()), bits, objective);
        }
        let own = self.codebook.family();
        let has = |&&codebook: &&&dyn Codebook| codebook.widths().contains(&bits);
        let found = all().iter().filter(has).min_by_key(|codebook| codebook.family() != own);
        let found = found.ok_or_else(|| NoSuchCodebook::Bits {
            bits,
            of: "any codebook",
            known: widths(all().iter().copied()),
        })?;
        Choice::new(found.family(), Some(found.name()), bits, objective)
    }

    /// The width that is taken where none is given: 3 bits where the codebook, or the family, has them, else the fewest.
    ///
    /// # Errors
    /// [`NoSuchCodebook::Name`].
    pub fn default_bits(family: Family, name: Option<&str>) -> Result<u8, NoSuchCodebook> {
        let widths: Vec<_> = match name {
            Some(name) => vec![named(family, name)?.widths()],
            None => family.codebooks().map(super::Codebook::widths).collect(),
        };
        if widths.iter().any(|widths| widths.contains(&3)) {
            return Ok(3);
        }
        Ok(widths.iter().map(|widths| *widths.start()).min().unwrap_or(2))
    }

    /// The codebook.
    pub fn codebook(self) -> &'static dyn Codebook {
        self.codebook
    }

    /// Bits of a code.
    pub fn bits(self) -> u8 {
        self.bits
    }

    /// What is optimized.
    pub fn objective(self) -> Objective {
        self.objective
    }

    /// The same by distance, where the codebook has that: for a layer whose scale nothing absorbs.
    #[must_use]
    pub fn by_distance(self) -> Self {
        let has_it = self.codebook.objectives().contains(&Objective::L2);
        Choice { objective: if has_it { Objective::L2 } else { self.objective }, ..self }
    }

    /// See [`Codebook::is_dear`].
    pub fn is_dear(self) -> bool {
        self.codebook.is_dear(self.bits, self.objective)
    }
}

impl PartialEq for Choice {
    fn eq(&self, other: &Self) -> bool {
        (self.codebook.name(), self.bits, self.objective)
            == (other.codebook.name(), other.bits, other.objective)
    }
}

impl Eq for Choice {}

/// Name, bits and objective, as in `two-term 4 l2`.
impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.codebook.name(), self.bits, self.objective.name())
    }
}

impl fmt::Debug for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {:?}", self.codebook.name(), self.bits, self.objective)
    }
}

fn named(family: Family, name: &str) -> Result<&'static dyn Codebook, NoSuchCodebook> {
    find(name).filter(|codebook| codebook.family() == family).ok_or_else(|| {
        let names: Vec<_> = family.codebooks().map(super::Codebook::name).collect();
        NoSuchCodebook::Name { name: name.to_string(), family: family.name(), known: names.join(", ") }
    })
}

fn default_objective(codebook: &dyn Codebook) -> Objective {
    codebook.objectives().first().copied().unwrap_or(Objective::L2)
}

/// `2, 3, 4`.
fn widths(codebooks: impl Iterator<Item = &'static dyn Codebook>) -> String {
    let mut all: Vec<u8> = codebooks.flat_map(super::Codebook::widths).collect();
    all.sort_unstable();
    all.dedup();
    all.iter().map(u8::to_string).collect::<Vec<_>>().join(", ")
}
