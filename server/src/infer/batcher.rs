//! A bounded queue in front of one engine, and the threads that empty it.
//!
//! A thread takes its share of what waits, most urgent first, up to the largest batch, and runs it as one batch. A request
//! whose caller has gone, or that waited too long, is not run.

use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dyadic_engine::{Engine, Scratch};
use tokio::sync::oneshot;

use super::InferError;
use super::statistics::Statistics;

/// Input values of whole samples.
#[derive(Debug, Clone, PartialEq)]
pub enum Samples {
    /// NCHW floats, all finite.
    Floats(Vec<f32>),
    /// NHWC bytes, for models with a normalization.
    Bytes(Vec<u8>),
}

/// What the batcher is asked to run.
#[derive(Debug)]
pub struct Work {
    /// Input values of `batch` samples.
    pub samples: Samples,
    /// Samples, ≥ 1.
    pub batch: usize,
    /// 0 runs first.
    pub rank: u64,
    /// Longest time in the queue.
    pub max_wait: Duration,
    /// When the caller gives up.
    pub deadline: Option<Instant>,
}

/// Sizes of a batcher.
#[derive(Debug, Clone)]
pub struct BatcherLimits {
    /// Served name, for messages.
    pub model: String,
    /// Most samples in a batch.
    pub max_batch: usize,
    /// Most requests that wait.
    pub max_queue: usize,
    /// Threads.
    pub threads: usize,
}

struct Item {
    work: Work,
    sequence: u64,
    queued_at: Instant,
    /// Set by whoever decides first: a thread that takes it, or a caller that gives up.
    claimed: Arc<AtomicBool>,
    reply: oneshot::Sender<Result<Vec<f32>, InferError>>,
}

#[derive(Default)]
struct Queue {
    items: BinaryHeap<Item>,
    sequence: u64,
    closed: bool,
}

struct Shared {
    engine: Engine,
    limits: BatcherLimits,
    queue: Mutex<Queue>,
    waiting: Condvar,
    statistics: Arc<Statistics>,
}

/// The handle; its threads end when it is dropped.
pub struct Batcher {
    shared: Arc<Shared>,
}

impl Batcher {
    /// Starts the threads.
    pub fn start(
        engine: Engine,
        limits: BatcherLimits,
        statistics: Arc<Statistics>,
    ) -> std::io::Result<Self> {
        let threads = limits.threads.max(1);
        let queue = Mutex::default();
        let shared = Arc::new(Shared { engine, limits, queue, waiting: Condvar::new(), statistics });
        // Made first: if a thread cannot be started, those before it end.
        let batcher = Self { shared };
        for index in 0..threads {
            let shared = batcher.shared.clone();
            let name = format!("infer-{}-{index}", shared.limits.model);
            std::thread::Builder::new().name(name).spawn(move || shared.run())?;
        }
        Ok(batcher)
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.shared.engine
    }

    /// Waits for its turn and runs: one sample's outputs after the other.
    pub async fn run(&self, work: Work) -> Result<Vec<f32>, InferError> {
        let queued_at = Instant::now();
        let give_up = queued_at + work.max_wait;
        let expires = work.deadline.map_or(give_up, |deadline| deadline.min(give_up));
        let claimed = Arc::new(AtomicBool::new(false));
        let (reply, mut answer) = oneshot::channel();
        self.push(work, queued_at, claimed.clone(), reply)?;
        if let Ok(answer) = tokio::time::timeout_at(expires.into(), &mut answer).await {
            return self.flatten(answer);
        }
        if claimed.swap(true, Ordering::AcqRel) {
            // It runs already.
            return self.flatten(answer.await);
        }
        let waited = queued_at.elapsed();
        self.shared.statistics.rejected(waited);
        if expires < give_up {
            return Err(InferError::Deadline);
        }
        Err(InferError::QueueTimeout { model: self.model(), waited_ms: waited.as_millis() as u64 })
    }

    fn push(
        &self,
        work: Work,
        queued_at: Instant,
        claimed: Arc<AtomicBool>,
        reply: oneshot::Sender<Result<Vec<f32>, InferError>>,
    ) -> Result<(), InferError> {
        let mut queue = self.shared.lock();
        let limit = self.shared.limits.max_queue;
        if queue.items.len() >= limit {
            // Callers that have gone make room.
            queue.items.retain(|item| !item.claimed.load(Ordering::Acquire) && !item.reply.is_closed());
        }
        if queue.items.len() >= limit {
            drop(queue);
            self.shared.statistics.rejected(Duration::ZERO);
            return Err(InferError::QueueFull { model: self.model(), limit });
        }
        queue.sequence += 1;
        let sequence = queue.sequence;
        queue.items.push(Item { work, sequence, queued_at, claimed, reply });
        drop(queue);
        self.shared.waiting.notify_one();
        Ok(())
    }

    fn flatten(
        &self,
        answer: Result<Result<Vec<f32>, InferError>, oneshot::error::RecvError>,
    ) -> Result<Vec<f32>, InferError> {
        answer.unwrap_or_else(|_| Err(InferError::Unloaded(self.model())))
    }

    fn model(&self) -> String {
        self.shared.limits.model.clone()
    }
}

impl Drop for Batcher {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.waiting.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A thread's life.
    fn run(&self) {
        let mut scratch = self.engine.scratch();
        while let Some(batch) = self.take() {
            self.execute(&mut scratch, batch);
        }
    }

    /// The next batch; `None` when the batcher is gone and nothing waits.
    fn take(&self) -> Option<Vec<Item>> {
        let mut queue = self.lock();
        loop {
            let batch = self.next_batch(&mut queue);
            if !batch.is_empty() {
                return Some(batch);
            }
            if queue.closed {
                return None;
            }
            queue = self.waiting.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// This thread's share of what waits, of one kind of input.
    fn next_batch(&self, queue: &mut Queue) -> Vec<Item> {
        let share = queue.items.len().div_ceil(self.limits.threads.max(1));
        let mut batch: Vec<Item> = Vec::new();
        let mut samples = 0;
        while batch.len() < share.max(1) {
            let Some(next) = queue.items.peek() else { break };
            let fits = batch.first().is_none_or(|first| {
                samples + next.work.batch <= self.limits.max_batch
                    && std::mem::discriminant(&first.work.samples)
                        == std::mem::discriminant(&next.work.samples)
            });
            if !fits {
                break;
            }
            let Some(item) = queue.items.pop() else { break };
            if item.reply.is_closed() || item.claimed.swap(true, Ordering::AcqRel) {
                continue;
            }
            samples += item.work.batch;
            batch.push(item);
        }
        batch
    }

    fn execute(&self, scratch: &mut Scratch, batch: Vec<Item>) {
        let started = Instant::now();
        let samples: usize = batch.iter().map(|item| item.work.batch).sum();
        let queued = batch.iter().map(|item| started.duration_since(item.queued_at)).sum();
        let outputs = self.engine.output_len();
        let mut values = vec![0.0; samples * outputs];
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            run_batch(&self.engine, scratch, &batch, samples, &mut values)
        }));
        let failure = match ran {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => {
                *scratch = self.engine.scratch();
                Some("it panicked".to_owned())
            }
        };
        self.statistics.executed(batch.len() as u64, samples as u64, queued, started.elapsed());
        let mut rest = values.as_slice();
        for item in batch {
            let (own, others) = rest.split_at(item.work.batch * outputs);
            rest = others;
            let answer =
                failure.clone().map_or_else(|| Ok(own.to_vec()), |error| Err(InferError::Engine(error)));
            // A caller that has gone needs no answer.
            let _ = item.reply.send(answer);
        }
    }
}

fn run_batch(
    engine: &Engine,
    scratch: &mut Scratch,
    batch: &[Item],
    samples: usize,
    values: &mut [f32],
) -> Result<(), dyadic_engine::RunError> {
    if let [item] = batch {
        return match &item.work.samples {
            Samples::Floats(floats) => engine.run_f32(scratch, floats, samples, values),
            Samples::Bytes(bytes) => engine.run_u8(scratch, bytes, samples, values),
        };
    }
    let (mut floats, mut bytes) = (Vec::new(), Vec::new());
    for item in batch {
        match &item.work.samples {
            Samples::Floats(more) => floats.extend_from_slice(more),
            Samples::Bytes(more) => bytes.extend_from_slice(more),
        }
    }
    if bytes.is_empty() {
        engine.run_f32(scratch, &floats, samples, values)
    } else {
        engine.run_u8(scratch, &bytes, samples, values)
    }
}

/// The greatest is taken first: lowest rank, then first come.
impl Ord for Item {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.work.rank, other.sequence).cmp(&(self.work.rank, self.sequence))
    }
}

impl PartialOrd for Item {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Item {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Item {}

#[cfg(test)]
mod tests {
    use super::*;
    use dyadic_engine::testing::resnet20;
    use futures::FutureExt;

    const SAMPLE: usize = 3 * 32 * 32;

    fn batcher(max_queue: usize) -> Batcher {
        let limits = BatcherLimits { model: "m".to_owned(), max_batch: 64, max_queue, threads: 1 };
        Batcher::start(Engine::new(resnet20(1, 2)).unwrap(), limits, Arc::default()).unwrap()
    }

    fn work(batch: usize, rank: u64, max_wait: Duration) -> Work {
        let samples = Samples::Floats(vec![0.25; batch * SAMPLE]);
        Work { samples, batch, rank, max_wait, deadline: None }
    }

    const LONG: Duration = Duration::from_secs(600);

    /// Keeps the only thread busy with full batches for as long as the returned futures live.
    fn busy(batcher: &Batcher) -> Vec<impl Future<Output = Result<Vec<f32>, InferError>>> {
        let mut running: Vec<_> = (0..20).map(|_| Box::pin(batcher.run(work(64, 0, LONG)))).collect();
        // Polled once, so that they are in the queue.
        assert!(running.iter_mut().all(|run| run.as_mut().now_or_never().is_none()));
        running
    }

    #[tokio::test]
    async fn a_full_queue_refuses_until_callers_go() {
        let batcher = batcher(21);
        let running = busy(&batcher);
        let mut waiting: Vec<_> = (0..3).map(|_| Box::pin(batcher.run(work(1, 9, LONG)))).collect();
        let refused =
            futures::future::join_all(waiting.iter_mut().map(|run| async { run.now_or_never() })).await;
        // One batch may be running by now, which leaves room for one more.
        let full = |answer: &Option<_>| matches!(answer, Some(Err(InferError::QueueFull { limit: 21, .. })));
        assert!(refused.iter().filter(|answer| full(answer)).count() >= 1);
        drop((running, waiting));
        assert_eq!(batcher.run(work(1, 9, LONG)).await.unwrap().len(), 10);
    }

    #[tokio::test]
    async fn no_queue_means_no_answer() {
        let refused = batcher(0).run(work(1, 1, LONG)).await;
        assert!(matches!(refused, Err(InferError::QueueFull { limit: 0, .. })));
    }

    #[tokio::test]
    async fn who_waits_too_long_is_not_run() {
        let batcher = batcher(100);
        let running = busy(&batcher);
        let waited = batcher.run(work(1, 9, Duration::from_millis(1))).await;
        assert!(matches!(waited, Err(InferError::QueueTimeout { .. })), "{waited:?}");
        let deadline = Some(Instant::now() + Duration::from_millis(1));
        let waited = batcher.run(Work { deadline, ..work(1, 9, LONG) }).await;
        assert!(matches!(waited, Err(InferError::Deadline)), "{waited:?}");
        drop(running);
    }

    #[tokio::test]
    async fn the_most_urgent_runs_first_and_equals_in_their_order() {
        let batcher = batcher(100);
        let running = busy(&batcher);
        let (sender, mut finished) = tokio::sync::mpsc::unbounded_channel();
        let run = |name: &'static str, rank| {
            let (sender, batcher) = (sender.clone(), &batcher);
            // Full batches, so that each is run by itself.
            async move {
                batcher.run(work(64, rank, LONG)).await.unwrap();
                sender.send(name).unwrap();
            }
        };
        let mut runs: Vec<_> =
            [run("late", 3), run("first", 1), run("second", 1), run("middle", 2)].map(Box::pin).into();
        assert!(runs.iter_mut().all(|run| run.as_mut().now_or_never().is_none()));
        drop(running);
        futures::future::join_all(runs).await;
        let mut order = Vec::new();
        while let Ok(name) = finished.try_recv() {
            order.push(name);
        }
        assert_eq!(order, ["first", "second", "middle", "late"]);
    }

    #[tokio::test]
    async fn requests_that_share_a_batch_get_their_own_answers() {
        let batcher = batcher(100);
        let engine = Engine::new(resnet20(1, 2)).unwrap();
        let running = busy(&batcher);
        let inputs: Vec<Vec<f32>> = (0..5)
            .map(|seed| (0..SAMPLE).map(|i| ((i * 7 + seed * 131) % 97) as f32 / 40.0 - 1.0).collect())
            .collect();
        let mut runs: Vec<_> = inputs
            .iter()
            .map(|input| {
                Box::pin(batcher.run(Work { samples: Samples::Floats(input.clone()), ..work(1, 1, LONG) }))
            })
            .collect();
        assert!(runs.iter_mut().all(|run| run.as_mut().now_or_never().is_none()));
        drop(running);
        for (input, answer) in inputs.iter().zip(futures::future::join_all(runs).await) {
            let mut expected = vec![0.0; 10];
            engine.run_f32(&mut engine.scratch(), input, 1, &mut expected).unwrap();
            assert_eq!(answer.unwrap(), expected);
        }
    }
}
