//! Any message of the API as JSON, by its descriptor: field names as in the .proto files, bytes in hexadecimal,
//! enum values in lower case without their prefix, moments as RFC 3339, 64-bit integers as numbers. What is not
//! set is null, so that a program finds every field.

use std::sync::OnceLock;

use chrono::SecondsFormat;
use dyadic_proto::{FILE_DESCRIPTOR_SET, Timestamp, inference, v1};
use prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey, ReflectMessage,
    Value as Field,
};
use serde_json::{Map, Value};

use super::units::{hex, moment};
use crate::error::{CliError, Result};

/// A message that knows its name in the .proto files.
pub(crate) trait Named: Message {
    const NAME: &'static str;
}

macro_rules! named {
    ($($package:literal $module:ident: $($message:ident)*;)*) => {
        $($(impl Named for $module::$message { const NAME: &'static str = concat!($package, ".", stringify!($message)); })*)*
    };
}

named! {
    "dyadic.v1" v1: Model ServedModel Dataset Job JobSpec JobEvent Experiment Run Series Token CompareResponse
        Refusal UploadModelResponse UploadDatasetResponse SubmitJobResponse PlanJobResponse CreateTokenResponse
        SetTagsResponse JobPlan UploadArtifactResponse RemoveServedResponse;
    "inference" inference: ModelStatistics ModelMetadataResponse;
}

fn pool() -> Result<&'static DescriptorPool> {
    static POOL: OnceLock<Option<DescriptorPool>> = OnceLock::new();
    POOL.get_or_init(|| DescriptorPool::decode(FILE_DESCRIPTOR_SET).ok())
        .as_ref()
        .ok_or_else(|| CliError::failed("this program's own description of the API is damaged"))
}

/// The message as JSON.
pub(crate) fn of<M: Named>(message: &M) -> Result<Value> {
    let descriptor = pool()?
        .get_message_by_name(M::NAME)
        .ok_or_else(|| CliError::failed(format!("no message {}", M::NAME)))?;
    let dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())
        .map_err(|e| CliError::failed(format!("{}: {e}", M::NAME)))?;
    Ok(object(&dynamic))
}

/// Several of them as an array.
pub(crate) fn list<M: Named>(messages: &[M]) -> Result<Value> {
    messages.iter().map(of).collect::<Result<Vec<_>>>().map(Value::Array)
}

fn object(message: &DynamicMessage) -> Value {
    let mut map = Map::new();
    for field in message.descriptor().fields() {
        if message.has_field(&field) || !field.supports_presence() {
            map.insert(field.name().to_owned(), value(&field.kind(), &message.get_field(&field)));
        } else if field.containing_oneof().is_none() || is_optional(&field) {
            map.insert(field.name().to_owned(), Value::Null);
        }
    }
    Value::Object(map)
}

/// A field marked `optional` lies in a oneof of its own.
fn is_optional(field: &FieldDescriptor) -> bool {
    field.field_descriptor_proto().proto3_optional()
}

fn value(kind: &Kind, v: &Field) -> Value {
    match v {
        Field::Bool(x) => (*x).into(),
        Field::I32(x) => (*x).into(),
        Field::I64(x) => (*x).into(),
        Field::U32(x) => (*x).into(),
        Field::U64(x) => (*x).into(),
        // Through text, so that 0.4914 does not become 0.4914000034332275.
        Field::F32(x) => x.to_string().parse::<f64>().map_or(Value::Null, Value::from),
        Field::F64(x) => (*x).into(),
        Field::String(x) => x.as_str().into(),
        Field::Bytes(x) => hex(x).into(),
        Field::EnumNumber(n) => enumerator(kind, *n),
        Field::Message(m) => message_value(m),
        Field::List(items) => items.iter().map(|item| value(kind, item)).collect(),
        Field::Map(entries) => {
            let inner = match kind {
                Kind::Message(entry) => entry.map_entry_value_field(),
                _ => return Value::Null,
            };
            let mut pairs: Vec<_> = entries.iter().map(|(k, v)| (key(k), value(&inner.kind(), v))).collect();
            pairs.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(pairs.into_iter().collect())
        }
    }
}

fn message_value(message: &DynamicMessage) -> Value {
    if message.descriptor().full_name() == "google.protobuf.Timestamp" {
        let at = message.transcode_to::<Timestamp>().ok();
        return moment(at.as_ref())
            .map_or(Value::Null, |t| t.to_rfc3339_opts(SecondsFormat::Millis, true).into());
    }
    object(message)
}

fn key(key: &MapKey) -> String {
    match key {
        MapKey::Bool(k) => k.to_string(),
        MapKey::I32(k) => k.to_string(),
        MapKey::I64(k) => k.to_string(),
        MapKey::U32(k) => k.to_string(),
        MapKey::U64(k) => k.to_string(),
        MapKey::String(k) => k.clone(),
    }
}

fn enumerator(kind: &Kind, number: i32) -> Value {
    let Kind::Enum(e) = kind else { return number.into() };
    let Some(v) = e.get_value(number) else { return number.into() };
    match v.name().strip_prefix(&prefix(e)) {
        Some("UNSPECIFIED") => Value::Null,
        Some(rest) => rest.to_lowercase().into(),
        None => v.name().to_lowercase().into(),
    }
}

/// `JobState` → `JOB_STATE_`.
fn prefix(e: &EnumDescriptor) -> String {
    let mut text = String::new();
    for (i, c) in e.name().char_indices() {
        if c.is_ascii_uppercase() && i > 0 {
            text.push('_');
        }
        text.push(c.to_ascii_uppercase());
    }
    text.push('_');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_reads_as_json_with_every_field() {
        let job = v1::Job {
            id: "7".into(),
            state: v1::JobState::Succeeded.into(),
            fence: u64::MAX,
            created_at: Some(Timestamp { seconds: 0, nanos: 5_000_000 }),
            resolved: Some(v1::JobSpec {
                method: v1::Method::Aptq.into(),
                bits: Some(0),
                normalization: Some(v1::Normalization { mean: vec![0.4914], std: vec![] }),
                ..Default::default()
            }),
            artifact: Some(v1::Artifact { sha256: vec![0xab, 1], ..Default::default() }),
            ..Default::default()
        };
        let json = of(&job).unwrap();
        assert_eq!(json["state"], "succeeded");
        assert_eq!(json["fence"], u64::MAX);
        assert_eq!(json["created_at"], "1970-01-01T00:00:00.005Z");
        assert_eq!(json["started_at"], Value::Null);
        assert_eq!(json["artifact"]["sha256"], "ab01");
        assert_eq!(json["resolved"]["method"], "aptq");
        assert_eq!(json["resolved"]["objective"], Value::Null);
        assert_eq!(json["resolved"]["bits"], 0);
        assert_eq!(json["resolved"]["epochs"], Value::Null);
        assert_eq!(json["resolved"]["normalization"]["mean"][0], 0.4914);
    }

    #[test]
    fn an_event_shows_the_one_thing_that_happened() {
        let metric = v1::Metric { name: "accuracy".into(), value: f64::NAN, ..Default::default() };
        let event = v1::JobEvent {
            number: 3,
            event: Some(v1::job_event::Event::Metrics(v1::Metrics { metrics: vec![metric] })),
            ..Default::default()
        };
        let json = of(&event).unwrap();
        assert_eq!(json["metrics"]["metrics"][0]["value"], Value::Null);
        assert!(json.get("log").is_none() && json.get("state").is_none());
    }

    #[test]
    fn maps_become_objects() {
        let values = [("sparsity".to_owned(), 0.5)].into();
        let run = v1::Run {
            layers: vec![v1::LayerQuality { layer: "conv1".into(), values }],
            ..Default::default()
        };
        assert_eq!(of(&run).unwrap()["layers"][0]["values"]["sparsity"], 0.5);
    }
}
