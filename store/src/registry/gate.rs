//! The gate: whether a new version goes live by itself, or is kept and waits to be promoted.
//!
//! The database decides, in the statement that publishes (`held_by_gate` in the migrations).

use std::fmt;
use std::str::FromStr;

/// What is asked of the gate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Promote {
    /// Go live whatever came out.
    Always,
    /// Be kept only.
    Never,
    /// Go live if the accuracy is at most so many points (of 100) below the float network's. Where no accuracies were
    /// measured: if it is of another opinion than the float network on at most so many percent of the images, and its
    /// outputs are not more noise than signal beside the float network's.
    Within(f64),
}

/// What is asked of the gate where nothing is said.
impl Default for Promote {
    fn default() -> Self {
        Self::Within(5.0)
    }
}

impl fmt::Display for Promote {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always => out.write_str("always"),
            Self::Never => out.write_str("never"),
            Self::Within(points) => write!(out, "within:{points}"),
        }
    }
}

/// A text that is no [`Promote`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is none of always, never and within:POINTS, with points from 0 to 100")]
pub struct NoPromote(String);

impl FromStr for Promote {
    type Err = NoPromote;

    fn from_str(text: &str) -> Result<Self, NoPromote> {
        let plain = |points: &str| points.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        match text {
            "always" => Ok(Self::Always),
            "never" => Ok(Self::Never),
            _ => text
                .strip_prefix("within:")
                .filter(|points| plain(points))
                .and_then(|points| points.parse().ok())
                .filter(|points| (0.0..=100.0).contains(points))
                .map(Self::Within)
                .ok_or_else(|| NoPromote(text.chars().take(40).collect())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_of_the_gate_survives_its_text() {
        for asked in [Promote::Always, Promote::Never, Promote::Within(0.0), Promote::Within(2.25)] {
            assert_eq!(asked.to_string().parse(), Ok(asked));
        }
        assert_eq!("within:.5".parse(), Ok(Promote::Within(0.5)));
        for wrong in
            ["", "sometimes", "within", "within:", "within:-1", "within:101", "within:NaN", "within:1e1", "5"]
        {
            assert!(wrong.parse::<Promote>().is_err(), "{wrong}");
        }
    }
}
