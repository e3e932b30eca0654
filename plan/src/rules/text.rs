//! Rules as TOML, always in the same words and the same order, one line a layer, so that two texts can be laid side by
//! side; and a pattern's and a codebook's words.

use std::fmt::Write as _;

use serde::Serialize;
use toml::ser::ValueSerializer;

use super::{Defaults, Rule, Rules};
use crate::codebook::Choice;

/// Longest text, in bytes: room for what came of the rules, layer by layer, of the largest network.
pub const MAX_TEXT: usize = 1 << 21;
/// What this version writes and reads.
pub(crate) const VERSION: u32 = 1;

/// A codebook as a table; what is left out of it would have a default.
#[derive(Serialize)]
struct Words {
    codebook: &'static str,
    bits: u8,
    objective: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    input_bits: Option<u8>,
}

#[derive(Serialize)]
struct OnlyInput {
    input_bits: u8,
}

impl Rules {
    /// The rules as TOML, every default among them. [`Asked`](super::Asked) reads it back to the same rules.
    pub fn to_toml(&self) -> String {
        let mut text = format!("version = {VERSION}\n\n");
        self.write_tables(&mut text);
        text
    }

    /// The tables `defaults` and `layers`.
    pub(crate) fn write_tables(&self, text: &mut String) {
        let Defaults { weights, first, last, conv3x3_bits, other_bits } = self.defaults;
        text.push_str("[defaults]\n");
        for (key, choice) in [("weights", weights), ("first", first), ("last", last)] {
            let _ = writeln!(text, "{key} = {}", value(&Words::of(choice, None)));
        }
        let _ = writeln!(text, "conv3x3_bits = {conv3x3_bits}\nother_bits = {other_bits}");
        if !self.rules.is_empty() {
            text.push_str("\n[layers]\n");
        }
        for rule in &self.rules {
            let _ = writeln!(text, "{} = {}", key(rule.layers.as_str()), said(rule));
        }
    }
}

impl Words {
    fn of(choice: Choice, input_bits: Option<u8>) -> Self {
        let (codebook, objective) = (choice.codebook().name(), choice.objective().name());
        Words { codebook, bits: choice.bits(), objective, input_bits }
    }
}

fn said(rule: &Rule) -> String {
    match (rule.weights, rule.input_bits) {
        (Some(weights), Some(8)) if weights == Choice::linear8() => value("skip"),
        (Some(weights), input_bits) => value(&Words::of(weights, input_bits)),
        (None, Some(input_bits)) => value(&OnlyInput { input_bits }),
        (None, None) => "{ }".to_owned(),
    }
}

/// A value as it stands behind `=`, in one line.
pub(crate) fn value<T: Serialize + ?Sized>(value: &T) -> String {
    let mut text = String::new();
    // Tables of text and numbers: there is nothing that TOML cannot say, but for numbers beyond 63 bits.
    match value.serialize(ValueSerializer::new(&mut text)) {
        Ok(_) => text,
        Err(_) => "\"\"".to_owned(),
    }
}

/// A key as it stands before `=`.
fn key(text: &str) -> String {
    let line = toml::to_string(&toml::Table::from_iter([(text.to_owned(), toml::Value::Boolean(true))]));
    line.unwrap_or_default().trim_end().trim_end_matches(" = true").to_owned()
}
