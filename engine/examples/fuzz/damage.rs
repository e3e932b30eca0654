//! Artifacts with something wrong in them: damaged bytes, and well-formed metadata with other numbers.

use dyadic_engine::artifact::{METADATA_KEY, Provenance};
use dyadic_engine::certificate::GoldenInput;
use dyadic_engine::testing::Rng;
use dyadic_engine::{Artifact, Certificate, Model};
use serde_json::Value;

/// The bytes of a sound artifact.
pub(crate) fn sound(model: Model, seed: u64) -> Vec<u8> {
    let certificate =
        Certificate::make(&model, vec![GoldenInput::Seed(seed)]).expect("generated models are valid");
    let model = model.try_into().expect("generated models are valid");
    let artifact = Artifact { model, provenance: Provenance::default(), certificate };
    artifact.to_bytes().expect("generated artifacts are valid")
}

/// A copy with one to four changes.
pub(crate) fn damaged(bytes: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut copy = bytes.to_vec();
    if rng.one_in(2) {
        copy = with_other_metadata(&copy, rng).unwrap_or(copy);
        if rng.one_in(2) {
            return copy;
        }
    }
    for _ in 0..=rng.below(3) {
        change(&mut copy, rng);
    }
    copy
}

/// One change somewhere.
fn change(bytes: &mut Vec<u8>, rng: &mut Rng) {
    if bytes.is_empty() {
        return bytes.push(rng.bits() as u8);
    }
    let at = rng.below(bytes.len() as u64) as usize;
    match rng.below(7) {
        0 => bytes.truncate(at),
        1 => bytes.insert(at, rng.bits() as u8),
        2 => bytes[at] = rng.pick(b"0123456789-,[]{}\"e.:"),
        3 => bytes[at] = rng.pick(&[0, 1, 0x7F, 0x80, 0xFF]),
        4 => {
            // The length of the header.
            let within = at % bytes.len().min(8);
            bytes[within] = rng.bits() as u8;
        }
        5 => {
            let len = rng.below(16).min((bytes.len() - at) as u64) as usize;
            let to = rng.below((bytes.len() - len + 1) as u64) as usize;
            bytes.copy_within(at..at + len, to);
        }
        _ => bytes[at] ^= 1 << rng.below(8),
    }
}

/// The file with other numbers, lists or words in its metadata; the header's length is mended.
fn with_other_metadata(bytes: &[u8], rng: &mut Rng) -> Option<Vec<u8>> {
    let length = u64::from_le_bytes(*bytes.first_chunk()?) as usize;
    let mut header: Value = serde_json::from_slice(bytes.get(8..8 + length)?).ok()?;
    if rng.one_in(4) {
        disturb(&mut header, rng);
    } else {
        let text = header.get("__metadata__")?.get(METADATA_KEY)?.as_str()?;
        let mut document: Value = serde_json::from_str(text).ok()?;
        for _ in 0..=rng.below(2) {
            disturb(&mut document, rng);
        }
        header["__metadata__"][METADATA_KEY] = document.to_string().into();
    }
    let header = header.to_string().into_bytes();
    Some([(header.len() as u64).to_le_bytes().as_slice(), &header, &bytes[8 + length..]].concat())
}

/// Replaces one number, word or list somewhere in a JSON value.
fn disturb(value: &mut Value, rng: &mut Rng) {
    match value {
        Value::Array(items) if !items.is_empty() => {
            let at = rng.below(items.len() as u64) as usize;
            match rng.below(12) {
                0 => drop(items.remove(at)),
                1 => items.push(items[at].clone()),
                _ => disturb(&mut items[at], rng),
            }
        }
        Value::Object(members) if !members.is_empty() => {
            let at = rng.below(members.len() as u64) as usize;
            if let Some((_, member)) = members.iter_mut().nth(at) {
                disturb(member, rng);
            }
        }
        Value::Number(number) => {
            let old = number.as_i64().unwrap_or(0);
            let new = match rng.below(4) {
                0 => old.saturating_add(i64::from(rng.pick(&[-1, 1]))),
                1 => i64::from(rng.code(0, 16)),
                2 => rng.pick(&[-1, 255, 256, 65_535, 65_536, 1 << 24, (1 << 31) - 1, 1 << 31, i64::MAX]),
                _ => old.saturating_mul(2),
            };
            *value = new.into();
        }
        Value::String(_) => *value = rng.pick(&["bits", "base3", "accumulator", "lut", "x", ""]).into(),
        other => *other = Value::Bool(rng.one_in(2)),
    }
}
