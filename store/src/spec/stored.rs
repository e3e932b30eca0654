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
        let read = serde_ignored::deserialize(&value, |path| unknown.push(path.to_string()));
        let read = read.map_err(|error: serde_json::Error| error.to_string());
        Self { value, read, unknown }
    }
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
}
