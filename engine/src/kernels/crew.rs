//! Threads that share a piece of work cut into parts: one leads, any number may help.
//!
//! The leader publishes a task and a number of parts; everybody, the leader too, claims one part after the other. A
//! claim is one compare-and-swap, and the end is a counter: no lock, no allocation, no call into the system.
//!
//! Nobody is waited for that has not claimed a part, so helpers may come late, or never.
#![expect(unsafe_code, reason = "a task is lent to other threads for as long as its parts are done")]

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// What is done for each part: `task(part, member)`.
pub(crate) type Task<'a> = dyn Fn(usize, usize) + Sync + 'a;

/// Turns of a loop that waits before it lets other threads run: some tens of microseconds.
pub(crate) const SPINS: u32 = 1 << 12;

/// On cache lines of its own, and not on their neighbours, which are fetched along.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Apart<T>(T);

/// The state that leader and helpers share.
pub(crate) struct Crew {
    /// Parts in all in the upper half, claimed ones in the lower.
    claims: Apart<AtomicU64>,
    /// Parts that have been done.
    done: Apart<AtomicUsize>,
    /// Read only by those who have claimed a part that is not done yet.
    task: UnsafeCell<Option<*const Task<'static>>>,
    /// The first panic of a helper.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    led: AtomicBool,
    closed: AtomicBool,
}

// SAFETY: `task` is written by the one leader only while no part is claimed and not done, and read only by those who have
// claimed one; the atomics order both. The task itself is `Sync`.
unsafe impl Sync for Crew {}
// SAFETY: as above; a crew that nobody borrows has no task.
unsafe impl Send for Crew {}

/// The right to publish tasks.
pub(crate) struct Lead<'a> {
    crew: &'a Crew,
}

impl Crew {
    /// A crew with nothing to do.
    pub(crate) fn new() -> Self {
        Crew {
            claims: Apart::default(),
            done: Apart::default(),
            task: UnsafeCell::new(None),
            panic: Mutex::new(None),
            led: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        }
    }

    /// The right to lead, if nobody has it.
    pub(crate) fn lead(&self) -> Option<Lead<'_>> {
        let free = self.led.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok();
        // Made only where it is had: dropping one gives the right back.
        free.then(|| Lead { crew: self })
    }

    /// Says that no more tasks will come.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    /// Whether no more tasks will come.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Whether a part waits to be claimed.
    pub(crate) fn has_work(&self) -> bool {
        let (claimed, parts) = unpack(self.claims.0.load(Ordering::SeqCst));
        claimed < parts
    }

    /// Claims a part and does it; `false` if there was none.
    pub(crate) fn help(&self, member: usize) -> bool {
        let Some(part) = self.claim() else { return false };
        // SAFETY: the part has been claimed just now, and is done only below.
        let result = unsafe { self.perform(part, member) };
        if let Err(panic) = result {
            self.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(panic);
        }
        self.done.0.fetch_add(1, Ordering::Release);
        true
    }

    /// Helps until the crew is closed, and lets other threads run if that takes long.
    pub(crate) fn help_to_the_end(&self, member: usize) {
        let mut turns = 0;
        loop {
            if self.help(member) {
                turns = 0;
            } else if self.is_closed() {
                return;
            } else {
                wait(&mut turns);
            }
        }
    }

    fn claim(&self) -> Option<usize> {
        let mut seen = self.claims.0.load(Ordering::Relaxed);
        loop {
            let (claimed, parts) = unpack(seen);
            if claimed >= parts {
                return None;
            }
            // Whatever happened since the load: if this succeeds, the part is one of the task that is published now.
            let swap =
                self.claims.0.compare_exchange_weak(seen, seen + 1, Ordering::AcqRel, Ordering::Relaxed);
            match swap {
                Ok(_) => return Some(claimed),
                Err(now) => seen = now,
            }
        }
    }

    /// # Safety
    /// The part has been claimed by the caller and is not done yet.
    unsafe fn perform(&self, part: usize, member: usize) -> Result<(), Box<dyn Any + Send>> {
        // SAFETY: the claim has acquired what the leader released after it had written the task; the leader neither
        // writes it again nor lets the task's borrow end before this part is done.
        let task = unsafe { (*self.task.get()).map(|task| &*task) };
        catch_unwind(AssertUnwindSafe(|| task.into_iter().for_each(|task| task(part, member))))
    }
}

impl Lead<'_> {
    /// Does all parts of a task, with whoever helps, and returns when they are done. `published` is called once
    /// helpers can see the task. The leader is member 0.
    ///
    /// A panic of a part reaches the caller when the parts that were claimed are done.
    pub(crate) fn share(&mut self, parts: usize, task: &Task, published: impl FnOnce()) {
        let crew = self.crew;
        let parts = u32::try_from(parts).expect("parts are a few for each thread");
        // SAFETY: only the lifetime changes. Whoever reads the task has claimed a part, and this function returns (or
        // unwinds) only when every claimed part is done and none is left to claim.
        let task = unsafe { std::mem::transmute::<&Task<'_>, &'static Task<'static>>(task) };
        // SAFETY: `&mut self` of the only lead; no part is claimed and not done, so nobody reads.
        unsafe { *crew.task.get() = Some(task) };
        crew.done.0.store(0, Ordering::Relaxed);
        crew.claims.0.store(u64::from(parts) << 32, Ordering::SeqCst);
        let mut result = catch_unwind(AssertUnwindSafe(published));
        while result.is_ok() {
            let Some(part) = crew.claim() else { break };
            // SAFETY: the part has been claimed just now, and is done only below.
            result = unsafe { crew.perform(part, 0) };
            crew.done.0.fetch_add(1, Ordering::Release);
        }
        // Nothing is left unless there was a panic: nobody shall begin on what is.
        let (claimed, _) = unpack(crew.claims.0.swap(0, Ordering::AcqRel));
        let mut turns = 0;
        while crew.done.0.load(Ordering::Acquire) < claimed {
            wait(&mut turns);
        }
        // SAFETY: as above: every claimed part is done.
        unsafe { *crew.task.get() = None };
        let other = crew.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Err(panic) = result {
            resume_unwind(panic);
        }
        if let Some(panic) = other {
            resume_unwind(panic);
        }
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        self.crew.led.store(false, Ordering::Release);
    }
}

/// Claimed parts and parts in all.
fn unpack(claims: u64) -> (usize, usize) {
    ((claims & u64::from(u32::MAX)) as usize, (claims >> 32) as usize)
}

/// One turn of a loop that waits for another thread.
fn wait(turns: &mut u32) {
    if *turns < SPINS {
        *turns += 1;
        std::hint::spin_loop();
    } else {
        std::thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    /// Leads `work` with one helper.
    fn with_a_helper<R>(work: impl FnOnce(&mut Lead) -> R) -> R {
        let crew = Crew::new();
        std::thread::scope(|scope| {
            scope.spawn(|| crew.help_to_the_end(1));
            let result = work(&mut crew.lead().expect("nobody else leads"));
            crew.close();
            result
        })
    }

    #[test]
    fn every_part_is_done_once() {
        with_a_helper(|lead| {
            for parts in 0..200 {
                let times: Vec<AtomicUsize> = (0..parts).map(|_| AtomicUsize::new(0)).collect();
                let task = |part: usize, _: usize| {
                    times[part].fetch_add(1, Ordering::Relaxed);
                };
                lead.share(parts, &task, || ());
                assert!(times.iter().all(|times| times.load(Ordering::Relaxed) == 1), "{parts} parts");
            }
        });
    }

    #[test]
    fn a_panic_of_either_thread_reaches_the_leader_and_work_goes_on() {
        with_a_helper(|lead| {
            for round in 0..20 {
                // Both threads have a part each.
                let barrier = Barrier::new(2);
                let task = |_: usize, member: usize| {
                    barrier.wait();
                    assert_ne!(member, round % 2, "on purpose");
                };
                let result = catch_unwind(AssertUnwindSafe(|| lead.share(2, &task, || ())));
                assert!(result.is_err(), "round {round}");
                let done = AtomicUsize::new(0);
                let count = |_: usize, _: usize| {
                    done.fetch_add(1, Ordering::Relaxed);
                };
                lead.share(9, &count, || ());
                assert_eq!(done.into_inner(), 9, "round {round}");
            }
        });
    }

    #[test]
    fn nobody_leads_beside_a_leader() {
        let crew = Crew::new();
        let lead = crew.lead();
        assert!(lead.is_some() && crew.lead().is_none() && crew.lead().is_none());
        drop(lead);
        assert!(crew.lead().is_some());
    }
}
