//! Pages of listings.

use crate::error::ApiError;

const DEFAULT: u32 = 50;
const MOST: u32 = 500;

/// Rows of a page: 0 means the default, and no page is larger than the most.
pub(crate) fn size(asked: u32) -> u32 {
    match asked {
        0 => DEFAULT,
        asked => asked.min(MOST),
    }
}

/// What a page token stands for; `None` for the first page.
pub(crate) fn parse<T: std::str::FromStr>(token: &str) -> Result<Option<T>, ApiError> {
    if token.is_empty() {
        return Ok(None);
    }
    token
        .parse()
        .map(Some)
        .map_err(|_| ApiError::field("page_token", "it is not a token of an earlier reply"))
}

/// Cuts what was asked for with one row too many to a page, and makes the token of the next.
pub(crate) fn cut<T>(mut rows: Vec<T>, asked: u32, token: impl Fn(&T) -> String) -> (Vec<T>, String) {
    let size = size(asked) as usize;
    let more = rows.len() > size;
    rows.truncate(size);
    let next = rows.last().filter(|_| more).map(token).unwrap_or_default();
    (rows, next)
}
