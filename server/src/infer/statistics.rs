//! Counters of one served version, as the protocol reports them.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dyadic_proto::inference::{InferBatchStatistics, InferStatistics, ModelStatistics, StatisticDuration};

/// How often, and how long altogether.
#[derive(Debug, Clone, Copy, Default)]
struct Total {
    count: u64,
    time: Duration,
}

impl Total {
    fn add(&mut self, count: u64, time: Duration) {
        self.count += count;
        self.time += time;
    }

    fn to_proto(self) -> StatisticDuration {
        StatisticDuration { count: self.count, ns: nanos(self.time) }
    }
}

#[derive(Debug, Default)]
struct Counters {
    success: Total,
    fail: Total,
    queue: Total,
    infer: Total,
    samples: u64,
    executions: u64,
    /// Compute time by batch size.
    batches: BTreeMap<u64, Total>,
    last_ms: u64,
}

/// Counters of one version.
#[derive(Debug, Default)]
pub struct Statistics(Mutex<Counters>);

impl Statistics {
    /// One batch ran: `requests` requests with `samples` samples, that had waited `queued` altogether.
    pub fn executed(&self, requests: u64, samples: u64, queued: Duration, compute: Duration) {
        let mut counters = self.lock();
        counters.queue.add(requests, queued);
        counters.infer.add(requests, compute * u32::try_from(requests).unwrap_or(u32::MAX));
        counters.samples += samples;
        counters.executions += 1;
        counters.batches.entry(samples).or_default().add(1, compute);
        counters.last_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_millis() as u64);
    }

    /// A request that left the queue without running.
    pub fn rejected(&self, queued: Duration) {
        self.lock().queue.add(1, queued);
    }

    /// A request was answered after `total`.
    pub fn answered(&self, success: bool, total: Duration) {
        let mut counters = self.lock();
        if success { counters.success.add(1, total) } else { counters.fail.add(1, total) }
    }

    /// As the protocol has it.
    pub fn to_proto(&self, name: &str, version: u64) -> ModelStatistics {
        let counters = self.lock();
        let none = Some(StatisticDuration::default());
        let batch = |(&batch_size, total): (&u64, &Total)| InferBatchStatistics {
            batch_size,
            compute_input: none,
            compute_infer: Some(total.to_proto()),
            compute_output: none,
        };
        ModelStatistics {
            name: name.to_owned(),
            version: version.to_string(),
            last_inference: counters.last_ms,
            inference_count: counters.samples,
            execution_count: counters.executions,
            inference_stats: Some(InferStatistics {
                success: Some(counters.success.to_proto()),
                fail: Some(counters.fail.to_proto()),
                queue: Some(counters.queue.to_proto()),
                compute_input: Some(StatisticDuration { count: counters.infer.count, ns: 0 }),
                compute_infer: Some(counters.infer.to_proto()),
                compute_output: Some(StatisticDuration { count: counters.infer.count, ns: 0 }),
                cache_hit: none,
                cache_miss: none,
            }),
            batch_stats: counters.batches.iter().map(batch).collect(),
            ..ModelStatistics::default()
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Counters> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
