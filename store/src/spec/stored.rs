//! Settings as the database holds them, which a newer or an older program may have written.
//!
//! What cannot be read never keeps anybody from reading what stands beside it: it is shown as it is. A field that is not
//! known is no obstacle to showing the rest, but the job is not run: what it asks for would not be done.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::JobSpec;

/// A job's settings and what this program makes of them.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredSpec {
    value: Value,
    read: Result<JobSpec, String>,
    /// Paths of fields that are not known here.
    unknown: Vec<String>,
}

/// Settings that this program cannot run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the job's settings cannot be read by this program: {0}; they were written by another version of it")]
pub struct UnreadableSpec(String);

impl StoredSpec {
    /// What this program knows of them; `None` if it can make nothing of them.
    pub fn known(&self) -> Option<&JobSpec> {
        self.read.as_ref().ok()
    }

    /// The settings to run, every one of them understood.
    ///
    /// # Errors
    /// [`UnreadableSpec`], naming what is not understood.
    pub fn runnable(&self) -> Result<&JobSpec, UnreadableSpec> {
        match &self.read {
            Err(reason) => Err(UnreadableSpec(reason.clone())),
            Ok(_) if !self.unknown.is_empty() => {
                Err(UnreadableSpec(format!("it does not know '{}'", self.unknown.join("', '"))))
            }
            Ok(spec) => Ok(spec),
        }
    }
}

impl From<Value> for StoredSpec {
    fn from(value: Value) -> Self {
        let mut unknown = Vec::new();
        let read = serde_ignored::deserialize(with_names_of_today(value.clone()), |path| {
            unknown.push(path.to_string());
        });
        let read = read.map_err(|error: serde_json::Error| error.to_string());
        Self { value, read, unknown }
    }
}

/// Codebooks were chosen by `levels` (APQ) and `boundary` (APTQ, without a meaning in APQ) before they had names.
fn with_names_of_today(mut value: Value) -> Value {
    let Some(fields) = value.as_object_mut() else { return value };
    let apq = fields.get("method").is_some_and(|method| method == "apq");
    if let Some(levels) = fields.remove("levels").filter(|levels| apq && !levels.is_null()) {
        let name = levels.as_str().map(|levels| levels.replace('_', "-"));
        fields.entry("codebook").or_insert(name.map_or(levels, Value::String));
    }
    if let Some(boundary) = fields.remove("boundary").filter(|_| !apq) {
        fields.entry("objective").or_insert(boundary);
    }
    value
}

impl<'de> Deserialize<'de> for StoredSpec {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        Ok(Value::deserialize(input)?.into())
    }
}

/// As they are stored.
impl Serialize for StoredSpec {
    fn serialize<S: Serializer>(&self, output: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(output)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::spec::{Method, Objective};

    #[test]
    fn what_is_known_is_shown_and_only_what_is_understood_is_run() {
        let whole = StoredSpec::from(json!({"epochs": 3}));
        assert_eq!(whole.runnable(), Ok(&JobSpec { epochs: 3, ..JobSpec::default() }));

        let newer =
            json!({"epochs": 3, "mixup": 0.2, "activation_bits": {"conv3x3": 6, "other": 8, "first": 4}});
        let newer = StoredSpec::from(newer);
        assert_eq!(newer.known().map(|spec| spec.epochs), Some(3));
        let reason = newer.runnable().expect_err("two fields are not known").to_string();
        assert!(reason.contains("'activation_bits.first', 'mixup'"), "{reason}");

        for (unreadable, word) in
            [(json!({"method": "later"}), "later"), (json!("text"), "text"), (json!(null), "")]
        {
            let spec = StoredSpec::from(unreadable.clone());
            assert_eq!(spec.known(), None, "{unreadable}");
            let reason = spec.runnable().expect_err("it is unreadable").to_string();
            assert!(reason.contains(word), "{reason}");
            assert_eq!(serde_json::to_value(&spec).expect("plain data"), unreadable, "kept as it is");
        }
    }

    #[test]
    fn levels_and_boundary_are_read_as_codebook_and_objective() {
        let read = |text: &str| {
            StoredSpec::from(serde_json::from_str::<Value>(text).expect(text)).runnable().expect(text).clone()
        };
        let d = JobSpec::default;
        let apq = |codebook: Option<&str>| JobSpec {
            method: Method::Apq,
            bits: 4,
            codebook: codebook.map(str::to_string),
            ..d()
        };
        let old = |levels: &str| {
            read(&format!(r#"{{"method":"apq","boundary":"angle","levels":{levels},"bits":4}}"#))
        };
        assert_eq!(old(r#""single_shift""#), apq(Some("single-shift")));
        assert_eq!(old(r#""two_term""#), apq(Some("two-term")));
        assert_eq!(old("null"), apq(None));
        let ternary = |objective| JobSpec { objective: Some(objective), ..d() };
        assert_eq!(read(r#"{"method":"aptq","boundary":"l2","levels":null}"#), ternary(Objective::L2));
        assert_eq!(read(r#"{"boundary":"angle"}"#), ternary(Objective::Angle));
        for wrong in [r#"{"method":"apq","levels":3}"#, r#"{"boundary":"cosine"}"#] {
            let value: Value = serde_json::from_str(wrong).expect(wrong);
            assert!(StoredSpec::from(value).runnable().is_err(), "{wrong}");
        }
    }
}
