//! Memory for tensors: one arena a width, places fixed when the model is loaded.

use std::sync::{Mutex, PoisonError};

use crate::kernels::codes::{Codes, CodesMut};
use crate::kernels::{Workspace, WorkspaceSize};
use crate::model::Format;

/// Element width of an arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Width {
    /// Unsigned codes of at most 8 bits.
    Unsigned,
    /// Signed codes of at most 8 bits.
    Signed,
    /// 16-bit codes.
    Wide,
    /// 32-bit sums.
    Sum,
}

impl Width {
    /// Of a tensor's format.
    pub(super) fn of(format: Format) -> Self {
        match format {
            Format::Unsigned { .. } => Width::Unsigned,
            Format::Signed { bits: 16 } => Width::Wide,
            Format::Signed { .. } => Width::Signed,
            Format::Accumulator => Width::Sum,
        }
    }

    /// Which arena holds it.
    pub(super) fn arena(self) -> usize {
        match self {
            Width::Unsigned | Width::Signed => 0,
            Width::Wide => 1,
            Width::Sum => 2,
        }
    }
}

/// A tensor's place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(super) width: Width,
    pub(super) offset: usize,
    pub(super) len: usize,
}

/// Memory for running an engine on one sample at a time. Any engine can use it, with any number of threads; one made by
/// [`Engine::scratch`](super::Engine::scratch) or [`Engine::scratch_for`](super::Engine::scratch_for) fits at once,
/// others make it grow.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(super) arenas: Arenas,
    /// One a thread.
    pub(super) workspaces: Vec<Mutex<Workspace>>,
}

/// Where tensors lie.
#[derive(Debug, Default)]
pub(super) struct Arenas {
    bytes: Vec<u8>,
    words: Vec<i16>,
    sums: Vec<i32>,
}

/// Elements of a scratch.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Size {
    /// Bytes, words and sums of the arenas.
    pub(super) arenas: [usize; 3],
    /// The operations' workspace, of one thread.
    pub(super) workspace: WorkspaceSize,
}

impl Size {
    /// Size in bytes, for one thread.
    pub(super) fn bytes(&self) -> usize {
        let [bytes, words, sums] = self.arenas;
        bytes
            + 2 * (words + self.workspace.words)
            + 4 * (sums + self.workspace.sums)
            + 64 * self.workspace.lines
    }
}

impl Scratch {
    /// Grows to at least `size` for that many threads.
    pub(super) fn fit(&mut self, size: &Size, threads: usize) {
        grow(&mut self.arenas.bytes, size.arenas[0]);
        grow(&mut self.arenas.words, size.arenas[1]);
        grow(&mut self.arenas.sums, size.arenas[2]);
        if self.workspaces.len() < threads {
            self.workspaces.resize_with(threads, Mutex::default);
        }
        for workspace in &mut self.workspaces[..threads] {
            let workspace = workspace.get_mut().unwrap_or_else(PoisonError::into_inner);
            grow(&mut workspace.words, size.workspace.words);
            grow(&mut workspace.sums, size.workspace.sums);
            grow(&mut workspace.lines, size.workspace.lines);
        }
    }
}

impl Arenas {
    /// A tensor's codes.
    pub(super) fn codes(&self, place: Place) -> Codes<'_> {
        let range = place.offset..place.offset + place.len;
        match place.width {
            Width::Unsigned => Codes::Unsigned(&self.bytes[range]),
            Width::Signed => Codes::Signed(&self.bytes[range]),
            Width::Wide => Codes::Wide(&self.words[range]),
            Width::Sum => Codes::Sum(&self.sums[range]),
        }
    }

    /// A tensor's codes, to write.
    pub(super) fn codes_mut(&mut self, place: Place) -> CodesMut<'_> {
        self.borrow(place).0
    }

    /// The place to write, and everything else to read.
    pub(super) fn borrow(&mut self, out: Place) -> (CodesMut<'_>, Rest<'_>) {
        let range = |arena: usize| {
            if out.width.arena() == arena { (out.offset, out.len) } else { (0, 0) }
        };
        let (byte, bytes) = carve(&mut self.bytes, range(0));
        let (word, words) = carve(&mut self.words, range(1));
        let (sum, _) = carve(&mut self.sums, range(2));
        let target = match out.width {
            Width::Unsigned | Width::Signed => CodesMut::Byte(byte),
            Width::Wide => CodesMut::Wide(word),
            Width::Sum => CodesMut::Sum(sum),
        };
        (target, Rest { bytes, words })
    }
}

/// An arena without the range that is being written.
#[derive(Clone, Copy)]
struct Around<'a, T> {
    before: &'a [T],
    after: &'a [T],
    /// Where `after` begins in the arena.
    resumes: usize,
}

/// Everything but the place that is being written.
#[derive(Clone, Copy)]
pub(crate) struct Rest<'a> {
    bytes: Around<'a, u8>,
    words: Around<'a, i16>,
}

impl<'a> Rest<'a> {
    /// A tensor's codes. Its place does not overlap the one that is being written: the plan sees to it.
    pub(super) fn codes(&self, place: Place) -> Codes<'a> {
        match place.width {
            Width::Unsigned => Codes::Unsigned(self.bytes.range(place)),
            Width::Signed => Codes::Signed(self.bytes.range(place)),
            Width::Wide => Codes::Wide(self.words.range(place)),
            Width::Sum => unreachable!("no operation reads sums"),
        }
    }
}

impl<'a, T> Around<'a, T> {
    fn range(&self, place: Place) -> &'a [T] {
        let end = place.offset + place.len;
        if end <= self.before.len() {
            &self.before[place.offset..end]
        } else {
            &self.after[place.offset - self.resumes..end - self.resumes]
        }
    }
}

fn carve<T>(arena: &mut [T], (offset, len): (usize, usize)) -> (&mut [T], Around<'_, T>) {
    let (before, rest) = arena.split_at_mut(offset);
    let (target, after) = rest.split_at_mut(len);
    (target, Around { before, after, resumes: offset + len })
}

fn grow<T: Copy + Default>(list: &mut Vec<T>, len: usize) {
    if list.is_empty() {
        // Of memory that the system gives zeroed, what is never used is never there.
        *list = vec![T::default(); len];
    } else if list.len() < len {
        list.resize(len, T::default());
    }
}
