//! `KEY=VALUE` arguments.

use dyadic_proto::v1::Tag;

use crate::output::style::safe;

/// Reads `KEY=VALUE`; the value may be empty.
pub(crate) fn parse(text: &str) -> Result<Tag, String> {
    let (key, value) = text.split_once('=').ok_or("a tag is KEY=VALUE")?;
    if key.is_empty() {
        return Err("a tag's key cannot be empty".into());
    }
    Ok(Tag { key: key.to_owned(), value: value.to_owned() })
}

/// `a=1 b=2`.
pub(crate) fn show(tags: &[Tag]) -> String {
    tags.iter().map(|t| format!("{}={}", safe(&t.key), safe(&t.value))).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_has_a_key_and_maybe_a_value() {
        assert_eq!(show(&[parse("a=b=c").unwrap(), parse("k=").unwrap()]), "a=b=c k=");
        assert!(parse("a").is_err() && parse("=x").is_err());
    }
}
