//! A plan's text, read strictly and to its end: every mistake is kept with its place, and what is right is kept beside it.
//!
//! Only what the text says is found here; what it leaves out, the job's settings decide ([`super::Asked`]).

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::mistake::{Lines, MAX_MISTAKES, Mistake, Place};
use super::text::{MAX_TEXT, VERSION};
use super::{MAX_RULES, Pattern};
use crate::codebook::{self, Codebook, Family, Objective};

/// What a text says.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) weights: Option<Entry>,
    pub(super) first: Option<Entry>,
    pub(super) last: Option<Entry>,
    pub(super) conv3x3_bits: Option<At<u8>>,
    pub(super) other_bits: Option<At<u8>>,
    /// The weakest first.
    pub(super) layers: Vec<Named>,
}

/// A value and its place.
#[derive(Debug, Clone, Copy)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) place: Place,
}

/// What is said of the layers of some names.
pub(super) struct Named {
    pub(super) layers: Pattern,
    pub(super) entry: Entry,
}

/// A table of a codebook and a width.
pub(super) struct Entry {
    pub(super) place: Place,
    pub(super) method: Option<At<Family>>,
    pub(super) codebook: Option<At<&'static dyn Codebook>>,
    pub(super) bits: Option<At<u8>>,
    pub(super) objective: Option<At<Objective>>,
    pub(super) input_bits: Option<u8>,
    pub(super) skip: bool,
    /// A mistake was found in it: what is missing may have been meant.
    pub(super) broken: bool,
}

const CHOICE: [&str; 4] = ["method", "codebook", "bits", "objective"];
const LAYER: [&str; 6] = ["method", "codebook", "bits", "objective", "input_bits", "skip"];
const DEFAULTS: [&str; 5] = ["weights", "first", "last", "conv3x3_bits", "other_bits"];
const TOP: [&str; 5] = ["version", "network", "defaults", "layers", "outcome"];

/// Reads a text as far as it can be read.
pub(super) fn read(text: &str) -> (Draft, Vec<Mistake>) {
    let mut reader = Reader { text, lines: Lines::of(text), mistakes: Vec::new() };
    let mut draft = Draft::default();
    if text.len() > MAX_TEXT {
        reader.mistake(0, format!("the text has {} bytes; {MAX_TEXT} are allowed", text.len()));
        return (draft, reader.mistakes);
    }
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        reader.mistake(error.span().map_or(0, |span| span.start), error.message());
    }
    reader.document(document.get_ref(), &mut draft);
    reader.mistakes.sort_by_key(|mistake| mistake.place);
    // Behind a slip of the syntax there may be several errors of one place.
    reader.mistakes.dedup_by_key(|mistake| mistake.place);
    (draft, reader.mistakes)
}

struct Reader<'a> {
    text: &'a str,
    lines: Lines,
    mistakes: Vec<Mistake>,
}

type Field<'a> = (&'a str, Range<usize>, &'a Spanned<DeValue<'a>>);

impl Reader<'_> {
    fn place(&self, byte: usize) -> Place {
        self.lines.place(self.text, byte)
    }

    fn mistake(&mut self, byte: usize, what: impl Into<String>) {
        if self.mistakes.len() < MAX_MISTAKES {
            let place = Some(self.place(byte));
            self.mistakes.push(Mistake { field: "plan", place, what: what.into() });
        }
    }

    /// The fields of a table as they stand in the text; unknown ones are mistakes.
    fn fields<'t>(&mut self, of: &str, table: &'t DeTable<'t>, known: &[&str]) -> Vec<Field<'t>> {
        let mut fields: Vec<Field<'t>> =
            table.iter().map(|(key, value)| (key.get_ref().as_ref(), key.span(), value)).collect();
        fields.sort_by_key(|(_, span, _)| span.start);
        fields.retain(|(key, span, value)| {
            let is_known = known.contains(key);
            if !is_known {
                let dotted =
                    if value.get_ref().is_table() { "; a pattern with dots stands in quotes" } else { "" };
                let dotted = if known.contains(&"skip") { dotted } else { "" };
                self.mistake(span.start, format!("{}{dotted}", unknown(of, key, known)));
            }
            is_known
        });
        fields
    }

    fn table<'t>(&mut self, of: &str, value: &'t Spanned<DeValue<'t>>) -> Option<&'t DeTable<'t>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.mistake(value.span().start, format!("{of} is not a table, as in {{ bits = 4 }}"));
        }
        table
    }

    fn document<'t>(&mut self, table: &'t DeTable<'t>, draft: &mut Draft) {
        let fields = self.fields("a plan", table, &TOP);
        match fields.iter().find(|(key, ..)| *key == "version") {
            None => self.mistake(0, format!("it has no `version = {VERSION}`")),
            Some((.., value)) => match value.get_ref() {
                DeValue::Integer(number) if number.as_str() == VERSION.to_string() => {}
                _ => self.mistake(
                    value.span().start,
                    format!("it is of another version; this program reads {VERSION}"),
                ),
            },
        }
        for (key, _, value) in fields {
            match key {
                "defaults" => self.defaults(value, draft),
                "layers" => self.layers(value, draft),
                _ => {}
            }
        }
    }

    fn defaults<'t>(&mut self, value: &'t Spanned<DeValue<'t>>, draft: &mut Draft) {
        let Some(table) = self.table("defaults", value) else { return };
        for (key, _, value) in self.fields("defaults", table, &DEFAULTS) {
            match key {
                "weights" => draft.weights = Some(self.entry("defaults.weights", value, &CHOICE)),
                "first" => draft.first = Some(self.entry("defaults.first", value, &CHOICE)),
                "last" => draft.last = Some(self.entry("defaults.last", value, &CHOICE)),
                "conv3x3_bits" => draft.conv3x3_bits = self.width(key, value, 4),
                _ => draft.other_bits = self.width(key, value, 4),
            }
        }
    }

    fn layers<'t>(&mut self, value: &'t Spanned<DeValue<'t>>, draft: &mut Draft) {
        let Some(table) = self.table("layers", value) else { return };
        let mut fields: Vec<_> = table.iter().collect();
        fields.sort_by_key(|(key, _)| key.span().start);
        for (at, (key, value)) in fields.into_iter().enumerate() {
            if at == MAX_RULES {
                let what = format!("{} rules are given; {MAX_RULES} are allowed", table.len());
                return self.mistake(key.span().start, what);
            }
            let pattern = Pattern::new(key.get_ref());
            if let Err(error) = &pattern {
                self.mistake(key.span().start, error.to_string());
            }
            let place = self.place(key.span().start);
            let entry = self.entry("a layer's rule", value, &LAYER);
            if let Ok(layers) = pattern {
                draft.layers.push(Named { layers, entry: Entry { place, ..entry } });
            }
        }
    }

    /// A codebook and widths; `"skip"` where `known` has it.
    fn entry<'t>(&mut self, of: &str, value: &'t Spanned<DeValue<'t>>, known: &[&str]) -> Entry {
        let before = self.mistakes.len();
        let start = value.span().start;
        let mut entry = Entry {
            place: self.place(start),
            method: None,
            codebook: None,
            bits: None,
            objective: None,
            input_bits: None,
            skip: false,
            broken: false,
        };
        if known.contains(&"skip") && value.get_ref().as_str() == Some("skip") {
            entry.skip = true;
            return entry;
        }
        if known.contains(&"skip") && !value.get_ref().is_table() {
            let given = self.shown(value);
            self.mistake(start, format!("{given} is neither a table, as in {{ bits = 4 }}, nor \"skip\""));
        } else if let Some(table) = self.table(of, value) {
            let fields = self.fields(of, table, known);
            if table.is_empty() {
                self.mistake(start, format!("{of} says nothing; there are {}", known.join(", ")));
            }
            for (key, _, value) in fields {
                self.field(key, value, &mut entry);
            }
            if entry.skip && table.len() > 1 {
                self.mistake(start, "`skip` says all: nothing else may stand beside it");
            }
        }
        entry.broken = self.mistakes.len() > before;
        entry
    }

    fn field<'t>(&mut self, key: &str, value: &'t Spanned<DeValue<'t>>, entry: &mut Entry) {
        let start = value.span().start;
        let place = self.place(start);
        let text = value.get_ref().as_str();
        let names: Vec<&str> = match key {
            "method" => {
                let found = [Family::Aptq, Family::Apq].into_iter().find(|f| Some(f.name()) == text);
                entry.method = found.map(|value| At { value, place });
                if found.is_some() { Vec::new() } else { vec!["aptq", "apq"] }
            }
            "codebook" => {
                let found = text.and_then(codebook::find);
                entry.codebook = found.map(|value| At { value, place });
                if found.is_some() { Vec::new() } else { codebook::all().iter().map(|c| c.name()).collect() }
            }
            "objective" => {
                let found = text.and_then(super::objective);
                entry.objective = found.map(|value| At { value, place });
                if found.is_some() { Vec::new() } else { vec!["l2", "angle"] }
            }
            "bits" => {
                entry.bits = self.width(key, value, 2);
                return;
            }
            "input_bits" => {
                entry.input_bits = self.width(key, value, 2).map(|at| at.value);
                return;
            }
            _ => {
                entry.skip = value.get_ref().as_bool() == Some(true);
                if entry.skip { Vec::new() } else { vec!["true"] }
            }
        };
        if !names.is_empty() {
            let given = self.shown(value);
            let meant = text.and_then(|text| nearest(text, names.iter().copied(), 1).pop());
            let meant = meant.map_or(String::new(), |name| format!(", and {name} is the nearest"));
            self.mistake(start, format!("{given} is not a {key}; there are {}{meant}", names.join(", ")));
        }
    }

    /// A number of bits from `least` to 8.
    fn width<'t>(&mut self, key: &str, value: &'t Spanned<DeValue<'t>>, least: u8) -> Option<At<u8>> {
        let start = value.span().start;
        let number = match value.get_ref() {
            DeValue::Integer(number) => u8::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        };
        let Some(value) = number.filter(|bits| (least..=8).contains(bits)) else {
            let given = self.shown(value);
            self.mistake(start, format!("{key}: {given} is not in {least} to 8"));
            return None;
        };
        Some(At { value, place: self.place(start) })
    }

    /// A value as it stands in the text, or its beginning.
    fn shown(&self, value: &Spanned<DeValue<'_>>) -> String {
        let text = self.text.get(value.span()).unwrap_or_default();
        text.chars().take(60).map(|c| if c.is_control() { ' ' } else { c }).collect()
    }
}

fn unknown(of: &str, key: &str, known: &[&str]) -> String {
    let key: String = key.chars().take(60).collect();
    let meant = nearest(&key, known.iter().copied(), 1).pop();
    let meant = meant.map_or(String::new(), |name| format!(", and {name} is the nearest"));
    format!("{of} has no {key:?}; there are {}{meant}", known.join(", "))
}

/// Longest name that is compared, in characters: a comparison takes the square of it.
const MAX_COMPARED: usize = 128;

/// Up to `most` of the names, those that are most like `wanted` first; none that is unlike it.
pub(crate) fn nearest<'n>(wanted: &str, names: impl Iterator<Item = &'n str>, most: usize) -> Vec<&'n str> {
    let plain: String = wanted.chars().filter(|c| !matches!(c, '*' | '?')).take(MAX_COMPARED).collect();
    let likeness = |name: &str| {
        let name: String = name.chars().take(MAX_COMPARED).collect();
        strsim::normalized_damerau_levenshtein(&plain, &name)
    };
    let mut found: Vec<(f64, &str)> =
        names.map(|name| (likeness(name), name)).filter(|(likeness, _)| *likeness >= 0.3).collect();
    found.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    found.into_iter().take(most).map(|(_, name)| name).collect()
}
