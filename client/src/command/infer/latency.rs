//! How long requests took.

use std::time::Duration;

/// Times in the order they came.
#[derive(Debug, Default)]
pub(super) struct Latencies(Vec<Duration>);

impl Latencies {
    pub(super) fn add(&mut self, took: Duration) {
        self.0.push(took);
    }

    /// The smallest time that at least `p` percent did not pass; zero if there are none.
    pub(super) fn percentile(&self, p: f64) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (p / 100.0 * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }

    pub(super) fn ms(&self, p: f64) -> f64 {
        self.percentile(p).as_secs_f64() * 1e3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_occurred() {
        let mut times = Latencies::default();
        assert_eq!(times.percentile(50.0), Duration::ZERO);
        for ms in [4, 1, 3, 2] {
            times.add(Duration::from_millis(ms));
        }
        let of = |p| times.percentile(p).as_millis();
        assert_eq!([of(0.0), of(50.0), of(51.0), of(99.0), of(100.0)], [1, 2, 3, 4, 4]);
    }
}
