//! The memory that a run may take: what it is told, or a share of what is there.

use std::fs;

/// Share of what is there.
const SHARE: u64 = 2;
/// Assumed where the system does not tell.
const UNKNOWN: u64 = 4 << 30;
/// The least that a run may be told.
const LEAST: u64 = 64 << 20;

/// Half of the memory that is free for this process: the system's, or what its control group still allows.
pub fn default_budget() -> u64 {
    let system = fs::read_to_string("/proc/meminfo").ok().and_then(|text| available(&text));
    let groups = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limit = groups.iter().find_map(|path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok());
    let free = [system, limit].into_iter().flatten().min().unwrap_or(UNKNOWN);
    (free / SHARE).max(LEAST)
}

/// `MemAvailable` of /proc/meminfo in bytes.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Reads an amount of memory: bytes, or a number with K, M, G or T and an optional iB.
///
/// # Errors
/// What is wrong with it, in words.
pub fn parse(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim().trim_end_matches("iB").trim_end_matches('B') {
        "" => 0,
        "K" | "k" => 10,
        "M" | "m" => 20,
        "G" | "g" => 30,
        "T" | "t" => 40,
        _ => return Err(format!("'{text}' is no amount of memory; write 2GiB or 800MiB")),
    };
    let number: f64 =
        number.parse().map_err(|_| format!("'{text}' is no amount of memory; write 2GiB or 800MiB"))?;
    let bytes = number * f64::from(shift).exp2();
    if bytes < LEAST as f64 || bytes >= f64::from(50).exp2() {
        return Err(format!("{text} is out of range: 64MiB and more"));
    }
    Ok(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_with_their_units_and_refused_without_sense() {
        for (text, bytes) in
            [("2GiB", 2 << 30), ("1.5G", 3 << 29), ("800 MiB", 800 << 20), ("134217728", 1 << 27)]
        {
            assert_eq!(parse(text), Ok(bytes));
        }
        for text in ["", "GiB", "2 parsecs", "-1G", "1.2.3G", "1MiB", "0", "9999999T"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_system_tells_what_is_there() {
        assert_eq!(available("MemTotal: 9 kB\nMemAvailable:    1024 kB\n"), Some(1 << 20));
        assert_eq!(available("MemTotal: 9 kB\n"), None);
        assert!(default_budget() >= LEAST);
    }
}
