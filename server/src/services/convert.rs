//! Small conversions that several services share.

use chrono::{DateTime, Utc};
use dyadic_proto::Timestamp;
use dyadic_proto::v1::Tag;
use dyadic_store::job::Tags;
use dyadic_store::registry::{NoPromote, Promote};

use crate::auth::{Identity, Role};
use crate::error::ApiError;

/// Most tags of one thing.
const MAX_TAGS: usize = 64;
/// Longest key, in bytes.
const MAX_KEY: usize = 64;
/// Longest value, in bytes.
const MAX_VALUE: usize = 1024;

/// A moment for the API.
pub(crate) fn timestamp(at: DateTime<Utc>) -> Timestamp {
    Timestamp { seconds: at.timestamp(), nanos: at.timestamp_subsec_nanos().min(999_999_999) as i32 }
}

/// Who calls. The auth layer has put it there.
pub(crate) fn caller<T>(request: &tonic::Request<T>) -> Result<Identity, ApiError> {
    let identity = request.extensions().get::<Identity>().cloned();
    identity.ok_or_else(|| ApiError::internal("a call without an identity reached a service"))
}

/// Whose things the caller sees: everyone's (`None`) or one owner's.
pub(crate) fn scope(caller: &Identity) -> Option<&str> {
    (caller.role < Role::Admin).then_some(caller.owner.as_str())
}

/// What is asked of the gate; empty means the default.
pub(crate) fn promote(text: &str) -> Result<Promote, ApiError> {
    match text {
        "" => Ok(Promote::default()),
        text => text.parse().map_err(|error: NoPromote| ApiError::field("promote", error.to_string())),
    }
}

/// Tags, checked.
pub(crate) fn tags(tags: Vec<Tag>) -> Result<Tags, ApiError> {
    if tags.len() > MAX_TAGS {
        return Err(ApiError::field("tags", format!("{} are given; {MAX_TAGS} are allowed", tags.len())));
    }
    tags.into_iter()
        .map(|Tag { key, value }| {
            let plain = |text: &str| !text.chars().any(char::is_control);
            if key.is_empty() || key.len() > MAX_KEY || !plain(&key) {
                return Err(ApiError::field(
                    "tags",
                    format!("key {key:?} is not 1 to {MAX_KEY} plain characters"),
                ));
            }
            if value.len() > MAX_VALUE || !plain(&value) {
                let reason = format!("the value of {key:?} is not at most {MAX_VALUE} plain characters");
                return Err(ApiError::field("tags", reason));
            }
            Ok((key, value))
        })
        .collect()
}

/// Tags as the API lists them.
pub(crate) fn tag_list(tags: Tags) -> Vec<Tag> {
    tags.into_iter().map(|(key, value)| Tag { key, value }).collect()
}
