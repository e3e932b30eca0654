//! Threads that share a piece of work cut into parts: one leads, any number may help.
//!
//! The leader publishes a task and a number of parts, in as many *lanes* as there are threads; everybody, the leader too,
//! claims one part after the other, of its own lane first: so a thread finds in its caches what it wrote before. A claim
//! is one compare-and-swap, and the end is a counter: no lock, no allocation, no call into the system.
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

/// Most lanes.
const LANES: usize = 16;

/// Turns of a loop that waits before it lets other threads run: some tens of microseconds.
pub(crate) const SPINS: u32 = 1 << 12;

/// On cache lines of its own, and not on their neighbours, which are fetched along.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Apart<T>(T);

/// The state that leader and helpers share.
pub(crate) struct Crew {
    /// Consecutive parts: the first one that is not claimed in the lower half, the end in the upper.
    lanes: [Apart<AtomicU64>; LANES],
    /// Lanes that are used, at least one.
    used: usize,
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
    /// A crew of that many threads, with nothing to do.
    pub(crate) fn new(threads: usize) -> Self {
        Crew {
            lanes: Default::default(),
            used: threads.clamp(1, LANES),
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
        self.lanes[..self.used].iter().any(|lane| {
            let (next, end) = unpack(lane.0.load(Ordering::SeqCst));
            next < end
        })
    }

    /// Claims a part and does it; `false` if there was none.
    pub(crate) fn help(&self, member: usize) -> bool {
        let Some(part) = self.claim(member) else { return false };
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

    fn claim(&self, member: usize) -> Option<usize> {
        (0..self.used).find_map(|offset| claim_of(&self.lanes[(member + offset) % self.used].0))
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
        assert!(u32::try_from(parts).is_ok(), "parts are a few for each thread");
        let lanes = || crew.lanes[..crew.used].iter().enumerate();
        let first = |lane: usize| parts * lane / crew.used;
        // SAFETY: only the lifetime changes. Whoever reads the task has claimed a part, and this function returns (or
        // unwinds) only when every claimed part is done and none is left to claim.
        let task = unsafe { std::mem::transmute::<&Task<'_>, &'static Task<'static>>(task) };
        // SAFETY: `&mut self` of the only lead; no part is claimed and not done, so nobody reads.
        unsafe { *crew.task.get() = Some(task) };
        crew.done.0.store(0, Ordering::Relaxed);
        for (index, lane) in lanes() {
            lane.0.store(pack(first(index), first(index + 1)), Ordering::SeqCst);
        }
        let mut result = catch_unwind(AssertUnwindSafe(published));
        while result.is_ok() {
            let Some(part) = crew.claim(0) else { break };
            // SAFETY: the part has been claimed just now, and is done only below.
            result = unsafe { crew.perform(part, 0) };
            crew.done.0.fetch_add(1, Ordering::Release);
        }
        // Nothing is left unless there was a panic: nobody shall begin on what is.
        let claimed: usize =
            lanes().map(|(index, lane)| unpack(lane.0.swap(0, Ordering::AcqRel)).0 - first(index)).sum();
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

/// The first part of a lane that nobody has claimed.
fn claim_of(lane: &AtomicU64) -> Option<usize> {
    let mut seen = lane.load(Ordering::Relaxed);
    loop {
        let (next, end) = unpack(seen);
        if next >= end {
            return None;
        }
        // Whatever happened since the load: if this succeeds, the part is one of the task that is published now.
        match lane.compare_exchange_weak(seen, seen + 1, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => return Some(next),
            Err(now) => seen = now,
        }
    }
}

/// A lane's word.
fn pack(next: usize, end: usize) -> u64 {
    (end as u64) << 32 | next as u64
}

/// The first part of a lane that is not claimed, and the end.
fn unpack(lane: u64) -> (usize, usize) {
    ((lane & u64::from(u32::MAX)) as usize, (lane >> 32) as usize)
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
        let crew = Crew::new(2);
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
            for parts in 0..99 {
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
        let crew = Crew::new(2);
        let lead = crew.lead();
        assert!(lead.is_some() && crew.lead().is_none() && crew.lead().is_none());
        drop(lead);
        assert!(crew.lead().is_some());
    }
}
