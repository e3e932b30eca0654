//! The gate: what is asked of it, and what it did.

use dyadic_proto::v1::Artifact;

use crate::output::style::safe;

/// Checks `always`, `never` and `within:POINTS`; the server gets it as it is.
pub(crate) fn parse(text: &str) -> Result<String, String> {
    let points = text.strip_prefix("within:").and_then(|points| points.parse::<f64>().ok());
    if matches!(text, "always" | "never") || points.is_some_and(|points| (0.0..=100.0).contains(&points)) {
        Ok(text.to_owned())
    } else {
        Err("it is none of always, never and within:POINTS, with points from 0 to 100".to_owned())
    }
}

/// Why a version is not what "latest" means, and what changes that; `None` if nothing stands in its way.
pub(crate) fn obstacle(artifact: &Artifact) -> Option<String> {
    let name = safe(&artifact.served_name);
    let version = artifact.version;
    if artifact.removed_at.is_some() {
        return Some("removed: it is served no more, and its bytes are gone".to_owned());
    }
    if !artifact.held.is_empty() {
        let why = safe(&artifact.held);
        return Some(format!("kept, not live: {why}; `dyadic model promote {name} {version}` makes it live"));
    }
    (artifact.pinned != 0 && artifact.pinned != version).then(|| {
        format!(
            "not the latest: {name} is pinned to version {}; `dyadic model unpin {name}` lets \"latest\" follow the newest",
            artifact.pinned
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_the_latest_says_what_makes_it_so() {
        let mut made = Artifact { served_name: "net".into(), version: 3, ..Artifact::default() };
        assert_eq!(obstacle(&made), None);
        made.pinned = 3;
        assert_eq!(obstacle(&made), None);
        made.pinned = 1;
        let pinned = obstacle(&made).unwrap();
        assert!(
            pinned.contains("pinned to version 1") && pinned.contains("`dyadic model unpin net`"),
            "{pinned}"
        );
        made.held = "62.1 % is 28.4 points below its float network's 90.5 %".into();
        assert_eq!(
            obstacle(&made).unwrap(),
            "kept, not live: 62.1 % is 28.4 points below its float network's 90.5 %; `dyadic model promote net 3` \
             makes it live"
        );
    }

    #[test]
    fn what_is_asked_of_the_gate_is_checked_before_it_is_sent() {
        for good in ["always", "never", "within:0", "within:2.5", "within:100"] {
            assert_eq!(parse(good).as_deref(), Ok(good));
        }
        for bad in ["", "Always", "within", "within:", "within:-1", "within:100.5", "within:nan", "5"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
