//! Numbers as people read them.

use std::time::Duration;

use chrono::{DateTime, Local, Utc};
use dyadic_proto::Timestamp;

/// `812 B`, `1.4 kB`, `170.5 MB`: powers of a thousand.
pub(crate) fn bytes(n: u64) -> String {
    scaled(n, &["B", "kB", "MB", "GB", "TB"], " ")
}

/// `812`, `1.4k`, `40.8M`.
pub(crate) fn count(n: u64) -> String {
    scaled(n, &["", "k", "M", "G", "T"], "")
}

fn scaled(n: u64, units: &[&str], gap: &str) -> String {
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{n}{gap}{}", units[0]) } else { format!("{value:.1}{gap}{}", units[unit]) }
}

/// `91.52 %` of a share between 0 and 1.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

/// `0.8 s`, `42 s`, `3 min 05 s`, `2 h 07 min`.
pub(crate) fn duration(d: Duration) -> String {
    let secs = d.as_secs();
    match secs {
        0..10 => format!("{:.1} s", d.as_secs_f64()),
        10..60 => format!("{secs} s"),
        60..3600 => format!("{} min {:02} s", secs / 60, secs % 60),
        _ => format!("{} h {:02} min", secs / 3600, secs % 3600 / 60),
    }
}

/// `412 µs`, `3.21 ms`, `1.20 s`.
pub(crate) fn latency(d: Duration) -> String {
    let us = d.as_secs_f64() * 1e6;
    match us {
        _ if us < 1000.0 => format!("{us:.0} µs"),
        _ if us < 1e6 => format!("{:.2} ms", us / 1e3),
        _ => format!("{:.2} s", us / 1e6),
    }
}

/// A metric's value with as many digits as tell something.
pub(crate) fn number(v: f64) -> String {
    let a = v.abs();
    match a {
        _ if v.fract() == 0.0 && a < 1e9 => format!("{v:.0}"),
        _ if (1e-3..1.0).contains(&a) => format!("{v:.4}"),
        _ if (1.0..1e4).contains(&a) => format!("{v:.3}"),
        _ if (1e4..1e9).contains(&a) => format!("{v:.0}"),
        _ => format!("{v:.2e}"),
    }
}

/// The moment, if the server gave one that exists.
pub(crate) fn moment(at: Option<&Timestamp>) -> Option<DateTime<Utc>> {
    let at = at?;
    DateTime::from_timestamp(at.seconds, u32::try_from(at.nanos).ok()?)
}

/// `2026-11-23 14:05:09` in local time; empty if there is none.
pub(crate) fn local_time(at: Option<&Timestamp>) -> String {
    moment(at).map(|t| t.with_timezone(&Local).format("%Y-%m-%d %H:%M:%S").to_string()).unwrap_or_default()
}

/// `12 s ago`, `3 h ago`; empty if there is none.
pub(crate) fn ago(at: Option<&Timestamp>, now: DateTime<Utc>) -> String {
    let Some(at) = moment(at) else { return String::new() };
    let secs = (now - at).num_seconds().max(0);
    match secs {
        0..60 => format!("{secs} s ago"),
        60..3600 => format!("{} min ago", secs / 60),
        3600..172_800 => format!("{} h ago", secs / 3600),
        _ => format!("{} d ago", secs / 86_400),
    }
}

/// From one moment to another; zero if it is not known or negative.
pub(crate) fn between(from: Option<&Timestamp>, to: Option<DateTime<Utc>>) -> Duration {
    match (moment(from), to) {
        (Some(from), Some(to)) => (to - from).to_std().unwrap_or_default(),
        _ => Duration::ZERO,
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, b| {
        let _ = write!(text, "{b:02x}");
        text
    })
}

/// `3×32×32`.
pub(crate) fn shape(dims: &[i64]) -> String {
    dims.iter().map(i64::to_string).collect::<Vec<_>>().join("×")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_counts_change_unit_at_a_thousand() {
        let cases = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (999_949, "999.9 kB"),
            (999_950, "1.0 MB"),
            (170_498_071, "170.5 MB"),
        ];
        for (n, text) in cases {
            assert_eq!(bytes(n), text);
        }
        assert_eq!(count(40_813_184), "40.8M");
        assert_eq!(bytes(u64::MAX), "18446744.1 TB");
    }

    #[test]
    fn times_read_well_at_every_size() {
        let of = |s: f64| duration(Duration::from_secs_f64(s));
        assert_eq!(
            [of(0.84), of(42.0), of(185.0), of(7620.0)],
            ["0.8 s", "42 s", "3 min 05 s", "2 h 07 min"]
        );
        let of = |us| latency(Duration::from_micros(us));
        assert_eq!([of(412), of(3210), of(1_200_000)], ["412 µs", "3.21 ms", "1.20 s"]);
    }

    #[test]
    fn numbers_keep_what_tells_something() {
        let cases = [
            (0.0, "0"),
            (3.0, "3"),
            (0.9152, "0.9152"),
            (12.3456, "12.346"),
            (1.5e-7, "1.50e-7"),
            (f64::NAN, "NaN"),
        ];
        for (v, text) in cases {
            assert_eq!(number(v), text);
        }
    }

    #[test]
    fn impossible_moments_are_no_moment() {
        let at = Timestamp { seconds: i64::MAX, nanos: -1 };
        assert_eq!(moment(Some(&at)), None);
        assert_eq!(local_time(Some(&at)), "");
    }
}
