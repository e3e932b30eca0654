//! Several threads on one sample. The threads are the caller's: a [`Pool`] of its own, or a [`Team`].
//!
//! A pool is asked once a run, not once a layer: whichever of its threads comes first leads through the steps, and the
//! others claim parts of each until the run is over. No thread is waited for that has not come, so a pool may be busy,
//! or run one task after the other, and the outputs are the same.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::kernels::Workspace;
use crate::kernels::crew::{Crew, SPINS};
use crate::kernels::hands::Hands;

/// Threads that run tasks. A few lines make one of any thread pool:
///
/// ```
/// struct Scoped(usize);
///
/// impl dyadic_engine::Pool for Scoped {
///     fn threads(&self) -> usize {
///         self.0
///     }
///
///     fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
///         std::thread::scope(|scope| {
///             for index in 1..tasks {
///                 scope.spawn(move || task(index));
///             }
///             task(0);
///         });
///     }
/// }
/// ```
pub trait Pool: Sync {
    /// How many tasks can run at a time.
    fn threads(&self) -> usize;

    /// Calls `task(0)`, …, `task(tasks − 1)`, where it can at the same time, and returns when all calls have returned.
    /// A panic of a task should reach the caller.
    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync));
}

/// A [`Pool`] whose threads live as long as it does. Between runs they wait for the next one for some tens of
/// microseconds, then sleep. While one caller runs tasks, another's run on the other's own thread.
pub struct Team {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

/// What a team's threads share.
struct Shared {
    crew: Crew,
    /// Whether each worker sleeps, or is about to.
    sleeping: Vec<AtomicBool>,
}

impl Team {
    /// A team of that many threads, the calling one among them: one fewer is started.
    ///
    /// # Panics
    /// If the system cannot start a thread.
    pub fn new(threads: usize) -> Self {
        let workers = threads.max(1) - 1;
        let sleeping = (0..workers).map(|_| AtomicBool::new(false)).collect();
        let shared = Arc::new(Shared { crew: Crew::new(workers + 1), sleeping });
        let start = |index: usize| {
            let shared = Arc::clone(&shared);
            let builder = std::thread::Builder::new().name(format!("dyadic-engine-{}", index + 1));
            builder.spawn(move || shared.work(index)).expect("the system starts a thread")
        };
        let workers = (0..workers).map(start).collect();
        Team { shared, workers }
    }

    fn wake(&self) {
        for (worker, sleeping) in self.workers.iter().zip(&self.shared.sleeping) {
            if sleeping.load(Ordering::SeqCst) {
                worker.thread().unpark();
            }
        }
    }
}

impl Shared {
    /// A worker's life.
    fn work(&self, index: usize) {
        let mut turns = 0;
        while !self.crew.is_closed() {
            if self.crew.help(index + 1) {
                turns = 0;
            } else if turns < SPINS {
                turns += 1;
                std::hint::spin_loop();
            } else {
                // Either this sees what was published, or the publisher sees this.
                self.sleeping[index].store(true, Ordering::SeqCst);
                if !self.crew.has_work() && !self.crew.is_closed() {
                    std::thread::park();
                }
                self.sleeping[index].store(false, Ordering::SeqCst);
                turns = 0;
            }
        }
    }
}

impl Pool for Team {
    fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        match self.shared.crew.lead() {
            Some(mut lead) => lead.share(tasks, &|index, _| task(index), || self.wake()),
            None => (0..tasks).for_each(task),
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.crew.close();
        self.wake();
        for worker in self.workers.drain(..) {
            // Tasks' panics have been caught; there is nothing else to learn.
            drop(worker.join());
        }
    }
}

impl std::fmt::Debug for Team {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Team").field("threads", &self.threads()).finish_non_exhaustive()
    }
}

/// Closes a crew when its leader returns or panics, so that no helper waits for ever.
struct Closing<'a>(&'a Crew);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Runs `work` on the first of a pool's threads that comes; the others help. There is a workspace for each.
pub(super) fn lead<R: Send>(
    pool: &dyn Pool,
    workspaces: &[Mutex<Workspace>],
    work: impl FnOnce(&mut Hands) -> R + Send,
) -> R {
    let crew = Crew::new(workspaces.len());
    let work = Mutex::new(Some(work));
    let result = Mutex::new(None);
    let helpers = AtomicUsize::new(0);
    let task = |_: usize| {
        let first = work.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(work) = first {
            let _closing = Closing(&crew);
            let lead = crew.lead().expect("whoever takes the work leads, and nobody else");
            let value = work(&mut Hands::many(workspaces, lead));
            *result.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
            return;
        }
        let member = helpers.fetch_add(1, Ordering::Relaxed) + 1;
        if member < workspaces.len() {
            crew.help_to_the_end(member);
        }
    };
    pool.run(workspaces.len(), &task);
    let done = result.into_inner().unwrap_or_else(PoisonError::into_inner);
    let left = work.into_inner().unwrap_or_else(PoisonError::into_inner);
    match (done, left) {
        (Some(value), _) => value,
        // The pool has called nothing.
        (None, Some(work)) => work(&mut Hands::alone(&workspaces[0])),
        (None, None) => panic!("a task has panicked, and the pool kept it to itself"),
    }
}
