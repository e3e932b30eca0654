//! Batches, made ahead by threads.
//!
//! The thread that asks hands out the work and puts the parts together in their order, so that nothing depends on which
//! thread is faster; what is handed out and not yet taken is bounded.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::Loader;
use crate::augment::Augment;
use crate::error::{DataError, Result};

/// Batches that are begun before the one that is asked for, at least.
const AHEAD: usize = 2;

/// Some images.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    /// Which they are, in the order asked for; an image that cannot be read and may be left out is not among them.
    pub indices: Vec<usize>,
    /// `indices.len() × height × width × channels` bytes.
    pub pixels: Vec<u8>,
    /// The class of each, if it is known.
    pub labels: Vec<Option<u32>>,
}

impl Batch {
    fn append(&mut self, mut other: Batch) {
        if self.indices.is_empty() {
            *self = other;
            return;
        }
        self.indices.append(&mut other.indices);
        self.pixels.append(&mut other.pixels);
        self.labels.append(&mut other.labels);
    }
}

/// A part of a batch that a thread is to make, and where to.
#[derive(Debug)]
struct Task {
    indices: Arc<[usize]>,
    range: Range<usize>,
    done: Sender<(usize, Result<Batch>)>,
}

/// A batch that is being made: its parts come in any order.
#[derive(Debug)]
struct Begun {
    parts: usize,
    done: Receiver<(usize, Result<Batch>)>,
}

/// An iterator over batches; see [`Loader::batches`]. After an error it ends.
#[derive(Debug)]
pub struct Batches<I> {
    loader: Loader,
    augment: Option<Augment>,
    order: I,
    begun: VecDeque<Begun>,
    /// Parts that are begun.
    parts: usize,
    /// None without threads, and after the end.
    tasks: Option<Sender<Task>>,
    threads: Vec<JoinHandle<()>>,
    ended: bool,
}

impl<I: Iterator<Item = Vec<usize>>> Batches<I> {
    pub(super) fn new(loader: Loader, order: I, augment: Option<Augment>, threads: usize) -> Self {
        let (tasks, work) = channel::<Task>();
        let work = Arc::new(Mutex::new(work));
        let threads: Vec<_> = (0..threads)
            .map_while(|_| {
                let (loader, work) = (loader.clone(), Arc::clone(&work));
                let run = move || {
                    loop {
                        // The lock is held while waiting: whoever has it is the next to get work.
                        let next = work.lock().unwrap_or_else(PoisonError::into_inner).recv();
                        let Ok(Task { indices, range, done }) = next else { return };
                        let part = loader.batch(&indices[range.clone()], augment);
                        // Nobody listens once the iterator is dropped.
                        let _ = done.send((range.start, part));
                    }
                };
                std::thread::Builder::new().name("dyadic-load".into()).spawn(run).ok()
            })
            .collect();
        let tasks = (!threads.is_empty()).then_some(tasks);
        Batches { loader, augment, order, begun: VecDeque::new(), parts: 0, tasks, threads, ended: false }
    }

    /// Hands out work until enough is begun.
    fn top_up(&mut self) {
        let Some(tasks) = &self.tasks else { return };
        while self.begun.len() < AHEAD || self.parts < 2 * self.threads.len() {
            let Some(indices) = self.order.next() else { return };
            let indices: Arc<[usize]> = indices.into();
            let stride = self.loader.stride().max(1);
            let (done, results) = channel();
            let mut parts = 0;
            let mut start = 0;
            while start < indices.len() {
                let end = start.saturating_add(stride).min(indices.len());
                let task = Task { indices: Arc::clone(&indices), range: start..end, done: done.clone() };
                // Should the threads be gone, the lack of results tells.
                let _ = tasks.send(task);
                (start, parts) = (end, parts + 1);
            }
            self.parts += parts;
            self.begun.push_back(Begun { parts, done: results });
        }
    }

    /// The oldest batch that is begun.
    fn collect(&mut self) -> Option<Result<Batch>> {
        let begun = self.begun.pop_front()?;
        self.parts -= begun.parts;
        let mut parts: Vec<_> = begun.done.iter().take(begun.parts).collect();
        if parts.len() < begun.parts {
            return Some(Err(DataError::unusable("dataset", "a thread that reads images has failed")));
        }
        parts.sort_by_key(|&(start, _)| start);
        let mut batch = Batch::default();
        for (_, part) in parts {
            match part {
                Ok(part) => batch.append(part),
                Err(error) => return Some(Err(error)),
            }
        }
        Some(Ok(batch))
    }
}

impl<I: Iterator<Item = Vec<usize>>> Iterator for Batches<I> {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Result<Batch>> {
        if self.ended {
            return None;
        }
        let next = if self.tasks.is_some() {
            self.top_up();
            let next = self.collect();
            self.top_up();
            next
        } else {
            let indices = self.order.next()?;
            Some(self.loader.batch(&indices, self.augment))
        };
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

impl<I> Drop for Batches<I> {
    fn drop(&mut self) {
        self.tasks = None;
        self.begun.clear();
        for thread in self.threads.drain(..) {
            // A thread that panicked has told so by its missing results.
            let _ = thread.join();
        }
    }
}
