//! JSON of any kind, but not of any size: each value that is read is counted.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Most values, at any depth, of a member that holds any JSON, and of all members together that this code does not know.
pub const MOST_VALUES: usize = 1 << 14;

/// A member that holds any JSON.
pub(super) fn value<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Value>, D::Error> {
    let value = Counted(&Cell::new(MOST_VALUES)).deserialize(from)?;
    Ok(Some(value).filter(|value| !value.is_null()))
}

/// Members that this code does not know.
pub(super) fn members<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, Value>, D::Error> {
    match Counted(&Cell::new(MOST_VALUES)).deserialize(from)? {
        Value::Object(members) => Ok(members.into_iter().collect()),
        _ => Err(D::Error::custom("members have names")),
    }
}

/// Reads a value, while so many are left.
#[derive(Clone, Copy)]
struct Counted<'a>(&'a Cell<usize>);

impl Counted<'_> {
    fn one<E: Error>(self, value: impl Into<Value>) -> Result<Value, E> {
        let left = self.0.get().checked_sub(1);
        self.0.set(left.ok_or_else(|| E::custom(format!("more than {MOST_VALUES} values")))?);
        Ok(value.into())
    }
}

impl<'de> DeserializeSeed<'de> for Counted<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Counted<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        self.one(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        self.one(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        self.one(value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        self.one(value)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        self.one(value)
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.one(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        self.one(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        self.deserialize(from)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        self.one(Value::Null)?;
        let mut items = Vec::new();
        while let Some(item) = from.next_element_seed(self)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        self.one(Value::Null)?;
        let mut members = Map::new();
        while let Some(name) = from.next_key()? {
            members.insert(name, from.next_value_seed(self)?);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Provenance;
    use super::*;

    #[test]
    fn any_json_comes_back_and_too_much_of_it_is_refused() {
        let text = r#"{"job":{"a":[1,-2,0.5,true,null,"é"],"b":{}},"later":[{}],"versions":{"x":"1"}}"#;
        let read: Provenance = serde_json::from_str(text).expect("JSON");
        assert_eq!(
            serde_json::to_value(read).expect("JSON"),
            serde_json::from_str::<Value>(text).expect("JSON")
        );
        for member in ["job", "later"] {
            let text = |values: usize| format!("{{\"{member}\":[{}0]}}", "0,".repeat(values - 1));
            let read = |values| serde_json::from_str::<Provenance>(&text(values));
            assert!(read(MOST_VALUES - 2).is_ok());
            let error = read(MOST_VALUES + 1).expect_err("too many").to_string();
            assert!(error.contains("more than"), "{error}");
        }
        assert_eq!(
            serde_json::from_str::<Provenance>(r#"{"job":null}"#).expect("JSON"),
            Provenance::default()
        );
    }
}
