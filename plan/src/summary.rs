//! What came of the rules, unit by unit, and a plan as TOML text.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::operation::UnitOp;
use crate::plan::{Coding, Plan, Unit};
use crate::rules::text;

/// Stands between the rules and the outcome.
const HINT: &str = "
# [layers] takes \"pattern\" = \"skip\" or { method, codebook, bits, objective, input_bits }; of the patterns that match a
# layer's name, the last that says something wins. What follows came of the rules and is not read back.
[outcome]
";

/// One unit of a plan, in figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The layer's name in the source file; a cast's is made of the tensor's that it re-codes.
    pub name: String,
    /// What it does, as in `conv` or `max-pool`.
    pub operation: String,
    /// The codebook of a weighted layer, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<String>,
    /// Bits of a weight's code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bits: Option<u8>,
    /// How many weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Formats of the codes that it reads: `u6`, `s8`.
    pub reads: Vec<String>,
    /// Format of the codes that it writes; `i32` for logits.
    pub writes: String,
    /// Channels, height and width of what it writes.
    pub shape: [u64; 3],
    /// Bytes of its numbers in the artifact.
    pub bytes: u64,
    /// Multiply-accumulates of one sample that shift-adds replace.
    pub macs: u64,
    /// Shift-adds of one sample, expected for the codebook.
    pub shift_adds: u64,
    /// Its share of the network's shift-adds, 0 to 1, to four digits.
    pub share: f64,
}

/// Sums over all units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Total {
    /// Weights.
    pub weights: u64,
    /// See [`Row::bytes`].
    pub bytes: u64,
    /// See [`Row::macs`].
    pub macs: u64,
    /// See [`Row::shift_adds`].
    pub shift_adds: u64,
}

/// What came of the rules.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Resolved {
    /// Sums over all units.
    pub total: Total,
    /// One row a unit, in the order they run.
    pub layers: Vec<Row>,
}

impl Resolved {
    /// What a plan's text says of the outcome; `None` where it says nothing that this version reads.
    pub fn from_toml(text: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Text {
            outcome: Resolved,
        }
        toml::from_str::<Text>(text).ok().map(|text| text.outcome)
    }
}

impl Plan {
    /// Sums over all units.
    pub fn total(&self) -> Total {
        let cost = self.units.iter().map(|unit| unit.cost).sum::<dyadic_engine::cost::Cost>();
        let weights = self.weights.iter().map(|w| w.data.len() as u64).sum();
        Total { weights, bytes: cost.bytes, macs: cost.macs, shift_adds: cost.shift_adds }
    }

    /// One row a unit, in the order they run.
    pub fn rows(&self) -> Vec<Row> {
        let all = self.total().shift_adds;
        self.units.iter().map(|unit| self.row(unit, all)).collect()
    }

    fn row(&self, unit: &Unit, all: u64) -> Row {
        let format = |tensor: &usize| self.tensors.get(*tensor).map(|t| t.coding.name()).unwrap_or_default();
        let weights = match unit.op {
            UnitOp::Conv { weights, .. } => self.weights.get(weights),
            _ => None,
        };
        let share = unit.cost.shift_adds as f64 / all.max(1) as f64;
        Row {
            name: unit.name.clone(),
            operation: unit.op.name().to_owned(),
            weights: weights.map(|w| w.method.to_string()),
            bits: weights.map(|w| w.method.bits()),
            count: weights.map(|w| w.data.len() as u64),
            reads: unit.inputs.iter().map(format).collect(),
            writes: format(&unit.output),
            shape: self.tensors.get(unit.output).map_or([0; 3], |t| t.shape.map(|extent| extent as u64)),
            bytes: unit.cost.bytes,
            macs: unit.cost.macs,
            shift_adds: unit.cost.shift_adds,
            share: (share * 1e4).round() / 1e4,
        }
    }

    /// The rules, then what came of them, as TOML, a line a layer. The same plan gives the same text; the rules are read
    /// back by [`Asked`](crate::Asked), the outcome by [`Resolved::from_toml`].
    pub fn to_toml(&self) -> String {
        let mut toml = format!("version = {}\nnetwork = {}\n\n", text::VERSION, text::value(&self.name));
        self.rules.write_tables(&mut toml);
        toml.push_str(HINT);
        let _ = writeln!(toml, "total = {}\nlayers = [", text::value(&self.total()));
        for row in self.rows() {
            let _ = writeln!(toml, "  {},", text::value(&row));
        }
        toml.push_str("]\n");
        toml
    }
}

impl Coding {
    /// The format as people read it: `u6`, `s8`, `i32`.
    pub fn name(self) -> String {
        match self {
            Coding::Input => "s8".to_owned(),
            Coding::Codes { bits, signed, .. } => format!("{}{bits}", if signed { 's' } else { 'u' }),
            Coding::Sums => "i32".to_owned(),
        }
    }
}
